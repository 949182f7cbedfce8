//! A target's latency: a moving average of the time to first byte that rises at once and falls
//! slowly (peak EWMA), and what it says about one more request.

use std::time::{Duration, Instant};

/// Time after which a sample counts for 1/e of what it did.
pub const TAU: Duration = Duration::from_secs(10);
/// Seconds that a request in flight costs where no sample is known: more than any real average.
const UNKNOWN: f64 = 1e6;

/// Seconds that a failure adds to what a request costs, until it is answered well again.
const FAILURE: f64 = 1.0;

/// The average of one target, in constant memory.
#[derive(Debug, Default, Clone, Copy)]
pub struct Latency {
    /// Seconds, and when the last sample came.
    average: Option<(f64, Instant)>,
    /// When it failed last, unless a sample has come since.
    failed: Option<Instant>,
}

impl Latency {
    /// Takes in a sample. A higher one is the average at once, so that a target that slows down
    /// gets less with the next choice; a lower one counts by the time since the last sample.
    pub fn record(&mut self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        let average = match self.average {
            Some((average, last)) if sample < average => {
                let kept = kept(last, now);
                average * kept + sample * (1.0 - kept)
            }
            _ => sample,
        };
        self.average = Some((average, now));
        self.failed = None;
    }

    /// Takes in a failure, which is no sample however long it took: a target that fails at once,
    /// or whose average nobody has raised for long, would be the cheapest of all.
    pub fn fail(&mut self, now: Instant) {
        self.failed = Some(now);
    }

    /// The average as of the last sample.
    #[must_use]
    pub fn value(&self) -> Option<Duration> {
        let (average, _) = self.average?;
        Duration::try_from_secs_f64(average).ok()
    }

    /// The seconds that one more request may wait: the average for each one in flight and for
    /// itself, and a second after a failure. Both fall towards 0 while no samples come, so that a
    /// slow target is tried again at times. One without samples is free until its first request is
    /// in flight, then dear until that is answered.
    #[must_use]
    pub fn cost(&self, in_flight: usize, now: Instant) -> f64 {
        let waiting = match self.average {
            Some((average, last)) => average * kept(last, now) * (in_flight as f64 + 1.0),
            None => UNKNOWN * in_flight as f64,
        };
        let failed = self.failed.map_or(0.0, |last| FAILURE * kept(last, now));
        waiting + failed
    }
}

/// The part of a value from `last` that is left at `now`.
fn kept(last: Instant, now: Instant) -> f64 {
    let age = now.saturating_duration_since(last);
    (-age.as_secs_f64() / TAU.as_secs_f64()).exp()
}
