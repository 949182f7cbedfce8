//! A request that may pass: upstream, and back with the answer.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONNECTION, Entry, HeaderMap, HeaderValue, SET_COOKIE, UPGRADE};
use http::request::Parts;
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::account::{Account, Notes};
use super::answer::{Answer, Reply};
use super::config::settings::{CookieDomain, Route, ServerLimits};
use super::forward::{self, Manner, Origin, Seen};
use super::plan::Way;
use super::request_id::RequestId;
use super::service::Client;
use super::tunnel::{self, Tunnel};
use super::upload::{Fault, Upload, Verdict};
use crate::engine::body::{ResponseBody, Source};
use crate::engine::error::{Error, Kind};
use crate::engine::policy::cookie::with_domain;
use crate::engine::policy::request::Framing;
use crate::engine::pull::Pull;
use crate::engine::relay::Request as Outgoing;
use crate::engine::target::Target;
use crate::engine::websocket::Stream;

/// What is known of a request before anything is done with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Its head.
    pub(super) parts: &'a Parts,
    /// What of it decides.
    pub(super) seen: Seen<'a>,
}

/// Where a request goes, once it may.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Its route at work.
    pub(super) way: &'a Way,
    /// Who asks.
    pub(super) origin: Origin,
    /// The host that is asked for.
    pub(super) host: HeaderValue,
    /// Octets of the path that are the route's.
    pub(super) below: usize,
}

/// A request that is ready to be sent. It is in boxes, as futures keep what they hand on twice.
#[derive(Debug)]
pub(super) struct Passage {
    outgoing: Box<Outgoing>,
    /// Tells what is wrong with its body, if it has one.
    verdict: Option<Arc<Verdict>>,
    /// The client's connection, where it wants to change to this protocol.
    upgrade: Option<Box<(HeaderValue, OnUpgrade)>>,
}

impl Passage {
    /// Makes a client's request the engine's.
    ///
    /// # Errors
    /// What makes it unfit to be passed on.
    pub(super) fn new(
        client: &Client,
        found: Found<'_>,
        asked: Asked<'_>,
        id: &RequestId,
        incoming: Incoming,
        upgrade: OnUpgrade,
        limits: &ServerLimits,
    ) -> Result<Self, Reply> {
        let (parts, seen, route) = (asked.parts, asked.seen, &found.way.route);
        let has_body = !incoming.is_end_stream();
        let multiplexed = parts.version == Version::HTTP_2;
        let upload = has_body.then(|| {
            let watch = Arc::clone(client.presence.watch());
            let relay = Arc::clone(&found.way.relay);
            Upload::new(
                incoming,
                route.max_body_size,
                limits.body_timeout,
                watch,
                relay,
                multiplexed,
            )
        });
        let manner = Manner {
            below: found.below,
            strip: route.strip_prefix,
            origin: found.origin,
            host: &found.host,
            seen,
            peer: &client.peer,
        };
        let h2_body = has_body && multiplexed;
        let mut outgoing = forward::prepare(&found.way.relay, parts, manner, id, h2_body)?;
        if let Framing::Length(length) = outgoing.framing
            && route.max_body_size.is_some_and(|most| length > most)
        {
            return Err(blame(Fault::TooLarge));
        }
        let protocol = seen.upgrade(parts);
        if let Some(protocol) = &protocol {
            forward::pass_handshake(&mut outgoing, protocol.clone())?;
        }
        let verdict = upload.as_ref().map(Upload::verdict);
        if let Some(upload) = upload.filter(|_| outgoing.framing != Framing::None) {
            let replay = route.retry.max_retries > 0 || route.follow_redirects;
            outgoing.body = Source::Pulled(Pull::new(Box::pin(upload), replay));
        }
        Ok(Self {
            outgoing,
            verdict,
            upgrade: protocol.map(|protocol| Box::new((protocol, upgrade))),
        })
    }

    /// Has the upstream of the account's route answer.
    pub(super) async fn pass(
        mut self,
        mut account: Box<Account>,
    ) -> Result<Response<Answer>, Error> {
        self.outgoing.came = Some(account.started());
        if let Some(verdict) = &self.verdict {
            account.body(Arc::clone(verdict));
        }
        let Some(way) = account.way() else {
            return Ok(Reply::missing().refusal(account));
        };
        let notes = Notes::new(way, account.id());
        let relayed = way.relay.exchange(self.outgoing, &notes).await;
        let mut relayed = match relayed {
            Ok(relayed) => relayed,
            Err(error) => {
                let fault = self.verdict.as_ref().and_then(|verdict| verdict.fault());
                let (reply, target) = match fault {
                    None if error.kind() == Kind::Abandoned => return Err(error),
                    None => (Reply::failure(&error), notes.failed_at()),
                    Some(fault) => (blame(fault), 0),
                };
                let retries = notes.retries();
                account.answered(reply.status, target, retries);
                return Ok(reply.response(account));
            }
        };
        if let Some(verdict) = &self.verdict {
            verdict.be_patient();
        }
        rewrite_cookies(&mut relayed.answer.headers, &way.route.cookie_domain);
        let target = number_of(&way.route, relayed.origin.target());
        let upgraded = self.upgrade.zip(relayed.answer.switched.take());
        if upgraded.is_some() {
            way.metrics.upgrades.increment();
        }
        let settings = way.route.web_sockets;
        account.arrived(
            relayed.answer.arrived.into_std(),
            relayed.answer.status,
            target,
            relayed.origin.attempt().saturating_sub(1),
        );
        if let Some((change, switched)) = upgraded {
            let (protocol, upgrade) = *change;
            let Stream::Socket(switching) = switched.stream else {
                return Err(Error::new(Kind::Protocol, "not a connection"));
            };
            let connection = account.connection();
            connection.presence.watch().hand_over();
            tunnel::start(Tunnel {
                client: upgrade,
                upstream: switching,
                web_socket: protocol.as_bytes().eq_ignore_ascii_case(b"websocket"),
                settings,
                owner: Arc::clone(connection),
                origin: relayed.origin,
            });
            let mut response = Response::new(Answer::whole(Bytes::new(), account));
            *response.status_mut() = relayed.answer.status;
            *response.headers_mut() = relayed.answer.headers;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol);
            return Ok(response);
        }
        let first = match first_frame(&mut relayed.answer.body).await {
            None => None,
            Some(Ok(frame)) => Some(frame),
            // Nothing has gone out yet: the failure can be told.
            Some(Err(error)) => {
                account.interrupted(&relayed.origin, &error);
                let reply = Reply::failure(&error);
                account.answered(reply.status, target, 0);
                return Ok(reply.response(account));
            }
        };
        let (status, headers) = (
            relayed.answer.status,
            std::mem::take(&mut relayed.answer.headers),
        );
        let mut response = Response::new(Answer::upstream(first, relayed, account));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Which of the route's targets it is, counted from 1; 0 where it is none of them.
pub(super) fn number_of(route: &Route, target: &Target) -> usize {
    let endpoint = &target.origin().endpoint;
    let mut targets = route.targets.iter();
    let at = targets.position(|target| target.target.origin().endpoint == *endpoint);
    at.map_or(0, |at| at + 1)
}

/// What a client gets whose body is at fault.
fn blame(fault: Fault) -> Reply {
    match fault {
        Fault::TooLarge => Reply::new(StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large"),
        Fault::TooSlow => Reply::new(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
        Fault::Broken => Reply::bad_request("the body is malformed or incomplete"),
    }
}

/// Puts the route's domain into the cookies that an upstream sets.
fn rewrite_cookies(headers: &mut HeaderMap, domain: &CookieDomain) {
    let domain = match domain {
        CookieDomain::Keep => return,
        CookieDomain::Drop => "",
        CookieDomain::Set(domain) => domain,
    };
    if let Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
        for cookie in cookies.iter_mut() {
            let line = with_domain(cookie.as_bytes(), domain.as_bytes());
            if let Ok(line) = HeaderValue::from_maybe_shared(Bytes::from(line)) {
                *cookie = line;
            }
        }
    }
}

/// What of a body is there without waiting for the upstream, so that it goes out together with
/// the head: the connection's task gets one turn to bring it.
async fn first_frame(body: &mut ResponseBody) -> Option<Result<Frame<Bytes>, Error>> {
    let mut turns = 0;
    std::future::poll_fn(|context| {
        if body.is_ended() {
            return Poll::Ready(None);
        }
        match body.poll_frame(context) {
            Poll::Pending if turns < 1 => {
                turns += 1;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(None),
            ready => ready,
        }
    })
    .await
}
