//! What is kept of a request until its answer is complete: for the metrics and the access log.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::log::{Entry, Log};
use super::metrics::RouteMetrics;
use super::upload::Verdict;
use super::watch::InFlight;
use crate::engine::doorbell::Doorbell;
use crate::engine::report::{Note, Observer};

/// What nginx calls a client that left before there was an answer.
const CLIENT_LEFT: u16 = 499;

/// One request's.
#[derive(Debug)]
pub struct Account {
    _in_flight: Option<InFlight>,
    started: Instant,
    first_byte: Option<Duration>,
    status: StatusCode,
    sent: u64,
    body: Option<Arc<Verdict>>,
    outcome: Outcome,
    books: Option<(Arc<RouteMetrics>, usize)>,
    entry: Option<Box<(Entry, Log)>>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Not yet, so that the client left if it stays so.
    Open,
    Complete,
    /// Its upstream broke off.
    Broken,
}

impl Account {
    /// Opened when the head of the request is there.
    #[must_use]
    pub fn open(in_flight: InFlight, entry: Option<(Entry, Log)>) -> Self {
        Self {
            _in_flight: Some(in_flight),
            started: Instant::now(),
            first_byte: None,
            status: StatusCode::OK,
            sent: 0,
            body: None,
            outcome: Outcome::Open,
            books: None,
            entry: entry.map(Box::new),
        }
    }

    /// The request belongs to this route.
    pub fn route(&mut self, metrics: &Arc<RouteMetrics>) {
        metrics.begun.increment();
        if let Some(entry) = &mut self.entry {
            entry.0.route.clone_from(&metrics.route);
        }
        self.books = Some((Arc::clone(metrics), 0));
    }

    /// The request is on behalf of this client.
    pub fn client(&mut self, address: IpAddr) {
        if let Some(entry) = &mut self.entry {
            entry.0.client = address.to_string();
        }
    }

    /// It has a body.
    pub fn body(&mut self, verdict: Arc<Verdict>) {
        self.body = Some(verdict);
    }

    /// There is an answer, from the target with this number among the route's, which count from 1;
    /// 0 is the gateway.
    pub fn answered(&mut self, status: StatusCode, target: usize, retries: u32) {
        self.arrived(Instant::now(), status, target, retries);
    }

    /// The same for an answer whose head came at `at`.
    pub fn arrived(&mut self, at: Instant, status: StatusCode, target: usize, retries: u32) {
        self.status = status;
        self.first_byte = Some(at.saturating_duration_since(self.started));
        if let Some((metrics, of)) = &mut self.books {
            *of = target;
            metrics.retries.add(u64::from(retries));
            if let Some(entry) = &mut self.entry
                && let Some(target) = metrics.targets.get(target)
            {
                entry.0.upstream.clone_from(&target.target);
            }
        }
    }

    /// Octets of the answer's body went out.
    pub fn sent(&mut self, octets: usize) {
        self.sent += octets as u64;
    }

    /// The answer broke off.
    pub fn failed(&mut self) {
        self.outcome = Outcome::Broken;
    }

    /// The answer is complete.
    pub fn complete(&mut self) {
        self.outcome = Outcome::Complete;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let time = self.started.elapsed();
        let answered = self.first_byte.map(|_| self.status.as_u16());
        let status = answered.unwrap_or(CLIENT_LEFT);
        if let Some((metrics, target)) = &self.books {
            metrics.ended.increment();
            if self.outcome == Outcome::Broken {
                metrics.broken.increment();
            }
            if let Some(target) = metrics.targets.get(*target) {
                target.answered(status);
                target.sent.add(self.sent);
                if let Some(body) = &self.body {
                    target.received.add(body.received());
                }
                if let Some(first_byte) = self.first_byte {
                    target.duration.record(time);
                    target.first_byte.record(first_byte);
                }
            }
        }
        if let Some(entry) = self.entry.take() {
            let (mut entry, log) = *entry;
            entry.status = status;
            entry.sent = self.sent;
            entry.time = time;
            entry.first_byte = self.first_byte;
            log.write(entry);
        }
    }
}

/// Takes the engine's notes on one request.
#[derive(Debug)]
pub struct Notes {
    attempts: AtomicU32,
    log: Log,
}

impl Notes {
    /// Notes that go to `log`.
    #[must_use]
    pub fn new(log: Log) -> Self {
        Self {
            attempts: AtomicU32::new(1),
            log,
        }
    }

    /// Tries after the first, as far as they were told.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// The last try had this number.
    pub fn attempt(&self, number: u32) {
        self.attempts.fetch_max(number, Ordering::Relaxed);
    }
}

impl Observer for Notes {
    fn note(&self, note: Note) {
        if let Note::Event(event) = note {
            self.attempt(event.attempt.unwrap_or_default());
            self.log.event(event);
        }
    }

    fn doorbell(&self) -> Doorbell {
        Doorbell::new(|| {})
    }
}
