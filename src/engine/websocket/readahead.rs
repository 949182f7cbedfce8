//! Reads ahead of tungstenite while much comes: it reads no more at once than its buffer holds,
//! which each connection keeps, so that a large buffer would be a lot for many idle ones.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::bulk::TURN;

/// Octets that are read at once while much comes; given back when less comes.
const AHEAD: usize = 256 * 1024;

/// A stream that is read in large pieces while much comes.
pub(super) struct Readahead<S> {
    stream: S,
    /// The last read filled what there was to fill.
    flood: bool,
    space: Vec<u8>,
    /// How much of `space` has been taken.
    taken: usize,
    /// How much has been handed on, in all.
    passed: usize,
    /// The last octets that were handed on.
    tail: Tail,
    /// Octets that may be read before others get their turn.
    turn: usize,
    read_at: Instant,
}

/// Octets of a control frame without a mask at most (RFC 6455 §5.5).
const CONTROL_FRAME: usize = 127;

/// The last octets of a stream, as many as a control frame has at most.
struct Tail {
    octets: [u8; CONTROL_FRAME],
    length: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            octets: [0; CONTROL_FRAME],
            length: 0,
        }
    }
}

impl Tail {
    fn octets(&self) -> &[u8] {
        let start = CONTROL_FRAME - self.length;
        self.octets.get(start..).unwrap_or_default()
    }

    fn add(&mut self, octets: &[u8]) {
        let octets = octets
            .last_chunk::<CONTROL_FRAME>()
            .map_or(octets, |last| last);
        self.octets.rotate_left(octets.len());
        if let Some(end) = self.octets.get_mut(CONTROL_FRAME - octets.len()..) {
            end.copy_from_slice(octets);
        }
        self.length = CONTROL_FRAME.min(self.length + octets.len());
    }
}

impl<S: AsyncRead + Unpin> Readahead<S> {
    /// `passed` octets have been read and handed on before.
    pub(super) fn new(stream: S, passed: usize) -> Self {
        Self {
            stream,
            flood: false,
            space: Vec::new(),
            taken: 0,
            passed,
            tail: Tail::default(),
            turn: TURN,
            read_at: Instant::now(),
        }
    }

    /// The stream behind it.
    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream behind.
    pub(super) const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Hands these octets on before any other; something came last at `read_at`.
    pub(super) fn resume_reading(&mut self, unread: Vec<u8>, read_at: Instant) {
        debug_assert!(!self.is_ahead());
        (self.space, self.taken, self.read_at) = (unread, 0, read_at);
    }

    /// When octets came last.
    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// How many octets have been handed on, in all; it wraps around.
    pub(super) const fn passed(&self) -> usize {
        self.passed
    }

    /// The last octets that were handed on.
    pub(super) fn tail(&self) -> &[u8] {
        self.tail.octets()
    }

    fn note_passed(&mut self, octets: &[u8]) {
        self.passed = self.passed.wrapping_add(octets.len());
        self.tail.add(octets);
    }

    /// Whether octets wait here, or space for more is held that goes back when none come.
    pub(super) fn is_ahead(&self) -> bool {
        self.flood || !self.waiting().is_empty()
    }

    fn waiting(&self) -> &[u8] {
        self.space.get(self.taken..).unwrap_or_default()
    }

    /// Reads into `space`; one that waits for more than a moment holds none.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.turn == 0 {
            self.turn = TURN;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut space = std::mem::take(&mut self.space);
        space.clear();
        space.reserve_exact(AHEAD);
        // Unlike a buffer that is handed over, this one need not be cleared first.
        ready!(pin!(self.stream.read_buf(&mut space)).poll(context))?;
        self.read_at = Instant::now();
        self.turn = self.turn.saturating_sub(space.len());
        (self.space, self.taken) = (space, 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Readahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waiting().is_empty() && !self.flood {
            let (before, room) = (buffer.filled().len(), buffer.remaining());
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            self.read_at = Instant::now();
            self.note_passed(buffer.filled().get(before..).unwrap_or_default());
            self.flood = room > 0 && buffer.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        if self.waiting().is_empty() {
            ready!(self.poll_fill(context))?;
            self.flood = self.waiting().len() > buffer.remaining();
        }
        let before = buffer.filled().len();
        let count = self.waiting().len().min(buffer.remaining());
        buffer.put_slice(self.waiting().get(..count).unwrap_or_default());
        self.taken += count;
        self.note_passed(buffer.filled().get(before..).unwrap_or_default());
        if self.waiting().is_empty() && !self.flood {
            self.space = Vec::new();
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn octets_come_in_order_and_the_space_goes_back() -> io::Result<()> {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let sent: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        writer.write_all(&sent).await?;
        let mut ahead = Readahead::new(reader, 7);
        let mut got: Vec<u8> = Vec::new();
        let mut piece = [0; 8192];
        while got.len() < sent.len() {
            let count = ahead.read(&mut piece).await?;
            got.extend(piece.iter().take(count));
            assert!(ahead.space.capacity() <= AHEAD);
        }
        assert!(got == sent);
        assert_eq!(ahead.passed(), 7 + sent.len());
        assert!(sent.ends_with(ahead.tail()) && ahead.tail().len() == 127);
        writer.write_all(b"x").await?;
        assert_eq!(ahead.read(&mut piece).await?, 1);
        let expected = [sent.last_chunk::<126>().map_or(&[][..], |last| last), b"x"].concat();
        assert_eq!(ahead.tail(), expected);
        assert_eq!(ahead.space.capacity(), 0);
        drop(writer);
        assert_eq!(ahead.read(&mut piece).await?, 0);
        Ok(())
    }

    /// There is always more.
    struct Endless(usize);

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0 += buffer.initialize_unfilled().len();
            buffer.advance(buffer.remaining());
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn others_get_their_turn() -> io::Result<()> {
        let mut ahead = Readahead::new(Endless(0), 0);
        let mut space = [0; 8192];
        let mut turns = 0;
        std::future::poll_fn(|context| {
            turns += 1;
            let before = ahead.stream.0;
            loop {
                let mut buffer = ReadBuf::new(&mut space);
                ready!(Pin::new(&mut ahead).poll_read(context, &mut buffer))?;
                assert!(ahead.stream.0 - before <= TURN + AHEAD);
                if turns > 3 {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await
    }
}
