//! Writes large payloads past tungstenite: it copies a frame whole into a buffer of its own, masks
//! it there in a second pass, and moves what is left after each partial write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::masked::Masked;

/// Octets that are masked at once, and written together: a peer is woken for each write, which
/// costs both sides more than the cache does that they pass through.
const PIECE: usize = 512 * 1024;

/// Octets of large messages, each way, after which others get their turn, though there is more to
/// do at once.
pub(super) const TURN: usize = 1024 * 1024;

/// A stream that can be given a frame to write. What else is written waits for the frame's end, so
/// that nothing gets into the middle of it.
pub(super) struct Bulk<S> {
    stream: S,
    /// What of the payload has not been masked yet.
    payload: Bytes,
    /// What goes out next.
    piece: Masked,
    /// How many octets of `piece` have been written.
    written: usize,
    /// Octets that may be written before others get their turn.
    turn: usize,
    /// The peer did not take what there was when it was offered last.
    held_up: bool,
    /// When the peer took something last that it had not taken at once.
    moved_at: Instant,
}

impl<S: AsyncWrite + Unpin> Bulk<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            payload: Bytes::new(),
            piece: Masked::default(),
            written: 0,
            turn: TURN,
            held_up: false,
            moved_at: Instant::now(),
        }
    }

    /// The stream behind.
    pub(super) const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream behind it.
    pub(super) const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// When the peer took something last that it had not taken at once: what goes no further than
    /// into the system's buffer says nothing of the peer.
    pub(super) const fn moved_at(&self) -> Instant {
        self.moved_at
    }

    /// Begins a frame; the one before must be out, and all that was written before it.
    ///
    /// # Errors
    /// Where the system has no randomness: a mask must not be guessed (RFC 6455 §5.3).
    pub(super) fn begin(
        &mut self,
        mut payload: Bytes,
        code: Data,
        is_final: bool,
    ) -> io::Result<()> {
        let room = PIECE.min(payload.len());
        let (piece, odd) = Masked::begin(&payload, code, is_final, room)?;
        payload.advance(odd);
        (self.payload, self.piece, self.written) = (payload, piece, 0);
        self.add_piece();
        Ok(())
    }

    /// Writes these octets as they are, before anything else: the rest of a frame that has begun to go
    /// out.
    pub(super) fn resume(&mut self, rest: &[u8]) {
        (self.piece, self.written) = (Masked::plain(rest, 0), 0);
    }

    fn add_piece(&mut self) {
        let octets = self.payload.split_to(PIECE.min(self.payload.len()));
        self.piece.add(&octets);
    }

    /// Notes whether the peer takes what there is.
    fn noted<T>(&mut self, taking: Poll<T>) -> Poll<T> {
        if std::mem::replace(&mut self.held_up, taking.is_pending()) && taking.is_ready() {
            self.moved_at = Instant::now();
        }
        taking
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.piece.octets(self.written).is_empty() {
            if self.turn == 0 {
                self.turn = TURN;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let waiting = self.piece.octets(self.written);
            let writing = Pin::new(&mut self.stream).poll_write(context, waiting);
            match ready!(self.noted(writing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.written += count;
                    self.turn = self.turn.saturating_sub(count);
                }
            }
            if self.piece.octets(self.written).is_empty() {
                self.written = 0;
                self.piece.clear();
                self.add_piece();
            }
        }
        self.piece = Masked::default();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bulk<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bulk<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_frame(context))?;
        let writing = Pin::new(&mut self.stream).poll_write(context, octets);
        self.noted(writing)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_frame(context))?;
        let flushing = Pin::new(&mut self.stream).poll_flush(context);
        self.noted(flushing)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_frame(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

    use super::*;

    fn octets(length: usize) -> Bytes {
        (0..length).map(|n| ((n * 31) >> 2) as u8).collect()
    }

    /// What comes out of a narrow stream for a frame, and something written right behind it.
    async fn written(payload: Bytes, code: Data, is_final: bool) -> io::Result<Vec<u8>> {
        let (stream, mut reader) = tokio::io::duplex(1000);
        let mut bulk = Bulk::new(stream);
        let writing = async move {
            bulk.begin(payload, code, is_final)?;
            bulk.write_all(b"behind").await?;
            assert!(bulk.piece.has_no_room());
            bulk.shutdown().await
        };
        let mut all = Vec::new();
        let (wrote, read) = tokio::join!(writing, reader.read_to_end(&mut all));
        wrote.and(read).map(|_| all)
    }

    #[tokio::test]
    async fn a_frame_goes_out_whole_and_masked() -> io::Result<()> {
        let lengths = [0, 1, 2, 3, 125, 126, 127, 128, 65_535, 65_536];
        let around = (PIECE - 3..PIECE + 6).chain([2 * PIECE + 2, 3 * PIECE + 5]);
        for length in lengths.into_iter().chain(around) {
            let (payload, is_final) = (octets(length), length % 2 == 0);
            let all = written(payload.clone(), Data::Continue, is_final).await?;
            let mut cursor = Cursor::new(&all);
            let parsed = FrameHeader::parse(&mut cursor).map_err(io::Error::other)?;
            let (header, announced) = parsed.ok_or(io::ErrorKind::InvalidData)?;
            assert_eq!(announced, length as u64);
            assert_eq!(header.opcode, OpCode::Data(Data::Continue));
            assert_eq!(header.is_final, is_final);
            let mask = header.mask.ok_or(io::ErrorKind::InvalidData)?;
            let start = usize::try_from(cursor.position()).map_err(io::Error::other)?;
            let (masked, behind) = all.split_at(start).1.split_at(length);
            let unmasked = masked.iter().zip(mask.iter().cycle());
            assert!(unmasked.map(|(octet, mask)| octet ^ mask).eq(payload));
            assert_eq!(behind, b"behind");
        }
        Ok(())
    }

    /// A peer that takes whatever it is offered, at once.
    struct Insatiable(usize);

    impl AsyncWrite for Insatiable {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0 += octets.len();
            Poll::Ready(Ok(octets.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn others_get_their_turn() -> io::Result<()> {
        let mut bulk = Bulk::new(Insatiable(0));
        let length = 5 * TURN;
        bulk.begin(octets(length), Data::Binary, true)?;
        let mut before = 0;
        let mut turns = 0;
        std::future::poll_fn(|context| {
            turns += 1;
            let flushed = Pin::new(&mut bulk).poll_flush(context);
            assert!(bulk.stream.0 - before < TURN + 2 * PIECE);
            before = bulk.stream.0;
            flushed
        })
        .await?;
        assert!(bulk.stream.0 > length && turns > 3);
        Ok(())
    }

    #[tokio::test]
    async fn only_a_peer_that_made_it_wait_shows_that_it_is_there() -> io::Result<()> {
        let (stream, mut reader) = tokio::io::duplex(1000);
        let mut bulk = Bulk::new(stream);
        let before = bulk.moved_at();
        bulk.write_all(&[0; 1000]).await?;
        assert_eq!(bulk.moved_at(), before);
        let (wrote, read) = tokio::join!(bulk.write_all(&[0; 1]), reader.read_u8());
        assert!(wrote.and(read.map(drop)).is_ok() && bulk.moved_at() > before);
        Ok(())
    }

    #[tokio::test]
    async fn each_frame_has_a_mask_of_its_own() -> io::Result<()> {
        let mut masks = std::collections::HashSet::new();
        for _ in 0..20 {
            let all = written(octets(4), Data::Binary, true).await?;
            masks.insert(all.get(2..6).map(<[u8]>::to_vec));
        }
        assert!(masks.len() > 10);
        Ok(())
    }
}
