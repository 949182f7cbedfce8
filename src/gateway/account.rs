//! What is kept of a request until its answer is complete: for the metrics and the access log.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::log::{Entry, Log, Told};
use super::passage::number_of;
use super::plan::Way;
use super::request_id::RequestId;
use super::service::Client;
use super::upload::Verdict;
use crate::engine::doorbell::Doorbell;
use crate::engine::error::Error;
use crate::engine::report::{Note, Observer, Provenance};
use crate::engine::target::Target;

/// What nginx calls a client that left before there was an answer.
const CLIENT_LEFT: u16 = 499;

/// One request's, which is in flight as long as it is open. It alone holds what the request needs to
/// its end, as each clone of an `Arc` takes two locked instructions.
#[derive(Debug)]
pub struct Account {
    connection: Arc<Client>,
    id: RequestId,
    /// The route at work, once it is known.
    way: Option<Arc<Way>>,
    /// The number of the target of the last try; 0 where there was none.
    target: usize,
    started: Instant,
    first_byte: Option<Duration>,
    status: StatusCode,
    sent: u64,
    /// No other request is to come behind it.
    last: bool,
    body: Option<Arc<Verdict>>,
    cut_short: Option<Side>,
    entry: Option<Box<(Entry, Log)>>,
}

/// Whose end of an exchange it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The target's.
    Upstream,
    /// The client's.
    Downstream,
}

impl Side {
    /// As the log has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }
}

impl Account {
    /// Opened when the head of the request is there.
    #[must_use]
    pub fn open(connection: &Arc<Client>, id: RequestId, entry: Option<(Entry, Log)>) -> Box<Self> {
        connection.presence.watch().begin();
        Box::new(Self {
            connection: Arc::clone(connection),
            id,
            way: None,
            target: 0,
            started: Instant::now(),
            first_byte: None,
            status: StatusCode::OK,
            sent: 0,
            last: false,
            body: None,
            cut_short: None,
            entry: entry.map(Box::new),
        })
    }

    /// Its connection is not kept for another request.
    pub fn is_the_last(&mut self) {
        self.last = true;
    }

    /// Whether its connection ends behind its answer, as that of each does when the gateway stops.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last || self.connection.worker.is_draining()
    }

    /// When the request's head was there.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The request's name.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The connection that the request came over.
    #[must_use]
    pub fn connection(&self) -> &Arc<Client> {
        &self.connection
    }

    /// The request belongs to this route.
    pub fn route(&mut self, way: &Arc<Way>) {
        way.metrics.begun.increment();
        if let Some(entry) = &mut self.entry {
            entry.0.route.clone_from(&way.metrics.route);
        }
        self.way = Some(Arc::clone(way));
    }

    /// The route that it belongs to.
    #[must_use]
    pub fn way(&self) -> Option<&Way> {
        self.way.as_deref()
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

    /// There is an answer, with which the route's target of this number has to do, counted from 1;
    /// 0 is none of them.
    pub fn answered(&mut self, status: StatusCode, target: usize, retries: u32) {
        self.arrived(Instant::now(), status, target, retries);
    }

    /// The same for an answer whose head came at `at`.
    pub fn arrived(&mut self, at: Instant, status: StatusCode, target: usize, retries: u32) {
        self.status = status;
        self.first_byte = Some(at.saturating_duration_since(self.started));
        self.target = target;
        if let Some(way) = &self.way {
            way.metrics.retries.add(u64::from(retries));
            if let Some(entry) = &mut self.entry
                && let Some(target) = way.metrics.targets.get(target)
            {
                entry.0.upstream.clone_from(&target.target);
            }
        }
    }

    /// Its upstream broke the answer off, which the log and the target are told.
    pub fn interrupted(&self, origin: &Provenance, error: &Error) {
        if let Some(way) = &self.way {
            let notes = Notes::new(way, &self.id);
            way.relay.report_interrupted(&notes, origin, error);
        }
    }

    /// Octets of the answer's body went out.
    pub fn sent(&mut self, octets: usize) {
        self.sent += octets as u64;
    }

    /// The answer ends before it is complete; what ended first was on this side.
    pub fn cut_short(&mut self, side: Side) {
        self.cut_short.get_or_insert(side);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let time = self.started.elapsed();
        let answered = self.first_byte.map(|_| self.status.as_u16());
        let status = answered.unwrap_or(CLIENT_LEFT);
        if let Some(way) = &self.way {
            let metrics = &way.metrics;
            metrics.ended.increment();
            if self.cut_short == Some(Side::Upstream) {
                metrics.broken.increment();
            }
            if let Some(target) = metrics.targets.get(self.target) {
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
            entry.cut_short = self.cut_short;
            log.write(entry);
        }
        self.connection.presence.watch().finish();
    }
}

/// Takes the engine's notes on one request.
#[derive(Debug)]
pub struct Notes<'a> {
    attempts: AtomicU32,
    /// The number of the target where the last try failed.
    failed_at: AtomicUsize,
    way: &'a Way,
    id: &'a RequestId,
}

impl<'a> Notes<'a> {
    /// Notes on the request of this name, which go to the log of its route.
    #[must_use]
    pub fn new(way: &'a Way, id: &'a RequestId) -> Self {
        Self {
            attempts: AtomicU32::new(1),
            failed_at: AtomicUsize::new(0),
            way,
            id,
        }
    }

    /// Tries after the first, as far as they were told.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// The number of the target where the last try failed, as [`Account::answered`] has it.
    #[must_use]
    pub fn failed_at(&self) -> usize {
        self.failed_at.load(Ordering::Relaxed)
    }
}

impl Observer for Notes<'_> {
    fn note(&self, note: Note) {
        if let Note::Event(event) = note {
            let attempt = event.attempt.unwrap_or_default();
            self.attempts.fetch_max(attempt, Ordering::Relaxed);
            let request_id = self.id.to_string();
            self.way.log.event(Told { event, request_id });
        }
    }

    fn failed(&self, target: &Target) {
        let number = number_of(&self.way.route, target);
        self.failed_at.store(number, Ordering::Relaxed);
    }

    fn doorbell(&self) -> Doorbell {
        Doorbell::new(|| {})
    }
}
