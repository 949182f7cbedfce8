//! The standalone gateway as `asgi_relay._cli` sees it: a configuration, and what runs by one.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

use super::allocator;
use crate::engine::balance::policy::Policy;
use crate::engine::upstream::tls::Identity;
use crate::gateway::bind::text_of;
use crate::gateway::config::settings::{Balance, HostPattern, Listener, Route, Settings};
use crate::gateway::config::{self, ConfigError, Loaded, Overrides};
use crate::gateway::{self, Handle, relief, trial};

create_exception!(
    asgi_relay._engine,
    GatewayError,
    PyException,
    "A configuration cannot be used; the text has a line for each mistake."
);

fn refused(error: impl ToString) -> PyErr {
    GatewayError::new_err(error.to_string())
}

/// How long a signal waits at most for somebody to look whether there is one.
const LOOK: Duration = Duration::from_millis(50);

/// Has a thread of its own do what may take for ever, as reading from a pipe: Python's handlers of
/// signals run meanwhile, and what one raises ends the waiting. The thread is left to itself then.
fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (done, mut outcome) = channel();
    let thread = std::thread::Builder::new().name("asgi-relay-waits".to_owned());
    let thread = thread.spawn(move || {
        // Whoever waited may have been interrupted.
        let _ = done.send(work());
    })?;
    loop {
        let (waited, again) = py.detach(move || (outcome.recv_timeout(LOOK), outcome));
        outcome = again;
        match waited {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                let panicked = thread.join().err().unwrap_or_else(|| Box::new(()));
                std::panic::resume_unwind(panicked)
            }
        }
    }
}

/// With `files`, which the configuration names: a change of one may mend it.
fn mistaken(py: Python<'_>, error: &ConfigError) -> PyErr {
    let refused = refused(error);
    match refused.value(py).setattr("files", error.files()) {
        Ok(()) => refused,
        Err(error) => error,
    }
}

/// Where it listens, whether with TLS, the port that it redirects to, whether connections begin
/// with a PROXY header.
type ListenerParts = (String, bool, Option<u16>, bool);

/// Hosts, path, methods, targets with weights, policy, whether the path is cut off.
type RouteParts = (
    Vec<String>,
    String,
    Vec<String>,
    Vec<(String, u32)>,
    &'static str,
    bool,
);

/// A gateway's configuration, without a mistake.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Configuration(Loaded);

impl Configuration {
    fn settings(&self) -> &Settings {
        &self.0.settings
    }
}

#[pymethods]
impl Configuration {
    /// Reads a file, or takes `target` alone; what else is given wins over the file.
    #[new]
    #[pyo3(signature = (path=None, *, host=None, port=None, target=None, certificate=None, workers=None))]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        host: Option<String>,
        port: Option<u16>,
        target: Option<String>,
        certificate: Option<(PathBuf, PathBuf)>,
        workers: Option<usize>,
    ) -> PyResult<Self> {
        let certificate = certificate.map(|(certificate, key)| Identity { certificate, key });
        let overrides = Overrides {
            host,
            port,
            target,
            certificate,
            workers,
        };
        let loaded = match path {
            Some(path) => interruptible(py, move || config::load(&path, &overrides))?,
            None => config::from_target(&overrides),
        };
        // Copied: the allocator has a worker go on with the pages of a thread that has ended, and a
        // block which lasts keeps all that a crowd of connections has had on its page.
        let loaded = loaded.map(|loaded| Self(loaded.clone()));
        loaded.map_err(|error| mistaken(py, &error))
    }

    /// What somebody should know of it, a line each.
    #[getter]
    fn notices(&self) -> Vec<String> {
        self.0.notices.clone()
    }

    /// The files that it names.
    #[getter]
    fn files(&self) -> Vec<PathBuf> {
        self.0.files.clone()
    }

    /// Seconds for requests in flight when the gateway stops.
    #[getter]
    fn shutdown_grace(&self) -> f64 {
        self.settings().server.shutdown_grace.as_secs_f64()
    }

    /// Threads; `None` is one for each core.
    #[getter]
    fn workers(&self) -> Option<usize> {
        self.settings().server.workers
    }

    /// Where health and metrics are shown.
    #[getter]
    fn admin(&self) -> Option<(String, u16)> {
        let admin = self.settings().admin.as_ref();
        admin.map(|admin| (admin.host.clone(), admin.port))
    }

    /// The listeners in the file's order.
    #[getter]
    fn listeners(&self) -> Vec<ListenerParts> {
        let listeners = self.settings().server.listeners.iter();
        listeners.map(listener_parts).collect()
    }

    /// The routes in the file's order.
    #[getter]
    fn routes(&self) -> Vec<RouteParts> {
        self.settings().routes.iter().map(route_parts).collect()
    }

    /// For each target of each route why it cannot be connected to; `None` for one that can.
    fn try_targets(&self, py: Python<'_>) -> PyResult<Vec<Vec<Option<String>>>> {
        let settings = self.settings().clone();
        let tried = interruptible(py, move || trial::try_targets(&*trial::prepare(&settings)?))?;
        let routes = tried.map_err(refused)?.into_iter();
        let text =
            |error: Option<_>| error.map(|error: crate::engine::error::Error| error.to_string());
        Ok(routes
            .map(|targets| targets.into_iter().map(text).collect())
            .collect())
    }
}

fn listener_parts(listener: &Listener) -> ListenerParts {
    (
        text_of(&listener.bind),
        listener.tls.is_some(),
        listener.redirect_https,
        listener.proxy_protocol,
    )
}

fn route_parts(route: &Route) -> RouteParts {
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Below(host) => format!("*.{host}"),
    };
    let targets = route.targets.iter();
    let policy = match route.balance {
        Balance::RoundRobin => Policy::RoundRobin,
        Balance::WeightedRoundRobin => Policy::WeightedRoundRobin,
        Balance::Random => Policy::Random,
        Balance::P2c => Policy::PowerOfTwo,
        Balance::LeastConnections => Policy::LeastConnections,
        Balance::LeastLatency => Policy::LeastLatency,
        Balance::ConsistentHash(_) => Policy::ConsistentHash,
    };
    (
        route.hosts.iter().map(host).collect(),
        route.path.clone(),
        route.methods.iter().map(ToString::to_string).collect(),
        targets
            .map(|target| (target.target.to_string(), target.weight))
            .collect(),
        policy.name(),
        route.strip_prefix,
    )
}

/// A gateway that runs; it ends at once with the last reference.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Gateway {
    /// There until it is dropped.
    handle: Option<Handle>,
}

impl Gateway {
    fn handle(&self) -> PyResult<&Handle> {
        let handle = self.handle.as_ref();
        handle.ok_or_else(|| GatewayError::new_err("the gateway has ended"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let handle = self.handle.take();
        // Its threads, and the last lines of its log, are waited for.
        Python::try_attach(|py| py.detach(|| drop(handle)));
    }
}

#[pymethods]
impl Gateway {
    /// Starts it.
    #[new]
    fn new(py: Python<'_>, configuration: &Configuration) -> PyResult<Self> {
        let settings = configuration.settings().clone();
        relief::give_back_with(allocator::give_back);
        let started = py.detach(|| gateway::Gateway::start(settings));
        let handle = Some(started.map_err(refused)?);
        Ok(Self { handle })
    }

    /// What it listens on: after the start in the order of the listeners.
    #[getter]
    fn addresses(&self) -> PyResult<Vec<String>> {
        Ok(self.handle()?.addresses())
    }

    /// What the admin listener listens on.
    #[getter]
    fn admin_address(&self) -> PyResult<Option<String>> {
        Ok(self.handle()?.admin_address())
    }

    /// Puts another configuration in place as a whole, or raises and leaves all as it is.
    fn reload(&self, py: Python<'_>, configuration: &Configuration) -> PyResult<()> {
        let settings = configuration.settings().clone();
        let handle = self.handle()?;
        py.detach(|| handle.reload(settings)).map_err(refused)
    }

    /// Opens the access log where its path leads now, or raises and leaves it as it is; `False`
    /// where there is none.
    fn reopen_log(&self, py: Python<'_>) -> PyResult<bool> {
        let handle = self.handle()?;
        py.detach(|| handle.reopen_log()).map_err(refused)
    }

    /// Accepts nothing more, gives requests in flight `grace` seconds, and returns when it is over;
    /// a second call with fewer cuts the first short.
    fn drain(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace = Duration::try_from_secs_f64(grace)
            .map_err(|error| PyValueError::new_err(format!("grace: {error}")))?;
        let handle = self.handle()?;
        py.detach(|| handle.drain(grace));
        Ok(())
    }

    /// Waits until it has been drained.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle()?;
        py.detach(|| handle.join());
        Ok(())
    }
}

/// The JSON Schema of a gateway's file.
#[pyfunction]
pub(crate) fn gateway_schema() -> String {
    config::schema()
}
