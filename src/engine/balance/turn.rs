//! A target's turn: one request that it has been given, in flight until this is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::member::Member;
use super::set::Balancer;
use crate::engine::error::{Error, Kind};

/// One request that a target has been given.
#[derive(Debug)]
pub struct Turn {
    balancer: Arc<Balancer>,
    member: Arc<Member>,
    begun: Instant,
    /// It counts as in flight.
    in_flight: bool,
    /// It decides whether an ejected target comes back.
    trial: bool,
    /// It was answered well, to the end.
    well: AtomicBool,
    /// It has been told of a failure: one request is one failure.
    blamed: AtomicBool,
    /// The head was well, and what is behind it has not ended.
    promising: bool,
}

impl Turn {
    /// To be called with the set locked, so that no bound is passed by two at once.
    pub(super) fn begin(
        balancer: &Arc<Balancer>,
        member: &Arc<Member>,
        begun: Instant,
        trial: bool,
    ) -> Self {
        member.take();
        Self {
            balancer: Arc::clone(balancer),
            member: Arc::clone(member),
            begun,
            in_flight: true,
            trial,
            well: AtomicBool::new(false),
            blamed: AtomicBool::new(false),
            promising: false,
        }
    }

    /// Whose turn it is.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Leaves its place to others, where a retry may be the next to take it.
    pub fn rest(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.member.leave();
            if std::mem::take(&mut self.trial) {
                self.member.end_trial();
            }
            self.balancer.has_left();
        }
    }

    /// In flight again, after all, and be it one more than there is room for: its answer has begun.
    pub fn go_on(&mut self) {
        if !std::mem::replace(&mut self.in_flight, true) {
            self.member.enter();
        }
    }

    /// The head of an answer came at `arrived`. How long it took says nothing of the target where
    /// it `waited` for the client's upload.
    pub fn answered(&mut self, status: StatusCode, arrived: Instant, waited: bool) {
        let latency = (!waited).then(|| arrived.saturating_duration_since(self.begun));
        let trial = std::mem::take(&mut self.trial);
        self.promising = false;
        if status.is_server_error() {
            let error = format!("status {}", status.as_u16());
            self.blame(error, latency, trial);
            return;
        }
        if let Some(latency) = latency {
            self.member.took(latency, arrived);
        }
        if trial {
            // Not at its end: a stream may be open for days.
            self.balancer.succeeded(&self.member, true);
        } else {
            self.promising = true;
        }
    }

    /// There was no answer.
    pub fn failed(&mut self, error: &Error) {
        if is_its_fault(error.kind()) {
            let trial = std::mem::take(&mut self.trial);
            self.promising = false;
            self.blame(error.to_string(), None, trial);
        }
    }

    fn blame(&self, error: String, latency: Option<Duration>, trial: bool) {
        if !self.blamed.swap(true, Ordering::Relaxed) {
            self.balancer.failed(&self.member, error, latency, trial);
        }
    }

    /// The answer has come to its end. One that its client abandons counts for nothing.
    pub fn completed(&self) {
        self.well.store(self.promising, Ordering::Relaxed);
    }

    /// The answer broke off.
    pub fn interrupted(&self, error: &Error) {
        if is_its_fault(error.kind()) {
            self.blame(error.to_string(), None, false);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A WebSocket that breaks off was answered well, and so was a redirect whose end fails.
        if *self.well.get_mut() && !*self.blamed.get_mut() {
            self.balancer.succeeded(&self.member, false);
        }
        self.rest();
    }
}

/// Whether a failure speaks against the target, rather than against the client or the relay.
const fn is_its_fault(kind: Kind) -> bool {
    match kind {
        Kind::Resolve
        | Kind::Connect
        | Kind::Tls
        | Kind::ConnectTimeout
        | Kind::ReadTimeout
        | Kind::WriteTimeout
        | Kind::Read
        | Kind::Write
        | Kind::Protocol => true,
        Kind::PoolTimeout
        | Kind::TooManyRedirects
        | Kind::Unavailable
        | Kind::Busy
        | Kind::Shutdown
        | Kind::BodyLength
        | Kind::Abandoned => false,
    }
}
