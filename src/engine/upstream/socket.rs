//! One connected socket, as hyper's connection task and the pool share it.
//!
//! The task reads and writes; the pool may look whether the peer has closed. Writing has an idle
//! timeout, and a peer that stops listening does not hide what it had to say.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::engine::error::{Error, Kind};
use crate::engine::timer::Timer;

/// A stream socket of either family.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// The socket, for its options.
    #[must_use]
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }

    /// Whether it may be worth reading; if not, the task is woken when it is.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context).map(drop),
            Self::Unix(stream) => stream.poll_read_ready(context).map(drop),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = parts {
            return self.poll_write(context, one);
        }
        let mut space = [0; SMALL];
        if let Some(octets) = joined(parts, &mut space) {
            return self.poll_write(context, octets);
        }
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Octets up to which copying parts together is cheaper than having the system gather them, as
/// measured on Linux: `writev` takes some 100 ns more than `send`.
const SMALL: usize = 1024;

/// Parts as one, where they are few octets.
fn joined<'a>(parts: &[IoSlice<'_>], space: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut at = 0;
    for part in parts {
        let end = at + part.len();
        space.get_mut(at..end)?.copy_from_slice(part);
        at = end;
    }
    space.get(..at)
}

/// Octets that the system keeps unsent, about, where [`SocketIo::bound_unsent`] was called; when
/// half of them have gone it takes more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// A socket that can be asked about while a task owns its stream.
#[derive(Debug)]
pub struct Socket(Mutex<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Stream,
    /// When octets came or went last, as far as a response head was waited for.
    active_at: Instant,
    /// How many more octets may come before the response head is complete.
    head_room: Option<usize>,
    /// Nothing is read, and this would have been.
    held: Option<Option<Waker>>,
}

impl Socket {
    /// Shares a connected stream.
    #[must_use]
    pub fn new(stream: Stream) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Shared {
            stream,
            active_at: Instant::now(),
            head_room: None,
            held: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing waits to be read: no octet that nobody asked for, and no end of stream.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut octet = [MaybeUninit::uninit()];
        let peeked = self.lock().stream.socket().peek(&mut octet);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// When the peer sent or took something last while its answer was waited for.
    #[must_use]
    pub fn active_at(&self) -> Instant {
        self.lock().active_at
    }

    /// Whether nothing has come since [`Socket::bound_head`] was called with `octets`.
    #[must_use]
    pub fn is_silent(&self, octets: usize) -> bool {
        self.lock().head_room == Some(octets)
    }

    /// Bounds what may come until [`Socket::head_came`]. Without that, interim responses (1xx)
    /// without end would keep hyper reading for ever.
    pub fn bound_head(&self, octets: usize) {
        self.lock().head_room = Some(octets);
    }

    /// Lifts the bound, as the head is there; when that came.
    pub fn head_came(&self) -> Instant {
        let mut shared = self.lock();
        shared.head_room = None;
        shared.active_at
    }

    /// Has nothing more read until [`Socket::release`]: hyper reads a chunk ahead otherwise.
    pub fn hold(&self) {
        self.lock().held.get_or_insert(None);
    }

    /// Has it read on.
    pub fn release(&self) {
        let reader = self.lock().held.take().flatten();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Makes the end of the connection a reset. A FIN would queue behind what the peer has not
    /// taken yet, and a peer that takes nothing would never learn that nobody waits for it.
    pub fn reset_on_close(&self) {
        let _ = self.lock().stream.socket().set_linger(Some(Duration::ZERO));
    }
}

impl Drop for Socket {
    /// Ends the connection, not only this process' part of it: a forked child may hold a copy of
    /// the descriptor, and the upstream must learn of the end all the same.
    fn drop(&mut self) {
        let _ = self
            .lock()
            .stream
            .socket()
            .shutdown(std::net::Shutdown::Both);
    }
}

/// What reads and writes a [`Socket`].
#[derive(Debug)]
pub struct SocketIo {
    socket: Arc<Socket>,
    write_idle: Option<Duration>,
    timer: Timer,
    /// A write waits for the peer to take something.
    blocked: bool,
    /// The peer no longer listens. It may still have answered (413, say, before the upload was
    /// complete), so what is written goes nowhere until the reading side finds the end.
    deaf_peer: bool,
}

impl SocketIo {
    /// `write_idle` bounds how long a write may wait for the peer to take something.
    #[must_use]
    pub fn new(socket: Arc<Socket>, write_idle: Option<Duration>) -> Self {
        Self {
            socket,
            write_idle,
            timer: None,
            blocked: false,
            deaf_peer: false,
        }
    }

    /// Lets a write wait for as long as it likes from now on.
    pub fn lift_write_timeout(&mut self) {
        self.write_idle = None;
        self.timer = None;
    }

    /// Whether it may be worth reading; if not, the task is woken when it is.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        let shared = self.socket.lock();
        match shared.held {
            Some(_) => Poll::Ready(()),
            None => shared.stream.poll_readable(context),
        }
    }

    /// Has the system keep little from now on that it cannot send yet. Its buffer grows to
    /// megabytes otherwise, and asks for more only when a third of them has gone: whoever takes
    /// less than that would seem to take nothing, and a ping would stand behind all of it.
    pub fn bound_unsent(&self) {
        #[cfg(target_os = "linux")]
        if let Stream::Tcp(stream) = &self.socket.lock().stream {
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
        }
    }

    fn write_with(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
        write: impl FnOnce(&mut Stream, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.deaf_peer {
            return Poll::Ready(Ok(length));
        }
        let mut shared = self.socket.lock();
        let written = write(&mut shared.stream, context);
        // One that need not wait comes right after the request did, and the clock has its price.
        if written.is_pending() {
            self.blocked = true;
        } else if std::mem::take(&mut self.blocked) && shared.head_room.is_some() {
            shared.active_at = Instant::now();
        }
        drop(shared);
        match written {
            Poll::Pending => self.poll_write_idle(context),
            Poll::Ready(Err(error)) if is_deaf(error.kind()) => {
                self.deaf_peer = true;
                Poll::Ready(Ok(length))
            }
            written => {
                self.timer = None;
                written
            }
        }
    }

    fn poll_write_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(idle) = self.write_idle else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(context));
        self.socket.reset_on_close();
        let error = Error::new(
            Kind::WriteTimeout,
            "the upstream stopped taking the request",
        );
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)))
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
        let before = buffer.filled().len();
        let mut shared = self.socket.lock();
        if let Some(reader) = &mut shared.held {
            *reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let read = Pin::new(&mut shared.stream).poll_read(context, buffer);
        if let Some(room) = shared.head_room {
            if read.is_ready() {
                shared.active_at = Instant::now();
            }
            let Some(left) = room.checked_sub(buffer.filled().len() - before) else {
                let error = Error::new(Kind::Protocol, "too much before the response head");
                return Poll::Ready(Err(io::Error::other(error)));
            };
            shared.head_room = Some(left);
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
        self.get_mut()
            .write_with(context, octets.len(), |stream, context| {
                Pin::new(stream).poll_write(context, octets)
            })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        self.get_mut()
            .write_with(context, length, |stream, context| {
                Pin::new(stream).poll_write_vectored(context, parts)
            })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket.lock().stream).poll_shutdown(context)
    }
}
