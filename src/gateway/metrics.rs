//! What a worker counts, without locks: each worker has counters of its own, and whoever reads
//! adds them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::config::settings::Bind;

/// Upper bounds of the histograms' buckets, in seconds; what is slower is in the last one.
pub const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// One number that only grows. Its worker's thread alone adds to it, and any thread may read it:
/// that takes no locked instruction, of which each costs a request some 5 ns.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, count: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(count), Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS.len() + 1],
    microseconds: Counter,
}

impl Histogram {
    /// One more that took this long.
    pub fn record(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = self.buckets.get(at.unwrap_or(BUCKETS.len())) {
            bucket.increment();
        }
        self.microseconds
            .add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many took at most as long as each of [`BUCKETS`], how many there are, and the sum of
    /// their seconds.
    #[must_use]
    pub fn read(&self) -> (Vec<u64>, u64, f64) {
        let mut sum = 0;
        let cumulative = self.buckets.iter().map(|bucket| {
            sum += bucket.get();
            sum
        });
        let mut cumulative: Vec<u64> = cumulative.collect();
        let count = cumulative.pop().unwrap_or_default();
        let seconds = Duration::from_micros(self.microseconds.get()).as_secs_f64();
        (cumulative, count, seconds)
    }
}

/// What was answered on behalf of one target, or of none.
#[derive(Debug)]
pub struct TargetMetrics {
    /// The target's URL; empty for what the gateway answers without a try.
    pub target: String,
    statuses: Vec<Counter>,
    /// From the request's head to the end of the answer.
    pub duration: Histogram,
    /// From the request's head to the answer's.
    pub first_byte: Histogram,
    /// Octets of requests' bodies, as far as they were read.
    pub received: Counter,
    /// Octets of answers' bodies.
    pub sent: Counter,
}

impl TargetMetrics {
    fn new(target: String) -> Self {
        let statuses = std::iter::repeat_with(Counter::default);
        Self {
            target,
            statuses: statuses.take(500).collect(),
            duration: Histogram::default(),
            first_byte: Histogram::default(),
            received: Counter::default(),
            sent: Counter::default(),
        }
    }

    /// One more answer, or a client that has not waited for one.
    pub fn answered(&self, status: u16) {
        let at = usize::from(status).checked_sub(100);
        if let Some(counter) = at.and_then(|at| self.statuses.get(at)) {
            counter.increment();
        }
    }

    /// Each status that occurred, and how often.
    pub fn statuses(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.statuses.iter().map(Counter::get).enumerate();
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(at, count)| (at + 100, count))
    }
}

/// What a worker counts for one route.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Its path, with its first host in front where it is for some alone.
    pub route: String,
    /// The first is for what the gateway itself answers.
    pub targets: Vec<TargetMetrics>,
    /// Requests that have begun; those answered less these are in flight.
    pub begun: Counter,
    /// Requests that are over.
    pub ended: Counter,
    /// Tries after the first.
    pub retries: Counter,
    /// Targets that were ejected for how they answered.
    pub ejections: Counter,
    /// Requests that were refused for coming too often.
    pub limited: Counter,
    /// Answers that broke off.
    pub broken: Counter,
    /// Connections that became something else than HTTP.
    pub upgrades: Counter,
}

impl RouteMetrics {
    /// Counters at 0.
    #[must_use]
    pub fn new(route: String, targets: Vec<String>) -> Arc<Self> {
        let targets = std::iter::once(String::new()).chain(targets);
        Arc::new(Self {
            route,
            targets: targets.map(TargetMetrics::new).collect(),
            begun: Counter::default(),
            ended: Counter::default(),
            retries: Counter::default(),
            ejections: Counter::default(),
            limited: Counter::default(),
            broken: Counter::default(),
            upgrades: Counter::default(),
        })
    }
}

/// What a worker counts of the connections of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// Which listener.
    pub bind: Bind,
    /// Where it listens, with the port that was found where any would do.
    pub address: String,
    /// What was meant for a request's head and could not be read as one.
    pub malformed: Counter,
}

/// What a worker counts of its connections.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    /// Every listener that there has been; locked when one begins, and to be read.
    listeners: Mutex<Vec<Arc<ListenerMetrics>>>,
    /// Accepted.
    pub accepted: Counter,
    /// That came to nothing: no TLS, no PROXY header where there must be one.
    pub failed: Counter,
}

impl ConnectionMetrics {
    /// Those of every listener.
    pub fn listeners(&self) -> MutexGuard<'_, Vec<Arc<ListenerMetrics>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a listener, which go on where there has been one at the same address.
    #[must_use]
    pub fn listener(&self, bind: &Bind, address: &str) -> Arc<ListenerMetrics> {
        let mut all = self.listeners();
        let known = all
            .iter()
            .find(|one| one.bind == *bind && one.address == address);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let new = Arc::new(ListenerMetrics {
            bind: bind.clone(),
            address: address.to_owned(),
            malformed: Counter::default(),
        });
        all.push(Arc::clone(&new));
        new
    }
}
