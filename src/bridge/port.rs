//! An event loop's end of the bridge: its doorbell, and the futures that wait for a ring.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::engine::doorbell::{Doorbell, quietly};
use crate::engine::slots::Slots;
use crate::engine::websocket::lookout::Lookout;

/// A descriptor that becomes readable when there are waiters to wake: one per event loop.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Port {
    doorbell: Doorbell,
    bell: Arc<Bell>,
    lookout: Arc<Lookout>,
    waiters: Mutex<Waiters>,
}

/// Futures by their keys. Somebody who is cancelled may have been rung for, so that their key is
/// out of date when they take it back.
type Waiters = Slots<Py<PyAny>>;

#[pymethods]
impl Port {
    #[new]
    fn new() -> PyResult<Self> {
        let refused = |error: io::Error| PyOSError::new_err(error.to_string());
        let bell = Arc::new(Bell::new().map_err(refused)?);
        let ringer = Arc::clone(&bell);
        Ok(Self {
            doorbell: Doorbell::new(move || ringer.ring()),
            bell,
            lookout: Lookout::new().map_err(refused)?,
            waiters: Mutex::default(),
        })
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> i32 {
        self.bell.read_end().as_raw_fd()
    }

    /// The waiters that were rung for since the last call; quiets the descriptor first.
    fn answer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.bell.quiet();
        self.rung(py)
    }

    /// The second descriptor to watch for reading: sockets that this loop's thread reads.
    fn lookout_fileno(&self) -> i32 {
        self.lookout.fileno()
    }

    /// Reads what has come there; the waiters that [`Port::answer`] would return.
    fn look<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        quietly(|| self.lookout.look());
        self.rung(py)
    }

    /// A loop that ends with somebody waiting is garbage: its tasks wait for what is held here.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(waiters) = self.waiters.try_lock() {
            for waiter in waiters.iter() {
                visit.call(waiter)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let waiters = std::mem::take(&mut *self.lock());
        drop(waiters);
    }
}

impl Port {
    fn rung<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys = self.doorbell.answer();
        let mut waiters = self.lock();
        let rung: Vec<Py<PyAny>> = keys
            .into_iter()
            .filter_map(|key| waiters.remove(key))
            .collect();
        drop(waiters);
        PyList::new(py, rung)
    }

    /// What the loop's thread reads itself.
    pub(crate) fn lookout(&self) -> Arc<Lookout> {
        Arc::clone(&self.lookout)
    }

    /// The doorbell, for mailboxes.
    pub(crate) fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a waiter and leaves its key with `park`, which says whether it must wait.
    pub(crate) fn wait(
        &self,
        waiter: Py<PyAny>,
        park: impl FnOnce(usize) -> bool,
    ) -> Option<usize> {
        let key = self.lock().insert(waiter);
        if park(key) {
            return Some(key);
        }
        drop(self.remove(Some(key)));
        None
    }

    /// Takes a waiter back.
    pub(crate) fn remove(&self, key: Option<usize>) -> Option<Py<PyAny>> {
        let key = key?;
        self.lock().remove(key)
    }
}

/// An eventfd.
#[cfg(target_os = "linux")]
struct Bell(OwnedFd);

#[cfg(target_os = "linux")]
impl Bell {
    fn new() -> std::io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    fn read_end(&self) -> &OwnedFd {
        &self.0
    }

    fn ring(&self) {
        // It can only fail when the counter is full, and then it is ringing already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn quiet(&self) {
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

/// A pair of sockets, where there is no eventfd.
#[cfg(not(target_os = "linux"))]
struct Bell {
    read: OwnedFd,
    write: OwnedFd,
}

#[cfg(not(target_os = "linux"))]
impl Bell {
    fn new() -> std::io::Result<Self> {
        let (read, write) = std::os::unix::net::UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self {
            read: read.into(),
            write: write.into(),
        })
    }

    fn read_end(&self) -> &OwnedFd {
        &self.read
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.write, &[1]);
    }

    fn quiet(&self) {
        while rustix::io::read(&self.read, &mut [0_u8; 64]).is_ok_and(|count| count > 0) {}
    }
}
