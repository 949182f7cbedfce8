//! Rate limiting: a token bucket for each client, in a table of bounded size.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::settings::RateLimit;

/// Clients that are told apart at once. When there are more, those that could have a full bucket
/// by now are forgotten, and then those that have asked least lately.
pub const MAX_CLIENTS: usize = 65_536;

/// Buckets of one route, for all workers.
#[derive(Debug)]
pub struct Limiter {
    settings: RateLimit,
    hasher: RandomState,
    buckets: Mutex<HashMap<u64, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// All buckets full.
    #[must_use]
    pub fn new(settings: &RateLimit) -> Self {
        Self {
            settings: settings.clone(),
            hasher: RandomState::new(),
            buckets: Mutex::default(),
        }
    }

    /// What is limited.
    #[must_use]
    pub fn settings(&self) -> &RateLimit {
        &self.settings
    }

    /// Takes a token of the client that `key` stands for.
    ///
    /// # Errors
    /// The whole seconds, at least 1, until there is one.
    pub fn take(&self, key: &[u8], now: Instant) -> Result<(), u64> {
        let key = self.hasher.hash_one(key);
        let full = f64::from(self.settings.burst);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_CLIENTS && !buckets.contains_key(&key) {
            self.forget(&mut buckets, now);
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            tokens: full,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = full.min(bucket.tokens + passed * self.settings.rate);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = Duration::try_from_secs_f64((1.0 - bucket.tokens) / self.settings.rate);
        let wait = wait.unwrap_or(Duration::MAX);
        let whole = wait
            .as_secs()
            .saturating_add(u64::from(wait.subsec_nanos() > 0));
        Err(whole.max(1))
    }

    /// Makes room for at least an eighth of all.
    fn forget(&self, buckets: &mut HashMap<u64, Bucket>, now: Instant) {
        let full = f64::from(self.settings.burst);
        buckets.retain(|_, bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            bucket.tokens + passed * self.settings.rate < full
        });
        let most = MAX_CLIENTS / 8 * 7;
        if buckets.len() > most {
            let mut times: Vec<Instant> = buckets.values().map(|bucket| bucket.at).collect();
            let excess = times.len() - most;
            let (_, cut, _) = times.select_nth_unstable(excess);
            let cut = *cut;
            buckets.retain(|_, bucket| bucket.at > cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::config::settings::RateKey;

    fn limiter(rate: f64, burst: u32) -> Limiter {
        Limiter::new(&RateLimit {
            rate,
            burst,
            key: RateKey::ClientAddress,
        })
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let limiter = limiter(0.5, 2);
        let start = Instant::now();
        assert_eq!(limiter.take(b"a", start), Ok(()));
        assert_eq!(limiter.take(b"a", start), Ok(()));
        assert_eq!(limiter.take(b"a", start), Err(2));
        assert_eq!(limiter.take(b"b", start), Ok(()));
        assert_eq!(limiter.take(b"a", start + Duration::from_secs(1)), Err(1));
        assert_eq!(limiter.take(b"a", start + Duration::from_secs(2)), Ok(()));
        assert_eq!(limiter.take(b"a", start + Duration::from_secs(2)), Err(2));
    }

    #[test]
    fn the_table_is_bounded() {
        let limiter = limiter(0.001, 1);
        let start = Instant::now();
        for number in 0..MAX_CLIENTS as u64 + 1000 {
            let now = start + Duration::from_micros(number);
            assert_eq!(limiter.take(&number.to_le_bytes(), now), Ok(()));
        }
        let known = limiter.buckets.lock().map(|buckets| buckets.len());
        assert!(known.is_ok_and(|known| known <= MAX_CLIENTS));
        // Who asked last is still known.
        let last = MAX_CLIENTS as u64 + 999;
        let now = start + Duration::from_secs(1);
        assert!(limiter.take(&last.to_le_bytes(), now).is_err());
    }
}
