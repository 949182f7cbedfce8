//! When a target is ejected and comes back, and what probes make of it.

use std::time::{Duration, Instant};

use asgi_relay::engine::balance::ejection::{Ejection, PassiveHealth, most_ejected};
use asgi_relay::engine::balance::probing::{Health, Probing};

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: PassiveHealth = PassiveHealth {
    consecutive_failures: Some(3),
    failure_rate: Some(0.5),
    eject_time: Duration::from_secs(10),
    max_ejected: 0.5,
};
const ROW_ALONE: PassiveHealth = PassiveHealth {
    failure_rate: None,
    ..SETTINGS
};
const RATE_ALONE: PassiveHealth = PassiveHealth {
    consecutive_failures: None,
    ..SETTINGS
};

/// An ejection with a clock of its own.
struct Target {
    settings: PassiveHealth,
    ejection: Ejection,
    now: Instant,
}

impl Target {
    fn new(settings: PassiveHealth) -> Self {
        Self {
            settings,
            ejection: Ejection::default(),
            now: Instant::now(),
        }
    }

    /// Answers, `.` for a success and `x` for a failure; for how long it is out behind the last
    /// one, which alone may change that.
    fn answers(&mut self, answers: &str) -> Option<Duration> {
        let before = self.out_for();
        for answer in answers.chars() {
            assert_eq!(self.out_for(), before, "before the last of {answers}");
            self.record(answer == '.', false);
        }
        self.out_for()
    }

    fn record(&mut self, success: bool, trial: bool) {
        self.ejection
            .record(&self.settings, success, trial, self.now, true);
    }

    /// How long it is until a trial may begin; `None` where it is not ejected.
    fn out_for(&self) -> Option<Duration> {
        assert_eq!(
            self.ejection.is_ejected(),
            self.ejection.next_trial().is_some()
        );
        let next = self.ejection.next_trial()?;
        Some(next.saturating_duration_since(self.now))
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn trial(&mut self, success: bool) -> Option<Duration> {
        assert!(self.ejection.begin_trial(self.now, Duration::ZERO));
        self.record(success, true);
        self.out_for()
    }
}

#[test]
fn failures_in_a_row_eject() {
    let mut target = Target::new(ROW_ALONE);
    assert_eq!(target.answers("xx.xx."), None);
    assert_eq!(target.answers("xxx"), Some(10 * SECOND));
    target.wait(SECOND);
    assert_eq!(
        target.answers("...xxx"),
        Some(9 * SECOND),
        "answers to requests from before"
    );
}

#[test]
fn a_failure_rate_ejects_once_there_are_ten_answers() {
    let mut target = Target::new(RATE_ALONE);
    assert_eq!(target.answers("xxxxxxxxx"), None);
    assert_eq!(target.answers("x"), Some(10 * SECOND));
    let mut target = Target::new(RATE_ALONE);
    assert_eq!(target.answers("x.x.x....."), None, "three of ten");
    assert_eq!(
        target.answers("xxxx"),
        Some(10 * SECOND),
        "seven of fourteen"
    );
}

#[test]
fn the_rate_forgets_after_ten_seconds() {
    let mut target = Target::new(RATE_ALONE);
    assert_eq!(target.answers("xxxxxxxxx"), None);
    target.wait(10 * SECOND);
    assert_eq!(target.answers("x"), None);
    for _ in 0..8 {
        target.wait(SECOND);
        assert_eq!(target.answers("x"), None);
    }
    target.wait(SECOND);
    assert_eq!(
        target.answers("x"),
        Some(10 * SECOND),
        "ten in the last ten seconds"
    );
}

#[test]
fn nothing_ejects_where_both_are_off() {
    let mut target = Target::new(PassiveHealth {
        consecutive_failures: None,
        ..ROW_ALONE
    });
    assert_eq!(target.answers(&"x".repeat(100)), None);
}

#[test]
fn where_no_more_may_be_ejected_the_next_failure_decides() {
    let mut ejection = Ejection::default();
    let now = Instant::now();
    for _ in 0..5 {
        ejection.record(&ROW_ALONE, false, false, now, false);
        assert!(!ejection.is_ejected());
    }
    ejection.record(&ROW_ALONE, false, false, now, true);
    assert!(ejection.is_ejected());
}

#[test]
fn one_trial_at_a_time_once_its_time_is_over() {
    let mut target = Target::new(SETTINGS);
    target.answers("xxx");
    target.wait(9 * SECOND);
    assert!(
        !target.ejection.trial_due(target.now)
            && !target.ejection.begin_trial(target.now, Duration::ZERO)
    );
    target.wait(SECOND);
    assert!(
        target.ejection.trial_due(target.now)
            && target.ejection.begin_trial(target.now, Duration::ZERO)
    );
    assert!(
        !target.ejection.trial_due(target.now)
            && !target.ejection.begin_trial(target.now, Duration::ZERO)
    );
    target.ejection.end_trial();
    assert_eq!(
        target.trial(true),
        None,
        "an abandoned one leaves room for the next"
    );
    assert!(!target.ejection.is_ejected() && !target.ejection.trial_due(target.now));
    assert_eq!(target.answers("xx.xx"), None, "it starts anew");
}

#[test]
fn while_a_trial_runs_it_alone_decides() {
    let mut target = Target::new(SETTINGS);
    target.answers("xxx");
    target.wait(10 * SECOND);
    assert!(target.ejection.begin_trial(target.now, Duration::ZERO));
    assert!(target.answers(".x.").is_some());
    target.ejection.end_trial();
    target.record(true, true);
    assert!(target.ejection.is_ejected(), "it was given up");
    assert_eq!(target.trial(true), None);
}

#[test]
fn ejections_double_until_five_minutes() {
    let mut target = Target::new(SETTINGS);
    assert_eq!(target.answers("xxx"), Some(10 * SECOND));
    for seconds in [20, 40, 80, 160, 300, 300] {
        target.wait(300 * SECOND);
        assert_eq!(target.trial(false), Some(seconds * SECOND));
        assert!(!target.ejection.trial_due(target.now));
    }
}

#[test]
fn they_are_short_again_after_it_stayed_in_for_as_long_as_it_was_out() {
    let mut target = Target::new(SETTINGS);
    target.answers("xxx");
    target.wait(10 * SECOND);
    target.trial(true);
    target.wait(9 * SECOND);
    assert_eq!(target.answers("xxx"), Some(20 * SECOND));
    target.wait(20 * SECOND);
    target.trial(true);
    target.wait(20 * SECOND);
    assert_eq!(target.answers("xxx"), Some(10 * SECOND));
}

#[test]
fn a_share_of_all_may_be_ejected_but_one_at_least_of_several() {
    for (targets, share, most) in [
        (0, 0.5, 0),
        (1, 1.0, 0),
        (2, 0.5, 1),
        (2, 0.1, 1),
        (3, 0.5, 1),
        (5, 0.0, 0),
        (4, 1.0, 4),
        (100, 0.29, 29),
        (10, 0.7, 7),
        (10, 2.0, 10),
        (3, f64::NAN, 0),
    ] {
        assert_eq!(most_ejected(targets, share), most, "{share} of {targets}");
    }
}

#[test]
fn the_first_probe_decides_then_rise_and_fall() {
    for (first, health) in [(true, Health::Healthy), (false, Health::Unhealthy)] {
        let mut probing = Probing::default();
        assert_eq!(probing.health(), Health::Unknown);
        probing.record(first, 3, 3);
        assert_eq!(probing.health(), health);
    }
    let mut probing = Probing::default();
    let healthy: String = "+-+--++-+++"
        .chars()
        .map(|sign| {
            probing.record(sign == '+', 3, 2);
            match probing.health() {
                Health::Healthy => '+',
                Health::Unhealthy | Health::Unknown => '-',
            }
        })
        .collect();
    assert_eq!(healthy, "++++------+");
}
