//! One direction of a tunnel. It holds memory only while the receiver is slower than the sender.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, Taken};
use crate::engine::websocket::message::{FAILED, GOING_AWAY};

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
    /// Octets have gone on, which were WebSocket's own.
    Moved,
    /// Octets have gone on, of messages or of whatever it is.
    Spoken,
    /// All octets have gone on, and the receiver knows that there are no more.
    Ended,
    /// The connection is no more.
    Broken,
}

/// A ping without a payload, as a client sends it, under a mask of zeros.
const PING: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];

/// Whom a direction leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiver {
    /// It gets frames without a mask.
    Client,
    /// It gets them with one.
    Upstream,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Copy {
    /// What could not be written yet.
    rest: Vec<u8>,
    state: State,
    frames: Option<Frames>,
    receiver: Receiver,
    over: bool,
    /// Something of `rest` went on in the last turn.
    took: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Goodbye is to be said with this code at the next border between frames.
    Parting(u16),
    /// It has been said: what comes is read and dropped.
    Parted,
    /// The sender has ended.
    Ending,
    Ended,
}

impl Copy {
    /// To `receiver`; with `frames` the octets are WebSocket's.
    pub(super) fn new(receiver: Receiver, frames: Option<Frames>) -> Self {
        Self {
            rest: Vec::new(),
            state: State::Open,
            frames,
            receiver,
            over: false,
            took: false,
        }
    }

    /// Says goodbye as soon as there is a border between frames.
    pub(super) fn part(&mut self, code: u16) {
        if self.state == State::Open {
            self.state = State::Parting(code);
        }
    }

    /// Whether the sender's message was too long, so that it is heard no longer.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the receiver is slower than the sender.
    pub(super) fn is_held_up(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether the receiver took something in the last turn that had waited for it.
    pub(super) fn has_taken(&self) -> bool {
        self.took
    }

    /// Whether a ping can go out at this moment.
    pub(super) fn can_ask(&self) -> bool {
        self.state == State::Open && self.rest.is_empty() && self.at_border() && !self.has_closed()
    }

    /// Sends an upstream a ping, where it can.
    pub(super) fn ask(&mut self) -> bool {
        let able = self.can_ask();
        if able {
            self.rest.extend_from_slice(PING);
        }
        able
    }

    fn has_closed(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::are_closed)
    }

    fn at_border(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::at_border)
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
        self.took = false;
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
                Poll::Ready(None) => self.state = State::Ending,
                Poll::Ready(Some(true)) => progress = Progress::Spoken,
                Poll::Ready(Some(false)) if progress == Progress::Spoken => {}
                Poll::Ready(Some(false)) => progress = Progress::Moved,
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
        if let State::Parting(code) = self.state
            && self.at_border()
        {
            let head: &[u8] = match self.receiver {
                Receiver::Client => &[0x88, 0x02],
                Receiver::Upstream => &[0x88, 0x82, 0, 0, 0, 0],
            };
            if !self.has_closed() {
                self.rest.extend_from_slice(head);
                self.rest.extend_from_slice(&code.to_be_bytes());
            }
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
            self.took = true;
        }
        // An idle tunnel holds no memory.
        self.rest = Vec::new();
        Ok(Poll::Ready(()))
    }

    /// Reads a piece and writes as much of it as the receiver takes; whether there is something of
    /// a message in it, and `None` at the end.
    fn poll_piece<R, W>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> std::io::Result<Poll<Option<bool>>>
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
                return Ok(Poll::Ready((!read.is_empty()).then_some(false)));
            }
            let taken = self.take(read);
            // What lies behind a goodbye is dropped.
            let read = read.get(..taken.count).unwrap_or_default();
            let written = match Pin::new(to).poll_write(context, read)? {
                Poll::Ready(count) => count,
                Poll::Pending => 0,
            };
            self.rest
                .extend_from_slice(read.get(written..).unwrap_or_default());
            if taken.over {
                self.cut();
            }
            Ok(Poll::Ready(Some(taken.message)))
        })
    }

    fn take(&mut self, octets: &[u8]) -> Taken {
        match &mut self.frames {
            Some(frames) => frames.take(octets, self.state != State::Open),
            None => Taken {
                count: octets.len(),
                message: true,
                over: false,
            },
        }
    }

    /// Says goodbye where a message is too long, if it can be said: its beginning may have passed.
    fn cut(&mut self) {
        self.over = true;
        self.part(match self.receiver {
            Receiver::Client => FAILED,
            Receiver::Upstream => GOING_AWAY,
        });
        self.say_goodbye();
        self.state = State::Parted;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_takes_a_little_is_seen_to_take() -> std::io::Result<()> {
        let (mut to, mut upstream) = duplex(1024);
        let mut copy = Copy::new(Receiver::Upstream, None);
        let octets = vec![7; 10 * 1024];
        let mut from = octets.as_slice();
        let mut context = Context::from_waker(Waker::noop());
        let mut turn = |copy: &mut Copy| {
            copy.poll(&mut context, &mut from, &mut to);
            (copy.is_held_up(), copy.has_taken())
        };
        assert_eq!(turn(&mut copy), (true, false));
        assert_eq!(turn(&mut copy), (true, false));
        upstream.read_exact(&mut [0; 100]).await?;
        assert_eq!(turn(&mut copy), (true, true));
        assert_eq!(turn(&mut copy), (true, false));
        Ok(())
    }
}
