//! The event loop's thread writes a small message to the upstream's socket itself, where nothing else
//! waits to go there, and reads small messages from it, where nothing else has come for a while:
//! handing them from one thread to the other costs more.
//!
//! A permit for one message at a time keeps bursts together: the second message of one finds none,
//! goes through the outbox with all that follow, and they are written as one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::loan::{Back, Loan};
use super::masked::Masked;
use super::session::Outbox;
use crate::engine::io::stream::Released;
use crate::engine::upstream::socket::Socket;

/// Octets of a message at most. The event loop does nothing else while they are masked and written.
pub(super) const SMALL: usize = 4 * 1024;

/// What the engine and the event loop share of a session.
#[derive(Debug, Default)]
pub struct Direct(Mutex<Lane>);

/// The way to the socket. The engine holds it as long as it looks at the session.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Whoever takes this may write one frame: the session has sent all that it had.
    permit: Option<Permit>,
    /// What the socket did not take of that frame. It has to go before anything else.
    rest: Vec<u8>,
    /// When a message went this way last.
    sent_at: Option<Instant>,
    /// The socket, as long as the event loop reads it.
    loan: Option<Loan>,
}

#[derive(Debug)]
struct Permit {
    way: Way,
    /// Octets of a message at most.
    most: usize,
}

impl Permit {
    fn lent(loan: &Loan) -> Self {
        Self {
            way: Way::Lent(Arc::clone(&loan.socket)),
            most: loan.most,
        }
    }
}

/// Where a frame is written.
#[derive(Debug)]
enum Way {
    /// The engine reads the socket.
    Kept(Weak<Socket>),
    /// The event loop does.
    Lent(Arc<Released>),
}

impl Way {
    fn try_write(&self, octets: &[u8]) -> Option<io::Result<usize>> {
        match self {
            Self::Kept(socket) => Some(socket.upgrade()?.try_write(octets)),
            Self::Lent(socket) => Some(socket.try_write(octets)),
        }
    }
}

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The socket has it.
    Wholly,
    /// The engine has to write the rest, and must be woken for that.
    Partly,
    /// It is for the outbox.
    Not,
}

impl Direct {
    /// Sends a message, if it may go this way; never waits. All others of this session are put into
    /// `outbox` by the calling thread.
    pub fn send(&self, octets: &[u8], code: Data, outbox: &Outbox) -> Sent {
        let Some(mut lane) = self.try_enter() else {
            return Sent::Not;
        };
        let fits = |permit: &mut Permit| octets.len() <= permit.most && outbox.is_empty();
        let Some(permit) = lane.permit.take_if(fits) else {
            return Sent::Not;
        };
        let frame = Masked::begin(octets, code, true, octets.len());
        let Ok((mut frame, odd)) = frame else {
            return Sent::Not;
        };
        frame.add(octets.get(odd..).unwrap_or_default());
        let Some(written) = permit.way.try_write(frame.octets(0)) else {
            return Sent::Not;
        };
        lane.sent_at = Some(Instant::now());
        // Whatever is wrong with it: the engine finds out.
        let written = written.unwrap_or(0);
        lane.rest = frame.octets(written).to_vec();
        match lane.rest.is_empty() {
            true => Sent::Wholly,
            false => Sent::Partly,
        }
    }

    /// Receives what has come, where the socket is lent; with `ended`, nothing comes behind it. Never
    /// waits: whoever else looks at the session takes the socket back.
    pub(super) fn receive(&self, ended: bool) {
        let Some(mut lane) = self.try_enter() else {
            return;
        };
        if let Some(loan) = &mut lane.loan {
            let permit = loan.receive(ended).then(|| Permit::lent(loan));
            // Nothing may get into the middle of a frame.
            lane.permit = permit.filter(|_| lane.rest.is_empty());
        }
    }

    /// The lane, unless somebody else has it.
    fn try_enter(&self) -> Option<MutexGuard<'_, Lane>> {
        match self.0.try_lock() {
            Ok(lane) => Some(lane),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Keeps others from writing as long as the lane is held, and from then on unless it is opened.
    pub(super) fn enter(&self) -> MutexGuard<'_, Lane> {
        let mut lane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lane.permit = None;
        lane
    }
}

#[cfg(test)]
impl Direct {
    /// Whether the event loop goes on reading.
    pub(super) fn is_lent(&self) -> bool {
        let lane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lane.loan.as_ref().is_some_and(|loan| !loan.over)
    }
}

impl Lane {
    /// What must be written first, and when a message went this way since it was asked last.
    pub(super) fn take(&mut self) -> (Vec<u8>, Option<Instant>) {
        (std::mem::take(&mut self.rest), self.sent_at.take())
    }

    /// Lets one message go this way, of so many octets at most.
    pub(super) fn open(&mut self, socket: &Weak<Socket>, most: usize) {
        let way = Way::Kept(Weak::clone(socket));
        self.permit = Some(Permit { way, most });
    }

    /// Lets the event loop read, and write one message before it has.
    pub(super) fn lend(&mut self, loan: Loan) {
        self.permit = Some(Permit::lent(&loan));
        self.loan = Some(loan);
    }

    /// Takes back what was lent; nobody else has the socket then.
    pub(super) fn take_back(&mut self) -> Option<Back> {
        self.loan.take().map(Loan::end)
    }
}

#[cfg(test)]
pub(super) mod tests;
