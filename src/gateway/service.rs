//! One request: which route, whether it may pass, what the client gets.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue, REFERER, SET_COOKIE, UPGRADE, USER_AGENT};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::account::{Account, Notes};
use super::answer::{Answer, Reply, Upstream};
use super::client::Manners;
use super::config::settings::{CookieDomain, Listener, RateKey, Route, ServerLimits};
use super::forward::{self, Manner, Origin, Peer};
use super::log::Entry;
use super::plan::{Plan, Way};
use super::rate::Limiter;
use super::routes::Found;
use super::tunnel::{self, Tunnel};
use super::upload::{Fault, Upload, Verdict};
use super::watch::Presence;
use super::worker::Worker;
use crate::engine::body::{ResponseBody, Source};
use crate::engine::error::{Error, Kind};
use crate::engine::exchange::Response as Relayed;
use crate::engine::policy::cookie::with_domain;
use crate::engine::policy::request::Framing;
use crate::engine::pull::Pull;
use crate::engine::relay::Request as Outgoing;
use crate::engine::websocket::Stream;

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Client {
    /// Whose it is.
    pub worker: Arc<Worker>,
    /// Where it came in.
    pub listener: Listener,
    /// Who it is.
    pub peer: Peer,
    /// Among the worker's connections.
    pub presence: Arc<Presence>,
    /// How it is to end.
    pub manners: Arc<Manners>,
}

/// Serves the requests of one connection.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<Client>);

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Answer>;
    type Error = Error;
    // Boxed: a connection that waits for a request does not keep what one needs.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let client = Arc::clone(&self.0);
        Box::pin(async move { serve(client, request).await })
    }
}

/// What is needed of a request before anything is known of it.
struct Asked {
    parts: Parts,
    id: HeaderValue,
}

async fn serve(client: Arc<Client>, request: Request<Incoming>) -> Result<Response<Answer>, Error> {
    let multiplexed = request.version() == Version::HTTP_2;
    let mut response = answer(&client, request).await?;
    if client.worker.is_draining()
        && !multiplexed
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

async fn answer(
    client: &Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Error> {
    let plan = client.worker.plan();
    let in_flight = client.presence.watch().begin();
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, incoming) = request.into_parts();
    let id = forward::request_id(&parts.headers).unwrap_or_else(new_id);
    let asked = Asked { parts, id };
    let entry = plan.blueprint.settings.access_log.as_ref().map(|_| {
        let entry = entry(&client.peer, &asked);
        (entry, plan.blueprint.log.clone())
    });
    let mut account = Account::open(in_flight, entry);
    let refused = match check(client, &plan, &asked, &mut account) {
        Ok(passage) => {
            let passing = passage.pass(client, asked, incoming, upgrade, account);
            return passing.await;
        }
        Err(refused) => refused,
    };
    if !incoming.is_end_stream() {
        client.manners.leave_unread();
    }
    Ok(refuse(refused, account))
}

/// The gateway's own answer.
fn refuse(reply: Reply, mut account: Account) -> Response<Answer> {
    account.answered(reply.status, 0, 0);
    reply.response(account)
}

/// A request that may pass.
struct Passage<'a> {
    route: &'a Route,
    way: &'a Way,
    limits: &'a ServerLimits,
    plan: &'a Plan,
    below: usize,
}

/// Finds the route, and whether the request may pass.
fn check<'a>(
    client: &Client,
    plan: &'a Plan,
    asked: &Asked,
    account: &mut Account,
) -> Result<Passage<'a>, Reply> {
    let parts = &asked.parts;
    let settings = &plan.blueprint.settings;
    if parts.headers.len() > settings.server.limits.max_headers {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Reply::new(status, "Request Header Fields Too Large"));
    }
    if !forward::is_relayed(&parts.method) {
        return Err(Reply::not_allowed(&[]));
    }
    let trusted = &settings.server.trusted_proxies;
    let origin = forward::origin(parts, &client.peer, trusted)?;
    if let Some(address) = origin.client.filter(|_| origin.trusted) {
        account.client(address);
    }
    if let Some(port) = client.listener.redirect_https
        && !origin.secure
    {
        return Err(redirect(&origin, parts, port));
    }
    let path = parts.uri.path();
    let found = plan.blueprint.routes.find(origin.host, &parts.method, path);
    let (index, below) = match found {
        Found::Route { index, below } => (index, below),
        Found::NotFound => return Err(Reply::new(StatusCode::NOT_FOUND, "Not Found")),
        Found::MethodNotAllowed(allowed) => return Err(Reply::not_allowed(&allowed)),
        Found::BadPath => return Err(Reply::bad_request("the path can be read in two ways")),
    };
    let missing = || Reply::new(StatusCode::NOT_FOUND, "Not Found");
    let route = settings.routes.get(index).ok_or_else(missing)?;
    let way = plan.ways.get(index).ok_or_else(missing)?;
    account.route(&way.metrics);
    if let Some(Some(limiter)) = plan.blueprint.limiters.get(index)
        && let Err(seconds) = take_token(limiter, parts, &origin)
    {
        way.metrics.limited.increment();
        return Err(Reply::too_many(seconds));
    }
    Ok(Passage {
        route,
        way,
        limits: &settings.server.limits,
        plan,
        below,
    })
}

fn take_token(limiter: &Limiter, parts: &Parts, origin: &Origin<'_>) -> Result<(), u64> {
    let now = Instant::now();
    match &limiter.settings().key {
        RateKey::Header(name) => {
            let value = parts.headers.get(name);
            limiter.take(value.map_or(b"", HeaderValue::as_bytes), now)
        }
        RateKey::ClientAddress => match origin.client {
            Some(std::net::IpAddr::V4(address)) => limiter.take(&address.octets(), now),
            // A client has a whole /64 at its hands.
            Some(std::net::IpAddr::V6(address)) => {
                let octets = address.octets();
                limiter.take(octets.get(..8).unwrap_or_default(), now)
            }
            None => limiter.take(b"", now),
        },
    }
}

fn redirect(origin: &Origin<'_>, parts: &Parts, port: u16) -> Reply {
    let bracket = origin.host.rfind(']').unwrap_or(0);
    let colon = origin.host.rfind(':').filter(|at| *at > bracket);
    let name = colon.map_or(origin.host, |at| origin.host.get(..at).unwrap_or_default());
    let port = match port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::from_str(&format!("https://{name}{port}{target}")) {
        Ok(location) if !name.is_empty() => Reply::redirect(location),
        _ => Reply::bad_request("the request has no Host"),
    }
}

impl Passage<'_> {
    /// Has the upstream answer.
    async fn pass(
        self,
        client: &Arc<Client>,
        asked: Asked,
        incoming: Incoming,
        upgrade: OnUpgrade,
        mut account: Account,
    ) -> Result<Response<Answer>, Error> {
        let (outgoing, verdict) = match self.outgoing(client, &asked, incoming) {
            Ok(outgoing) => outgoing,
            Err(reply) => return Ok(refuse(reply, account)),
        };
        let protocol = match &outgoing.handshake {
            None => None,
            Some(_) => asked.parts.headers.get(UPGRADE).cloned(),
        };
        let notes = Notes::new(self.plan.blueprint.log.clone());
        let relayed = self.way.relay.exchange(outgoing, &notes).await;
        let mut relayed = match relayed {
            Ok(relayed) => relayed,
            Err(error) => {
                let fault = verdict.and_then(|verdict| verdict.fault());
                let reply = match fault {
                    None if error.kind() == Kind::Abandoned => return Err(error),
                    None => Reply::failure(&error),
                    Some(fault) => blame(fault),
                };
                account.answered(reply.status, 0, notes.retries());
                return Ok(reply.response(account));
            }
        };
        let target = self.number_of(&relayed);
        notes.attempt(relayed.origin.attempt());
        account.answered(relayed.status, target, notes.retries());
        if let (Some(protocol), Some(switched)) = (protocol, relayed.switched.take()) {
            let Stream::Socket(switching) = switched.stream else {
                return Err(Error::new(Kind::Protocol, "not a connection"));
            };
            self.way.metrics.upgrades.increment();
            client.presence.watch().hand_over();
            tunnel::start(Tunnel {
                client: upgrade,
                upstream: switching,
                web_socket: protocol.as_bytes().eq_ignore_ascii_case(b"websocket"),
                idle: self.route.web_sockets.idle_timeout,
                presence: Arc::clone(&client.presence),
                origin: relayed.origin,
            });
            let mut response = Response::new(Answer::whole(Bytes::new(), account));
            *response.status_mut() = relayed.status;
            fill(
                response.headers_mut(),
                relayed.headers,
                &self.route.cookie_domain,
            );
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol);
            return Ok(response);
        }
        let first = match first_frame(&mut relayed.body).await {
            None => None,
            Some(Ok(frame)) => Some(frame),
            // Nothing has gone out yet: the failure can be told.
            Some(Err(error)) => {
                let relay = &self.way.relay;
                relay.report_interrupted(&notes, &relayed.origin, &error);
                let reply = Reply::failure(&error);
                account.answered(reply.status, target, 0);
                return Ok(reply.response(account));
            }
        };
        let mut response = Response::new(Answer::upstream(
            Upstream {
                first,
                body: relayed.body,
                origin: relayed.origin,
                manners: Arc::clone(&client.manners),
            },
            account,
        ));
        *response.status_mut() = relayed.status;
        fill(
            response.headers_mut(),
            relayed.headers,
            &self.route.cookie_domain,
        );
        Ok(response)
    }

    /// The request for the engine, and where a fault of its body will be found.
    fn outgoing(
        &self,
        client: &Client,
        asked: &Asked,
        incoming: Incoming,
    ) -> Result<(Outgoing, Option<Arc<Verdict>>), Reply> {
        let parts = &asked.parts;
        let has_body = !incoming.is_end_stream();
        let upload = has_body.then(|| {
            let idle = self.limits.body_timeout;
            let manners = Arc::clone(&client.manners);
            Upload::new(incoming, self.route.max_body_size, idle, manners)
        });
        let trusted = &self.plan.blueprint.settings.server.trusted_proxies;
        let origin = forward::origin(parts, &client.peer, trusted)?;
        let manner = Manner {
            below: self.below,
            strip: self.route.strip_prefix,
            origin: &origin,
            peer: &client.peer,
            id: &asked.id,
        };
        let h2_body = has_body && parts.version == Version::HTTP_2;
        let mut outgoing = forward::prepare(&self.way.relay, parts, manner, h2_body)?;
        if let Framing::Length(length) = outgoing.framing
            && self.route.max_body_size.is_some_and(|most| length > most)
        {
            return Err(blame(Fault::TooLarge));
        }
        if let Some(protocol) = forward::upgrade_of(parts) {
            forward::pass_handshake(&mut outgoing, protocol)?;
        }
        let verdict = upload.as_ref().map(Upload::verdict);
        if let Some(upload) = upload.filter(|_| outgoing.framing != Framing::None) {
            let replay = self.route.retry.max_retries > 0 || self.route.follow_redirects;
            outgoing.body = Source::Pulled(Pull::new(Box::pin(upload), replay));
        }
        Ok((outgoing, verdict))
    }

    /// Which of the route's targets a response is from, counted from 1; 0 where it is none of them.
    fn number_of(&self, relayed: &Relayed) -> usize {
        let endpoint = &relayed.origin.target().origin().endpoint;
        let mut targets = self.route.targets.iter();
        let at = targets.position(|target| target.target.origin().endpoint == *endpoint);
        at.map_or(0, |at| at + 1)
    }
}

/// What a client gets whose body is at fault.
fn blame(fault: Fault) -> Reply {
    match fault {
        Fault::TooLarge => Reply::new(StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large"),
        Fault::TooSlow => Reply::new(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
        Fault::Broken => Reply::bad_request("the body is malformed or incomplete"),
    }
}

fn fill(
    headers: &mut HeaderMap,
    list: Vec<(http::HeaderName, HeaderValue)>,
    domain: &CookieDomain,
) {
    headers.reserve(list.len());
    let rewritten = |value: HeaderValue, domain: &str| {
        let line = with_domain(value.as_bytes(), domain.as_bytes());
        HeaderValue::from_maybe_shared(Bytes::from(line)).unwrap_or(value)
    };
    for (name, value) in list {
        let value = match domain {
            CookieDomain::Drop if name == SET_COOKIE => rewritten(value, ""),
            CookieDomain::Set(domain) if name == SET_COOKIE => rewritten(value, domain),
            _ => value,
        };
        headers.append(name, value);
    }
}

/// What of a body is there without waiting for the upstream, so that it goes out together with
/// the head: the connection's task gets one turn to bring it.
async fn first_frame(body: &mut ResponseBody) -> Option<Result<Frame<Bytes>, Error>> {
    let mut turns = 0;
    std::future::poll_fn(|context| {
        if body.is_ended() {
            return std::task::Poll::Ready(None);
        }
        match body.poll_frame(context) {
            std::task::Poll::Pending if turns < 1 => {
                turns += 1;
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            std::task::Poll::Pending => std::task::Poll::Ready(None),
            ready => ready,
        }
    })
    .await
}

/// A name for a request that nobody can guess.
fn new_id() -> HeaderValue {
    thread_local! {
        static RANDOM: (RandomState, RandomState) = (RandomState::new(), RandomState::new());
        static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    let count = COUNT.get().wrapping_add(1);
    COUNT.set(count);
    let (high, low) = RANDOM.with(|(a, b)| (a.hash_one(count), b.hash_one(count)));
    let mut text = Vec::with_capacity(32);
    for octet in high.to_be_bytes().into_iter().chain(low.to_be_bytes()) {
        for digit in [octet >> 4, octet & 0xF] {
            text.push(if digit < 10 {
                b'0' + digit
            } else {
                b'a' - 10 + digit
            });
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("-"))
}

fn entry(peer: &Peer, asked: &Asked) -> Entry {
    let parts = &asked.parts;
    let text = |value: Option<&HeaderValue>| {
        let octets = value.map(HeaderValue::as_bytes).unwrap_or_default();
        String::from_utf8_lossy(octets).into_owned()
    };
    let host = parts.uri.authority().map(|authority| authority.to_string());
    let target = parts.uri.path_and_query().map_or("", |path| path.as_str());
    Entry {
        at: SystemTime::now(),
        client: peer.text.as_deref().unwrap_or_default().to_owned(),
        method: parts.method.to_string(),
        target: masked(target),
        version: match parts.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        },
        host: host.unwrap_or_else(|| text(parts.headers.get(http::header::HOST))),
        referer: masked(&text(parts.headers.get(REFERER))),
        user_agent: text(parts.headers.get(USER_AGENT)),
        request_id: text(Some(&asked.id)),
        route: String::new(),
        upstream: String::new(),
        status: 0,
        sent: 0,
        time: std::time::Duration::ZERO,
        first_byte: None,
    }
}

/// A URL or a request target with no value of its query, and no user information.
fn masked(url: &str) -> String {
    let (front, query) = match url.split_once('?') {
        None => (url, None),
        Some((front, query)) => (front, Some(query)),
    };
    let mut out = match front
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest.split_once('@')))
    {
        Some((scheme, Some((_, rest)))) => format!("{scheme}://{rest}"),
        _ => front.to_owned(),
    };
    for (at, part) in query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .enumerate()
    {
        out.push(if at == 0 { '?' } else { '&' });
        if let Some((name, _)) = part.split_once('=') {
            out.push_str(name);
            out.push('=');
        }
        out.push_str("***");
    }
    out
}
