//! One exchange as the pump sees it: what to take, what to push, whom to wake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::aside::{Aside, COMPLETE, FAILED, OWN, note_list};
use super::convert::{self, header_list, joined};
use super::guarded::Guarded;
use super::port::Port;
use super::relay::Started;
use super::scope::Downstream;
use crate::engine::body::Source;
use crate::engine::deliver::ExchangeMailbox;
use crate::engine::error::{Error, Kind};
use crate::engine::mailbox::Mailbox;
use crate::engine::packed::Packed;
use crate::engine::policy::request::Framing;
use crate::engine::relay::{InFlight, Request};
use crate::engine::runtime::{Job, Runtime};
use crate::engine::upload::Upload;

/// One request on its way and the response coming back.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Exchange {
    inner: Guarded<Inner>,
}

struct Inner {
    port: Py<Port>,
    mailbox: Arc<ExchangeMailbox>,
    adds_date: bool,
    framing: Framing,
    plan: BodyPlan,
    state: Mutex<State>,
    aside: Aside,
    /// The end has been taken, so that there is nothing left to abort.
    over: AtomicBool,
}

/// What only the event loop's thread changes.
#[derive(Default)]
struct State {
    /// Until the exchange has been submitted.
    pending: Option<Pending>,
    upload: Option<Arc<Upload>>,
}

/// An exchange that waits for its body.
struct Pending {
    runtime: Arc<Runtime>,
    in_flight: InFlight,
    request: Box<Request>,
}

impl Exchange {
    /// An exchange that is submitted at once where the client sends no body.
    pub(crate) fn new(
        port: Py<Port>,
        started: Started,
        request: Box<Request>,
        downstream: Downstream,
    ) -> Self {
        let (framing, plan) = (request.framing, BodyPlan::of(&request, downstream));
        let mailbox = Mailbox::new(port.get().doorbell());
        let pending = Pending {
            runtime: started.runtime,
            in_flight: started.relay.enter(Arc::clone(&mailbox) as _),
            request,
        };
        let mut state = State::default();
        match plan {
            BodyPlan::None => pending.submit(Arc::clone(&mailbox)),
            BodyPlan::First | BodyPlan::Stream => state.pending = Some(pending),
        }
        Self::with(port, mailbox, downstream, (framing, plan), state)
    }

    /// An exchange without a body, submitted as it is: the engine's thread prepares the request.
    pub(crate) fn unprepared(
        port: Py<Port>,
        started: Started,
        packed: Packed,
        downstream: Downstream,
    ) -> Self {
        let mailbox = Mailbox::new(port.get().doorbell());
        let in_flight = started.relay.enter(Arc::clone(&mailbox) as _);
        let job = Job::Prepare(in_flight, packed, Arc::clone(&mailbox));
        started.runtime.enqueue(job);
        let body = (Framing::None, BodyPlan::None);
        Self::with(port, mailbox, downstream, body, State::default())
    }

    fn with(
        port: Py<Port>,
        mailbox: Arc<ExchangeMailbox>,
        downstream: Downstream,
        (framing, plan): (Framing, BodyPlan),
        state: State,
    ) -> Self {
        let inner = Inner {
            port,
            mailbox,
            adds_date: downstream.adds_date,
            framing,
            plan,
            state: Mutex::new(state),
            aside: Aside::default(),
            over: AtomicBool::new(false),
        };
        Self {
            inner: Guarded::new(inner),
        }
    }

    fn inner(&self) -> PyResult<&Inner> {
        self.inner.or_refuse("exchange")
    }
}

/// How the pump should read the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyPlan {
    /// There is none.
    None,
    /// Wait for the first message: the body may be there whole.
    First,
    /// Stream it: the response may come before its first octet.
    Stream,
}

impl BodyPlan {
    fn of(request: &Request, downstream: Downstream) -> Self {
        match request.framing {
            Framing::Length(0) => Self::None,
            Framing::Length(_) => Self::First,
            Framing::Chunked => Self::Stream,
            Framing::None if downstream.may_have_body => Self::First,
            Framing::None => Self::None,
        }
    }
}

impl Pending {
    fn submit(self, mailbox: Arc<ExchangeMailbox>) {
        let Self {
            runtime,
            in_flight,
            request,
        } = self;
        runtime.enqueue(Job::Deliver(in_flight, request, mailbox));
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, body: Source) {
        let Some(mut pending) = self.lock().pending.take() else {
            return;
        };
        pending.request.framing = match (&body, self.framing) {
            (Source::Empty, Framing::None) => Framing::None,
            (Source::Whole(whole), Framing::None) => Framing::Length(whole.len() as u64),
            (Source::Streamed(_), Framing::None) => Framing::Chunked,
            (_, framing) => framing,
        };
        pending.request.body = body;
        pending.submit(Arc::clone(&self.mailbox));
    }

    /// Submits with a body that is pushed piece by piece.
    fn stream(&self) -> Arc<Upload> {
        let length = match self.framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let upload = Upload::new(length, self.mailbox.doorbell().clone());
        self.lock().upload = Some(Arc::clone(&upload));
        self.submit(Source::Streamed(Arc::clone(&upload)));
        upload
    }
}

#[pymethods]
impl Exchange {
    /// 0: no body; 1: `begin` with the first message; 2: `begin` at once, without one.
    #[getter]
    fn body_plan(&self) -> PyResult<u8> {
        Ok(match self.inner()?.plan {
            BodyPlan::None => 0,
            BodyPlan::First => 1,
            BodyPlan::Stream => 2,
        })
    }

    /// Sends the request with the beginning of its body, or with all of it; returns whether there
    /// is room for more.
    fn begin(&self, chunk: &Bound<'_, PyBytes>, more: bool) -> PyResult<bool> {
        let inner = self.inner()?;
        let octets = chunk.as_bytes();
        let whole = match inner.framing {
            Framing::Length(length) => length == octets.len() as u64,
            Framing::None => true,
            Framing::Chunked => false,
        };
        if !more && whole {
            let body = match octets {
                [] => Source::Empty,
                _ => Source::Whole(convert::octets(chunk)),
            };
            inner.submit(body);
            return Ok(true);
        }
        let upload = inner.stream();
        let room = upload.push(convert::octets(chunk));
        if !more {
            upload.finish();
        }
        Ok(room)
    }

    /// Adds to the body; returns whether there is room for more.
    fn push(&self, chunk: &Bound<'_, PyBytes>) -> PyResult<bool> {
        let upload = self.inner()?.lock().upload.clone();
        Ok(upload.is_none_or(|upload| upload.push(convert::octets(chunk))))
    }

    /// The body is complete.
    fn finish(&self) -> PyResult<()> {
        let upload = self.inner()?.lock().upload.clone();
        if let Some(upload) = upload {
            upload.finish();
        }
        Ok(())
    }

    /// Has `waiter` answered when there is room in the body; `False` where there is room already.
    fn park_writer(&self, waiter: Py<PyAny>) -> PyResult<bool> {
        let inner = self.inner()?;
        let upload = inner.lock().upload.clone();
        let port = inner.port.get();
        Ok(upload.is_some_and(|upload| port.wait(waiter, |key| upload.park_writer(key)).is_some()))
    }

    /// Has `waiter` answered when there is something to take; `False` where there is already.
    fn park(&self, waiter: Py<PyAny>) -> PyResult<bool> {
        let inner = self.inner()?;
        let waiting = inner.port.get().wait(waiter, |key| inner.mailbox.park(key));
        Ok(waiting.is_some())
    }

    /// What has come: `(status or 0, headers or None, body, flags)`; `None` where there is nothing.
    /// `rewrite` is the callback for cookies' domains.
    fn take<'py>(
        &self,
        py: Python<'py>,
        rewrite: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let inner = self.inner()?;
        let Some(mut contents) = inner.mailbox.take() else {
            return Ok(None);
        };
        let mut flags = inner.aside.keep(&mut contents);
        if flags & (COMPLETE | FAILED) != 0 {
            inner.over.store(true, Ordering::Relaxed);
        }
        let (status, headers) = match contents.head {
            None => (0, None),
            Some(head) => {
                flags |= if head.own { OWN } else { 0 };
                let headers = header_list(py, &head, inner.adds_date, rewrite)?;
                (head.status.as_u16(), Some(headers))
            }
        };
        let body = joined(py, &contents.chunks, contents.size)?;
        (status, headers, body, flags).into_pyobject(py).map(Some)
    }

    /// The notes behind the `NOTES` flag: `(event name, fields)` for the log, or a `Call`.
    fn notes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let inner = self.inner()?;
        note_list(py, inner.aside.take_notes(), &inner.port)
    }

    /// The failure behind the `FAILED` flag: the exception's name and a message.
    fn failure(&self) -> PyResult<(&'static str, String)> {
        let error = self.inner()?.aside.take_failure();
        let error = error.unwrap_or_else(|| Error::new(Kind::Abandoned, "the exchange failed"));
        Ok((error.kind().name(), error.detail().to_owned()))
    }

    /// Ends the exchange if it is still going on; returns the waiter that must be told.
    fn abort(&self) -> Option<Py<PyAny>> {
        self.inner().ok()?.abort()
    }

    /// What waits at the port may be a task that this belongs to.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(&visit, |inner| &inner.port)
    }
}

impl Inner {
    fn abort(&self) -> Option<Py<PyAny>> {
        let upload = {
            let mut state = self.lock();
            state.pending = None;
            state.upload.clone()
        };
        if let Some(upload) = upload {
            upload.fail(Error::new(Kind::Abandoned, "the client left"));
        }
        let key = self.mailbox.abort();
        self.port.get().remove(key)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Relaxed) {
            drop(self.abort());
        }
    }
}
