//! What requests are served by: one configuration at work, put in place as a whole.
//!
//! A [`Blueprint`] is shared by all workers; each has a [`Plan`] of its own with its own relays,
//! so that no connection to an upstream changes threads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::config::settings::{Bind, Listener, Route, Settings};
use super::log::{Changed, Log};
use super::metrics::RouteMetrics;
use super::rate::Limiter;
use super::relays::relay;
use super::routes::Routes;
use super::tls::Acceptor;
use super::words::words;
use crate::engine::balance::member::State;
use crate::engine::relay::Relay;
use crate::engine::target::{Endpoint, Target};

/// What all workers share.
#[derive(Debug)]
pub struct Blueprint {
    /// What is configured.
    pub settings: Settings,
    /// Which request goes where.
    pub routes: Routes,
    /// How often each client may ask, for each route.
    pub limiters: Vec<Option<Arc<Limiter>>>,
    /// For the listeners with TLS.
    pub acceptors: HashMap<Bind, Acceptor>,
    /// Where requests are written to.
    pub log: Log,
    https_port: OnceLock<u16>,
}

/// A route at work on one worker.
#[derive(Debug)]
pub struct Way {
    /// To the upstream.
    pub relay: Arc<Relay>,
    /// What is counted.
    pub metrics: Arc<RouteMetrics>,
    /// What is configured.
    pub route: Route,
    /// Where events are written to.
    pub log: Log,
}

/// One worker's.
#[derive(Debug)]
pub struct Plan {
    /// What all workers share.
    pub blueprint: Arc<Blueprint>,
    /// For each route.
    pub ways: Vec<Arc<Way>>,
}

/// Why a configuration cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// TLS cannot be made ready.
    #[error("{0}")]
    Tls(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {words}", words = words(.1))]
    Bind(String, std::io::Error),
    /// The admin listener's address cannot be listened on.
    #[error("admin: cannot listen on {0}: {words}", words = words(.1))]
    Admin(String, std::io::Error),
    /// The access log cannot be opened.
    #[error("access_log.path: cannot open {path}: {words}", path = .0.display(), words = words(.1))]
    Log(PathBuf, std::io::Error),
    /// The system has no more threads or descriptors.
    #[error("cannot start: {words}", words = words(.0))]
    System(#[from] std::io::Error),
}

impl Blueprint {
    /// Makes ready what all workers share.
    ///
    /// # Errors
    /// [`PlanError::Tls`].
    pub fn new(settings: Settings, log: Log) -> Result<Arc<Self>, PlanError> {
        let mut acceptors = HashMap::new();
        for listener in &settings.server.listeners {
            if let Some(tls) = &listener.tls {
                let acceptor =
                    Acceptor::new(tls).map_err(|error| PlanError::Tls(error.to_string()))?;
                acceptors.insert(listener.bind.clone(), acceptor);
            }
        }
        let limiters = settings.routes.iter().map(|route| {
            let limiter = route.rate_limit.as_ref().map(Limiter::new);
            limiter.map(Arc::new)
        });
        Ok(Arc::new(Self {
            routes: Routes::new(&settings.routes),
            limiters: limiters.collect(),
            acceptors,
            settings,
            log,
            https_port: OnceLock::new(),
        }))
    }

    /// Notes where the listeners have been bound to: a port may have been any.
    pub fn bound(&self, bound: &[(Bind, String)]) {
        let listeners = self.settings.server.listeners.iter();
        let secure = listeners.filter(|listener| listener.tls.is_some());
        let mut secure = secure.map(|listener| &listener.bind);
        let address = secure
            .find(|bind| matches!(bind, Bind::Tcp { .. }))
            .and_then(|bind| bound.iter().find(|(own, _)| own == bind));
        let port = address.and_then(|(_, address)| address.parse::<SocketAddr>().ok());
        if let Some(address) = port {
            // Bound once, before there are connections.
            let _ = self.https_port.set(address.port());
        }
    }

    /// Where a listener redirects to.
    #[must_use]
    pub fn redirect(&self, listener: &Listener) -> Option<u16> {
        listener.redirect_https.map(|port| match port {
            0 => self.https_port.get().copied().unwrap_or_default(),
            port => port,
        })
    }
}

impl Plan {
    /// A plan for one of `workers`, with pools that are empty. Counters go on where `before` has a
    /// route of the same name with the same targets.
    ///
    /// # Errors
    /// [`PlanError::Tls`].
    pub fn new(
        blueprint: &Arc<Blueprint>,
        worker: usize,
        workers: usize,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, PlanError> {
        let max_headers = blueprint.settings.server.limits.max_headers;
        let ways_before = before.iter().flat_map(|plan| &plan.ways);
        let mut counted_before: Vec<_> = ways_before.map(|way| Arc::clone(&way.metrics)).collect();
        let ways: Result<Vec<_>, PlanError> = blueprint
            .settings
            .routes
            .iter()
            .map(|route| {
                let relay = relay(route, max_headers, workers).map_err(|error| {
                    PlanError::Tls(format!("route {}: {error}", name_of(route)))
                })?;
                let metrics = metrics(route, &mut counted_before);
                let (counted, log) = (Arc::clone(&metrics), blueprint.log.clone());
                let worker = (workers > 1).then_some(worker);
                relay.balancer().listen(Some(Arc::new(move |change| {
                    if change.after == State::Ejected {
                        counted.ejections.increment();
                    }
                    let route = counted.route.clone();
                    log.changed(Changed {
                        change,
                        route,
                        worker,
                    });
                })));
                Ok(Arc::new(Way {
                    relay,
                    metrics,
                    route: route.clone(),
                    log: blueprint.log.clone(),
                }))
            })
            .collect();
        Ok(Arc::new(Self {
            blueprint: Arc::clone(blueprint),
            ways: ways?,
        }))
    }

    /// Begins to check targets and to resolve names, on the thread of the worker.
    pub fn begin(&self) {
        for way in &self.ways {
            way.relay.balancer().begin();
        }
    }
}

/// Those that go on counting, taken from `before`, as two routes may be alike but for their methods;
/// else new ones.
fn metrics(route: &Route, before: &mut Vec<Arc<RouteMetrics>>) -> Arc<RouteMetrics> {
    let name = name_of(route);
    let targets: Vec<String> = route.targets.iter().map(|to| label(&to.target)).collect();
    let same = |metrics: &RouteMetrics| {
        let old = metrics.targets.iter().skip(1).map(|target| &target.target);
        metrics.route == name && old.eq(targets.iter())
    };
    match before.iter().position(|metrics| same(metrics)) {
        Some(at) => before.remove(at),
        None => RouteMetrics::new(name, targets),
    }
}

/// What a route is called in metrics and logs.
fn name_of(route: &Route) -> String {
    use super::config::settings::HostPattern::{Below, Exact};
    match route.hosts.first() {
        None => route.path.clone(),
        Some(Exact(host)) => format!("{host}{}", route.path),
        Some(Below(host)) => format!("*.{host}{}", route.path),
    }
}

/// What a target is called in metrics and logs: its address, without its path.
#[must_use]
pub fn label(target: &Target) -> String {
    let origin = target.origin();
    match &origin.endpoint {
        Endpoint::Unix(path) => format!("unix:{}", path.display()),
        Endpoint::Tcp { .. } => {
            let scheme = if origin.secure { "https" } else { "http" };
            let authority = target.authority().to_str().unwrap_or_default();
            format!("{scheme}://{authority}")
        }
    }
}
