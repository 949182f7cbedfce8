//! What retries a relay affords.

use std::time::{Duration, Instant};

use asgi_relay::engine::policy::budget::RetryBudget;
use proptest::collection::vec;
use proptest::prelude::*;

fn withdrawn(budget: &mut RetryBudget, now: Instant) -> usize {
    (0..1000).take_while(|_| budget.withdraw(now)).count()
}

#[test]
fn there_are_ten_at_the_start_and_one_more_each_second() {
    let start = Instant::now();
    let mut budget = RetryBudget::new(0.0);
    assert_eq!(withdrawn(&mut budget, start), 10);
    assert_eq!(
        withdrawn(&mut budget, start + Duration::from_millis(999)),
        0
    );
    assert_eq!(withdrawn(&mut budget, start + Duration::from_secs(1)), 1);
    assert_eq!(withdrawn(&mut budget, start + Duration::from_secs(4)), 3);
    assert_eq!(
        withdrawn(&mut budget, start + Duration::from_secs(3600)),
        10
    );
}

#[test]
fn ten_requests_afford_one_at_a_tenth() {
    let now = Instant::now();
    let mut budget = RetryBudget::new(0.1);
    withdrawn(&mut budget, now);
    (0..9).for_each(|_| budget.deposit());
    assert!(!budget.withdraw(now));
    budget.deposit();
    assert_eq!(withdrawn(&mut budget, now), 1);
}

#[test]
fn no_more_than_a_hundred_are_saved_up() {
    let now = Instant::now();
    for ratio in [0.2, f64::INFINITY] {
        let mut budget = RetryBudget::new(ratio);
        (0..10_000).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&mut budget, now), 110, "with the reserve");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// `None` is a request, a time is a retry so much later.
    #[test]
    fn retries_never_exceed_the_share_the_reserve_and_its_refill(
        ratio in 0.0..2.0_f64,
        events in vec(prop_oneof![Just(None), (0..400_000_u64).prop_map(Some)], 0..300),
    ) {
        let start = Instant::now();
        let mut budget = RetryBudget::new(ratio);
        let (mut now, mut requests, mut retries) = (start, 0.0, 0.0);
        for event in events {
            match event {
                None => {
                    budget.deposit();
                    requests += 1.0;
                }
                Some(micros) => {
                    now += Duration::from_micros(micros);
                    retries += f64::from(u8::from(budget.withdraw(now)));
                }
            }
            let afforded = ratio * requests + 10.0 + (now - start).as_secs_f64();
            prop_assert!(retries <= afforded + 1e-3, "{retries} of {afforded}");
        }
    }
}
