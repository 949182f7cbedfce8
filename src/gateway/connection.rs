//! One client's connection, from its first octet to its last: PROXY header, TLS, which HTTP.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Version;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::client::ClientIo;
use super::config::settings::{Listener, ServerLimits};
use super::forward::Peer;
use super::proxy_protocol::{self, Header};
use super::service::{Client, Service};
use super::watch::{Order, Presence, Watch};
use super::worker::Worker;
use crate::engine::upstream::socket::Stream;

/// How a connection in HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Header lines up to which hyper keeps room for them on the stack.
const USUAL_HEADERS: usize = 100;

/// Octets of a request that hyper reads ahead at most.
const READ_BUFFER: usize = 128 * 1024;

/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 256;

/// Octets that an HTTP/2 client may send ahead: of one request, and of all together.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A connection that has been accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Who accepted it.
    pub worker: Arc<Worker>,
    /// Where.
    pub listener: Listener,
    /// The socket.
    pub stream: Stream,
    /// The peer's address, where it has one.
    pub address: Option<IpAddr>,
    /// Its place among the worker's connections.
    pub presence: Arc<Presence>,
}

/// Serves a connection to its end. What goes wrong before there is a request is nobody's to be
/// told.
pub async fn serve(accepted: Accepted) {
    let worker = Arc::clone(&accepted.worker);
    worker.connections.accepted.increment();
    if run(accepted).await.is_none() {
        worker.connections.failed.increment();
    }
    worker.connections.closed.increment();
}

async fn run(accepted: Accepted) -> Option<()> {
    let Accepted {
        worker,
        listener,
        mut stream,
        mut address,
        presence,
    } = accepted;
    let watch = Arc::clone(presence.watch());
    let plan = worker.plan();
    let limits = plan.blueprint.settings.server.limits;
    if listener.proxy_protocol {
        let header = within(limits.header_timeout, proxy_protocol::read(&mut stream));
        match unless_told(&watch, header).await?? {
            Ok(Header::Client(client)) => address = Some(client),
            Ok(Header::Local) => {}
            Err(_) => return None,
        }
    }
    let acceptor = plan.blueprint.acceptors.get(&listener.bind).cloned();
    drop(plan);
    let peer = Peer::new(address, acceptor.is_some());
    let io = ClientIo::new(stream, Arc::clone(&watch));
    let manners = io.manners();
    let service = Service(Arc::new(Client {
        worker,
        listener,
        peer,
        presence,
        manners,
    }));
    let Some(acceptor) = acceptor else {
        return plain(io, service, &limits, &watch).await;
    };
    let shaking = Box::pin(within(limits.header_timeout, acceptor.accept(io)));
    let io = unless_told(&watch, shaking).await??.ok()?;
    watch.rest();
    match io.get_ref().1.alpn_protocol() {
        Some(b"h2") => serve_http2(TokioIo::new(io), service, &limits, &watch).await,
        _ => serve_http1(TokioIo::new(io), service, &limits, &watch).await,
    }
    Some(())
}

/// Without TLS the first octets tell which HTTP it is.
async fn plain(
    mut io: ClientIo,
    service: Service,
    limits: &ServerLimits,
    watch: &Watch,
) -> Option<()> {
    let (early, version) = unless_told(watch, sniff(&mut io)).await?.ok()?;
    if early.is_empty() {
        return Some(());
    }
    io.give_back(early);
    match version {
        Version::HTTP_2 => serve_http2(TokioIo::new(io), service, limits, watch).await,
        _ => serve_http1(TokioIo::new(io), service, limits, watch).await,
    }
    Some(())
}

/// Reads until it is certain whether a client begins with HTTP/2.
async fn sniff(io: &mut ClientIo) -> std::io::Result<(Bytes, Version)> {
    let mut early = BytesMut::new();
    loop {
        early.reserve(2048);
        let read = io.read_buf(&mut early).await?;
        let compared = early.len().min(PREFACE.len());
        let alike = early.get(..compared) == PREFACE.get(..compared);
        let version = match alike {
            true if compared == PREFACE.len() => Version::HTTP_2,
            true if read > 0 => continue,
            _ => Version::HTTP_11,
        };
        return Ok((early.freeze(), version));
    }
}

async fn serve_http1<I>(io: TokioIo<I>, service: Service, limits: &ServerLimits, watch: &Watch)
where
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
    let connection = builder.serve_connection(io, service).with_upgrades();
    watched(watch, connection, |connection| {
        connection.graceful_shutdown();
    })
    .await;
}

async fn serve_http2<I>(io: TokioIo<I>, service: Service, limits: &ServerLimits, watch: &Watch)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    watch.multiplex();
    let mut builder = http2::Builder::new(Spawner);
    let size = u32::try_from(limits.max_header_size).unwrap_or(u32::MAX);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(size);
    let connection = builder.serve_connection(io, service);
    watched(watch, connection, |connection| {
        connection.graceful_shutdown();
    })
    .await;
}

/// Drives a connection until it ends, or is told to.
async fn watched<C: Future>(watch: &Watch, connection: C, leave: impl Fn(Pin<&mut C>)) {
    let mut connection = std::pin::pin!(connection);
    let mut leaving = false;
    let mut listening = false;
    std::future::poll_fn(|context| {
        if !std::mem::replace(&mut listening, true) {
            watch.listen(context);
        }
        match watch.order() {
            Order::Die => return Poll::Ready(()),
            Order::Leave if !std::mem::replace(&mut leaving, true) => leave(connection.as_mut()),
            _ => {}
        }
        connection.as_mut().poll(context).map(|_| ())
    })
    .await;
}

/// The work's outcome; `None` where the connection is told to end before.
async fn unless_told<F: Future>(watch: &Watch, work: F) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context: &mut Context<'_>| {
        watch.listen(context);
        match watch.order() {
            Order::Stay => work.as_mut().poll(context).map(Some),
            _ => Poll::Ready(None),
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

/// Spawns HTTP/2 streams on the worker's thread.
#[derive(Debug, Clone, Copy)]
struct Spawner;

impl<F> Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        tokio::spawn(task);
    }
}
