//! A connection without TLS, which the event loop may read in the engine's place.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Io;
use crate::engine::io::stream::Released;
use crate::engine::upstream::socket::{Socket, SocketIo};

/// Where the connection is.
pub(super) enum Plain {
    /// In the runtime.
    Kept(SocketIo),
    /// With the event loop.
    Lent(Lent),
}

/// What is with the event loop; `None`: it could not be taken back.
pub(super) struct Lent(Option<Arc<Released>>);

impl Drop for Lent {
    /// As a connection in the runtime ends.
    fn drop(&mut self) {
        if let Some(lent) = &self.0 {
            let _ = lent.socket().shutdown(Shutdown::Both);
        }
    }
}

impl Plain {
    fn kept(&mut self) -> io::Result<&mut SocketIo> {
        match self {
            Self::Kept(io) => Ok(io),
            Self::Lent(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl From<SocketIo> for Plain {
    fn from(io: SocketIo) -> Self {
        Self::Kept(io)
    }
}

impl Io for Plain {
    fn switch(&mut self) {
        if let Self::Kept(io) = self {
            io.switch();
        }
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Kept(io) => io.poll_readable(context),
            Self::Lent(_) => Poll::Ready(()),
        }
    }

    fn reset_on_close(&self) {
        match self {
            Self::Kept(io) => io.socket().reset_on_close(),
            Self::Lent(Lent(lent)) => {
                let lent = lent.as_ref().map(|lent| lent.socket());
                let _ = lent.map(|socket| socket.set_linger(Some(Duration::ZERO)));
            }
        }
    }

    fn shortcut(&self) -> Option<Weak<Socket>> {
        match self {
            Self::Kept(io) => Some(Arc::downgrade(io.socket())),
            Self::Lent(_) => None,
        }
    }

    fn lend(&mut self) -> Option<io::Result<Arc<Released>>> {
        let before = std::mem::replace(self, Self::Lent(Lent(None)));
        let Self::Kept(io) = before else {
            *self = before;
            return None;
        };
        let released = match io.into_stream() {
            Ok(stream) => stream.release(),
            Err(Some(io)) => {
                *self = Self::Kept(io);
                return None;
            }
            Err(None) => Err(io::ErrorKind::NotConnected.into()),
        };
        Some(released.map(|released| {
            let lent = Arc::new(released);
            *self = Self::Lent(Lent(Some(Arc::clone(&lent))));
            lent
        }))
    }

    fn take_back(&mut self) {
        let Self::Lent(Lent(lent)) = self else {
            return;
        };
        let alone = lent.take().and_then(Arc::into_inner);
        if let Some(stream) = alone.and_then(|lent| lent.take_up().ok()) {
            let mut io = SocketIo::new(stream, None);
            io.lift_write_timeout();
            *self = Self::Kept(io);
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.kept()?).poll_read(context, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.kept()?).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.kept()?).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.kept()?).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.kept()?).poll_shutdown(context)
    }
}
