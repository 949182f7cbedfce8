//! One direction of a tunnel. It holds memory only while the receiver is slower than the sender.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// Octets that are read at once, and that wait for a slow receiver at most.
const PIECE: usize = 64 * 1024;

thread_local! {
    /// Where pieces are read to before they are written, which is most often at once.
    static SPACE: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// What a turn has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing.
    Waiting,
    /// Octets have gone on.
    Moved,
    /// All octets have gone on, and the receiver knows that there are no more.
    Ended,
    /// The connection is no more.
    Broken,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Copy {
    /// What could not be written yet.
    rest: Vec<u8>,
    state: State,
    frames: Option<Frames>,
    goodbye: &'static [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The goodbye is to be said at the next border between frames.
    Parting,
    /// It has been said: what comes is read and dropped.
    Parted,
    /// The sender has ended.
    Ending,
    Ended,
}

impl Copy {
    /// With a `goodbye` the octets are WebSocket frames, of which that is one.
    pub(super) fn new(goodbye: Option<&'static [u8]>) -> Self {
        Self {
            rest: Vec::new(),
            state: State::Open,
            frames: goodbye.map(|_| Frames::default()),
            goodbye: goodbye.unwrap_or_default(),
        }
    }

    /// Says goodbye as soon as there is a border between frames.
    pub(super) fn part(&mut self) {
        if self.state == State::Open {
            self.state = State::Parting;
        }
    }

    /// Carries what there is.
    pub(super) fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Progress
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        match self.step(context, from, to) {
            Ok(progress) => progress,
            Err(_) => Progress::Broken,
        }
    }

    fn step<R, W>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> std::io::Result<Progress>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut progress = Progress::Waiting;
        // Bounded, so that others get their turn.
        for _ in 0..16 {
            if self.state == State::Ended {
                return Ok(Progress::Ended);
            }
            if self.poll_rest(context, to)?.is_pending() {
                return Ok(progress);
            }
            self.say_goodbye();
            if !self.rest.is_empty() {
                continue;
            }
            if self.state == State::Ending {
                if Pin::new(to).poll_shutdown(context)?.is_pending() {
                    return Ok(progress);
                }
                self.state = State::Ended;
                return Ok(Progress::Ended);
            }
            match self.poll_piece(context, from, to)? {
                Poll::Ready(0) => self.state = State::Ending,
                Poll::Ready(_) => progress = Progress::Moved,
                Poll::Pending => {
                    let _ = Pin::new(to).poll_flush(context)?;
                    return Ok(progress);
                }
            }
        }
        context.waker().wake_by_ref();
        Ok(progress)
    }

    fn say_goodbye(&mut self) {
        let at_border = self.frames.as_ref().is_some_and(Frames::at_border);
        if self.state == State::Parting && at_border {
            self.rest.extend_from_slice(self.goodbye);
            self.state = State::Parted;
        }
    }

    fn poll_rest<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        to: &mut W,
    ) -> std::io::Result<Poll<()>> {
        while !self.rest.is_empty() {
            let Poll::Ready(count) = Pin::new(&mut *to).poll_write(context, &self.rest)? else {
                return Ok(Poll::Pending);
            };
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.rest.drain(..count.min(self.rest.len()));
        }
        // An idle tunnel holds no memory.
        self.rest = Vec::new();
        Ok(Poll::Ready(()))
    }

    /// Reads a piece and writes as much of it as the receiver takes; 0 at the end.
    fn poll_piece<R, W>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> std::io::Result<Poll<usize>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SPACE.with_borrow_mut(|space| {
            let mut buffer = ReadBuf::new(space);
            if Pin::new(from).poll_read(context, &mut buffer)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let read = buffer.filled();
            if read.is_empty() || self.state == State::Parted {
                return Ok(Poll::Ready(read.len()));
            }
            let parting = self.state == State::Parting;
            let whole = read.len();
            let taken = match &mut self.frames {
                Some(frames) => frames.take(read, parting),
                None => whole,
            };
            // What lies behind a goodbye is dropped.
            let read = read.get(..taken).unwrap_or_default();
            let written = match Pin::new(to).poll_write(context, read)? {
                Poll::Ready(count) => count,
                Poll::Pending => 0,
            };
            self.rest
                .extend_from_slice(read.get(written..).unwrap_or_default());
            Ok(Poll::Ready(whole))
        })
    }
}
