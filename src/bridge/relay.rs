//! The engine's half of `asgi_relay.Relay`: started when first needed, ended by a drain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::balance::{Changes, Defaults, TargetParts, status_of};
use super::config::Settings;
use super::exchange::Exchange;
use super::port::Port;
use super::waiting::{Drain, Round};
use super::websocket::WebSocket;
use super::{REGISTRY, generation, scope};
use crate::engine;
use crate::engine::balance::outcome::Listener;
use crate::engine::config::Config;
use crate::engine::relay::Request;
use crate::engine::runtime::Runtime;
use crate::engine::target::Target;

create_exception!(
    asgi_relay._engine,
    BadRequest,
    PyException,
    "The client's request cannot be passed on; the answer is 400 with this text."
);

/// A relay's engine, running.
#[derive(Clone)]
pub(crate) struct Started {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) relay: Arc<engine::relay::Relay>,
}

/// A relay's engine.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Relay {
    /// Its targets are those of this moment.
    config: Mutex<Config>,
    defaults: Defaults,
    /// Who is told of changes of the targets' states.
    listener: Mutex<Option<Listener>>,
    /// What the constructor made to try the configuration; the first start uses it, as reading
    /// the platform's authorities takes its time.
    fresh: Mutex<Option<Arc<engine::relay::Relay>>>,
    /// With the generation of the process that started it.
    started: Mutex<Option<(u64, Started)>>,
}

impl Relay {
    fn lock(&self) -> MutexGuard<'_, Option<(u64, Started)>> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if started
            .as_ref()
            .is_some_and(|(from, _)| *from != generation())
        {
            std::mem::forget(started.take());
        }
        started
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An engine for the next start.
    fn engine(&self) -> PyResult<Arc<engine::relay::Relay>> {
        let relay = engine(&self.config())?;
        relay.balancer().listen(self.listener().clone());
        Ok(relay)
    }

    fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine that runs, or the one that would be started next.
    fn current(&self) -> PyResult<Arc<engine::relay::Relay>> {
        if let Some((_, started)) = &*self.lock() {
            return Ok(Arc::clone(&started.relay));
        }
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        match &*fresh {
            Some(fresh) => Ok(Arc::clone(fresh)),
            None => Ok(Arc::clone(fresh.insert(self.engine()?))),
        }
    }

    fn take_fresh(&self) -> Option<Arc<engine::relay::Relay>> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.take()
    }

    fn started(&self) -> PyResult<Started> {
        let mut started = self.lock();
        if let Some((_, started)) = &*started {
            return Ok(started.clone());
        }
        let new = Started {
            runtime: Runtime::shared(&REGISTRY)
                .map_err(|error| PyOSError::new_err(error.to_string()))?,
            relay: match self.take_fresh() {
                Some(fresh) => fresh,
                None => self.engine()?,
            },
        };
        let relay = Arc::clone(&new.relay);
        let begin = move || relay.balancer().begin();
        new.runtime.submit(Box::new(begin));
        *started = Some((generation(), new.clone()));
        Ok(new)
    }
}

impl Relay {
    /// A URL as the targets are known by.
    fn normal_url(&self, url: &str) -> PyResult<String> {
        if self
            .current()?
            .balancer()
            .members()
            .iter()
            .any(|m| m.is(url))
        {
            return Ok(url.to_owned());
        }
        let target = Target::parse(url, &self.defaults.prefix);
        let target = target.map_err(|error| PyValueError::new_err(format!("url: {error}")))?;
        Ok(target.name().to_owned())
    }
}

/// A request that can be passed on, with its preference. Boxed, as it is handed on several times.
fn prepared(
    request: Result<Request, engine::policy::request::BadRequest>,
    prefer: Option<String>,
) -> PyResult<Box<Request>> {
    let request = request.map_err(|error| BadRequest::new_err(error.answer()))?;
    let mut request = Box::new(request);
    if let Some(url) = prefer {
        request.prefer(url);
    }
    Ok(request)
}

fn engine(config: &Config) -> PyResult<Arc<engine::relay::Relay>> {
    let mut config = config.clone();
    // Certificates may have been renewed since the last start.
    config.credentials = config.credentials.afresh();
    engine::relay::Relay::new(config).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pymethods]
impl Relay {
    /// `settings` are the constructor's parameters of `asgi_relay.Relay`, taken apart.
    #[new]
    fn new(settings: Settings) -> PyResult<Self> {
        let (config, defaults) = settings.into_config()?;
        // Certificates and keys are tried now, not at the first request.
        let fresh = engine(&config)?;
        Ok(Self {
            config: Mutex::new(config),
            defaults,
            listener: Mutex::default(),
            fresh: Mutex::new(Some(fresh)),
            started: Mutex::new(None),
        })
    }

    /// The targets' URLs, without anything secret.
    #[getter]
    fn targets(&self) -> Vec<String> {
        let config = self.config();
        let targets = config.targets.iter();
        targets
            .map(|target| target.target.name().to_owned())
            .collect()
    }

    /// Takes a target in, or back after it was drained.
    fn add_target(&self, parts: TargetParts) -> PyResult<()> {
        let target = parts.into_settings(&self.defaults)?;
        let relay = self.current()?;
        let added = relay.balancer().add(target.clone());
        added.map_err(|error| PyValueError::new_err(format!("target: {error}")))?;
        let url = target.target.name().to_owned();
        let mut config = self.config();
        config.targets.retain(|other| other.target.name() != url);
        config.targets.push(target);
        drop(config);
        if let Some((_, started)) = &*self.lock() {
            let begin = move || relay.balancer().begin();
            started.runtime.submit(Box::new(begin));
        }
        Ok(())
    }

    /// Whether this is the URL of a target, in any form.
    fn has_target(&self, url: &str) -> PyResult<bool> {
        let relay = self.current()?;
        let known = |url: &str| relay.balancer().members().iter().any(|m| m.is(url));
        Ok(self.normal_url(url).is_ok_and(|url| known(&url)))
    }

    /// Gives a target no new requests.
    fn drain_target(&self, url: &str) -> PyResult<()> {
        let url = self.normal_url(url)?;
        let drained = self.current()?.balancer().drain(&url);
        drained.map_err(|error| PyKeyError::new_err(error.to_string()))?;
        let mut config = self.config();
        let targets = config.targets.iter_mut();
        for target in targets.filter(|target| target.target.name() == url) {
            target.weight = 0;
        }
        Ok(())
    }

    /// Takes a target out.
    fn remove_target(&self, url: &str) -> PyResult<()> {
        let url = self.normal_url(url)?;
        let removed = self.current()?.balancer().remove(&url);
        removed.map_err(|error| PyKeyError::new_err(error.to_string()))?;
        let mut config = self.config();
        config.targets.retain(|other| other.target.name() != url);
        Ok(())
    }

    /// How the targets are, by their URLs.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        status_of(py, self.current()?.balancer().status())
    }

    /// A target that a request could be given now, none of `without`; `None` where there is none.
    fn pick(&self, without: Vec<String>) -> PyResult<Option<String>> {
        Ok(self.current()?.balancer().pick(&without))
    }

    /// Health checks that have come to an end.
    #[getter]
    fn checks(&self) -> PyResult<u64> {
        Ok(self.current()?.balancer().checks())
    }

    /// The changes of the targets' states from now on, also those of later starts.
    fn watch(&self, port: Py<Port>) -> PyResult<Changes> {
        let (changes, listener) = Changes::of(port);
        *self.listener() = Some(Arc::clone(&listener));
        self.current()?.balancer().listen(Some(listener));
        Ok(changes)
    }

    /// Waits for the first round of health checks; `None` where it is over.
    fn first_round(&self, port: Py<Port>) -> PyResult<Option<Round>> {
        let started = self.started()?;
        let balancer = started.relay.balancer();
        if balancer.is_checked() {
            return Ok(None);
        }
        let balancer = Arc::clone(balancer);
        let round = async move { balancer.until_checked().await };
        Ok(Some(Round::of(port, &started, round)))
    }

    /// Checks all targets once.
    fn check_targets(&self, port: Py<Port>) -> PyResult<Round> {
        let started = self.started()?;
        let balancer = Arc::clone(started.relay.balancer());
        let round = async move { balancer.check_all().await };
        Ok(Round::of(port, &started, round))
    }

    /// Whether the engine runs.
    #[getter]
    fn running(&self) -> bool {
        self.lock().is_some()
    }

    /// Starts the engine, if it does not run.
    fn startup(&self) -> PyResult<()> {
        self.started().map(drop)
    }

    /// An exchange for a request, with the target `prefer` where that is fit for it, and the header
    /// lines `given` in place of all others of their names. Where it cannot be passed on, raises
    /// `BadRequest`, or has its text for an answer.
    #[pyo3(signature = (scope, port, prefer=None, given=None))]
    fn start(
        &self,
        scope: &Bound<'_, PyDict>,
        port: Py<Port>,
        prefer: Option<String>,
        given: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Exchange> {
        let started = self.started()?;
        let (packed, downstream) = scope::read(scope, given)?;
        if !downstream.may_have_body && prefer.is_none() {
            return Ok(Exchange::unprepared(port, started, packed, downstream));
        }
        let request = packed.read(|inbound| started.relay.prepare(inbound));
        let request = prepared(request, prefer)?;
        Ok(Exchange::new(port, started, request, downstream))
    }

    /// A WebSocket for a client's handshake, as [`Relay::start`]; `offers` are the subprotocols that
    /// are offered instead of the client's.
    #[pyo3(signature = (scope, port, prefer=None, given=None, offers=None))]
    fn connect(
        &self,
        scope: &Bound<'_, PyDict>,
        port: Py<Port>,
        prefer: Option<String>,
        given: Option<&Bound<'_, PyAny>>,
        offers: Option<Vec<String>>,
    ) -> PyResult<WebSocket> {
        let started = self.started()?;
        let (packed, downstream) = scope::read_handshake(scope, given)?;
        let subprotocols = offers.map_or_else(|| scope::offers(scope), Ok)?;
        let relay = &started.relay;
        let request = packed.read(|inbound| relay.prepare_handshake(inbound, subprotocols));
        let request = prepared(request, prefer)?;
        Ok(WebSocket::open(port, started, request, downstream))
    }

    /// Begins the end: requests in flight have `grace` seconds left, new ones start a new engine.
    /// `None` where nothing runs.
    fn shutdown(&self, port: Py<Port>, grace: f64) -> PyResult<Option<Drain>> {
        let grace = Duration::try_from_secs_f64(grace)
            .map_err(|error| PyValueError::new_err(format!("shutdown_grace: {error}")))?;
        let Some((_, started)) = self.lock().take() else {
            return Ok(None);
        };
        Ok(Some(Drain::of(port, started, grace)))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // `lock` forgets what belongs to the parent process.
        drop(self.lock().take());
    }
}
