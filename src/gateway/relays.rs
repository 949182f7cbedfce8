//! From a route's settings to the engine's relay.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::config::settings::{self, Balance, Route};
use crate::engine::balance::affinity::StickyCookie;
use crate::engine::balance::policy::Policy;
use crate::engine::balance::settings::{Balancing, HealthCheck, TargetSettings};
use crate::engine::config::{Config, Limits};
use crate::engine::relay::Relay;

/// A relay for one of `workers`, which share what there is a bound to evenly, or why there is none.
pub(super) fn relay(
    route: &Route,
    max_headers: usize,
    workers: usize,
) -> Result<Arc<Relay>, String> {
    let share = |most: Option<usize>| most.map(|most| most.div_ceil(workers.max(1)));
    let targets = route.targets.iter().map(|target| TargetSettings {
        target: Arc::new(target.target.clone()),
        weight: target.weight,
        max_in_flight: share(target.max_in_flight),
        health_check: target.health_check.as_ref().map(health_check),
    });
    let targets: Vec<_> = targets.collect();
    let first = targets.first().map(|first| Arc::clone(&first.target));
    let relay = Relay::new(Config {
        target: first.ok_or("it has no target")?,
        targets,
        balancing: balancing(route),
        timeouts: route.timeouts,
        limits: Limits {
            max_connections: share(route.limits.max_connections),
            max_keepalive_connections: share(route.limits.max_keepalive_connections),
            keepalive_expiry: route.limits.keepalive_expiry,
        },
        headers: route.headers.clone(),
        retry: route.retry.clone(),
        follow_redirects: route.follow_redirects,
        credentials: Arc::clone(&route.credentials),
        server_name: route.server_name.clone(),
        http2: route.http2,
        max_headers,
        in_memory: false,
        web_sockets: route.web_sockets,
        report: true,
    });
    relay.map_err(|error| error.to_string())
}

fn balancing(route: &Route) -> Balancing {
    let (policy, hash) = match &route.balance {
        Balance::RoundRobin => (Policy::RoundRobin, None),
        Balance::WeightedRoundRobin => (Policy::WeightedRoundRobin, None),
        Balance::Random => (Policy::Random, None),
        Balance::P2c => (Policy::PowerOfTwo, None),
        Balance::LeastConnections => (Policy::LeastConnections, None),
        Balance::LeastLatency => (Policy::LeastLatency, None),
        Balance::ConsistentHash(key) => (Policy::ConsistentHash, Some(key.clone())),
    };
    Balancing {
        policy,
        hash,
        sticky: route.sticky.as_ref().map(|cookie| Arc::new(sticky(cookie))),
        passive: route.passive_health,
        queue_timeout: route.queue_timeout,
        retry_budget: route.retry_budget,
        dns_refresh: route.dns_refresh,
        seed: None,
    }
}

fn sticky(cookie: &settings::StickyCookie) -> StickyCookie {
    let secret = cookie.secret.as_ref();
    StickyCookie {
        name: cookie.name.clone(),
        key: StickyCookie::key(secret.map_or(b"", |secret| secret.0.as_bytes())),
        max_age: cookie.max_age.map(Duration::from_secs),
        path: cookie.path.clone(),
        same_site: cookie.same_site,
        secure: cookie.secure,
    }
}

fn health_check(check: &settings::HealthCheck) -> Arc<HealthCheck> {
    let expected = check.expected_statuses.iter().cloned().flatten();
    Arc::new(HealthCheck {
        method: check.method.clone(),
        path: check.path.clone(),
        headers: check.headers.clone(),
        expected: expected
            .filter_map(|status| StatusCode::from_u16(status).ok())
            .collect(),
        interval: check.interval,
        timeout: check.timeout,
        rise: check.rise,
        fall: check.fall,
        jitter: check.jitter,
    })
}
