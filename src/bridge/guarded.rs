//! What a forked child may hold, but not touch.

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::generation;
use super::port::Port;

/// What belongs to the process that made it. In a child that was forked off since, it can neither
/// be had nor is it dropped: its locks may be held by a thread that exists in the parent only, and
/// who is woken there is the parent's.
pub(crate) struct Guarded<T> {
    /// Only `None` while dropping.
    value: Option<T>,
    generation: u64,
}

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Some(value),
            generation: generation(),
        }
    }

    /// `None` in another process.
    pub(crate) fn get(&self) -> Option<&T> {
        let here = self.generation == generation();
        self.value.as_ref().filter(|_| here)
    }

    /// The same, or an error that calls it by its name.
    pub(crate) fn or_refuse(&self, name: &str) -> PyResult<&T> {
        let refused =
            || PyValueError::new_err(format!("this {name} belongs to the parent process"));
        self.get().ok_or_else(refused)
    }

    /// Shows the garbage collector the port, in any process: it has to know of each reference.
    pub(crate) fn traverse(
        &self,
        visit: &PyVisit<'_>,
        port: impl FnOnce(&T) -> &Py<Port>,
    ) -> Result<(), PyTraverseError> {
        match &self.value {
            Some(value) => visit.call(port(value)),
            None => Ok(()),
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if self.generation != generation() {
            std::mem::forget(value);
        }
    }
}
