//! One client's connection, from its first octet to its last: PROXY header, TLS, which HTTP. Between
//! requests that are far apart it is parked in the worker's lot.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::client::ClientIo;
use super::config::settings::ServerLimits;
use super::forward::Peer;
use super::heads::watched_heads;
use super::lot::Line;
use super::metrics::ListenerMetrics;
use super::proxy_protocol::{self, Header};
use super::registry::Presence;
use super::rewound::Rewound;
use super::service::{Client, Service};
use super::streams::Streams;
use super::tls::Acceptor;
use super::watch::{Order, Watch};
use super::worker::Worker;
use crate::engine::io::stream::Stream;

/// How a connection in HTTP/2 begins (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Header lines up to which hyper keeps room for them on the stack.
const USUAL_HEADERS: usize = 100;

/// Octets of a request that hyper reads ahead at most.
const READ_BUFFER: usize = 128 * 1024;

/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 256;

/// Octets of each answer in HTTP/2 that wait for the client to take them.
const SEND_BUFFER: usize = 64 * 1024;

/// Octets that an HTTP/2 client may send ahead: of one request, and of all together.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What a listener does with its connections.
#[derive(Debug, Clone)]
pub struct Door {
    /// For TLS.
    pub acceptor: Option<Acceptor>,
    /// Every request is redirected to this port.
    pub redirect_https: Option<u16>,
    /// The first octets tell who the client is.
    pub proxy_protocol: bool,
}

/// A connection that has been accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Who accepted it.
    pub worker: Arc<Worker>,
    /// Where.
    pub listener: Arc<ListenerMetrics>,
    /// With what its listener is set up.
    pub door: Door,
    /// The socket.
    pub stream: Stream,
    /// The peer's address, where it has one.
    pub address: Option<IpAddr>,
    /// Its place among the worker's connections.
    pub presence: Presence,
}

/// Serves a connection to its end. What goes wrong before there is a request is nobody's to be
/// told.
pub async fn serve(accepted: Accepted) {
    let worker = Arc::clone(&accepted.worker);
    let watch = Arc::clone(accepted.presence.watch());
    worker.connections.accepted.increment();
    // A client that leaves before its first octet has not failed.
    if run(accepted).await.is_none() && watch.is_in_head() {
        worker.connections.failed.increment();
    }
}

async fn run(accepted: Accepted) -> Option<()> {
    let Accepted {
        worker,
        listener,
        door,
        stream,
        mut address,
        presence,
    } = accepted;
    let watch = Arc::clone(presence.watch());
    let limits = worker.limits();
    let mut io = ClientIo::new(stream, Arc::clone(&watch));
    if door.proxy_protocol {
        let header = within(limits.header_timeout, proxy_protocol::read(&mut io));
        match Box::pin(unless_told(&watch, header)).await?? {
            Ok(Header::Client(client)) => address = Some(client),
            Ok(Header::Local) => {}
            Err(_) => return None,
        }
        watch.settle();
    }
    let client = Arc::new(Client {
        worker,
        listener,
        redirect_https: door.redirect_https,
        peer: Peer::new(address, door.acceptor.is_some()),
        presence,
    });
    // Each boxed, so that no connection has room for what another one needs.
    match door.acceptor {
        None => {
            let _ = Box::pin(plain(Rewound::new(io), client, &limits)).await;
            Some(())
        }
        Some(acceptor) => Box::pin(secure(io, acceptor, client, &limits)).await,
    }
}

/// Over TLS the handshake tells which HTTP it is.
async fn secure(
    io: ClientIo,
    acceptor: Acceptor,
    client: Arc<Client>,
    limits: &ServerLimits,
) -> Option<()> {
    let watch = client.presence.watch();
    let shaking = Box::pin(within(limits.header_timeout, acceptor.accept(io)));
    let io = Box::new(unless_told(watch, shaking).await??.ok()?);
    watch.settle();
    if io.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(io, client, limits).await;
    } else {
        serve_http1(Rewound::new(io), client, limits, Line::Secure).await;
    }
    Some(())
}

/// Without TLS the first octets tell which HTTP it is.
async fn plain(
    mut io: Rewound<ClientIo>,
    client: Arc<Client>,
    limits: &ServerLimits,
) -> Option<()> {
    let watch = client.presence.watch();
    let sniffed = unless_told(watch, sniff(&mut io, watch)).await?.ok()?;
    let Some((early, http2)) = sniffed else {
        let io = io.into_inner().ok()?;
        client.worker.lot.park(Line::New(io), Arc::clone(&client));
        return Some(());
    };
    if early.is_empty() {
        return Some(());
    }
    io.give_back(early);
    if http2 {
        serve_http2(io, client, limits).await;
    } else {
        serve_http1(io, client, limits, Line::Plain).await;
    }
    Some(())
}

/// Goes on with a connection that has been parked.
pub(super) async fn resume(line: Line, client: Arc<Client>) {
    client.presence.watch().change_hands();
    let limits = client.worker.limits();
    match line {
        Line::New(io) => {
            let _ = plain(Rewound::new(io), client, &limits).await;
        }
        Line::Plain(io) => go_on(io, client, &limits, Line::Plain).await,
        Line::Secure(io) => go_on(io, client, &limits, Line::Secure).await,
    }
}

async fn go_on<I>(mut io: I, client: Arc<Client>, limits: &ServerLimits, line: fn(I) -> Line)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = client.presence.watch();
    if watch.order() == Order::Stay {
        serve_http1(Rewound::new(io), client, limits, line).await;
    } else {
        // TLS has a word for it, which a client may not take.
        unless(watch, Order::Die, io.shutdown()).await;
    }
}

/// Reads until it is certain whether a client begins with HTTP/2; `None` where it is silent for so
/// long that its connection is to be parked.
async fn sniff(
    io: &mut Rewound<ClientIo>,
    watch: &Watch,
) -> std::io::Result<Option<(Bytes, bool)>> {
    let mut early = BytesMut::new();
    loop {
        let more = poll_fn(|context| match io.poll_glance(context) {
            Poll::Pending if watch.is_to_rest() => Poll::Ready(Ok(None)),
            glance => glance.map_ok(Some),
        });
        let Some(more) = more.await? else {
            return Ok(None);
        };
        early.extend_from_slice(&more);
        let compared = early.len().min(PREFACE.len());
        let alike = early.get(..compared) == PREFACE.get(..compared);
        if !alike || compared == PREFACE.len() || more.is_empty() {
            return Ok(Some((early.freeze(), alike && !more.is_empty())));
        }
    }
}

/// Serves HTTP/1.1 until the end, or until the connection is parked, as `line` has it.
async fn serve_http1<I>(
    mut io: Rewound<I>,
    client: Arc<Client>,
    limits: &ServerLimits,
    line: fn(I) -> Line,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_header_size(limits.max_header_size)
        .max_buf_size(READ_BUFFER.max(limits.max_header_size))
        .writev(true);
    if limits.max_headers != USUAL_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    let watch = client.presence.watch();
    loop {
        let service = Service(Arc::clone(&client));
        let service = service_fn(move |request| service.call(request));
        let connection = builder.serve_connection(TokioIo::new(io), service);
        let connection = Box::new(connection.with_upgrades());
        let left = watched(watch, connection, |connection| {
            connection.graceful_shutdown();
        });
        let resting = match left.await {
            Left::Resting(connection) => connection.into_parts(),
            Left::Ended(Err(error)) if error.is_parse() => return client.said_nonsense(&error),
            Left::Ended(_) | Left::Told => return,
        };
        let Some(parts) = resting else {
            return;
        };
        io = parts.io.into_inner();
        if !parts.read_buf.is_empty() {
            io.give_back(parts.read_buf);
        }
        match io.into_inner() {
            Ok(io) => return client.worker.lot.park(line(io), Arc::clone(&client)),
            Err(rewound) => io = rewound,
        }
        // What hyper had read already has not been heard: it would rest again at once, for ever.
        watch.heard();
    }
}

async fn serve_http2<I>(io: I, client: Arc<Client>, limits: &ServerLimits)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = Arc::clone(client.presence.watch());
    watch.multiplex();
    // No request has begun with the preface.
    watch.settle();
    let patience = limits.body_timeout;
    let mut builder = http2::Builder::new(Streams { patience });
    let size = u32::try_from(limits.max_header_size).unwrap_or(u32::MAX);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(size);
    let service = Service(client);
    let service = service_fn(move |request| service.call(request));
    let io = TokioIo::new(watched_heads(io, Arc::clone(&watch)));
    let connection = Box::new(builder.serve_connection(io, service));
    watched(&watch, connection, |connection| {
        connection.graceful_shutdown();
    })
    .await;
}

/// How the service of a connection is over.
enum Left<C: Future> {
    /// It is to rest.
    Resting(C),
    Ended(C::Output),
    /// It has been told to end at once.
    Told,
}

/// Drives a connection until it ends, or is told to, or is to rest.
async fn watched<C: Future + Unpin>(
    watch: &Watch,
    mut connection: Box<C>,
    leave: impl Fn(Pin<&mut C>),
) -> Left<C> {
    let mut leaving = false;
    let over = poll_fn(|context| {
        watch.keep_listening(context);
        match watch.order() {
            Order::Die => return Poll::Ready(Some(Left::Told)),
            Order::Leave if !std::mem::replace(&mut leaving, true) => {
                leave(Pin::new(&mut *connection));
            }
            _ => {}
        }
        if let Poll::Ready(output) = Pin::new(&mut *connection).poll(context) {
            return Poll::Ready(Some(Left::Ended(output)));
        }
        match !leaving && watch.is_to_rest() {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    })
    .await;
    over.unwrap_or_else(|| Left::Resting(*connection))
}

/// The work's outcome; `None` where the connection is told to end before.
async fn unless_told<F: Future>(watch: &Watch, work: F) -> Option<F::Output> {
    unless(watch, Order::Leave, work).await
}

/// The same for one order and those that go beyond it.
async fn unless<F: Future>(watch: &Watch, order: Order, work: F) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    poll_fn(|context: &mut Context<'_>| {
        watch.listen(context);
        match watch.order() < order {
            true => work.as_mut().poll(context).map(Some),
            false => Poll::Ready(None),
        }
    })
    .await
}

async fn within<F: Future>(limit: Option<Duration>, work: F) -> Option<F::Output> {
    match limit {
        None => Some(work.await),
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
    }
}
