//! When a request may be tried again, and how long to wait before it is. Pure.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::engine::error::{Error, Kind};

/// Seconds in a year: a backoff is never longer, however large its factor and count are.
const LONGEST_BACKOFF: f64 = 31_536_000.0;

/// The retry parameters of a relay.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Retries after the first try.
    pub max_retries: u32,
    /// Seconds before the first retry; doubled for each further one.
    pub backoff_factor: f64,
    /// Statuses that are worth another try.
    pub statuses: Vec<StatusCode>,
    /// Failures that are worth another try.
    pub kinds: Vec<Kind>,
    /// Also retry methods that are not idempotent.
    pub non_idempotent: bool,
}

impl RetryPolicy {
    /// Whether an answer with `status` is tried again after `retries` earlier retries.
    #[must_use]
    pub fn retries_status(&self, method: &Method, status: StatusCode, retries: u32) -> bool {
        retries < self.max_retries && self.statuses.contains(&status) && self.may_repeat(method)
    }

    /// Whether a failure is tried again after `retries` earlier retries.
    #[must_use]
    pub fn retries_error(&self, method: &Method, error: &Error, retries: u32) -> bool {
        retries < self.max_retries
            && self.kinds.contains(&error.kind())
            && (error.reach().is_safe() || self.may_repeat(method))
    }

    /// Whether there may be another try once the request has been sent.
    #[must_use]
    pub fn may_retry(&self, method: &Method) -> bool {
        self.max_retries > 0 && self.may_repeat(method)
    }

    fn may_repeat(&self, method: &Method) -> bool {
        self.non_idempotent || is_idempotent(method)
    }

    /// The wait before retry `number`, which counts from 1.
    #[must_use]
    pub fn backoff(&self, number: u32) -> Duration {
        // Bounded, as infinity times a factor of 0 would be no number.
        let exponent = i32::try_from(number.saturating_sub(1))
            .unwrap_or(i32::MAX)
            .min(1000);
        let seconds = self.backoff_factor * 2_f64.powi(exponent);
        Duration::try_from_secs_f64(seconds.min(LONGEST_BACKOFF)).unwrap_or_default()
    }
}

/// RFC 9110 §9.2.2.
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}
