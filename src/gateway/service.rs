//! One request: which route, whether it may pass, what the client gets.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;

use super::accept::configured;
use super::account::Account;
use super::answer::{Answer, Reply};
use super::config::settings::{RateKey, RouteTarget};
use super::forward::{self, Origin, Peer, Seen};
use super::log::entry;
use super::metrics::ListenerMetrics;
use super::passage::{Asked, Found, Passage};
use super::plan::{Blueprint, Plan};
use super::rate::Limiter;
use super::registry::Presence;
use super::routes;
use super::worker::Worker;
use crate::engine::error::Error;
use crate::engine::policy::request::BadRequest;
use crate::engine::target::ASTERISK;

/// What a client is told that it may use where a route takes any method but CONNECT and TRACE.
const USUAL: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Client {
    /// Whose it is.
    pub worker: Arc<Worker>,
    /// Where it was accepted.
    pub listener: Arc<ListenerMetrics>,
    /// The port that this redirected to at the time.
    pub redirect_https: Option<u16>,
    /// Who it is.
    pub peer: Peer,
    /// Among the worker's connections.
    pub presence: Presence,
}

impl Client {
    /// The port that its requests are redirected to, as the configuration has its listener by now;
    /// where that is gone, as it was.
    fn redirect(&self, blueprint: &Blueprint) -> Option<u16> {
        let mut listeners = blueprint.settings.server.listeners.iter();
        // Seldom, so that no address is compared otherwise.
        let any = listeners.any(|listener| listener.redirect_https.is_some());
        if !any && self.redirect_https.is_none() {
            return None;
        }
        match configured(blueprint, &self.listener.bind) {
            Some(listener) => blueprint.redirect(listener),
            None => self.redirect_https,
        }
    }

    /// It has got its answer for what is no request at all, and nobody else was told.
    pub(super) fn said_nonsense(&self, error: &hyper::Error) {
        self.listener.malformed.increment();
        let plan = self.worker.plan();
        if plan.blueprint.settings.access_log.is_some() {
            let status = match error.is_parse_too_large() {
                true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                false => StatusCode::BAD_REQUEST,
            };
            let entry = entry::of_nothing(&self.peer, status);
            plan.blueprint.log.write(entry);
        }
    }
}

/// Serves the requests of one connection.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<Client>);

/// A request that may pass, before anything is waited for. It is boxed, as hyper copies the future that
/// has it into its place.
struct Begun {
    passage: Passage,
    account: Box<Account>,
}

/// Tells a client in HTTP/1.1 that its connection is not kept.
fn part(multiplexed: bool, response: &mut Response<Answer>) {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let last = response.body().account().is_last();
    if multiplexed {
        response.body_mut().portion();
    }
    if last && !multiplexed && !switching {
        close(response);
    }
}

fn close(response: &mut Response<Answer>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

impl Service {
    /// Serves a request. What can be decided without waiting is decided before there is a future.
    pub fn call(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, Error>> + Send + use<> {
        let multiplexed = request.version() == Version::HTTP_2;
        let begun = self.begin(request);
        async move {
            let mut response = match begun {
                Ok(begun) => {
                    let Begun { passage, account } = *begun;
                    passage.pass(account).await?
                }
                Err(response) => *response,
            };
            part(multiplexed, &mut response);
            Ok(response)
        }
    }

    /// Makes a request ready to be sent, or answers it.
    fn begin(&self, mut request: Request<Incoming>) -> Result<Box<Begun>, Box<Response<Answer>>> {
        let client = &self.0;
        let plan = client.worker.plan();
        let blueprint = &plan.blueprint;
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, incoming) = request.into_parts();
        let seen = Seen::of(&parts);
        let id = seen.id();
        let entry = blueprint.settings.access_log.as_ref().map(|_| {
            let entry = entry::of(&client.peer, &parts, &id);
            (entry, blueprint.log.clone())
        });
        let mut account = Account::open(client, id, entry);
        let unread = !incoming.is_end_stream();
        let limits = &blueprint.settings.server.limits;
        if limits.keepalive_timeout == Some(Duration::ZERO) {
            account.is_the_last();
        }
        let asked = Asked {
            parts: &parts,
            seen,
        };
        let passage = check(client, &plan, asked, &mut account).and_then(|found| {
            let id = account.id();
            Passage::new(client, found, asked, id, incoming, upgrade, limits)
        });
        match passage {
            Ok(passage) => Ok(Box::new(Begun { passage, account })),
            Err(refused) => {
                if unread {
                    client.presence.watch().leave_unread();
                }
                let mut response = refused.refusal(account);
                let odd = response.status() == StatusCode::BAD_REQUEST;
                if odd && asked.parts.headers.contains_key(TRANSFER_ENCODING) {
                    // Its sender may mean something else by what follows.
                    close(&mut response);
                }
                Err(Box::new(response))
            }
        }
    }
}

/// Finds the route, and whether the request may pass.
fn check<'a>(
    client: &Client,
    plan: &'a Plan,
    asked: Asked<'a>,
    account: &mut Account,
) -> Result<Found<'a>, Reply> {
    let parts = asked.parts;
    let settings = &plan.blueprint.settings;
    if parts.headers.len() > settings.server.limits.max_headers {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Reply::new(status, "Request Header Fields Too Large"));
    }
    if !forward::is_relayed(&parts.method) {
        return Err(Reply::not_allowed(&USUAL));
    }
    if asked.seen.has_blanks() {
        return Err(Reply::bad_request("a header begins or ends with a blank"));
    }
    let trusted = &settings.server.trusted_proxies;
    let origin = forward::origin(parts, &client.peer, trusted);
    let host = asked.seen.host(parts)?;
    if let Some(address) = origin.client.filter(|_| origin.trusted) {
        account.client(address);
    }
    let path = parts.uri.path();
    let whole = path == ASTERISK;
    if whole && parts.method != Method::OPTIONS {
        return Err(Reply::bad_request(BadRequest::Target));
    }
    if let Some(port) = client.redirect(&plan.blueprint)
        && !origin.secure
    {
        return Err(redirect(host.as_bytes(), parts, port));
    }
    // Who asks about the server as a whole (RFC 9110 §9.3.7) asks whoever is there for everything.
    let path = if whole { "/" } else { path };
    let found = plan
        .blueprint
        .routes
        .find(host.as_bytes(), &parts.method, path);
    let (index, below) = match found {
        routes::Found::Route { index, below } => (index, below),
        routes::Found::NotFound => return Err(Reply::missing()),
        routes::Found::MethodNotAllowed(allowed) => return Err(Reply::not_allowed(&allowed)),
        routes::Found::BadPath => {
            return Err(Reply::bad_request("the path can be read in two ways"));
        }
        routes::Found::PathEscape => return Err(Reply::bad_request(BadRequest::PathEscape)),
    };
    let way = plan.ways.get(index).ok_or_else(Reply::missing)?;
    let is_whole = |to: &RouteTarget| to.target.asterisk().is_some();
    if whole && !way.route.targets.iter().all(is_whole) {
        return Err(Reply::missing());
    }
    // Its answer shows the client what the gateway has put in, credentials among it.
    if parts.method == Method::TRACE && way.route.methods.is_empty() {
        return Err(Reply::not_allowed(&USUAL));
    }
    account.route(way);
    if let Some(Some(limiter)) = plan.blueprint.limiters.get(index)
        && let Err(seconds) = take_token(limiter, parts, origin)
    {
        way.metrics.limited.increment();
        return Err(Reply::too_many(seconds));
    }
    Ok(Found {
        way,
        origin,
        host,
        below,
    })
}

fn take_token(limiter: &Limiter, parts: &Parts, origin: Origin) -> Result<(), u64> {
    let now = Instant::now();
    match &limiter.settings().key {
        RateKey::Header(name) => {
            let mut lines = parts.headers.get_all(name).iter();
            let first = lines.next().map_or(&b""[..], HeaderValue::as_bytes);
            // Which of several the target goes by is not known here: each is asked for a token.
            lines.fold(limiter.take(first, now), |taken, line| {
                let another = limiter.take(line.as_bytes(), now);
                taken.and(another)
            })
        }
        RateKey::ClientAddress => match origin.client {
            Some(IpAddr::V4(address)) => limiter.take(&address.octets(), now),
            // A client has a whole /64 at its hands.
            Some(IpAddr::V6(address)) => {
                let octets = address.octets();
                limiter.take(octets.get(..8).unwrap_or_default(), now)
            }
            None => limiter.take(b"", now),
        },
    }
}

fn redirect(host: &[u8], parts: &Parts, port: u16) -> Reply {
    // Octets that a Host may have are text.
    let host = std::str::from_utf8(host).unwrap_or_default();
    let bracket = host.rfind(']').unwrap_or(0);
    let colon = host.rfind(':').filter(|at| *at > bracket);
    let name = colon.map_or(host, |at| host.get(..at).unwrap_or_default());
    let port = match port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    // An OPTIONS for a URI without any path is one for `*` (RFC 9112 §3.2.4).
    let target = match parts.uri.path_and_query().map(PathAndQuery::as_str) {
        Some(ASTERISK) => "",
        target => target.unwrap_or("/"),
    };
    match HeaderValue::from_str(&format!("https://{name}{port}{target}")) {
        Ok(location) if !name.is_empty() => Reply::redirect(location),
        _ => Reply::bad_request("the request has no Host"),
    }
}
