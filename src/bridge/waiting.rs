//! What a loop can wait for beside exchanges: a round of health checks, a relay's end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::generation;
use super::port::Port;
use super::relay::Started;
use crate::engine::mailbox::{End, Mailbox};

/// A round of health checks that is going on.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Round {
    port: Py<Port>,
    done: Arc<Mailbox<()>>,
}

impl Round {
    pub(super) fn of(
        port: Py<Port>,
        started: &Started,
        round: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let done: Arc<Mailbox<()>> = Mailbox::new(port.get().doorbell());
        let over = Over(Arc::clone(&done));
        let relay = Arc::clone(&started.relay);
        started.runtime.submit(Box::new(move || {
            tokio::spawn(async move {
                let _over = over;
                tokio::select! {
                    () = round => {}
                    () = relay.leaving() => {}
                }
            });
        }));
        Self { port, done }
    }
}

/// Tells that a round is over, whatever ends it.
struct Over(Arc<Mailbox<()>>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0
            .publish(|contents| contents.end = Some(End::Complete));
    }
}

#[pymethods]
impl Round {
    /// Has `waiter` answered when the round is over; `False` where it is.
    fn park(&self, waiter: Py<PyAny>) -> bool {
        let port = self.port.get();
        port.wait(waiter, |key| self.done.park(key)).is_some()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.port)
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

impl Drain {
    /// Begins a relay's end: what is in flight has `grace`.
    pub(super) fn of(port: Py<Port>, started: Started, grace: Duration, generation: u64) -> Self {
        let done: Arc<Mailbox<()>> = Mailbox::new(port.get().doorbell());
        let (relay, mailbox) = (Arc::clone(&started.relay), Arc::clone(&done));
        started.runtime.submit(Box::new(move || {
            tokio::spawn(async move {
                relay.drain(grace).await;
                mailbox.publish(|contents| contents.end = Some(End::Complete));
            });
        }));
        Self {
            port,
            done,
            started: Mutex::new(Some(started)),
            generation,
        }
    }
}

#[pymethods]
impl Drain {
    /// Has `waiter` answered when the requests in flight are done; `False` where they are.
    fn park(&self, waiter: Py<PyAny>) -> bool {
        let waiting = self.port.get().wait(waiter, |key| self.done.park(key));
        waiting.is_some()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.port)
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
