//! Under load, on simulated time: what the policies make of one target that is ten times slower.

// The benchmark uses what is not used here.
#[allow(dead_code)]
#[path = "../../benchmarks/balancer/simulation.rs"]
mod simulation;

use std::time::Duration;

use asgi_relay::engine::balance::policy::Policy::*;
use simulation::{Outcome, Rule, run};

fn outcome(rule: Rule, load: f64) -> Outcome {
    run(rule, load, Duration::from_secs(20))
}

/// Requests in each second that even the slow target can take, if it gets a fifth of them.
const CALM: f64 = 300.0;
/// Four targets can, with much to spare; the slow one gets three times too many of a fifth.
const BUSY: f64 = 1200.0;

#[test]
fn least_latency_spares_most_requests_the_slow_target() {
    let (fair, fast) = (
        outcome(Rule::Balanced(RoundRobin), CALM),
        outcome(Rule::Balanced(LeastLatency), CALM),
    );
    assert!(fast.quantile(0.99) < fair.quantile(0.99) / 3);
    assert!(
        fast.slow_share() < 0.02 && fast.slow_share() > 0.0,
        "it is tried at times"
    );
}

#[test]
fn requests_in_flight_keep_a_slow_target_from_drowning() {
    assert!(outcome(Rule::Balanced(RoundRobin), BUSY).quantile(0.99) > Duration::from_secs(10));
    for policy in [PowerOfTwo, LeastConnections, LeastLatency] {
        let outcome = outcome(Rule::Balanced(policy), BUSY);
        assert!(
            outcome.quantile(0.99) < Duration::from_millis(300),
            "{policy:?}"
        );
        assert!(outcome.slow_share() < 0.08, "{policy:?}");
    }
}

#[test]
fn nobody_herds() {
    for load in [CALM, BUSY] {
        for policy in [PowerOfTwo, LeastConnections, LeastLatency] {
            let share = outcome(Rule::Balanced(policy), load).herd_share();
            assert!(share < 0.4, "{policy:?} at {load}: {share}");
        }
        let herd = outcome(Rule::LowestAverage, load).herd_share();
        assert!(herd > 0.9, "what a herd looks like: {herd}");
    }
}
