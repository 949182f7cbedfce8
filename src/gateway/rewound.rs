//! A connection of which something has been read already.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets that are read to see what comes.
const GLANCE: usize = 2048;

/// A connection, and what has been read from it.
#[derive(Debug)]
pub struct Rewound<I> {
    io: I,
    early: Bytes,
}

impl<I: AsyncRead + Unpin> Rewound<I> {
    /// A connection of which nothing has been read.
    #[must_use]
    pub const fn new(io: I) -> Self {
        Self {
            io,
            early: Bytes::new(),
        }
    }

    /// What has been read is read again.
    pub fn give_back(&mut self, early: Bytes) {
        self.early = early;
    }

    /// The connection itself, where nothing is to be read again.
    ///
    /// # Errors
    /// Itself where something is.
    pub fn into_inner(self) -> Result<I, Self> {
        match self.early.is_empty() {
            true => Ok(self.io),
            false => Err(self),
        }
    }

    /// Waits for what comes next, without room for it; nothing is the end.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll_glance(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut space = [std::mem::MaybeUninit::uninit(); GLANCE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *self).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Rewound<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.io).poll_read(context, buffer);
        }
        let count = this.early.len().min(buffer.remaining());
        buffer.put_slice(&this.early.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Rewound<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
