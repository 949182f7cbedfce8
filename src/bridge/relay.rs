//! The engine's half of `asgi_relay.Relay`: started when first needed, ended by a drain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::config::Settings;
use super::exchange::Exchange;
use super::port::Port;
use super::websocket::WebSocket;
use super::{REGISTRY, generation, scope};
use crate::engine;
use crate::engine::config::Config;
use crate::engine::mailbox::{End, Mailbox};
use crate::engine::runtime::Runtime;

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
    config: Config,
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
                None => engine(&self.config)?,
            },
        };
        *started = Some((generation(), new.clone()));
        Ok(new)
    }
}

fn engine(config: &Config) -> PyResult<Arc<engine::relay::Relay>> {
    engine::relay::Relay::new(config.clone())
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pymethods]
impl Relay {
    /// `settings` are the constructor's parameters of `asgi_relay.Relay`, taken apart.
    #[new]
    fn new(settings: Settings) -> PyResult<Self> {
        let config = settings.into_config()?;
        // Certificates and keys are tried now, not at the first request.
        let fresh = engine(&config)?;
        Ok(Self {
            config,
            fresh: Mutex::new(Some(fresh)),
            started: Mutex::new(None),
        })
    }

    /// The upstream's URL, without anything secret.
    #[getter]
    fn target(&self) -> String {
        self.config.target.to_string()
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

    /// An exchange for a request; raises `BadRequest` for one that cannot be passed on.
    fn start(&self, scope: &Bound<'_, PyDict>, port: Py<Port>) -> PyResult<Exchange> {
        let started = self.started()?;
        let (request, downstream) = scope::read(scope, &started.relay)?
            .map_err(|error| BadRequest::new_err(error.to_string()))?;
        Ok(Exchange::new(port, started, request, downstream))
    }

    /// A WebSocket for a client's handshake; raises `BadRequest` for one that cannot be passed on.
    fn connect(&self, scope: &Bound<'_, PyDict>, port: Py<Port>) -> PyResult<WebSocket> {
        let started = self.started()?;
        let (request, downstream) = scope::read_handshake(scope, &started.relay)?
            .map_err(|error| BadRequest::new_err(error.to_string()))?;
        Ok(WebSocket::open(port, started, request, downstream))
    }

    /// Begins the end: requests in flight have `grace` seconds left, new ones start a new engine.
    /// `None` where nothing runs.
    fn shutdown(&self, port: Py<Port>, grace: f64) -> PyResult<Option<Drain>> {
        let grace = Duration::try_from_secs_f64(grace)
            .map_err(|error| PyValueError::new_err(format!("shutdown_grace: {error}")))?;
        let Some((generation, started)) = self.lock().take() else {
            return Ok(None);
        };
        let done = Mailbox::new(port.get().doorbell());
        let (relay, mailbox) = (Arc::clone(&started.relay), Arc::clone(&done));
        started.runtime.submit(Box::new(move || {
            tokio::spawn(async move {
                relay.drain(grace).await;
                mailbox.publish(|contents| contents.end = Some(End::Complete));
            });
        }));
        let started = Mutex::new(Some(started));
        Ok(Some(Drain {
            port,
            done,
            started,
            generation,
        }))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // `lock` forgets what belongs to the parent process.
        drop(self.lock().take());
    }
}

/// A shutdown that is going on.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Drain {
    port: Py<Port>,
    done: Arc<Mailbox<()>>,
    started: Mutex<Option<Started>>,
    generation: u64,
}

#[pymethods]
impl Drain {
    /// Has `waiter` answered when the requests in flight are done; `False` where they are.
    fn park(&self, waiter: Py<PyAny>) -> bool {
        let waiting = self.port.get().wait(waiter, |key| self.done.park(key));
        waiting.is_some()
    }

    /// Closes what is left; the last relay of the process ends the engine's thread.
    fn finish(&self, py: Python<'_>) {
        let started = self
            .started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Started { runtime, relay }) = started else {
            return;
        };
        if self.generation != generation() {
            std::mem::forget((runtime, relay));
            return;
        }
        // Where the drain was not waited for, requests are still in flight.
        relay.cut();
        drop(relay);
        if let Some(runtime) = Arc::into_inner(runtime) {
            py.detach(|| runtime.stop());
        }
    }
}
