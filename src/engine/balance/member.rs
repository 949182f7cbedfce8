//! One target at work: its connections, its counters, and how well it is.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::ejection::{Ejection, PassiveHealth};
use super::latency::Latency;
use super::policy::Candidate;
use super::probing::{Health, Probing};
use super::settings::{HealthCheck, TargetSettings};
use crate::engine::target::{Origin, Target};
use crate::engine::upstream::pool::Pool;

/// Whether a target gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It does.
    Healthy,
    /// Its checks fail, or none has been made yet, or its name has not been resolved yet.
    Unhealthy,
    /// Not for a while, as it has failed requests.
    Ejected,
    /// No new ones, as was asked for.
    Draining,
}

impl State {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Healthy,
            1 => Self::Unhealthy,
            2 => Self::Ejected,
            _ => Self::Draining,
        }
    }
}

/// What is known of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Which one.
    pub url: String,
    /// Whether it gets requests.
    pub state: State,
    /// Time to the first octet of an answer, a moving average.
    pub latency: Option<Duration>,
    /// Exchanges and WebSockets that it has at the moment.
    pub in_flight: usize,
    /// Requests that it has been given.
    pub requests: u64,
    /// Those that it failed, or answered with a 5xx.
    pub failures: u64,
    /// What was wrong last, with a request or a check.
    pub last_error: Option<String>,
}

/// One target at work.
#[derive(Debug)]
pub struct Member {
    settings: TargetSettings,
    url: String,
    /// The value of the sticky cookie that stands for it.
    cookie: Option<String>,
    /// The name that it was resolved from, where it stands for one of its addresses.
    source: Option<String>,
    pool: Arc<Pool>,
    state: AtomicU8,
    counts: Arc<Counts>,
    condition: Mutex<Condition>,
}

/// What is counted of a target; it stays when it is drained and comes back with other settings.
#[derive(Debug, Default)]
struct Counts {
    in_flight: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Condition {
    latency: Latency,
    ejection: Ejection,
    probing: Option<Probing>,
    draining: bool,
    /// Its name is to be resolved into targets that will take its place.
    awaits_addresses: bool,
    last_error: Option<String>,
    checks: Option<AbortHandle>,
}

impl Condition {
    /// What its checks say, where it has any.
    fn health(&self) -> Option<Health> {
        self.probing.as_ref().map(Probing::health)
    }

    fn state(&self) -> State {
        if self.draining {
            State::Draining
        } else if self.awaits_addresses || self.health().is_some_and(|h| h != Health::Healthy) {
            State::Unhealthy
        } else if self.ejection.is_ejected() {
            State::Ejected
        } else {
            State::Healthy
        }
    }
}

impl Member {
    pub(super) fn new(
        settings: TargetSettings,
        pool: Arc<Pool>,
        cookie: Option<String>,
        (source, awaits_addresses): (Option<String>, bool),
        before: Option<&Self>,
    ) -> Arc<Self> {
        let condition = Condition {
            latency: Latency::default(),
            ejection: Ejection::default(),
            probing: settings.health_check.as_ref().map(|_| Probing::default()),
            draining: settings.weight == 0,
            awaits_addresses,
            last_error: None,
            checks: None,
        };
        Arc::new(Self {
            url: settings.target.name().to_owned(),
            settings,
            cookie,
            source,
            pool,
            state: AtomicU8::new(condition.state() as u8),
            counts: before
                .map(|before| Arc::clone(&before.counts))
                .unwrap_or_default(),
            condition: Mutex::new(condition),
        })
    }

    /// Its address and base path.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.settings.target
    }

    /// Its URL, which tells it from others.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its connections.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The value of the sticky cookie that stands for it.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Whether it is the target of this URL, or one of its addresses.
    #[must_use]
    pub fn is(&self, url: &str) -> bool {
        self.url == url || self.source.as_deref() == Some(url)
    }

    pub(super) fn health_check(&self) -> Option<&Arc<HealthCheck>> {
        self.settings.health_check.as_ref()
    }

    /// Whether it is at this origin, by its name or by its address.
    #[must_use]
    pub fn is_at(&self, origin: &Origin) -> bool {
        self.target().origin().is_at(origin)
    }

    /// Whether it gets requests.
    #[must_use]
    pub fn state(&self) -> State {
        State::from_number(self.state.load(Ordering::Acquire))
    }

    /// Whether it may have one more in flight.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let most = self.settings.max_in_flight;
        most.is_none_or(|most| self.in_flight() < most)
    }

    /// Whether a request may go there now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.state() == State::Healthy && self.has_room()
    }

    /// What is known of it.
    #[must_use]
    pub fn status(&self) -> Status {
        let condition = self.lock();
        Status {
            url: self.url.clone(),
            state: condition.state(),
            latency: condition.latency.value(),
            in_flight: self.in_flight(),
            requests: self.counts.requests.load(Ordering::Relaxed),
            failures: self.counts.failures.load(Ordering::Relaxed),
            last_error: condition.last_error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the condition; the states before and after, where they differ.
    fn change(&self, change: impl FnOnce(&mut Condition)) -> Option<(State, State)> {
        let mut condition = self.lock();
        let before = condition.state();
        change(&mut condition);
        let after = condition.state();
        self.state.store(after as u8, Ordering::Release);
        (before != after).then_some((before, after))
    }

    /// A request is given to it.
    pub(super) fn take(&self) {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        self.enter();
    }

    pub(super) fn enter(&self) {
        self.counts.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn leave(&self) {
        // See `Balancer::has_left`.
        self.counts.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether an ejected target may be tried by one request.
    pub(super) fn begin_trial(&self, now: Instant, patience: Duration) -> bool {
        if self.state() != State::Ejected || !self.has_room() {
            return false;
        }
        self.lock().ejection.begin_trial(now, patience)
    }

    /// When one request may try it, where it is ejected.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        match self.state() {
            State::Ejected => self.lock().ejection.next_trial(),
            _ => None,
        }
    }

    pub(super) fn end_trial(&self) {
        self.lock().ejection.end_trial();
    }

    /// The head of an answer came after `latency`.
    pub(super) fn took(&self, latency: Duration, now: Instant) {
        self.lock().latency.record(latency, now);
    }

    /// A request was answered well.
    pub(super) fn succeeded(
        &self,
        passive: &PassiveHealth,
        trial: bool,
        now: Instant,
    ) -> Option<(State, State)> {
        self.change(|condition| {
            condition.ejection.record(passive, true, trial, now, false);
        })
    }

    /// A request failed; `latency` where it was answered.
    pub(super) fn failed(
        &self,
        error: String,
        latency: Option<Duration>,
        passive: Option<&PassiveHealth>,
        (trial, may_eject): (bool, bool),
        now: Instant,
    ) -> Option<(State, State)> {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        self.change(|condition| {
            condition.last_error = Some(error);
            if let Some(latency) = latency {
                condition.latency.record(latency, now);
            }
            condition.latency.fail(now);
            if let Some(passive) = passive {
                condition
                    .ejection
                    .record(passive, false, trial, now, may_eject);
            }
        })
    }

    /// A check came to an end.
    pub(super) fn checked(
        &self,
        check: &HealthCheck,
        outcome: Result<Duration, String>,
        now: Instant,
    ) -> Option<(State, State)> {
        self.change(|condition| {
            let ok = outcome.is_ok();
            match outcome {
                Ok(latency) => condition.latency.record(latency, now),
                Err(error) => condition.last_error = Some(error),
            }
            if let Some(probing) = &mut condition.probing {
                probing.record(ok, check.rise, check.fall);
            }
        })
    }

    /// Whether it has yet to be checked for the first time.
    pub(super) fn awaits_check(&self) -> bool {
        let condition = self.lock();
        let unknown = condition.health() == Some(Health::Unknown);
        unknown && !condition.draining && !condition.awaits_addresses
    }

    /// Whether others are to take its place.
    pub(super) fn awaits_addresses(&self) -> bool {
        let condition = self.lock();
        condition.awaits_addresses && !condition.draining
    }

    /// Its name has no address: it stays as it is.
    pub(super) fn await_no_addresses(&self) -> Option<(State, State)> {
        self.change(|condition| condition.awaits_addresses = false)
    }

    /// Gives it no new requests from now on.
    pub(super) fn drain(&self) -> Option<(State, State)> {
        self.stop_checks();
        self.change(|condition| condition.draining = true)
    }

    /// Leaves its checks to a task, unless one has them already.
    pub(super) fn keep_checks(&self, spawn: impl FnOnce() -> AbortHandle) {
        let mut condition = self.lock();
        let out = condition.draining || condition.awaits_addresses;
        if condition.checks.is_none() && !out {
            condition.checks = Some(spawn());
        }
    }

    pub(super) fn stop_checks(&self) {
        if let Some(checks) = self.lock().checks.take() {
            checks.abort();
        }
    }
}

impl Candidate for Member {
    fn key(&self) -> &str {
        &self.url
    }

    fn weight(&self) -> u32 {
        self.settings.weight
    }

    fn in_flight(&self) -> usize {
        // See `Balancer::has_left`.
        self.counts.in_flight.load(Ordering::SeqCst)
    }

    fn cost(&self, now: Instant) -> f64 {
        self.lock().latency.cost(self.in_flight(), now)
    }
}
