//! hyper's handles on a connection, in either HTTP, and what differs between the two.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, Parts, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::engine::body::RequestBody;
use crate::engine::error::{Error, Kind};
use crate::engine::mailbox::MESSAGE;

/// Octets that an HTTP/2 upstream may send ahead: of one response, and of all on a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// How often a connection with something in flight is asked whether it is alive, and how long it
/// has to answer.
const PING: Duration = Duration::from_secs(20);

/// What sends requests over a connection.
#[derive(Debug)]
pub enum Sender {
    /// One after the other.
    Http1(http1::SendRequest<RequestBody>),
    /// Many at once.
    Http2(http2::SendRequest<RequestBody>),
}

/// What comes of a request; one that was not sent comes back.
pub type Answer = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Sender {
    /// Whether the next request can be sent at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    /// Whether the connection is no more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until the next request can be sent.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Self::Http1(sender) => sender.poll_ready(context),
            Self::Http2(sender) => sender.poll_ready(context),
        }
    }

    /// Sends a request as [`Sender`]'s HTTP wants it. Boxed: hyper's futures have room for the
    /// request, and whoever waits would carry that along.
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Answer> + Unpin + use<> {
        match self {
            Self::Http1(sender) => Either::Left(Box::pin(sender.try_send_request(request))),
            Self::Http2(sender) => Either::Right(Box::pin(sender.try_send_request(request))),
        }
    }
}

/// Speaks HTTP/2 over `io`; the future is the connection's work.
///
/// # Errors
/// [`Kind::Connect`].
pub(super) async fn handshake<I>(
    io: I,
) -> Result<
    (
        http2::SendRequest<RequestBody>,
        impl Future<Output = ()> + Send,
    ),
    Error,
>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(MESSAGE).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .handshake(TokioIo::new(io))
        .await;
    let (sender, connection) =
        handshake.map_err(|_| Error::not_sent(Kind::Connect, "the connection was closed"))?;
    // Its error reaches whoever waits for a response; there is nobody else to tell.
    Ok((sender, async {
        let _ = connection.await;
    }))
}

/// Makes a request in origin form one of HTTP/2 (RFC 9113 §8.3.1).
///
/// # Errors
/// [`Kind::Protocol`] where its Host is no authority.
pub fn multiplexed(request: &mut Request<RequestBody>, secure: bool) -> Result<(), Error> {
    let malformed = || Error::not_sent(Kind::Protocol, "the Host is no authority");
    let headers = request.headers_mut();
    let host = headers.remove(HOST).ok_or_else(malformed)?;
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONNECTION);
    let authority = Authority::from_maybe_shared(host).map_err(|_| malformed())?;
    let mut parts = Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| malformed())?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}
