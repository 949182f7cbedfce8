//! One end of a WebSocket as Python sees it: messages to take, messages to send.
//!
//! The client's end is opened by `Relay.connect`, an in-process upstream's by `Call.link`.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::StatusCode;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use super::REGISTRY;
use super::aside::{Aside, note_list};
use super::convert::{self, header_list};
use super::guarded::Guarded;
use super::port::Port;
use super::relay::Started;
use super::scope::Downstream;
use crate::engine::mailbox::Mailbox;
use crate::engine::pipe::Pipe;
use crate::engine::relay::{InFlight, Request};
use crate::engine::runtime::{Job, Runtime};
use crate::engine::websocket::direct::{Direct, Sent};
use crate::engine::websocket::memory::Link;
use crate::engine::websocket::message::{Close, GOING_AWAY, Message};
use crate::engine::websocket::session::{Ends, Inbox, Outbox, Presence, run};

/// One end of a WebSocket.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct WebSocket {
    inner: Guarded<Inner>,
}

struct Inner {
    port: Py<Port>,
    /// Whose thread carries the messages.
    runtime: Weak<Runtime>,
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    /// Where messages may go past the outbox.
    direct: Option<Arc<Direct>>,
    adds_date: bool,
    aside: Aside,
    /// The pump of a client's end, as long as it runs.
    presence: Mutex<Option<InFlight>>,
    called_off: Arc<Mailbox<()>>,
}

impl WebSocket {
    /// Sends a handshake upstream.
    pub(crate) fn open(
        port: Py<Port>,
        started: Started,
        request: Box<Request>,
        downstream: Downstream,
    ) -> Self {
        let inbox: Arc<Inbox> = Mailbox::new(port.get().doorbell());
        let outbox = Pipe::new(port.get().doorbell());
        let in_flight = Arc::clone(&started.relay).enter(Arc::clone(&inbox) as _);
        let called_off = Mailbox::new(port.get().doorbell());
        let presence = Presence(Arc::clone(&called_off));
        let presence = started.relay.enter(Arc::new(presence));
        let direct = Arc::new(Direct::default());
        let ends = Ends {
            inbox: Arc::clone(&inbox),
            outbox: Arc::clone(&outbox),
            direct: Arc::clone(&direct),
            lookout: port.get().lookout(),
        };
        let call = Box::new(move || {
            tokio::spawn(run(in_flight, request, ends));
        });
        started.runtime.enqueue(Job::Call(call));
        let link = Link { inbox, outbox };
        let present = (Some(presence), called_off);
        let runtime = Arc::downgrade(&started.runtime);
        Self::new(
            port,
            runtime,
            link,
            Some(direct),
            downstream.adds_date,
            present,
        )
    }

    /// The app's end of a call.
    pub(crate) fn of_app(port: Py<Port>, link: Link) -> Self {
        let nobody = (None, Mailbox::new(port.get().doorbell()));
        let runtime = REGISTRY.current().map(|runtime| Arc::downgrade(&runtime));
        Self::new(port, runtime.unwrap_or_default(), link, None, false, nobody)
    }

    fn new(
        port: Py<Port>,
        runtime: Weak<Runtime>,
        link: Link,
        direct: Option<Arc<Direct>>,
        adds_date: bool,
        (presence, called_off): (Option<InFlight>, Arc<Mailbox<()>>),
    ) -> Self {
        Self {
            inner: Guarded::new(Inner {
                port,
                runtime,
                inbox: link.inbox,
                outbox: link.outbox,
                direct,
                adds_date,
                aside: Aside::default(),
                presence: Mutex::new(presence),
                called_off,
            }),
        }
    }

    fn inner(&self) -> PyResult<&Inner> {
        self.inner.or_refuse("WebSocket")
    }
}

#[pymethods]
impl WebSocket {
    /// Has `waiter` answered when there is something to take; `None` where there is already, else
    /// a key for `unpark`.
    fn park(&self, waiter: Py<PyAny>) -> PyResult<Option<usize>> {
        let inner = self.inner()?;
        Ok(inner.port.get().wait(waiter, |key| inner.inbox.park(key)))
    }

    /// Has `waiter` answered when the relay's end calls the pump off; `None` where it has, else a key
    /// for `unpark`.
    fn park_end(&self, waiter: Py<PyAny>) -> PyResult<Option<usize>> {
        let inner = self.inner()?;
        let port = inner.port.get();
        Ok(port.wait(waiter, |key| inner.called_off.park(key)))
    }

    /// The pump has ended.
    fn finish(&self) -> PyResult<()> {
        let presence = &self.inner()?.presence;
        let presence = presence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(presence);
        Ok(())
    }

    /// Has `waiter` answered when there is room for messages; `None` where there is already, else
    /// a key for `unpark`.
    fn park_writer(&self, waiter: Py<PyAny>) -> PyResult<Option<usize>> {
        let inner = self.inner()?;
        let port = inner.port.get();
        Ok(port.wait(waiter, |key| inner.outbox.park_writer(key)))
    }

    /// The waiter with this key waits no longer.
    fn unpark(&self, key: usize) -> PyResult<()> {
        let inner = self.inner()?;
        let waited = inner.inbox.unpark(key)
            || inner.outbox.unpark_writer(key)
            || inner.called_off.unpark(key);
        if waited {
            drop(inner.port.get().remove(Some(key)));
        }
        Ok(())
    }

    /// What has come: `(status or 0, headers or None, subprotocol or None, messages, flags)`;
    /// `None` where there is nothing. A message is a str or bytes; a close, the last one, is a
    /// pair of code and reason. `rewrite` is the callback for cookies' domains.
    fn take<'py>(
        &self,
        py: Python<'py>,
        rewrite: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let inner = self.inner()?;
        let Some(mut contents) = inner.inbox.take() else {
            return Ok(None);
        };
        let flags = inner.aside.keep(&mut contents);
        let (status, headers, subprotocol) = match contents.head {
            None => (0, None, None),
            Some(head) => {
                // Each server puts its own Date on a 101, and one fails on a second.
                let own = inner.adds_date || head.status == StatusCode::SWITCHING_PROTOCOLS;
                let headers = header_list(py, &head, own, rewrite)?;
                (head.status.as_u16(), Some(headers), head.subprotocol)
            }
        };
        let messages = PyList::empty(py);
        for message in contents.chunks {
            match message {
                Message::Text(text) => messages.append(PyString::new(py, &text))?,
                Message::Binary(octets) => messages.append(PyBytes::new(py, &octets))?,
                Message::Close(close) => messages.append((close.code(), close.reason()))?,
            }
        }
        let taken = (status, headers, subprotocol, messages, flags);
        taken.into_pyobject(py).map(Some)
    }

    /// The notes behind the `NOTES` flag: `(event name, fields)` for the log, or a `Call`.
    fn notes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let inner = self.inner()?;
        let notes = inner.aside.take_notes();
        note_list(py, notes, &inner.port)
    }

    /// Sends a text; returns `None` where it has gone already, else, after the next `flush`, whether
    /// there is room for more.
    fn send_text(&self, text: &Bound<'_, PyString>) -> PyResult<Option<bool>> {
        let text = text.to_str()?;
        let message = || Message::Text(Utf8Bytes::from(text));
        Ok(self.inner()?.send(text.as_bytes(), Data::Text, message))
    }

    /// Sends octets; returns what [`WebSocket::send_text`] does.
    fn send_bytes(&self, octets: &Bound<'_, PyBytes>) -> PyResult<Option<bool>> {
        let message = || Message::Binary(convert::octets(octets));
        Ok(self.inner()?.send(octets.as_bytes(), Data::Binary, message))
    }

    /// Closes behind what has been sent, with the code of whoever left (`None`: there was none);
    /// what still comes is dropped. Returns the waiter that must be told.
    fn close(&self, code: Option<i64>, reason: &str) -> PyResult<Option<Py<PyAny>>> {
        let code = code.map(|code| u16::try_from(code).unwrap_or(0));
        Ok(self.inner()?.close(Close::from_peer(code, reason)))
    }

    /// Ends what has not been closed; returns the waiter that must be told.
    fn abort(&self) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.inner()?.close(Close::new(GOING_AWAY, "")))
    }

    /// What waits at the port may be a task that this belongs to.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(&visit, |inner| &inner.port)
    }
}

impl Inner {
    /// What goes through the outbox in one round of the event loop wakes the engine's thread once.
    fn send(&self, octets: &[u8], code: Data, message: impl FnOnce() -> Message) -> Option<bool> {
        let direct = self.direct.as_ref();
        let sent = direct.map_or(Sent::Not, |direct| direct.send(octets, code, &self.outbox));
        let (room, reader) = match sent {
            Sent::Wholly => return None,
            Sent::Partly => (true, self.outbox.reader()),
            Sent::Not => self.outbox.push(message()),
        };
        if let Some(reader) = reader {
            match self.runtime.upgrade() {
                Some(runtime) => runtime.enqueue(Job::Wake(reader)),
                None => reader.wake(),
            }
        }
        Some(room)
    }

    fn close(&self, close: Close) -> Option<Py<PyAny>> {
        if !self.outbox.end(Message::Close(close)) && self.inbox.is_aborted() {
            return None;
        }
        let key = self.inbox.abort();
        self.port.get().remove(key)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.close(Close::new(GOING_AWAY, "")));
    }
}
