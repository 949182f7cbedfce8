//! From a route's settings to the engine's relay.

use std::sync::Arc;

use super::config::settings::Route;
use crate::engine::config::{Config, Limits};
use crate::engine::relay::Relay;
use crate::engine::upstream::tls::TlsError;

/// A relay for one of `workers`, which share the limits evenly.
pub(super) fn relay(route: &Route, workers: usize) -> Result<Arc<Relay>, TlsError> {
    let share = |most: Option<usize>| most.map(|most| most.div_ceil(workers.max(1)));
    let target = route.targets.first().map(|first| first.target.clone());
    let target = target.ok_or_else(|| TlsError {
        parameter: "targets",
        reason: "there is none".to_owned(),
    })?;
    Relay::new(Config {
        target: Arc::new(target),
        timeouts: route.timeouts,
        limits: Limits {
            max_connections: share(route.limits.max_connections),
            max_keepalive_connections: share(route.limits.max_keepalive_connections),
            keepalive_expiry: route.limits.keepalive_expiry,
        },
        headers: route.headers.clone(),
        retry: route.retry.clone(),
        follow_redirects: route.follow_redirects,
        trust: route.trust.clone(),
        identity: route.identity.clone(),
        in_memory: false,
        web_sockets: route.web_sockets,
        report: true,
    })
}
