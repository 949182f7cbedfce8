//! Names as sets of targets: a headless service has one address per instance, and each becomes a
//! target of its own. Host and the name that TLS checks stay the name's.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::set::{Balancer, MAX_TARGETS};
use super::settings::TargetSettings;
use crate::engine::target::Endpoint;

/// How long a resolver may take; a name that takes longer keeps its targets.
const PATIENCE: Duration = Duration::from_secs(10);

impl Balancer {
    pub(super) fn begin_refresh(self: &Arc<Self>, interval: Duration) {
        let balancer = Arc::downgrade(self);
        self.keep_refresh(|| tokio::spawn(keep_resolving(balancer, interval)).abort_handle());
    }

    /// Resolves the names among the targets, and puts a target per address in their place.
    async fn resolve_all(self: &Arc<Self>) {
        for named in self.named() {
            let Endpoint::Tcp { host, port } = &named.target.origin().endpoint else {
                continue;
            };
            let resolved = self.connector.resolve(host, *port);
            // A failure keeps what there is: it may be the resolver's, not the targets'.
            let Ok(Ok(addresses)) = timeout(PATIENCE, resolved).await else {
                continue;
            };
            self.resolved(&named, addresses);
        }
        self.begin_checks();
    }

    /// Puts a target per address in the place of a name, or of its earlier addresses.
    pub fn resolved(&self, named: &TargetSettings, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_TARGETS);
        if addresses.is_empty() {
            return;
        }
        let source = named.target.to_string();
        let members = addresses.into_iter().map(|address| {
            let target = Arc::new(named.target.at(address));
            let settings = TargetSettings {
                target,
                ..named.clone()
            };
            self.member(settings, Some(source.clone()))
        });
        self.replace_source(&source, members.collect());
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
