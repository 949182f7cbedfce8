//! A client's connection as octets: a socket that tells its watch what happens, and that does not
//! cut off a client which is still sending when it has its answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watch::Watch;
use crate::engine::io::outlet::Outlet;
use crate::engine::io::round::{self, Side};
use crate::engine::io::stream::{ReadHalf, Stream};
use crate::engine::timer::Timer;

/// How long a client that is still sending may go on after its answer, which a reset would take
/// from it.
const LINGER: Duration = Duration::from_secs(2);

/// A socket, of which the round of this thread may hold a part as well.
#[derive(Debug)]
struct Halves {
    read: ReadHalf,
    outlet: Arc<Outlet>,
}

impl From<Stream> for Halves {
    fn from(stream: Stream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            read,
            outlet: Arc::new(Outlet::new(write)),
        }
    }
}

impl Halves {
    fn reunited(self) -> Option<Stream> {
        let write = Arc::into_inner(self.outlet)?.into_half();
        self.read.reunite(write)
    }
}

/// A client's socket.
#[derive(Debug)]
pub struct ClientIo {
    /// `None` while the connection is parked.
    halves: Option<Halves>,
    watch: Arc<Watch>,
    linger: Timer,
}

impl ClientIo {
    /// A socket that tells `watch` what happens.
    #[must_use]
    pub fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self {
            halves: Some(stream.into()),
            watch,
            linger: Timer::default(),
        }
    }

    /// Gives the socket away, if the system has all that was written.
    pub(super) fn take(&mut self) -> Option<Stream> {
        let outlet = &self.halves.as_ref()?.outlet;
        outlet.hurry();
        match outlet.is_clear() {
            true => self.halves.take()?.reunited(),
            false => None,
        }
    }

    /// Goes on with a socket.
    pub(super) fn put(&mut self, stream: Stream) {
        self.halves = Some(stream.into());
    }

    fn halves(&mut self) -> io::Result<&mut Halves> {
        Ok(self.halves.as_mut().ok_or(io::ErrorKind::NotConnected)?)
    }

    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.poll_after(LINGER, context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut space = [std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let mut buffer = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.halves()?.read).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn written<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.watch.block(result.is_pending());
        result
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        // What comes first may be a handshake, which takes its time.
        match this.watch.is_fresh() {
            true => round::end(),
            false => round::pass(),
        }
        let read = Pin::new(&mut this.halves()?.read).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.watch.heard();
        }
        read
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let defers = self.watch.is_answering();
        let outlet = &self.halves()?.outlet;
        let written = match defers {
            true => Outlet::poll_defer(outlet, Side::Client, context, parts),
            false => outlet.poll_write(context, parts),
        };
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outlet = &self.halves()?.outlet;
        if !outlet.has_left() {
            return Poll::Ready(Ok(()));
        }
        let flushed = outlet.poll_flush(context);
        self.written(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.linger.has_begun() {
            this.watch.end();
            let shut = this.halves()?.outlet.poll_shutdown(context);
            ready!(this.written(shut))?;
            if !this.watch.is_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_linger(context)
    }
}

impl Drop for ClientIo {
    /// Ends the connection as a whole, so that a reset is not preceded by an end.
    fn drop(&mut self) {
        let Some(halves) = self.halves.take() else {
            return;
        };
        halves.outlet.hurry();
        let cut = self.watch.is_broken() || !halves.outlet.is_clear();
        if let Some(stream) = halves.reunited().filter(|_| cut) {
            let _ = stream.socket().set_linger(Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests;
