//! What a choice costs, in nanoseconds, for each policy: `cargo bench --bench balancer`. With
//! `--simulate` it prints, as CSV, what the policies make of one slow target instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod simulation;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asgi_relay::engine::balance::policy::{Chooser, Policy};
use simulation::{RULES, Server, run};

/// Choices that are timed together, and how often: the fastest counts, as the others were disturbed.
const CHOICES: u32 = 20_000;
const ROUNDS: usize = 15;
/// Requests in each second of the simulation.
const LOADS: [f64; 12] = [
    50.0, 100.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1200.0, 1600.0, 2000.0, 2500.0, 3000.0,
];
const SIMULATED: Duration = Duration::from_secs(60);

fn main() {
    if std::env::args().any(|argument| argument == "--simulate") {
        simulate();
    } else {
        measure();
    }
}

fn measure() {
    println!(
        "ns per choice        {:>12}{:>12}{:>12}",
        "of 10", "of 100", "1 of 100"
    );
    let policies = Policy::NAMED.into_iter().chain([Policy::ConsistentHash]);
    for policy in policies {
        let [ten, hundred, one] = [(10, 1), (100, 1), (100, 100)]
            .map(|(targets, every)| cost(policy, targets, |number| number % every == every / 2));
        println!("{:<21}{ten:>12.0}{hundred:>12.0}{one:>12.0}", policy.name());
    }
}

/// Nanoseconds of one choice among so many targets, of which some are usable.
fn cost(policy: Policy, targets: usize, usable: impl Fn(usize) -> bool) -> f64 {
    let now = Instant::now();
    let servers: Vec<_> = (0..targets)
        .map(|number| {
            let server = Server::new(number, Duration::from_millis(10), usable(number));
            server.answer(Duration::from_micros(number as u64), now);
            server.begin(number % 7);
            Arc::new(server)
        })
        .collect();
    let mut chooser = Chooser::new(policy, Some(1));
    chooser.rebuild(&servers);
    let mut hash = 0_u64;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CHOICES {
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let chosen = chooser.choose(&servers, Server::usable, Some(hash), now);
            black_box(chosen);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(CHOICES));
    }
    best
}

fn simulate() {
    println!("rule,load,p50_ms,p99_ms,slow_share,herd_share");
    for rule in RULES {
        for load in LOADS {
            let outcome = run(rule, load, SIMULATED);
            println!(
                "{},{load},{:.3},{:.3},{:.5},{:.5}",
                rule.name(),
                outcome.quantile(0.5).as_secs_f64() * 1e3,
                outcome.quantile(0.99).as_secs_f64() * 1e3,
                outcome.slow_share(),
                outcome.herd_share(),
            );
        }
    }
}
