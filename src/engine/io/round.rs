//! Small messages that a thread defers until it has nothing else to do, and then writes one right
//! after the other: those who get them are woken once for many. Answers go first, as whoever has one
//! can ask again.
//!
//! Only a thread with [`Rounds`] does so, which calls [`end`] before it sleeps and before it does
//! something that takes long. A round that does not end by itself does so after 128 reads
//! and writes. What there is no room for is not deferred.

use std::cell::Cell;
use std::fmt;
use std::io::IoSlice;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use super::outlet::Outlet;

/// Octets that are deferred at once, at most.
pub(super) const MOST: usize = 256 * 1024;

/// Reads and writes that a message waits for, at most, deferred ones included: so many messages are
/// deferred at once.
pub(super) const LONGEST: usize = 128;

/// To whom a message goes.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// An answer.
    Client,
    /// A request.
    Upstream,
}

/// One message, and where it goes.
struct Deferred {
    outlet: Arc<dyn AsRef<Outlet> + Send + Sync>,
    /// Of the task that goes on where the system does not take all of it.
    waker: Waker,
    octets: Range<usize>,
}

/// Room for what is deferred.
pub struct Round {
    octets: Vec<u8>,
    answers: Vec<Deferred>,
    requests: Vec<Deferred>,
}

impl Round {
    /// With all that it may need; what is not used takes no memory from the system.
    #[must_use]
    pub fn new() -> Box<Self> {
        Box::new(Self {
            octets: Vec::with_capacity(MOST),
            answers: Vec::with_capacity(LONGEST),
            requests: Vec::with_capacity(LONGEST),
        })
    }
}

impl fmt::Debug for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Round")
    }
}

thread_local! {
    /// `None` where nothing is deferred, and while it is being written.
    static ROUND: Cell<Option<Box<Round>>> = const { Cell::new(None) };
    /// Reads and writes since the last end.
    static PASSED: Cell<usize> = const { Cell::new(0) };
}

/// Has its thread defer messages until it is dropped.
#[derive(Debug)]
pub struct Rounds {
    /// It is of no use to another thread.
    _own: PhantomData<*const ()>,
}

impl Rounds {
    /// From now on, if it is kept.
    #[must_use]
    pub fn begin(round: Box<Round>) -> Self {
        ROUND.set(Some(round));
        Self { _own: PhantomData }
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        end();
        ROUND.take();
    }
}

/// Writes all that is deferred.
pub fn end() {
    PASSED.set(0);
    let Some(mut round) = ROUND.take() else {
        return;
    };
    let deferred = round.answers.drain(..).chain(round.requests.drain(..));
    for Deferred {
        outlet,
        waker,
        octets,
    } in deferred
    {
        let octets = round.octets.get(octets).unwrap_or_default();
        if !(*outlet).as_ref().write_deferred(octets) {
            waker.wake();
        }
    }
    round.octets.clear();
    ROUND.set(Some(round));
}

/// Something is read or written, which a round is not to outlast for ever.
pub fn pass() {
    let passed = PASSED.get() + 1;
    PASSED.set(passed);
    if passed > LONGEST {
        end();
    }
}

/// Defers a message of so many octets; whether this thread does that, and there is room.
pub(super) fn defer<T>(
    outlet: &Arc<T>,
    side: Side,
    waker: &Waker,
    parts: &[IoSlice<'_>],
    length: usize,
) -> bool
where
    T: AsRef<Outlet> + Send + Sync + 'static,
{
    pass();
    let Some(mut round) = ROUND.take() else {
        return false;
    };
    let begin = round.octets.len();
    let room = begin + length <= MOST;
    if room {
        for part in parts {
            round.octets.extend_from_slice(part);
        }
        let deferred = Deferred {
            outlet: Arc::clone(outlet) as _,
            waker: waker.clone(),
            octets: begin..begin + length,
        };
        match side {
            Side::Client => round.answers.push(deferred),
            Side::Upstream => round.requests.push(deferred),
        }
    }
    ROUND.set(Some(round));
    room
}
