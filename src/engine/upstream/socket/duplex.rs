//! What hyper's connection task reads and writes. Writing has an idle timeout, and a peer that stops
//! listening does not hide what it had to say.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{READ_BUFFER, Socket, UNBOUNDED};
use crate::engine::error::{Error, Kind};
use crate::engine::io::outlet::Outlet;
use crate::engine::io::round::{self, Side};
use crate::engine::io::stream::{ReadHalf, Stream, WriteHalf};
use crate::engine::timer::Timer;

/// Octets that the system keeps unsent, about, behind [`SocketIo::switch`]; when
/// half of them have gone it takes more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// The end of whoever reads and writes a socket.
#[derive(Debug)]
struct End(Weak<Socket>);

impl Drop for End {
    /// Ends the connection, not only this process' part of it: a forked child may hold a copy of
    /// the descriptor, and the upstream must learn of the end all the same. Nobody waits for an answer
    /// any more.
    fn drop(&mut self) {
        if let Some(socket) = self.0.upgrade() {
            let _ = socket.withdraw();
            let _ = socket.outlet.half().socket().shutdown(Shutdown::Both);
        }
    }
}

/// What reads and writes a [`Socket`].
#[derive(Debug)]
pub struct SocketIo {
    end: End,
    socket: Arc<Socket>,
    stream: ReadHalf,
    timer: Timer,
    /// A write may wait for as long as it likes.
    patient: bool,
    /// The peer no longer listens. It may still have answered (413, say, before the upload was
    /// complete), so what is written goes nowhere until the reading side finds the end.
    deaf_peer: bool,
}

impl SocketIo {
    /// `write_idle` bounds how long a write may wait for the peer to take something.
    #[must_use]
    pub fn new(stream: Stream, write_idle: Option<Duration>) -> Self {
        let (read, write) = stream.into_split();
        let socket = Arc::new(Socket::new(write, write_idle));
        Self {
            end: End(Arc::downgrade(&socket)),
            socket,
            stream: read,
            timer: Timer::default(),
            patient: false,
            deaf_peer: false,
        }
    }

    /// What others may ask.
    #[must_use]
    pub const fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Lets a write wait for as long as it likes from now on.
    pub fn lift_write_timeout(&mut self) {
        self.patient = true;
        self.timer.clear();
    }

    /// Another protocol is spoken from now on, whose writes may wait for as long as they like.
    pub fn switch(&mut self) {
        self.lift_write_timeout();
        self.bound_unsent();
    }

    /// Whether it may be worth reading; if not, the task is woken when it is.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.socket.held.is_on() {
            return Poll::Ready(());
        }
        self.socket.outlet.half().poll_readable(context)
    }

    /// The socket by itself.
    ///
    /// # Errors
    /// This, where something that was written has not gone, the peer does not listen, or somebody else
    /// asks about the socket.
    pub fn into_stream(self) -> Result<Stream, Option<Self>> {
        let socket = &*self.socket;
        if self.deaf_peer || socket.blocked.is_on() || !socket.outlet.is_clear() {
            return Err(Some(self));
        }
        let Self {
            mut end,
            socket,
            stream,
            timer,
            patient,
            deaf_peer,
        } = self;
        match Arc::try_unwrap(socket) {
            Ok(socket) => {
                end.0 = Weak::new();
                stream.reunite(socket.outlet.into_half()).ok_or(None)
            }
            Err(socket) => Err(Some(Self {
                end,
                socket,
                stream,
                timer,
                patient,
                deaf_peer,
            })),
        }
    }

    /// Has the system keep little from now on that it cannot send yet. Its buffer grows to
    /// megabytes otherwise, and asks for more only when a third of them has gone: whoever takes
    /// less than that would seem to take nothing, and a ping would stand behind all of it.
    fn bound_unsent(&self) {
        #[cfg(target_os = "linux")]
        if let WriteHalf::Tcp(_) = self.socket.outlet.half() {
            let socket = self.socket.outlet.half().socket();
            let _ = socket.set_tcp_notsent_lowat(UNSENT);
        }
    }

    /// Notes whether a write has to wait, and for how long it has; a peer that does not listen takes
    /// `all`.
    fn settle<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        all: impl FnOnce() -> T,
    ) -> Poll<io::Result<T>> {
        let socket = &*self.socket;
        let waited = socket.blocked.is_on();
        if waited != written.is_pending() {
            match waited {
                true => socket.blocked.end(),
                false => socket.blocked.begin(),
            }
            // One that need not wait comes right after the request did, and the clock has its
            // price.
            if waited && socket.awaits_head() {
                socket.note_activity();
            }
        }
        match written {
            Poll::Pending => self.poll_write_idle(context).map(Err),
            Poll::Ready(Err(error)) if is_deaf(error.kind()) => {
                self.deaf_peer = true;
                Poll::Ready(Ok(all()))
            }
            written => {
                self.timer.clear();
                written
            }
        }
    }

    fn poll_write_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(idle) = self.socket.write_idle.filter(|_| !self.patient) else {
            return Poll::Pending;
        };
        ready!(self.timer.poll_after(idle, context));
        self.socket.reset_on_close();
        let error = Error::new(
            Kind::WriteTimeout,
            "the upstream stopped taking the request",
        );
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, error))
    }
}

fn is_deaf(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(
        kind,
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected
    )
}

impl AsyncRead for SocketIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let socket = &*this.socket;
        ready!(socket.held.poll_end(context));
        round::pass();
        let before = buffer.filled().len();
        // hyper's buffer, which should not be larger, doubles when it grows.
        let mut stream = (&mut this.stream).take(READ_BUFFER as u64);
        let read = Pin::new(&mut stream).poll_read(context, buffer);
        let room = socket.head_room.load(Ordering::Acquire);
        if room != UNBOUNDED && read.is_ready() {
            socket.note_activity();
            let Some(left) = room.checked_sub(buffer.filled().len() - before) else {
                let error = Error::new(Kind::Protocol, "too much before the response head");
                return Poll::Ready(Err(io::Error::other(error)));
            };
            socket.head_room.store(left, Ordering::Release);
        }
        read
    }
}

impl AsyncWrite for SocketIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = || parts.iter().map(|part| part.len()).sum();
        if this.deaf_peer {
            return Poll::Ready(Ok(length()));
        }
        // What follows a response's head, or is no HTTP/1.1, goes at once.
        let written = match this.socket.awaits_head() {
            true => Outlet::poll_defer(&this.socket, Side::Upstream, context, parts),
            false => this.socket.outlet.poll_write(context, parts),
        };
        this.settle(context, written, length)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf_peer || !this.socket.outlet.has_left() {
            return Poll::Ready(Ok(()));
        }
        let flushed = this.socket.outlet.poll_flush(context);
        this.settle(context, flushed, || ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf_peer {
            return Poll::Ready(Ok(()));
        }
        if this.socket.awaits_head() {
            // It is not going to come, so that a request that has not gone need not go.
            let _ = this.socket.withdraw();
        }
        let shut = this.socket.outlet.poll_shutdown(context);
        this.settle(context, shut, || ())
    }
}
