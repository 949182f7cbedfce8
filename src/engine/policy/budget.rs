//! How many retries a relay affords: a share of its requests, so that retries cannot multiply an
//! outage, and a small reserve for when there are few. Pure.

use std::time::{Duration, Instant};

/// One retry, in the millionths that are counted here: whole numbers do not lose a tenth.
const RETRY: u64 = 1_000_000;
/// Retries that are free at the start; one of them comes back each second.
pub const RESERVE: u64 = 10;
/// Retries that requests can save up.
pub const MOST_SAVED: u64 = 100;

/// What is left for retries.
#[derive(Debug)]
pub struct RetryBudget {
    share: u64,
    saved: u64,
    reserve: u64,
    /// Up to when the reserve has been refilled.
    refilled: Option<Instant>,
}

impl RetryBudget {
    /// A budget of `ratio` retries for each request.
    #[must_use]
    pub fn new(ratio: f64) -> Self {
        Self {
            // A ratio that is no number or below 0 affords nothing.
            share: (ratio * RETRY as f64).round() as u64,
            saved: 0,
            reserve: RESERVE * RETRY,
            refilled: None,
        }
    }

    /// Counts a request.
    pub fn deposit(&mut self) {
        self.saved = self
            .saved
            .saturating_add(self.share)
            .min(MOST_SAVED * RETRY);
    }

    /// Takes a retry out, if there is one left.
    #[must_use]
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.saved + self.reserve < RETRY {
            return false;
        }
        let from_saved = self.saved.min(RETRY);
        self.saved -= from_saved;
        self.reserve -= RETRY - from_saved;
        true
    }

    /// One retry each second is one millionth each microsecond.
    fn refill(&mut self, now: Instant) {
        let since = *self.refilled.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.reserve = self.reserve.saturating_add(passed).min(RESERVE * RETRY);
        self.refilled = since.checked_add(Duration::from_micros(passed));
    }
}
