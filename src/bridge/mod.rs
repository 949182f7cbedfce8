//! The Python module `asgi_relay._engine`: all the PyO3, no policy.
//!
//! Everything here runs on a thread that holds the GIL, at the call of Python code. The engine's
//! thread never comes here: it puts what it has into a mailbox and rings the event loop.

mod allocator;
mod aside;
mod balance;
mod config;
mod convert;
mod exchange;
mod gateway;
mod guarded;
mod memory;
mod port;
mod relay;
mod scope;
mod waiting;
mod websocket;

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::engine::runtime::Registry;

/// The process' one engine thread.
static REGISTRY: Registry = Registry::new();

/// How often this process has been forked off: what was started in another generation has no
/// thread here and must not be touched, not even dropped.
static GENERATION: AtomicU64 = AtomicU64::new(0);

fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Forgets what only the parent process has. To be called in a forked child.
#[pyfunction]
fn after_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    REGISTRY.forget();
}

/// Wakes the engine for the exchanges that were started since the last call.
#[pyfunction]
fn flush() {
    if let Some(runtime) = REGISTRY.current() {
        runtime.flush();
    }
}

/// The engine of asgi-relay.
#[pymodule]
mod _engine {
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;

    #[pymodule_export]
    use super::after_fork;
    #[pymodule_export]
    use super::balance::Changes;
    #[pymodule_export]
    use super::exchange::Exchange;
    #[pymodule_export]
    use super::flush;
    #[pymodule_export]
    use super::gateway::{Configuration, Gateway, GatewayError, gateway_schema};
    #[pymodule_export]
    use super::memory::Call;
    #[pymodule_export]
    use super::port::Port;
    #[pymodule_export]
    use super::relay::{BadRequest, Relay};
    #[pymodule_export]
    use super::scope::is_granian;
    #[pymodule_export]
    use super::waiting::{Drain, Round};
    #[pymodule_export]
    use super::websocket::WebSocket;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Whatever raises it.
        let error = module.getattr("GatewayError")?;
        error.setattr("files", PyTuple::empty(module.py()))
    }
}
