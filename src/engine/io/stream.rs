//! A stream socket of either family, whole or as two halves.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

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

/// What a [`Stream`] is read from.
#[derive(Debug)]
pub enum ReadHalf {
    /// TCP.
    Tcp(tcp::OwnedReadHalf),
    /// A Unix socket.
    Unix(unix::OwnedReadHalf),
}

/// What a [`Stream`] is written to, and asked about, by whoever shares it.
#[derive(Debug)]
pub enum WriteHalf {
    /// TCP.
    Tcp(tcp::OwnedWriteHalf),
    /// A Unix socket.
    Unix(unix::OwnedWriteHalf),
}

impl Stream {
    /// Both halves.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        }
    }
}

impl ReadHalf {
    /// The socket, whole again; `None` with the half of another one.
    #[must_use]
    pub fn reunite(self, other: WriteHalf) -> Option<Stream> {
        match (self, other) {
            (Self::Tcp(read), WriteHalf::Tcp(write)) => read.reunite(write).ok().map(Stream::Tcp),
            (Self::Unix(read), WriteHalf::Unix(write)) => {
                read.reunite(write).ok().map(Stream::Unix)
            }
            _ => None,
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(context, buffer),
            Self::Unix(half) => Pin::new(half).poll_read(context, buffer),
        }
    }
}

/// A stream socket that the runtime does not know.
#[derive(Debug)]
pub enum Released {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Takes the socket out of the runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn release(self) -> io::Result<Released> {
        Ok(match self {
            Self::Tcp(stream) => Released::Tcp(stream.into_std()?),
            Self::Unix(stream) => Released::Unix(stream.into_std()?),
        })
    }
}

impl Released {
    /// Gives the socket to the runtime that this is called in.
    ///
    /// # Errors
    /// The system's.
    pub fn take_up(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// The socket, for its options.
    #[must_use]
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }

    /// Reads what there is, at most as much as `space` holds; how many octets.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where nothing has come.
    pub fn try_read(&self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(space),
            Self::Unix(stream) => (&*stream).read(space),
        }
    }

    /// Writes what the system takes at once; how many octets.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where it takes none.
    pub fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(octets),
            Self::Unix(stream) => (&*stream).write(octets),
        }
    }
}

impl AsRawFd for Released {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl WriteHalf {
    /// The socket, for its options.
    #[must_use]
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(half) => SockRef::from(half.as_ref()),
            Self::Unix(half) => SockRef::from(half.as_ref()),
        }
    }

    /// Whether it may be worth reading; if not, the task is woken when it is.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(half) => half.as_ref().poll_read_ready(context).map(drop),
            Self::Unix(half) => half.as_ref().poll_read_ready(context).map(drop),
        }
    }

    /// Writes some of these parts; how many octets.
    ///
    /// # Errors
    /// The system's.
    pub fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(match self {
                Self::Tcp(half) => half.as_ref().poll_write_ready(context),
                Self::Unix(half) => half.as_ref().poll_write_ready(context),
            })?;
            match self.try_write(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// Writes some of these parts, if that need not be waited for; how many octets.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where it would have to be waited for.
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let [one] = parts {
            return self.try_send(one);
        }
        let mut space = [0; SMALL];
        if let Some(octets) = joined(parts, &mut space) {
            return self.try_send(octets);
        }
        match self {
            Self::Tcp(half) => half.try_write_vectored(parts),
            Self::Unix(half) => half.try_write_vectored(parts),
        }
    }

    fn try_send(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(octets),
            Self::Unix(half) => half.try_write(octets),
        }
    }
}
