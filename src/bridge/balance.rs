//! Reads what Python says of targets and how they are chosen, and tells it how they are.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::config::{extra_headers, invalid, name, seconds};
use super::guarded::Guarded;
use super::port::Port;
use crate::engine::balance::affinity::{HashKey, SameSite, StickyCookie};
use crate::engine::balance::member::Status;
use crate::engine::balance::outcome::{Change, Listener};
use crate::engine::balance::policy::Policy;
use crate::engine::balance::set::{MAX_TARGETS, SetError};
use crate::engine::balance::settings::{HealthCheck, TargetSettings};
use crate::engine::mailbox::Mailbox;
use crate::engine::policy::path::request_target;
use crate::engine::target::{Target, TargetError};

/// What a target gets where it has nothing of its own.
pub(super) struct Defaults {
    pub(super) prefix: String,
    pub(super) max_in_flight: Option<usize>,
    pub(super) health_check: Option<Arc<HealthCheck>>,
}

/// A target as `asgi_relay.Relay` passes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct TargetParts {
    /// The parameter that it came in.
    parameter: String,
    url: String,
    weight: u32,
    max_in_flight: Option<usize>,
    health_check: Option<HealthCheckParts>,
}

impl TargetParts {
    pub(super) fn into_settings(self, defaults: &Defaults) -> PyResult<TargetSettings> {
        let target = Target::parse(&self.url, &defaults.prefix).map_err(|error| match error {
            TargetError::Prefix => invalid("upstream_prefix", error),
            error => invalid(&self.parameter, error),
        })?;
        let health_check = match self.health_check {
            Some(parts) => Some(Arc::new(parts.into_check()?)),
            None => defaults.health_check.clone(),
        };
        Ok(TargetSettings {
            target: Arc::new(target),
            weight: self.weight,
            max_in_flight: self.max_in_flight.or(defaults.max_in_flight),
            health_check,
        })
    }
}

/// A health check as `asgi_relay.Relay` passes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct HealthCheckParts {
    path: String,
    interval: f64,
    timeout: f64,
    method: String,
    headers: Vec<(String, String)>,
    expected_statuses: Vec<u16>,
    rise: u32,
    fall: u32,
    jitter: f64,
}

impl HealthCheckParts {
    pub(super) fn into_check(self) -> PyResult<HealthCheck> {
        let path = request_target(self.path.clone().into_bytes());
        let refused = "it has white space, a '#' or a control character";
        path.map_err(|_| invalid("health_check.path", refused))?;
        let expected = self.expected_statuses.into_iter().map(StatusCode::from_u16);
        let expected: Result<_, _> = expected.collect();
        Ok(HealthCheck {
            method: Method::from_bytes(self.method.as_bytes())
                .map_err(|error| invalid("health_check.method", error))?,
            path: self.path,
            headers: extra_headers("health_check.headers", self.headers)?,
            expected: expected.map_err(|error| invalid("health_check.expected_statuses", error))?,
            interval: seconds("health_check.interval", self.interval)?,
            timeout: seconds("health_check.timeout", self.timeout)?,
            rise: self.rise,
            fall: self.fall,
            jitter: self.jitter,
        })
    }
}

/// A sticky cookie as `asgi_relay.Relay` passes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct StickyParts {
    name: String,
    secret: Vec<u8>,
    max_age: Option<f64>,
    path: String,
    same_site: String,
    secure: Option<bool>,
}

impl StickyParts {
    pub(super) fn into_cookie(self) -> PyResult<StickyCookie> {
        let same_site = match self.same_site.as_str() {
            "strict" => SameSite::Strict,
            "none" => SameSite::None,
            _ => SameSite::Lax,
        };
        let max_age = self.max_age.map(|age| seconds("sticky.max_age", age));
        Ok(StickyCookie {
            name: self.name,
            key: StickyCookie::key(&self.secret),
            max_age: max_age.transpose()?,
            path: self.path,
            same_site,
            secure: self.secure,
        })
    }
}

pub(super) fn policy_named(name: &str) -> PyResult<Policy> {
    Policy::from_name(name).ok_or_else(|| {
        let names = Policy::NAMED.map(Policy::name).join(", ");
        let reason = format!("{name:?} is not allowed; {names}, or a ConsistentHash");
        invalid("balance", reason)
    })
}

pub(super) fn hash_key(kind: &str, text: String) -> PyResult<HashKey> {
    Ok(match kind {
        "header" => HashKey::Header(name("balance.header", &text)?),
        "cookie" => HashKey::Cookie(text),
        _ => HashKey::ClientAddress,
    })
}

/// The targets, refused where they cannot be beside each other.
pub(super) fn read_targets(
    parts: Vec<TargetParts>,
    defaults: &Defaults,
) -> PyResult<Vec<TargetSettings>> {
    let parameter = "target_base_url";
    if parts.len() > MAX_TARGETS {
        return Err(invalid(parameter, SetError::TooMany));
    }
    let mut names = HashSet::new();
    let mut targets: Vec<TargetSettings> = Vec::with_capacity(parts.len());
    for parts in parts {
        let new = parts.into_settings(defaults)?;
        let name = new.target.name().to_owned();
        let secure = new.target.origin().secure;
        let first = targets.first();
        if first.is_some_and(|first| first.target.origin().secure != secure) {
            return Err(invalid(parameter, SetError::MixedSchemes(name)));
        }
        if !names.insert(name.clone()) {
            return Err(invalid(parameter, SetError::Duplicate(name)));
        }
        targets.push(new);
    }
    Ok(targets)
}

/// The state of each target as plain data, by its URL.
pub(super) fn status_of<'py>(
    py: Python<'py>,
    statuses: Vec<Status>,
) -> PyResult<Bound<'py, PyDict>> {
    let targets = PyDict::new(py);
    for status in statuses {
        let Status {
            url,
            state,
            latency,
            in_flight,
            requests,
            failures,
            last_error,
        } = status;
        let target = PyDict::new(py);
        target.set_item("state", state.name())?;
        let milliseconds = latency.map(|latency| latency.as_micros() as f64 / 1000.0);
        target.set_item("latency_ms", milliseconds)?;
        target.set_item("in_flight", in_flight)?;
        target.set_item("requests", requests)?;
        target.set_item("failures", failures)?;
        target.set_item("last_error", last_error)?;
        targets.set_item(url, target)?;
    }
    Ok(targets)
}

/// Changes that wait to be told; later ones are not told while there are so many.
const MAX_CHANGES: usize = 10_000;

/// The changes of the targets' states, for one loop.
#[pyclass(frozen, module = "asgi_relay._engine")]
pub(crate) struct Changes {
    inner: Guarded<Watching>,
}

struct Watching {
    port: Py<Port>,
    mailbox: Arc<Mailbox<(), Change>>,
    parked: Mutex<Option<usize>>,
}

impl Changes {
    /// The changes, and who has to be told of them.
    pub(super) fn of(port: Py<Port>) -> (Self, Listener) {
        let mailbox: Arc<Mailbox<(), Change>> = Mailbox::new(port.get().doorbell());
        let told = Arc::downgrade(&mailbox);
        let listener: Listener = Arc::new(move |change| {
            if let Some(mailbox) = told.upgrade() {
                mailbox.publish(|contents| {
                    if contents.notes.len() < MAX_CHANGES {
                        contents.notes.push(change);
                    }
                });
            }
        });
        let inner = Guarded::new(Watching {
            port,
            mailbox,
            parked: Mutex::default(),
        });
        (Self { inner }, listener)
    }
}

impl Watching {
    fn parked(&self) -> MutexGuard<'_, Option<usize>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let key = self.parked().take();
        if let Some(key) = key
            && self.mailbox.unpark(key)
        {
            drop(self.port.get().remove(Some(key)));
        }
    }
}

#[pymethods]
impl Changes {
    /// Has `waiter` answered when there is something to take, for as long as this lives; `False`
    /// where there is something already.
    fn park(&self, waiter: Py<PyAny>) -> bool {
        let Some(inner) = self.inner.get() else {
            return true;
        };
        let port = inner.port.get();
        let key = port.wait(waiter, |key| inner.mailbox.park(key));
        *inner.parked() = key;
        key.is_some()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(&visit, |inner| &inner.port)
    }

    /// The changes since the last call: `(url, state before, state after)`.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let contents = self.inner.get().and_then(|inner| inner.mailbox.take());
        let changes = contents.map(|contents| contents.notes);
        let changes = changes.unwrap_or_default().into_iter();
        let told = changes.map(|change| (change.url, change.before.name(), change.after.name()));
        PyList::new(py, told.collect::<Vec<_>>())
    }
}
