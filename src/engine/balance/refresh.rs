//! Names as sets of targets: a headless service has one address per instance, and each becomes a
//! target of its own. Host and the name that TLS checks stay the name's.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::set::{Balancer, MAX_TARGETS};
use crate::engine::target::{Endpoint, Target};

/// How long a resolver may take at most; a name that takes longer keeps its targets.
const PATIENCE: Duration = Duration::from_secs(10);

impl Balancer {
    /// Begins to resolve the names that nobody resolves yet, each by itself, as one may take long.
    pub(super) fn begin_refresh(self: &Arc<Self>, interval: Duration) {
        self.refresh_each(|target| {
            let work = keep_resolving(Arc::downgrade(self), target, interval);
            tokio::spawn(work).abort_handle()
        });
        self.begin_grace();
    }

    /// A failure keeps what there is: it may be the resolver's, not the targets'.
    async fn resolve(self: &Arc<Self>, target: &Target) {
        let Endpoint::Tcp { host, port } = &target.origin().endpoint else {
            return;
        };
        let patience = self.timeouts.connect.unwrap_or(PATIENCE).min(PATIENCE);
        let resolved = timeout(patience, self.connector.resolve(host, *port)).await;
        let addresses = resolved.ok().and_then(Result::ok).unwrap_or_default();
        let addresses = addresses.iter().map(SocketAddr::ip).collect();
        self.resolved(target.name(), addresses);
        self.begin_checks();
    }

    /// Puts a target per address in the place of a name, or of its earlier addresses. Without any
    /// address, a name that had none before is a target as it stands.
    pub fn resolved(&self, name: &str, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_TARGETS);
        if !addresses.is_empty() {
            return self.replace_source(name, &addresses);
        }
        if let Some(member) = self.members().iter().find(|member| member.url() == name) {
            self.tell(member, member.await_no_addresses());
        }
    }
}

async fn keep_resolving(balancer: Weak<Balancer>, target: Arc<Target>, interval: Duration) {
    while let Some(balancer) = balancer.upgrade() {
        balancer.resolve(&target).await;
        drop(balancer);
        sleep(interval).await;
    }
}
