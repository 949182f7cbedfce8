//! What is configured of several upstreams, already checked.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use super::affinity::{HashKey, StickyCookie};
use super::ejection::PassiveHealth;
use super::policy::Policy;
use crate::engine::target::Target;

/// One upstream.
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// Its address and base path.
    pub target: Arc<Target>,
    /// Its share beside the others'; 0 gives it no new requests.
    pub weight: u32,
    /// Exchanges and WebSockets at once; `None` is any number.
    pub max_in_flight: Option<usize>,
    /// How it is asked whether it is well; `None` where it is not.
    pub health_check: Option<Arc<HealthCheck>>,
}

impl TargetSettings {
    /// A target of weight 1 with no bound and no checks.
    #[must_use]
    pub const fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            weight: 1,
            max_in_flight: None,
            health_check: None,
        }
    }
}

/// How a target is asked whether it is well.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// HEAD or GET.
    pub method: Method,
    /// Put behind the target's own base path; may have a query.
    pub path: String,
    /// Sent beside Host and User-Agent.
    pub headers: HeaderMap,
    /// Answers that are a good sign.
    pub expected: Vec<StatusCode>,
    /// From the end of one check to the start of the next.
    pub interval: Duration,
    /// For the whole of one check, from connecting to the head of the answer.
    pub timeout: Duration,
    /// Good signs in a row that make an unhealthy target healthy.
    pub rise: u32,
    /// Bad signs in a row that make a healthy target unhealthy.
    pub fall: u32,
    /// By which share of itself an interval may be shorter or longer: 0 to 1.
    pub jitter: f64,
}

/// How targets are chosen, and when they are left out.
#[derive(Debug, Clone)]
pub struct Balancing {
    /// Among those that are fit.
    pub policy: Policy,
    /// What [`Policy::ConsistentHash`] looks at.
    pub hash: Option<HashKey>,
    /// The cookie that brings a client back to its target.
    pub sticky: Option<Arc<StickyCookie>>,
    /// When a target is ejected for how it answers; `None` for never.
    pub passive: Option<PassiveHealth>,
    /// How long a request waits for room where all targets are full.
    pub queue_timeout: Duration,
    /// Retries for each request, on average; `None` for any number.
    pub retry_budget: Option<f64>,
    /// How often names are resolved into sets of targets; `None` leaves that to each connection.
    pub dns_refresh: Option<Duration>,
    /// Makes choices repeatable, for tests.
    pub seed: Option<u64>,
}

impl Default for Balancing {
    fn default() -> Self {
        Self {
            policy: Policy::PowerOfTwo,
            hash: None,
            sticky: None,
            passive: None,
            queue_timeout: Duration::from_secs(1),
            retry_budget: None,
            dns_refresh: None,
            seed: None,
        }
    }
}
