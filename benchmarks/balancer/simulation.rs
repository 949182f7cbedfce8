//! Five servers, one of them ten times slower, under random arrivals: what the real balancer and
//! the real latency averages make of it. Time is simulated, so a run is the same on any machine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use asgi_relay::engine::balance::latency::Latency;
use asgi_relay::engine::balance::policy::{Candidate, Chooser, Policy};

pub const SERVERS: usize = 5;
/// Which of them is slow.
pub const SLOW: usize = 2;
/// The mean times to serve a request, which are spread exponentially.
const FAST_TIME: Duration = Duration::from_millis(10);
const SLOW_TIME: Duration = Duration::from_millis(100);
/// Requests that a server serves at once; further ones wait, first come, first served.
const WORKERS: usize = 8;
/// The start is not counted: nothing is known of the servers yet.
const WARM_UP: Duration = Duration::from_secs(5);
/// Requests in a row in which a herd is looked for.
const ROW: usize = 100;

/// How a request's server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// As the engine does.
    Balanced(Policy),
    /// Always the lowest average latency, whatever is in flight: what the engine does not do.
    LowestAverage,
}

pub const RULES: [Rule; 6] = [
    Rule::Balanced(Policy::RoundRobin),
    Rule::Balanced(Policy::Random),
    Rule::Balanced(Policy::PowerOfTwo),
    Rule::Balanced(Policy::LeastConnections),
    Rule::Balanced(Policy::LeastLatency),
    Rule::LowestAverage,
];

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Self::Balanced(policy) => policy.name(),
            Self::LowestAverage => "lowest_average",
        }
    }
}

/// A target that takes its time.
#[derive(Debug)]
pub struct Server {
    key: String,
    time: Duration,
    usable: bool,
    in_flight: AtomicUsize,
    latency: Mutex<Latency>,
}

impl Server {
    pub fn new(number: usize, time: Duration, usable: bool) -> Self {
        Self {
            key: format!("http://10.0.0.{number}:8000"),
            time,
            usable,
            in_flight: AtomicUsize::new(0),
            latency: Mutex::default(),
        }
    }

    pub fn usable(&self) -> bool {
        self.usable
    }

    pub fn begin(&self, requests: usize) {
        self.in_flight.fetch_add(requests, Ordering::Relaxed);
    }

    pub fn answer(&self, took: Duration, now: Instant) {
        self.latency.lock().unwrap().record(took, now);
    }
}

impl Candidate for Server {
    fn key(&self) -> &str {
        &self.key
    }

    fn weight(&self) -> u32 {
        1
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn cost(&self, now: Instant) -> f64 {
        self.latency.lock().unwrap().cost(self.in_flight(), now)
    }
}

/// The requests of a run, in the order of their arrival.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What each took, its wait included.
    times: Vec<Duration>,
    /// Which server each went to.
    servers: Vec<usize>,
}

impl Outcome {
    /// The time within which this part of the requests was answered.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[((times.len() - 1) as f64 * part) as usize]
    }

    /// The part of the requests that the slow server got.
    pub fn slow_share(&self) -> f64 {
        let slow = self.servers.iter().filter(|server| **server == SLOW);
        slow.count() as f64 / self.servers.len() as f64
    }

    /// Of a hundred requests in a row, the part that went to the same server, on average over
    /// those rows: of equal shares it is a fifth, of a herd it is all.
    pub fn herd_share(&self) -> f64 {
        let rows = self.servers.chunks_exact(ROW);
        let number = rows.len();
        let most = |row: &[usize]| {
            let count = |server| row.iter().filter(|one| **one == server).count();
            (0..SERVERS).map(count).max().unwrap()
        };
        rows.map(most).sum::<usize>() as f64 / (number * ROW) as f64
    }
}

/// So many requests in each second, at random times, for `length`; the warm-up comes before.
pub fn run(rule: Rule, load: f64, length: Duration) -> Outcome {
    let mut random = fastrand::Rng::with_seed(11);
    let mut exponential = |mean: f64| Duration::from_secs_f64(-mean * (1.0 - random.f64()).ln());
    let servers: Vec<_> = (0..SERVERS)
        .map(|number| {
            let time = if number == SLOW { SLOW_TIME } else { FAST_TIME };
            Arc::new(Server::new(number, time, true))
        })
        .collect();
    let policy = match rule {
        Rule::Balanced(policy) => policy,
        Rule::LowestAverage => Policy::Random,
    };
    let mut chooser = Chooser::new(policy, Some(5));
    chooser.rebuild(&servers);
    let start = Instant::now();
    let mut workers = [[start; WORKERS]; SERVERS];
    let mut ends = BinaryHeap::new();
    let mut outcome = Outcome::default();
    let mut now = start;
    while now < start + WARM_UP + length {
        now += exponential(1.0 / load);
        while let Some(Reverse((end, server, arrival))) = ends.pop() {
            if end > now {
                ends.push(Reverse((end, server, arrival)));
                break;
            }
            let server: &Arc<Server> = &servers[server];
            server.in_flight.fetch_sub(1, Ordering::Relaxed);
            server.answer(end - arrival, end);
        }
        let chosen = match rule {
            Rule::Balanced(_) => chooser.choose(&servers, |_| true, None, now).unwrap(),
            Rule::LowestAverage => lowest_average(&servers),
        };
        let server = &servers[chosen];
        server.begin(1);
        let worker = workers[chosen].iter_mut().min().unwrap();
        *worker = now.max(*worker) + exponential(server.time.as_secs_f64());
        ends.push(Reverse((*worker, chosen, now)));
        if now >= start + WARM_UP {
            outcome.times.push(*worker - now);
            outcome.servers.push(chosen);
        }
    }
    outcome
}

fn lowest_average(servers: &[Arc<Server>]) -> usize {
    let average = |server: &Arc<Server>| server.latency.lock().unwrap().value();
    let numbered = servers.iter().enumerate();
    numbered
        .min_by_key(|(_, server)| average(server))
        .unwrap()
        .0
}
