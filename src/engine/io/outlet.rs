//! Where octets leave for a socket's peer: at once, or when the thread's round ends.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::round::{self, Side};
use super::stream::WriteHalf;

/// Octets of one socket that are deferred at most: an upload's usual piece, with its head.
const SMALL: usize = 20 * 1024;

/// The last write has gone.
const CLEAR: u8 = 0;
/// The last write waits for the system to take something.
const WAITING: u8 = 1;
/// The system has not taken all of what was deferred.
const LEFT: u8 = 2;
/// What is deferred is not to go any more.
const WITHDRAWN: u8 = 3;

/// What a socket is written to, and asked about.
///
/// Where something is deferred, all that uses it is on the thread that defers.
#[derive(Debug)]
pub struct Outlet {
    half: WriteHalf,
    state: AtomicU8,
    /// Octets that wait for the end of the round; no more than [`SMALL`].
    deferred: AtomicUsize,
    /// Something has gone since somebody asked.
    written: AtomicBool,
    left: Mutex<Left>,
}

/// What the system did not take of what was deferred.
#[derive(Debug, Default)]
struct Left {
    octets: Vec<u8>,
    /// What it said instead; it says that only once.
    error: Option<io::Error>,
}

impl AsRef<Self> for Outlet {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Outlet {
    /// One through which nothing has gone yet.
    #[must_use]
    pub fn new(half: WriteHalf) -> Self {
        Self {
            half,
            state: AtomicU8::new(CLEAR),
            deferred: AtomicUsize::new(0),
            written: AtomicBool::new(false),
            left: Mutex::default(),
        }
    }

    /// The half of the socket, to be asked.
    #[must_use]
    pub const fn half(&self) -> &WriteHalf {
        &self.half
    }

    /// The half of the socket, for its end or where the outlet is clear.
    #[must_use]
    pub fn into_half(self) -> WriteHalf {
        self.half
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn enter(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    fn deferred(&self) -> usize {
        self.deferred.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the system has all that was taken.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.deferred() == 0 && !self.has_left()
    }

    /// Whether the system did not take all of what was deferred; [`Outlet::poll_flush`] writes it.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.state() == LEFT
    }

    /// Has it tell from now on whether something has gone.
    pub fn begin(&self) {
        self.written.store(false, Ordering::Relaxed);
    }

    /// Takes back what has not gone; whether nothing has since [`Outlet::begin`].
    pub fn withdraw(&self) -> bool {
        if !self.is_clear() {
            self.enter(WITHDRAWN);
        }
        !self.written.load(Ordering::Relaxed)
    }

    /// Takes a small message, which goes when the thread's round ends, or some of a larger one at
    /// once; how many octets.
    ///
    /// # Errors
    /// The system's.
    pub fn poll_defer<T>(
        outlet: &Arc<T>,
        side: Side,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>
    where
        T: AsRef<Self> + Send + Sync + 'static,
    {
        let this: &Self = (**outlet).as_ref();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let deferred = this.deferred() + length;
        let small = length > 0 && deferred <= SMALL;
        // One that waits would seem to have gone.
        let may = small && this.state() == CLEAR;
        if may && round::defer(outlet, side, context.waker(), parts, length) {
            this.deferred.store(deferred, Ordering::Relaxed);
            return Poll::Ready(Ok(length));
        }
        this.poll_write(context, parts)
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
        round::pass();
        if !self.is_clear() {
            ready!(self.poll_clear(context))?;
        }
        let written = self.half.poll_write(context, parts);
        if let Poll::Ready(Ok(1..)) = written {
            self.written.store(true, Ordering::Relaxed);
        }
        self.enter(match written.is_pending() {
            true => WAITING,
            false => CLEAR,
        });
        written
    }

    /// Writes some of these parts, if that need not be waited for; how many octets.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where it would have to be waited for.
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.is_clear() {
            true => self.half.try_write(parts),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what the system did not take when a round ended.
    ///
    /// # Errors
    /// The system's.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.has_left() {
            true => self.poll_left(context),
            false => Poll::Ready(Ok(())),
        }
    }

    #[cold]
    fn poll_clear(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hurry();
        self.poll_flush(context)
    }

    /// Writes all that has been taken, and its end.
    ///
    /// # Errors
    /// The system's.
    pub fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_clear(context))?;
        Poll::Ready(match self.half.socket().shutdown(Shutdown::Write) {
            // It has ended already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        })
    }

    /// Ends the round if something is deferred here.
    pub fn hurry(&self) {
        if self.deferred() > 0 {
            round::end();
        }
    }

    fn poll_left(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = self.lock();
        if let Some(error) = left.error.take() {
            return Poll::Ready(Err(error));
        }
        while !left.octets.is_empty() {
            let written = ready!(self.half.poll_write(context, &[IoSlice::new(&left.octets)]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written.store(true, Ordering::Relaxed);
            let gone = written.min(left.octets.len());
            left.octets.drain(..gone);
        }
        *left = Left::default();
        self.enter(CLEAR);
        Poll::Ready(Ok(()))
    }

    /// The round ends: writes what was deferred. Whether that is done with; otherwise
    /// [`Outlet::poll_flush`] is to be called, which also has the error where there was one.
    pub(in crate::engine) fn write_deferred(&self, octets: &[u8]) -> bool {
        let deferred = self.deferred().saturating_sub(octets.len());
        self.deferred.store(deferred, Ordering::Relaxed);
        match self.state() {
            WITHDRAWN => return true,
            LEFT => {
                self.lock().octets.extend_from_slice(octets);
                return false;
            }
            _ => {}
        }
        let (gone, error) = match self.half.try_write(&[IoSlice::new(octets)]) {
            Ok(gone) => (gone, None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, None),
            Err(error) => (0, Some(error)),
        };
        if gone > 0 {
            self.written.store(true, Ordering::Relaxed);
        }
        let rest = octets.get(gone..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
        let octets = rest.to_vec();
        *self.lock() = Left { octets, error };
        self.enter(LEFT);
        false
    }
}

#[cfg(test)]
mod tests;
