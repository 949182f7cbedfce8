//! A request to an upstream in this process, as the transport that serves it sees it.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyList};

use super::config::{each_pair, kind_named};
use super::convert::{header, octets};
use super::guarded::Guarded;
use super::port::Port;
use super::websocket::WebSocket;
use crate::engine::error::{Error, Kind};
use crate::engine::mailbox::End;
use crate::engine::upstream::memory;

/// A request to be answered.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Call {
    inner: Guarded<Inner>,
}

struct Inner {
    call: Arc<memory::Call>,
    port: Py<Port>,
}

impl Call {
    pub(crate) fn new(call: Arc<memory::Call>, port: Py<Port>) -> Self {
        let inner = Guarded::new(Inner { call, port });
        Self { inner }
    }

    fn inner(&self) -> PyResult<&Inner> {
        self.inner.or_refuse("call")
    }
}

#[pymethods]
impl Call {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(&visit, |inner| &inner.port)
    }

    #[getter]
    fn method(&self) -> PyResult<&str> {
        Ok(self.inner()?.call.head.method.as_str())
    }

    /// The absolute URL without the octets that only `target` keeps.
    #[getter]
    fn url(&self) -> PyResult<&str> {
        Ok(self.inner()?.call.url.as_str())
    }

    /// Path and query, octets unchanged.
    #[getter]
    fn target<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let target = self
            .inner()?
            .call
            .head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        Ok(PyBytes::new(py, target.as_bytes()))
    }

    /// `(name, value)` pairs of bytes.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let lines = self.inner()?.call.head.headers.iter();
        let lines: Vec<_> = lines
            .map(|(name, value)| {
                (
                    PyBytes::new(py, name.as_str().as_bytes()),
                    PyBytes::new(py, value.as_bytes()),
                )
            })
            .collect();
        PyList::new(py, lines)
    }

    /// What has come of the request's body: `(octets, state)`, where state is 0 for more to come,
    /// 1 for complete, 2 for never complete; `None` where there is nothing new.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyBytes>, u8)>> {
        let Some(contents) = self.inner()?.call.body.take() else {
            return Ok(None);
        };
        let state = match contents.end {
            _ if contents.aborted => 2,
            None => 0,
            Some(End::Complete) => 1,
            Some(End::Failed(_)) => 2,
        };
        Ok(Some((PyBytes::new(py, &contents.chunks.concat()), state)))
    }

    /// Has `waiter` answered when there is something to take; `None` where there is already, else
    /// a key for `unpark`.
    fn park(&self, waiter: Py<PyAny>) -> PyResult<Option<usize>> {
        let Inner { call, port } = self.inner()?;
        Ok(port.get().wait(waiter, |key| call.body.park(key)))
    }

    /// Has `waiter` answered when there is room in the response; `None` where there is already,
    /// else a key for `unpark`.
    fn park_writer(&self, waiter: Py<PyAny>) -> PyResult<Option<usize>> {
        let Inner { call, port } = self.inner()?;
        let port = port.get();
        Ok(port.wait(waiter, |key| call.response.park_writer(key)))
    }

    /// The waiter with this key waits no longer.
    fn unpark(&self, key: usize) -> PyResult<()> {
        let Inner { call, port } = self.inner()?;
        // A key that has been rung for may be somebody else's by now.
        if call.body.unpark(key) || call.response.unpark_writer(key) {
            drop(port.get().remove(Some(key)));
        }
        Ok(())
    }

    /// Whether all of the answer has come.
    #[getter]
    fn answered(&self) -> PyResult<bool> {
        Ok(self.inner()?.call.has_answered())
    }

    /// Whether the call is a WebSocket's handshake.
    #[getter]
    fn handshake(&self) -> PyResult<bool> {
        Ok(self.inner()?.call.link.is_some())
    }

    /// The app's end of a WebSocket; to be asked for once, as its end closes the WebSocket.
    fn link(&self, py: Python<'_>) -> PyResult<Option<WebSocket>> {
        let Inner { call, port } = self.inner()?;
        let link = call.link.clone();
        Ok(link.map(|link| WebSocket::of_app(port.clone_ref(py), link)))
    }

    /// Answers with a head.
    fn respond(&self, status: u16, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let status = StatusCode::from_u16(status)
            .map_err(|_| PyValueError::new_err(format!("{status} is no HTTP status")))?;
        let mut map = HeaderMap::new();
        each_pair(headers, |name, value| {
            let (name, value) = header(name.as_bytes(), value.as_bytes())?;
            map.append(name, value);
            Ok(())
        })?;
        self.inner()?.call.respond(status, map);
        Ok(())
    }

    /// Adds to the response's body; returns whether there is room for more.
    fn push(&self, chunk: &Bound<'_, PyBytes>) -> PyResult<bool> {
        Ok(self.inner()?.call.response.push(octets(chunk)))
    }

    /// The response is complete.
    fn finish(&self) -> PyResult<()> {
        self.inner()?.call.response.finish();
        Ok(())
    }

    /// The call failed: the name of one of the exceptions, and a message for the log.
    fn fail(&self, kind: &str, message: String) -> PyResult<()> {
        let kind = kind_named(kind)?;
        let unsent = matches!(
            kind,
            Kind::Resolve | Kind::Connect | Kind::Tls | Kind::ConnectTimeout | Kind::PoolTimeout
        );
        self.inner()?.call.fail(match unsent {
            true => Error::not_sent(kind, message),
            false => Error::new(kind, message),
        });
        Ok(())
    }
}
