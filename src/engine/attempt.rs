//! One try: a connection, the request over it, the response head. What to do with the outcome is
//! not decided here.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::HeaderMap;
use http::uri::{PathAndQuery, Uri};
use http::{Request as HttpRequest, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::{RequestBody, ResponseBody};
use super::error::{Error, Kind};
use super::lines::Lines;
use super::policy::response::check_framing;
use super::policy::retry::is_idempotent;
use super::relay::{Relay, Request};
use super::report::Observer;
use super::target::Target;
use super::upstream::failure;
use super::upstream::lease::Lease;
use super::upstream::memory::Call;
use super::upstream::pool::{Freshness, Pool};
use super::upstream::sender::{self, multiplexed};
use super::upstream::socket::Socket;
use super::websocket::handshake::Handshake;
use super::websocket::socket::Switching;
use super::websocket::{Stream, Switched};

/// A response head, and what comes behind it. Boxed, as futures keep what they hand on twice.
#[derive(Debug)]
pub struct Answer {
    /// The upstream's.
    pub status: StatusCode,
    /// As they came, and for the client what the response policy lets through.
    pub headers: HeaderMap,
    /// To be read to its end, or dropped.
    pub body: ResponseBody,
    /// What comes behind a 101, which answers nothing but a handshake.
    pub switched: Option<Switched>,
    /// When its head came.
    pub arrived: Instant,
}

/// Where the next try goes.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) target: Arc<Target>,
    pub(super) path: PathAndQuery,
    pub(super) web_socket: bool,
    /// How it goes is the doing of the target whose turn it is: not after a redirect to a site that
    /// is no target.
    pub(super) own: bool,
}

impl Relay {
    /// One try over a connection of `pool`, repeated at once where a kept one turns out to be
    /// closed.
    pub(super) async fn attempt(
        &self,
        request: &mut Request,
        to: &Destination,
        pool: &Arc<Pool>,
        body: RequestBody,
        observer: &dyn Observer,
    ) -> Result<Box<Answer>, Error> {
        if self.config.in_memory {
            let message = message(request, to, body, true);
            let url = to.target.url(&to.path);
            let handshake = request.handshake.as_ref();
            let call = Call::start(message, url, handshake, observer, self.config.timeouts);
            return Box::pin(call).await;
        }
        let repeatable = is_idempotent(&request.method);
        let mut freshness = if request.handshake.is_some() {
            Freshness::New
        } else if repeatable && !request.body.is_arriving() {
            Freshness::Any
        } else {
            Freshness::Checked
        };
        let may_retry = self.config.retry.may_retry(&request.method);
        let may_repeat = may_retry || self.config.follow_redirects;
        let mut body = Some(body);
        loop {
            let origin = to.target.origin();
            let mut begun = Instant::now();
            let mut lease = match pool.lease_kept(origin, freshness, begun) {
                Some(lease) => lease,
                None => {
                    let lease = match &request.handshake {
                        None => Box::pin(pool.lease(origin, freshness)).await?,
                        Some(_) => Box::pin(pool.lease_for_upgrade(origin)).await?,
                    };
                    begun = Instant::now();
                    lease
                }
            };
            let reused = lease.is_reused();
            let Some(this_body) = body.take().or_else(|| request.body.body()) else {
                return Err(Error::new(Kind::Read, "the connection was closed"));
            };
            // A kept connection may turn out to be closed, which happens seldom: a copy that is cheap
            // to make does.
            let kept = repeatable && reused && !may_repeat && !lease.is_multiplexed();
            let kept = kept.then(|| Lines::from(&request.headers));
            let sending = send(&mut lease, request, to, this_body, may_repeat);
            let result = head(self.config.timeouts.read, begun, &mut lease, sending).await;
            let head =
                result.and_then(|result| arrived(lease.socket(), &mut request.headers, result));
            match head {
                Ok(response) => {
                    let read = self.config.timeouts.read;
                    return answer(response, lease, request.handshake.as_ref(), read);
                }
                Err(error) => {
                    // Once, as one that is shared is as kept the next time.
                    let unseen = error.reach().is_safe();
                    let again = reused || unseen && lease.is_multiplexed();
                    let again = again && freshness != Freshness::New;
                    if !(again && (repeatable || unseen) && closed(&error, &lease, to)) {
                        return Err(error);
                    }
                    pool.retire(&lease, &error);
                    // The upstream closed it while it was idle, or as the request came.
                    freshness = Freshness::New;
                    if let Some(lines) = kept
                        && request.headers.is_empty()
                    {
                        request.headers = HeaderMap::from(&lines);
                    }
                }
            }
        }
    }
}

/// Whether nothing came but the connection's end. Not an answer that is malformed or breaks off, nor
/// the end of a stream while its connection goes on.
fn closed(error: &Error, lease: &Lease, to: &Destination) -> bool {
    if error.reach().is_safe() {
        return true;
    }
    let Some(socket) = lease.socket() else {
        return error.kind() == Kind::Read;
    };
    // Under TLS octets that come may be a ticket or the peer's farewell.
    let silent = to.target.origin().secure || socket.is_silent(HEAD_LIMIT);
    silent && matches!(error.kind(), Kind::Read | Kind::Protocol)
}

/// A request on its way.
struct Sending<F> {
    /// Until its body has been taken.
    upload: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    response: F,
}

/// Waits until the body has been taken, and then for the response head, for as long as octets of
/// it, or of interim responses, come within `idle`. No `async fn`, which keeps its arguments twice.
fn head<F: Future<Output = sender::Answer> + Unpin>(
    idle: Option<Duration>,
    begun: Instant,
    lease: &mut Lease,
    mut sending: Result<Sending<F>, Error>,
) -> impl Future<Output = Result<sender::Answer, Error>> {
    let mut sent_at = begun;
    poll_fn(move |context| {
        let Sending { upload, response } = match &mut sending {
            Ok(sending) => sending,
            Err(error) => return Poll::Ready(Err(error.clone())),
        };
        if let Poll::Ready(result) = Pin::new(response).poll(context) {
            return Poll::Ready(Ok(result));
        }
        if let Some(taken) = upload {
            ready!(taken.as_mut().poll(context));
            *upload = None;
            sent_at = Instant::now();
        }
        let Some(idle) = idle else {
            return Poll::Pending;
        };
        loop {
            let active_at = lease.socket().map(Socket::active_at);
            let silent_at = active_at.map_or(sent_at, |at| at.max(sent_at)) + idle;
            ready!(lease.timer().poll_due(silent_at, context));
            if silent_at <= Instant::now() {
                let error = Error::new(Kind::ReadTimeout, "no answer in time");
                return Poll::Ready(Err(error));
            }
        }
    })
}

/// Hands the request to the connection. Nothing is waited for, so that no future has room for the
/// request.
fn send(
    lease: &mut Lease,
    request: &mut Request,
    to: &Destination,
    body: RequestBody,
    keep: bool,
) -> Result<Sending<impl Future<Output = sender::Answer> + Unpin + use<>>, Error> {
    let sent = body.progress();
    if let Some(socket) = lease.socket() {
        socket.bound_head(HEAD_LIMIT);
    }
    let shared = lease.is_multiplexed();
    let body = match request.body.is_arriving() {
        true => body.paced(lease.shared_socket()),
        false => body,
    };
    let sender = lease.sender(sent.clone()).ok_or_else(not_sent)?;
    let mut message = message(request, to, body, keep || shared);
    if shared {
        multiplexed(&mut message, to.target.origin().secure)?;
    }
    let response = sender.send(message);
    let unsent = sent.filter(|sent| !sent.is_done());
    let upload = unsent.map(|sent| Box::pin(async move { sent.done().await }) as _);
    Ok(Sending { upload, response })
}

fn not_sent() -> Error {
    Error::not_sent(Kind::Read, "the connection was closed")
}

fn arrived(
    socket: Option<&Socket>,
    headers: &mut HeaderMap,
    result: sender::Answer,
) -> Result<(http::Response<Incoming>, Instant), Error> {
    match result {
        Ok(response) => {
            let at = socket.map(Socket::head_came);
            Ok((response, at.unwrap_or_else(Instant::now)))
        }
        Err(mut failed) => Err(match failed.take_message() {
            Some(message) => {
                if headers.is_empty() {
                    *headers = message.into_parts().0.headers;
                }
                not_sent()
            }
            None => {
                let error = failure::head(failed.error());
                // The upstream closed the connection before any of it could go.
                let lost = matches!(error.kind(), Kind::Read | Kind::Protocol);
                match lost && socket.is_some_and(Socket::withdraw) {
                    true => not_sent(),
                    false => error,
                }
            }
        }),
    }
}

/// The answer that comes over a connection. Nothing is waited for, so that no future has room for
/// what becomes part of it.
fn answer(
    (mut response, arrived): (http::Response<Incoming>, Instant),
    mut lease: Lease,
    handshake: Option<&Handshake>,
    read: Option<Duration>,
) -> Result<Box<Answer>, Error> {
    if response.version() < Version::HTTP_11 {
        // hyper would write the next request in HTTP/1.0, too, and leave out a chunked body.
        lease.is_the_last();
    }
    let switched = match handshake {
        None => None,
        Some(handshake) => switched(handshake, &mut response)?,
    };
    let (head, incoming) = response.into_parts();
    // Before the connection could be kept: two readers may see two bodies here.
    check_framing(&head.headers)?;
    Ok(Box::new(Answer {
        status: head.status,
        headers: head.headers,
        body: ResponseBody::http(incoming, lease, read),
        switched,
        arrived,
    }))
}

/// The connection behind a 101; `None` for any other answer to a handshake.
fn switched(
    handshake: &Handshake,
    response: &mut http::Response<Incoming>,
) -> Result<Option<Switched>, Error> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    Ok(Some(Switched {
        subprotocol: handshake.check(response.headers())?,
        stream: Stream::Socket(Switching {
            upgrade: hyper::upgrade::on(response),
        }),
    }))
}

/// Octets that may come before the end of the response head, interim responses included.
const HEAD_LIMIT: usize = 1024 * 1024;

/// The request as hyper sends it. Unless they are to be kept, its headers go along, and come
/// back where it was not sent. Where it was, either it is not sent again or there is a copy.
fn message(
    request: &mut Request,
    to: &Destination,
    body: RequestBody,
    keep: bool,
) -> HttpRequest<RequestBody> {
    let mut message = HttpRequest::new(body);
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = Uri::from(to.path.clone());
    *message.version_mut() = Version::HTTP_11;
    *message.headers_mut() = match keep {
        true => request.headers.clone(),
        false => std::mem::take(&mut request.headers),
    };
    message
}

#[cfg(test)]
mod tests;
