//! Passive health: what a target's own answers say about it. One that fails is ejected for a time
//! that doubles, and let back in by one trial request.

use std::time::{Duration, Instant};

/// The time over which a failure rate is taken.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Answers in that time without which there is no rate.
pub const LEAST_ANSWERS: u32 = 10;
/// No ejection is longer, whatever the length of the first.
pub const LONGEST_EJECTION: Duration = Duration::from_secs(300);

/// When a target is ejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassiveHealth {
    /// Failures in a row; `None` for any number.
    pub consecutive_failures: Option<u32>,
    /// Failures among the answers of [`WINDOW`], from 0 to 1; `None` for any share.
    pub failure_rate: Option<f64>,
    /// The length of the first ejection; each further one is twice as long.
    pub eject_time: Duration,
    /// The share of all targets that may be ejected at once, from 0 to 1.
    pub max_ejected: f64,
}

/// How many of so many targets may be ejected at once: the share of them, rounded down, but one at
/// least. A single target never is, and none where the share is 0.
#[must_use]
pub fn most_ejected(targets: usize, share: f64) -> usize {
    if targets < 2 || share.is_nan() || share <= 0.0 {
        return 0;
    }
    // 0.29 * 100.0 is a little less than 29.
    let part = (share * targets as f64 + 1e-9).floor() as usize;
    part.clamp(1, targets)
}

/// Whether one target is ejected, and what its next answers may change about it.
#[derive(Debug, Default)]
pub struct Ejection {
    state: State,
    /// Ejections since it last stayed in for long, with the length of the last.
    ejections: u32,
    length: Duration,
}

#[derive(Debug)]
enum State {
    In {
        since: Option<Instant>,
        failures: u32,
        window: Window,
    },
    Out {
        until: Instant,
        /// Where a trial is under way, when another may begin beside it: its client may be slow.
        trial: Option<Instant>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::In {
            since: None,
            failures: 0,
            window: Window::default(),
        }
    }
}

impl Ejection {
    /// Takes in an answer; `trial` says that [`begin_trial`](Self::begin_trial) was called for it.
    /// `may_eject` says that one more target may be ejected; where it may not, a failure counts and
    /// the next one decides. While it is ejected, trials alone count: the others may have been
    /// under way before.
    pub fn record(
        &mut self,
        settings: &PassiveHealth,
        success: bool,
        trial: bool,
        now: Instant,
        may_eject: bool,
    ) {
        match &mut self.state {
            State::In {
                since,
                failures,
                window,
            } => {
                window.add(success, now);
                if success {
                    *failures = 0;
                    return;
                }
                *failures = failures.saturating_add(1);
                let row = settings.consecutive_failures;
                let rate = settings.failure_rate;
                let failing = row.is_some_and(|limit| *failures >= limit)
                    || rate.is_some_and(|limit| window.failing(limit));
                if !failing || !may_eject {
                    return;
                }
                let stayed = since.map(|since| now.saturating_duration_since(since));
                if stayed.is_none_or(|stayed| stayed >= self.length) {
                    self.ejections = 0;
                }
                self.eject(settings, now);
            }
            State::Out { trial: Some(_), .. } if trial => {
                if !success {
                    return self.eject(settings, now);
                }
                self.state = State::In {
                    since: Some(now),
                    failures: 0,
                    window: Window::default(),
                };
            }
            State::Out { .. } => {}
        }
    }

    fn eject(&mut self, settings: &PassiveHealth, now: Instant) {
        let factor = 2_u32.saturating_pow(self.ejections);
        let length = settings.eject_time.saturating_mul(factor);
        self.ejections = self.ejections.saturating_add(1);
        self.length = length.min(LONGEST_EJECTION);
        self.state = State::Out {
            until: now + self.length,
            trial: None,
        };
    }

    /// Whether it is out, also while a trial is under way.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        matches!(self.state, State::Out { .. })
    }

    /// When a trial may begin; `None` where it is not out. One that has been under way for as long
    /// as the ejection was, and for longer than an exchange may take, is not waited for any more.
    #[must_use]
    pub fn next_trial(&self) -> Option<Instant> {
        match self.state {
            State::In { .. } => None,
            State::Out { until, trial } => Some(trial.unwrap_or(until)),
        }
    }

    /// Whether a trial may begin now.
    #[must_use]
    pub fn trial_due(&self, now: Instant) -> bool {
        self.next_trial().is_some_and(|next| now >= next)
    }

    /// Begins a trial where one is due; otherwise there is none, and `false` says so.
    #[must_use]
    pub fn begin_trial(&mut self, now: Instant, patience: Duration) -> bool {
        let due = self.trial_due(now);
        if let (true, State::Out { trial, .. }) = (due, &mut self.state) {
            *trial = Some(now + self.length.max(patience));
        }
        due
    }

    /// Ends a trial that came to no outcome: the next request may be one.
    pub fn end_trial(&mut self) {
        if let State::Out { trial, .. } = &mut self.state {
            *trial = None;
        }
    }
}

/// Parts that the window is counted in: it covers [`WINDOW`] less at most one of them.
const PARTS: usize = 10;

/// The answers of [`WINDOW`], counted by the second.
#[derive(Debug, Default)]
struct Window {
    start: Option<Instant>,
    /// The part that the last answer was in, counted from the start.
    current: u64,
    /// The newest first.
    parts: [Count; PARTS],
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    answers: u32,
    failures: u32,
}

impl Window {
    fn add(&mut self, success: bool, now: Instant) {
        let start = *self.start.get_or_insert(now);
        let age = now.saturating_duration_since(start);
        let width = WINDOW.as_millis() / PARTS as u128;
        let part = u64::try_from(age.as_millis() / width).unwrap_or(u64::MAX);
        let passed = part.saturating_sub(self.current);
        for _ in 0..passed.min(PARTS as u64) {
            self.parts.rotate_right(1);
            let [newest, ..] = &mut self.parts;
            *newest = Count::default();
        }
        self.current += passed;
        let [newest, ..] = &mut self.parts;
        newest.answers = newest.answers.saturating_add(1);
        newest.failures = newest.failures.saturating_add(u32::from(!success));
    }

    fn failing(&self, limit: f64) -> bool {
        let sum = |of: fn(&Count) -> u32| -> u64 {
            self.parts.iter().map(|count| u64::from(of(count))).sum()
        };
        let (answers, failures) = (sum(|count| count.answers), sum(|count| count.failures));
        answers >= LEAST_ANSWERS.into() && failures as f64 >= limit * answers as f64
    }
}
