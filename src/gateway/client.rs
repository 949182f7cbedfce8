//! A client's connection as octets: a socket that tells its watch what happens, and that does not
//! cut off a client which is still sending when it has its answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watch::Watch;
use crate::engine::timer::Timer;
use crate::engine::upstream::stream::Stream;

/// How long a client that is still sending may go on after its answer, which a reset would take
/// from it.
const LINGER: Duration = Duration::from_secs(2);

/// A client's socket.
#[derive(Debug)]
pub struct ClientIo {
    /// `None` while the connection is parked.
    stream: Option<Stream>,
    watch: Arc<Watch>,
    linger: Timer,
}

impl ClientIo {
    /// A socket that tells `watch` what happens.
    #[must_use]
    pub fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self {
            stream: Some(stream),
            watch,
            linger: None,
        }
    }

    /// Gives the socket away.
    pub(super) fn take(&mut self) -> Option<Stream> {
        self.stream.take()
    }

    /// Goes on with a socket.
    pub(super) fn put(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(stream))
    }

    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timer = self
            .linger
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut space = [std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let mut buffer = ReadBuf::uninit(&mut space);
            match ready!(self.stream()?.poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
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
        let read = this.stream()?.poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.watch.heard();
        }
        read
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(context, octets);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(context, parts);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            this.watch.end();
            ready!(this.stream()?.poll_shutdown(context))?;
            if !this.watch.is_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_linger(context)
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream
            && self.watch.is_broken()
        {
            let _ = stream.socket().set_linger(Some(Duration::ZERO));
        }
    }
}
