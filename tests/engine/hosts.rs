//! Targets for the balancer's tests, with every figure set by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use asgi_relay::engine::balance::policy::{Candidate, Chooser, Policy};

#[derive(Debug)]
pub struct Host {
    pub key: String,
    pub weight: u32,
    pub in_flight: AtomicUsize,
    pub cost: f64,
    pub usable: bool,
}

impl Host {
    pub fn new(number: usize, weight: u32) -> Self {
        Self {
            key: format!("http://10.0.0.{number}:8000"),
            weight,
            in_flight: AtomicUsize::new(0),
            cost: 0.0,
            usable: true,
        }
    }

    pub fn set(&self, in_flight: usize) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }
}

impl Candidate for Host {
    fn key(&self) -> &str {
        &self.key
    }

    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn cost(&self, _: Instant) -> f64 {
        self.cost
    }
}

/// Targets with these weights, all usable and idle.
pub fn hosts(weights: &[u32]) -> Vec<Arc<Host>> {
    let numbered = (1..).zip(weights);
    numbered
        .map(|(number, weight)| Arc::new(Host::new(number, *weight)))
        .collect()
}

/// A policy with a fixed seed that knows `targets`.
pub fn chooser(policy: Policy, targets: &[Arc<Host>]) -> Chooser {
    let mut chooser = Chooser::new(policy, Some(7));
    chooser.rebuild(targets);
    chooser
}

pub fn next(chooser: &mut Chooser, targets: &[Arc<Host>]) -> Option<usize> {
    chooser.choose(targets, |host| host.usable, None, Instant::now())
}

/// How often each target is chosen in so many choices.
pub fn counts(chooser: &mut Chooser, targets: &[Arc<Host>], choices: usize) -> Vec<usize> {
    let mut counts = vec![0; targets.len()];
    for _ in 0..choices {
        counts[next(chooser, targets).unwrap()] += 1;
    }
    counts
}

/// Whether counts are what chance makes of these shares: Pearson's statistic is below what it
/// exceeds once in a thousand times (Wilson and Hilferty's approximation of the quantile).
pub fn follows(counts: &[usize], shares: &[f64]) -> bool {
    let choices: usize = counts.iter().sum();
    let total: f64 = shares.iter().sum();
    let statistic: f64 = counts
        .iter()
        .zip(shares)
        .filter(|(_, share)| **share > 0.0)
        .map(|(count, share)| {
            let expected = choices as f64 * share / total;
            (*count as f64 - expected).powi(2) / expected
        })
        .sum();
    let none_where_none = counts
        .iter()
        .zip(shares)
        .all(|(count, share)| *share > 0.0 || *count == 0);
    let degrees = shares.iter().filter(|share| **share > 0.0).count() as f64 - 1.0;
    let ninth = 2.0 / (9.0 * degrees);
    none_where_none && statistic < degrees * (1.0 - ninth + 3.09 * ninth.sqrt()).powi(3)
}
