//! The average of the time to first byte, and what it makes one more request cost.

use std::time::{Duration, Instant};

use asgi_relay::engine::balance::latency::{Latency, TAU};

const SLOW: Duration = Duration::from_millis(100);
const FAST: Duration = Duration::from_millis(10);

#[track_caller]
fn about(value: f64, wanted: f64) {
    assert!(
        (value - wanted).abs() < 1e-6,
        "{value} is not about {wanted}"
    );
}

#[test]
fn a_slower_sample_counts_at_once_a_faster_one_by_the_time_that_passed() {
    let start = Instant::now();
    let mut latency = Latency::default();
    assert_eq!(latency.value(), None);
    latency.record(FAST, start);
    latency.record(SLOW, start);
    assert_eq!(latency.value(), Some(SLOW));
    latency.record(FAST, start);
    assert_eq!(latency.value(), Some(SLOW), "no time has passed");
    latency.record(FAST, start + TAU);
    let kept = (-1.0_f64).exp();
    about(
        latency.value().unwrap().as_secs_f64(),
        0.1 * kept + 0.01 * (1.0 - kept),
    );
}

#[test]
fn each_request_in_flight_costs_the_average() {
    let start = Instant::now();
    let mut latency = Latency::default();
    latency.record(SLOW, start);
    about(latency.cost(0, start), 0.1);
    about(latency.cost(4, start), 0.5);
}

#[test]
fn a_slow_target_gets_cheaper_while_it_is_left_alone() {
    let start = Instant::now();
    let mut latency = Latency::default();
    latency.record(SLOW, start);
    about(latency.cost(0, start + TAU), 0.1 * (-1.0_f64).exp());
    assert!(latency.cost(0, start + 3 * TAU) < FAST.as_secs_f64());
    assert_eq!(latency.value(), Some(SLOW), "what was measured stays");
}

#[test]
fn an_untried_target_is_free_once() {
    let now = Instant::now();
    let latency = Latency::default();
    assert_eq!(latency.cost(0, now).to_bits(), 0.0_f64.to_bits());
    let mut hour = Latency::default();
    hour.record(Duration::from_secs(3600), now);
    assert!(latency.cost(1, now) > hour.cost(100, now));
    assert!(latency.cost(2, now) > latency.cost(1, now));
}

#[test]
fn a_target_that_fails_at_once_is_no_bargain() {
    let start = Instant::now();
    let mut failing = Latency::default();
    let mut slow = Latency::default();
    slow.record(SLOW, start);
    failing.fail(start);
    assert_eq!(failing.value(), None, "no sample");
    assert!(failing.cost(0, start) > slow.cost(0, start));
    assert!(
        failing.cost(0, start + 5 * TAU) < 0.01,
        "tried again at times"
    );
    failing.fail(start + 5 * TAU);
    failing.record(FAST, start + 5 * TAU);
    about(failing.cost(0, start + 5 * TAU), 0.01);
}

#[test]
fn a_clock_that_stands_still_breaks_nothing() {
    let now = Instant::now();
    let mut latency = Latency::default();
    latency.record(SLOW, now + TAU);
    latency.record(FAST, now);
    assert_eq!(latency.value(), Some(SLOW));
    about(latency.cost(0, now), 0.1);
}
