//! Names as sets of targets: a headless service has one address per instance, and each becomes a
//! target of its own. Host and the name that TLS checks stay the name's.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::set::{Balancer, MAX_TARGETS};
use crate::engine::target::Endpoint;

/// How long a resolver may take at most; a name that takes longer keeps its targets.
const PATIENCE: Duration = Duration::from_secs(10);

impl Balancer {
    pub(super) fn begin_refresh(self: &Arc<Self>, interval: Duration) {
        let balancer = Arc::downgrade(self);
        let work = keep_resolving(balancer, interval);
        if !self.keep_refresh(|| tokio::spawn(work).abort_handle()) {
            // What has been added meanwhile does not wait for the next time.
            let balancer = Arc::clone(self);
            tokio::spawn(async move { balancer.resolve_all().await });
        }
    }

    /// Resolves the names among the targets, all at once, and puts a target per address in their
    /// place. A failure keeps what there is: it may be the resolver's, not the targets'.
    async fn resolve_all(self: &Arc<Self>) {
        let patience = self.timeouts.connect.unwrap_or(PATIENCE).min(PATIENCE);
        let mut names = JoinSet::new();
        for named in self.named() {
            let balancer = Arc::clone(self);
            names.spawn(async move {
                let Endpoint::Tcp { host, port } = &named.target.origin().endpoint else {
                    return;
                };
                let resolved = balancer.connector.resolve(host, *port);
                if let Ok(Ok(addresses)) = timeout(patience, resolved).await {
                    let addresses = addresses.iter().map(SocketAddr::ip).collect();
                    balancer.resolved(named.target.name(), addresses);
                }
            });
        }
        while names.join_next().await.is_some() {}
        self.begin_checks();
    }

    /// Puts a target per address in the place of a name, or of its earlier addresses.
    pub fn resolved(&self, name: &str, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_TARGETS);
        if !addresses.is_empty() {
            self.replace_source(name, &addresses);
        }
    }
}

async fn keep_resolving(balancer: Weak<Balancer>, interval: Duration) {
    loop {
        let Some(current) = balancer.upgrade() else {
            return;
        };
        current.resolve_all().await;
        drop(current);
        sleep(interval).await;
    }
}
