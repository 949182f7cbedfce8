//! What a loop can wait for beside exchanges: a round of health checks, a relay's end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::guarded::Guarded;
use super::port::Port;
use super::relay::Started;
use crate::engine::mailbox::{End, Mailbox};

/// A round of health checks that is going on.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Round {
    inner: Guarded<Waiting>,
}

/// The end that is waited for.
struct Waiting {
    port: Py<Port>,
    done: Arc<Mailbox<()>>,
}

impl Waiting {
    fn new(port: Py<Port>) -> Self {
        let done = Mailbox::new(port.get().doorbell());
        Self { port, done }
    }

    /// Has `waiter` answered at the end; `false` where that has come.
    fn park(&self, waiter: Py<PyAny>) -> bool {
        let waiting = self.port.get().wait(waiter, |key| self.done.park(key));
        waiting.is_some()
    }
}

impl Round {
    pub(super) fn of(
        port: Py<Port>,
        started: &Started,
        round: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let waiting = Waiting::new(port);
        let over = Over(Arc::clone(&waiting.done));
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
        let inner = Guarded::new(waiting);
        Self { inner }
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
        let inner = self.inner.get();
        inner.is_some_and(|waiting| waiting.park(waiter))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(&visit, |waiting| &waiting.port)
    }
}

/// A shutdown that is going on.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Drain {
    inner: Guarded<(Waiting, Mutex<Option<Started>>)>,
}

impl Drain {
    /// Begins a relay's end: what is in flight has `grace`.
    pub(super) fn of(port: Py<Port>, started: Started, grace: Duration) -> Self {
        let waiting = Waiting::new(port);
        let (relay, mailbox) = (Arc::clone(&started.relay), Arc::clone(&waiting.done));
        started.runtime.submit(Box::new(move || {
            tokio::spawn(async move {
                relay.drain(grace).await;
                mailbox.publish(|contents| contents.end = Some(End::Complete));
            });
        }));
        let inner = Guarded::new((waiting, Mutex::new(Some(started))));
        Self { inner }
    }
}

#[pymethods]
impl Drain {
    /// Has `waiter` answered when the requests in flight are done; `False` where they are.
    fn park(&self, waiter: Py<PyAny>) -> bool {
        let inner = self.inner.get();
        inner.is_some_and(|(waiting, _)| waiting.park(waiter))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(&visit, |(waiting, _)| &waiting.port)
    }

    /// Closes what is left; the last relay of the process ends the engine's thread.
    fn finish(&self, py: Python<'_>) {
        let Some((_, started)) = self.inner.get() else {
            return;
        };
        let started = started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Started { runtime, relay }) = started else {
            return;
        };
        // Where the drain was not waited for, requests are still in flight.
        relay.cut();
        drop(relay);
        if let Some(runtime) = Arc::into_inner(runtime) {
            py.detach(|| runtime.stop());
        }
    }
}
