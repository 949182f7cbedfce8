//! Reads ahead of tungstenite while much comes: it reads no more at once than its buffer holds,
//! which each connection keeps, so that a large buffer would be a lot for many idle ones.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Octets that are read at once while much comes; given back when less comes.
const AHEAD: usize = 128 * 1024;

/// A stream that is read in large pieces while much comes.
pub(super) struct Readahead<S> {
    stream: S,
    /// The last read filled what there was to fill.
    flood: bool,
    space: Box<[u8]>,
    /// What of `space` has been read and not yet taken.
    waiting: std::ops::Range<usize>,
    read_at: Instant,
}

impl<S: AsyncRead + Unpin> Readahead<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            flood: false,
            space: Box::default(),
            waiting: 0..0,
            read_at: Instant::now(),
        }
    }

    /// When octets came last.
    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.space.is_empty() {
            self.space = vec![0; AHEAD].into();
        }
        let mut space = ReadBuf::new(&mut self.space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut space))?;
        self.read_at = Instant::now();
        self.waiting = 0..space.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Readahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() && !self.flood {
            let before = buffer.remaining();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            self.read_at = Instant::now();
            self.flood = before > 0 && buffer.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        if self.waiting.is_empty() {
            if self.poll_fill(context)?.is_pending() {
                return Poll::Pending;
            }
            self.flood = self.waiting.len() > buffer.remaining();
        }
        let count = self.waiting.len().min(buffer.remaining());
        let end = self.waiting.start + count;
        buffer.put_slice(self.space.get(self.waiting.start..end).unwrap_or_default());
        self.waiting.start = end;
        if self.waiting.is_empty() && !self.flood {
            self.space = Box::default();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Readahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn octets_come_in_order_and_the_space_goes_back() -> io::Result<()> {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let sent: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        writer.write_all(&sent).await?;
        let mut ahead = Readahead::new(reader);
        let mut got: Vec<u8> = Vec::new();
        let mut piece = [0; 8192];
        while got.len() < sent.len() {
            let count = ahead.read(&mut piece).await?;
            got.extend(piece.iter().take(count));
            assert!(ahead.space.len() <= AHEAD);
        }
        assert!(got == sent);
        writer.write_all(b"x").await?;
        assert_eq!(ahead.read(&mut piece).await?, 1);
        assert!(ahead.space.is_empty());
        drop(writer);
        assert_eq!(ahead.read(&mut piece).await?, 0);
        Ok(())
    }
}
