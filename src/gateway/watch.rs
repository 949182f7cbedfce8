//! What a worker knows of one connection, without a timer for it: since when it waits for what, what
//! it has been told to do, and how it is to end. A sweep of the registry finds what takes too long.

mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

use super::clock::Clock;

/// Milliseconds without a request after which a connection is parked.
const DROWSY: u64 = 250;

/// Milliseconds for which a connection is not disturbed although it is idle: its next request, or
/// its first, may be on its way.
const UNDISTURBED: u64 = 100;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// A request, or the end.
    Idle,
    /// The rest of a request's head.
    Head,
    /// Requests are being served.
    Busy,
}

/// What a connection has been told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Order {
    /// Go on.
    Stay,
    /// End when what is in flight is done.
    Leave,
    /// End at once.
    Die,
}

/// One connection, as its worker sees it.
#[derive(Debug)]
pub struct Watch {
    clock: Arc<Clock>,
    phase: AtomicU8,
    /// Milliseconds of the clock since which the phase lasts.
    since: AtomicU64,
    /// Since when the client has taken nothing of what waits to be written; 0 where nothing waits.
    blocked: AtomicU64,
    /// Answers in HTTP/2 whose end has not been written.
    unwritten: AtomicU32,
    /// Requests that are being served; they begin and end on the worker's thread alone.
    in_flight: AtomicU32,
    /// Since when the rest of a head in HTTP/2 is to come; 0 where none is.
    owing: AtomicU64,
    /// There has been no request.
    fresh: AtomicBool,
    /// Octets that come do not begin a request's head: the connection is multiplexed.
    multiplexed: AtomicBool,
    /// It has been idle for a while: it is to be parked, or has been.
    rest: AtomicBool,
    /// A request's body has not been read to its end, so that what comes next belongs to it.
    uploading: AtomicBool,
    /// Nothing is written any more, and what still comes is no request.
    ending: AtomicBool,
    /// Part of a request is not going to be read.
    unread: AtomicBool,
    /// An answer is not complete.
    broken: AtomicBool,
    /// It carries another protocol than HTTP, whose parties may be slow.
    tunnel: AtomicBool,
    order: AtomicU8,
    /// Since when it is to leave; 0 where it is not.
    leaving: AtomicU64,
    task: AtomicWaker,
    /// The task has been woken, and listens no longer.
    deaf: AtomicBool,
}

impl Watch {
    /// One that is idle.
    pub(super) fn new(clock: Arc<Clock>) -> Self {
        let watch = Self {
            clock,
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            unwritten: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            owing: AtomicU64::new(0),
            fresh: AtomicBool::new(true),
            multiplexed: AtomicBool::new(false),
            rest: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            order: AtomicU8::new(Order::Stay as u8),
            leaving: AtomicU64::new(0),
            task: AtomicWaker::new(),
            deaf: AtomicBool::new(true),
        };
        watch.enter(Phase::Idle);
        watch
    }

    fn enter(&self, phase: Phase) {
        self.rest.store(false, Ordering::Relaxed);
        self.since.store(self.clock.hands(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// Whether there has been nothing to do for so long. An answer that is over may still be on its
    /// way out.
    fn is_idle_for(&self, milliseconds: u64, now: u64) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        self.is_in(Phase::Idle) && !self.is_writing() && now.saturating_sub(since) >= milliseconds
    }

    /// The connection carries many requests at once.
    pub fn multiplex(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    /// The connection carries another protocol from now on.
    pub fn hand_over(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether its protocol has a word for the end, so that nothing is lost by it.
    #[must_use]
    pub fn has_goodbye(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed) || self.tunnel.load(Ordering::Relaxed)
    }

    /// Whether there has been no request.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Whether what is written are answers in HTTP/1.1: no handshake, no frames.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        !self.is_fresh() && !self.has_goodbye()
    }

    /// Whether a request's head has begun and is not complete.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.is_in(Phase::Head)
    }

    /// A PROXY header, a TLS handshake or HTTP/2's preface is over; what comes next begins anew.
    pub fn settle(&self) {
        self.enter(Phase::Idle);
    }

    /// Since when it is in its phase, in milliseconds of the clock.
    pub(super) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Whether it may make room for another one.
    pub(super) fn may_be_evicted(&self, now: u64) -> bool {
        self.is_idle_for(UNDISTURBED, now)
            && !self.tunnel.load(Ordering::Relaxed)
            && self.order() == Order::Stay
    }

    /// A request's body is being read, or is no longer.
    pub fn upload(&self, uploading: bool) {
        self.uploading.store(uploading, Ordering::Relaxed);
    }

    /// Part of a request has not been read: the connection ends when the client does.
    pub fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether the client may still be sending what nobody reads.
    pub(super) fn is_unread(&self) -> bool {
        // A head that was refused is seldom read to its end, either.
        self.unread.load(Ordering::Relaxed) || self.is_in(Phase::Head)
    }

    /// An answer is not complete: the connection must not end as if it were.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is to end with a reset.
    pub(super) fn is_broken(&self) -> bool {
        // HTTP/2 has reset the stream alone, and the others' octets may still be on their way.
        self.broken.load(Ordering::Relaxed) && !self.has_goodbye()
    }

    /// The connection is being shut down.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether it has been idle for so long that it should hold nothing for a request.
    #[must_use]
    pub fn is_to_rest(&self) -> bool {
        self.rest.load(Ordering::Relaxed)
            && self.is_in(Phase::Idle)
            && !self.is_writing()
            && !self.uploading.load(Ordering::Relaxed)
            && !self.ending.load(Ordering::Relaxed)
    }

    /// Whether it is idle for so long that it is to rest, and does not yet.
    pub(super) fn is_drowsy(&self, now: u64) -> bool {
        let rests = self.rest.load(Ordering::Relaxed);
        !rests && self.is_idle_for(DROWSY, now) && !self.has_goodbye()
    }

    /// Has it rest if it still is drowsy.
    pub(super) fn lull(&self) {
        if self.is_drowsy(self.clock.now()) {
            self.rest.store(true, Ordering::Relaxed);
            self.wake();
        }
    }

    /// Octets have come.
    pub fn heard(&self) {
        if self.is_in(Phase::Idle) && !self.multiplexed.load(Ordering::Relaxed) {
            self.enter(Phase::Head);
        }
    }

    /// The client takes nothing at the moment, or does again.
    pub fn block(&self, blocked: bool) {
        if !blocked && self.blocked.load(Ordering::Relaxed) != 0 {
            self.linger();
        }
        self.note(&self.blocked, blocked);
    }

    /// Part of an answer in HTTP/2 has been written; the ends of so many are still to be.
    pub(super) fn write(&self, unwritten: usize) {
        let before = self.unwritten.load(Ordering::Relaxed);
        let unwritten = u32::try_from(unwritten).unwrap_or(u32::MAX);
        if before != 0 {
            self.linger();
        }
        self.unwritten.store(unwritten, Ordering::Relaxed);
    }

    /// Where no request is being served, it has been idle from now on only: part of an answer was
    /// on its way.
    fn linger(&self) {
        if self.is_in(Phase::Idle) {
            self.since.store(self.clock.hands(), Ordering::Relaxed);
        }
    }

    /// Answers in HTTP/2 whose end has not been written.
    pub(super) fn unwritten(&self) -> u32 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Whether part of an answer waits to be written.
    fn is_writing(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) != 0 || self.unwritten() != 0
    }

    /// The rest of a head in HTTP/2 is to come, or has.
    pub(super) fn owe(&self, owing: bool) {
        self.note(&self.owing, owing);
    }

    /// Since when it is so; 0 where it is not.
    fn note(&self, since: &AtomicU64, is: bool) {
        match (is, since.load(Ordering::Relaxed)) {
            (true, 0) => since.store(self.clock.hands(), Ordering::Relaxed),
            (false, 1..) => since.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// A request's head is complete.
    pub(super) fn begin(&self) {
        let before = self.in_flight.load(Ordering::Relaxed);
        self.in_flight.store(before + 1, Ordering::Relaxed);
        self.fresh.store(false, Ordering::Relaxed);
        if before == 0 {
            self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        }
    }

    /// A request that has begun is over.
    pub(super) fn finish(&self) {
        let left = self.in_flight.load(Ordering::Relaxed).saturating_sub(1);
        self.in_flight.store(left, Ordering::Relaxed);
        if left == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// What it has been told to do.
    #[must_use]
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Stay,
            1 => Order::Leave,
            _ => Order::Die,
        }
    }

    /// Has the task that polls told of the next order; to be asked for before one is looked at.
    pub fn listen(&self, context: &Context<'_>) {
        self.deaf.store(false, Ordering::SeqCst);
        self.task.register(context.waker());
    }

    /// The same where it is not told already; a task that takes a connection over listens anew.
    pub fn keep_listening(&self, context: &Context<'_>) {
        if self.deaf.load(Ordering::SeqCst) {
            self.listen(context);
        }
    }

    /// Another task goes on with the connection: it has not asked to be told yet, and is not to park
    /// it before it could see what has come.
    pub(super) fn change_hands(&self) {
        self.rest.store(false, Ordering::Relaxed);
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Wakes the task, which is told of nothing more until it listens again.
    fn wake(&self) {
        // Taken first: a waker that is registered from now on is not this one's to use up.
        let waker = self.task.take();
        self.deaf.store(true, Ordering::SeqCst);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Gives an order; one that does not go beyond the last has no effect.
    pub(super) fn tell(&self, order: Order) {
        if self.order() < order {
            self.leaving.store(self.clock.now(), Ordering::Relaxed);
            self.order.store(order as u8, Ordering::Release);
            self.wake();
        }
    }
}

#[cfg(test)]
mod tests;
