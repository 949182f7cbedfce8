//! What follows an upgrade: octets both ways, whatever they mean. Of WebSockets the frames' borders
//! are followed, so that a gateway which stops can say goodbye between two of them.

mod copy;
mod frames;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::copy::{Copy, Progress};
use super::watch::{Order, Presence};
use crate::engine::report::Provenance;
use crate::engine::timer::poll_due;
use crate::engine::websocket::socket::{Io, Switching};

/// How long the other side has to end after one side of a WebSocket has ended, or was told to.
const CLOSING: Duration = Duration::from_secs(5);

/// Close frames with the code 1001, "going away" (RFC 6455 §7.4.1): to a client as it is, to an
/// upstream under a mask of zeros.
const GOODBYE_TO_CLIENT: &[u8] = &[0x88, 0x02, 0x03, 0xE9];
const GOODBYE_TO_UPSTREAM: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9];

/// Two connections that are to be joined.
#[derive(Debug)]
pub struct Tunnel {
    /// The client's, once hyper hands it over.
    pub client: OnUpgrade,
    /// The upstream's.
    pub upstream: Switching,
    /// The protocol is WebSocket.
    pub web_socket: bool,
    /// How long both may be silent.
    pub idle: Option<Duration>,
    /// The client's place among the connections.
    pub presence: Arc<Presence>,
    /// Counted with its target until the end.
    pub origin: Provenance,
}

/// Joins them, in a task of its own.
pub fn start(tunnel: Tunnel) {
    tokio::spawn(run(tunnel));
}

async fn run(tunnel: Tunnel) {
    let (client, upstream) = tokio::join!(tunnel.client, tunnel.upstream.connection());
    // Either has ended before it began; there is nobody to tell.
    let (Ok(client), Ok((upstream, early))) = (client, upstream) else {
        return;
    };
    let mut joined = Joined {
        client: TokioIo::new(client),
        upstream: Early {
            octets: early,
            io: upstream,
        },
        up: Copy::new(tunnel.web_socket.then_some(GOODBYE_TO_UPSTREAM)),
        down: Copy::new(tunnel.web_socket.then_some(GOODBYE_TO_CLIENT)),
        active_at: Instant::now(),
        idle: tunnel.idle,
        deadline: None,
        timer: None,
        leaving: false,
        web_socket: tunnel.web_socket,
    };
    let watch = tunnel.presence.watch();
    poll_fn(|context| {
        watch.listen(context);
        match watch.order() {
            Order::Die => return Poll::Ready(()),
            Order::Leave => joined.leave(),
            Order::Stay => {}
        }
        joined.poll(context)
    })
    .await;
}

struct Joined {
    client: TokioIo<Upgraded>,
    upstream: Early,
    up: Copy,
    down: Copy,
    active_at: Instant,
    idle: Option<Duration>,
    /// When it is over whatever happens.
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    leaving: bool,
    web_socket: bool,
}

impl Joined {
    /// Says goodbye both ways, where the protocol has a word for it.
    fn leave(&mut self) {
        if self.web_socket && !std::mem::replace(&mut self.leaving, true) {
            self.up.part();
            self.down.part();
            self.end_soon();
        }
    }

    fn end_soon(&mut self) {
        self.deadline.get_or_insert(Instant::now() + CLOSING);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let up = self.up.poll(context, &mut self.client, &mut self.upstream);
        let down = self
            .down
            .poll(context, &mut self.upstream, &mut self.client);
        if up == Progress::Broken || down == Progress::Broken {
            return Poll::Ready(());
        }
        if up == Progress::Ended && down == Progress::Ended {
            return Poll::Ready(());
        }
        // One side of a WebSocket that is gone leaves nothing to say for the other.
        if self.web_socket && (up == Progress::Ended || down == Progress::Ended) {
            self.end_soon();
        }
        if up == Progress::Moved || down == Progress::Moved {
            self.active_at = Instant::now();
        }
        self.poll_time(context)
    }

    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let idle = self.idle.map(|idle| self.active_at + idle);
            let Some(next) = [idle, self.deadline].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            if next <= Instant::now() {
                return Poll::Ready(());
            }
            ready!(poll_due(&mut self.timer, next, context));
        }
    }
}

/// A connection of which something has been read already.
struct Early {
    octets: bytes::Bytes,
    io: Box<dyn Io>,
}

impl AsyncRead for Early {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.octets.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let count = self.octets.len().min(buffer.remaining());
        buffer.put_slice(&self.octets.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, octets)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
