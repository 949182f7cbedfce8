//! One connected socket, as hyper's connection task and the pool share it: the task reads and writes
//! by [`SocketIo`], the pool may look whether the peer has closed.

mod duplex;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

pub use self::duplex::SocketIo;
use super::hold::Hold;
use crate::engine::io::outlet::Outlet;
use crate::engine::io::stream::WriteHalf;

/// Octets of a response head, and of a chunk of a body, at most. hyper reads no more than this
/// ahead of whoever takes the body, and as little as 8 KiB where less comes. Two of them and what
/// the server holds beside them may wait for a client that does not read: each message wakes two
/// threads, so they are to be large.
pub const READ_BUFFER: usize = 480 * 1024;

/// Octets before the response head where nothing bounds them.
const UNBOUNDED: usize = usize::MAX;

/// A socket that can be asked about while a task reads it.
///
/// Nothing here is locked: whoever waits for an answer and the task that reads take turns.
#[derive(Debug)]
pub struct Socket {
    outlet: Outlet,
    /// How long a write may wait for the peer to take something.
    write_idle: Option<Duration>,
    opened: Instant,
    /// Nanoseconds from `opened` to when octets came or went last, as far as a response head was
    /// waited for.
    active: AtomicU64,
    /// How many more octets may come before the response head is complete, or [`UNBOUNDED`].
    head_room: AtomicUsize,
    /// Nothing is read.
    held: Hold,
    /// A write waits for the peer to take something.
    blocked: Hold,
    /// No request is on its way.
    idle: AtomicBool,
}

impl Socket {
    fn new(stream: WriteHalf, write_idle: Option<Duration>) -> Self {
        Self {
            outlet: Outlet::new(stream),
            write_idle,
            opened: Instant::now(),
            active: AtomicU64::new(0),
            head_room: AtomicUsize::new(UNBOUNDED),
            held: Hold::default(),
            blocked: Hold::default(),
            idle: AtomicBool::new(false),
        }
    }

    /// Whether nothing waits to be read: no octet that nobody asked for, and no end of stream.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut octet = [MaybeUninit::uninit()];
        let peeked = self.outlet.half().socket().peek(&mut octet);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// When the peer sent or took something last while its answer was waited for.
    #[must_use]
    pub fn active_at(&self) -> Instant {
        self.opened + Duration::from_nanos(self.active.load(Ordering::Acquire))
    }

    fn note_activity(&self) {
        let active = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.active.store(active, Ordering::Release);
    }

    /// Whether the response head has not come.
    fn awaits_head(&self) -> bool {
        self.head_room.load(Ordering::Acquire) != UNBOUNDED
    }

    /// Whether nothing has come since [`Socket::bound_head`] was called with `octets`.
    #[must_use]
    pub fn is_silent(&self, octets: usize) -> bool {
        self.head_room.load(Ordering::Acquire) == octets
    }

    /// A request is about to go. Bounds what may come until [`Socket::head_came`]. Without that,
    /// interim responses (1xx) without end would keep hyper reading for ever.
    pub fn bound_head(&self, octets: usize) {
        self.outlet.begin();
        self.head_room.store(octets, Ordering::Release);
        self.idle.store(false, Ordering::Release);
    }

    /// Takes back what has not gone of the request; whether nothing has.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.outlet.withdraw()
    }

    /// Lifts the bound, as the head is there; when that came.
    pub fn head_came(&self) -> Instant {
        self.head_room.store(UNBOUNDED, Ordering::Release);
        self.active_at()
    }

    /// Whether a request may be on its way; [`Socket::bound_head`] makes it so, too.
    pub fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Release);
    }

    /// Whether there is nothing to do for whoever reads and writes it: no request is on its way,
    /// all that was written has gone, and nothing has come. If so, the task is woken when it has.
    pub fn is_at_rest(&self, context: &mut Context<'_>) -> bool {
        self.idle.load(Ordering::Acquire)
            && !self.blocked.is_on()
            && self.outlet.is_clear()
            && self.outlet.half().poll_readable(context).is_pending()
    }

    /// Has nothing more read until [`Socket::release`]: hyper reads a chunk ahead otherwise.
    pub fn hold(&self) {
        self.held.begin();
    }

    /// Has it read on.
    pub fn release(&self) {
        self.held.end();
    }

    /// Waits while a write waits for the peer to take something.
    pub fn poll_unblocked(&self, context: &Context<'_>) -> Poll<()> {
        self.blocked.poll_end(context)
    }

    /// Writes what the system takes of `octets` at once; how many. From any thread.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where it takes none.
    pub fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        self.outlet.try_write(&[IoSlice::new(octets)])
    }

    /// Makes the end of the connection a reset. A FIN would queue behind what the peer has not
    /// taken yet, and a peer that takes nothing would never learn that nobody waits for it.
    pub fn reset_on_close(&self) {
        let _ = self.outlet.half().socket().set_linger(Some(Duration::ZERO));
    }
}

impl AsRef<Outlet> for Socket {
    fn as_ref(&self) -> &Outlet {
        &self.outlet
    }
}

#[cfg(test)]
pub(in crate::engine) mod tests;
