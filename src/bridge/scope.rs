//! Reads an ASGI scope, with what servers and frameworks make of it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::engine::policy::path::{ScopePath, below_mount};
use crate::engine::policy::request::{BadRequest, Connection, Line};
use crate::engine::relay::{Inbound, Relay, Request};

/// What the scope tells beside the request itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Downstream {
    /// HTTP/2 or newer: a body needs no announcement.
    pub(crate) multiplexed: bool,
    /// The server puts its own Date and Server on every response, whatever the app sends.
    pub(crate) adds_date: bool,
}

/// The request is boxed, as it is handed on several times.
type Read = PyResult<Result<(Box<Request>, Downstream), BadRequest>>;

/// Makes the upstream's request from an `http` scope.
pub(crate) fn read(scope: &Bound<'_, PyDict>, relay: &Relay) -> Read {
    let method = text(scope, intern!(scope.py(), "method"))?;
    let method = method.ok_or_else(|| PyKeyError::new_err("method"))?;
    read_with(scope, method.to_str()?, |inbound| relay.prepare(inbound))
}

/// Makes the upstream's handshake from a `websocket` scope.
pub(crate) fn read_handshake(scope: &Bound<'_, PyDict>, relay: &Relay) -> Read {
    let subprotocols = match scope.get_item(intern!(scope.py(), "subprotocols"))? {
        Some(offers) if !offers.is_none() => offers
            .extract()
            .map_err(|_| PyTypeError::new_err("scope['subprotocols'] is not a list of str"))?,
        _ => Vec::new(),
    };
    read_with(scope, "GET", |inbound| {
        relay.prepare_handshake(inbound, subprotocols)
    })
}

fn read_with(
    scope: &Bound<'_, PyDict>,
    method: &str,
    prepare: impl FnOnce(&Inbound<'_, ClientLine<'_>>) -> Result<Request, BadRequest>,
) -> Read {
    let py = scope.py();
    let path = text(scope, intern!(py, "path"))?;
    let path = path
        .as_ref()
        .map(|path| path.to_str())
        .transpose()?
        .unwrap_or("/");
    let root_path = text(scope, intern!(py, "root_path"))?;
    let root_path = root_path
        .as_ref()
        .map(|path| path.to_str())
        .transpose()?
        .unwrap_or("");
    let raw_path = octets(scope, intern!(py, "raw_path"))?;
    let query = octets(scope, intern!(py, "query_string"))?;
    let scheme = text(scope, intern!(py, "scheme"))?;
    let version = text(scope, intern!(py, "http_version"))?;
    let client = client_address(scope)?;
    let headers = header_lines(scope)?;
    let values = values(&headers);
    let mut rest = &*values;
    let lines = headers.iter().map(|(name, value)| {
        let (value, behind) = rest
            .split_at_checked(value.as_bytes().len())
            .unwrap_or_default();
        rest = behind;
        ClientLine {
            name: name.as_bytes(),
            value,
            values: &values,
        }
    });
    let lines: Vec<_> = lines.collect();
    let multiplexed = match &version {
        Some(version) => matches!(version.to_str()?, "2" | "2.0" | "3" | "3.0"),
        None => false,
    };
    let scope_path = ScopePath {
        path,
        raw_path: raw_path.as_ref().map(|raw| raw.as_bytes()),
        root_path,
    };
    let inbound = Inbound {
        method,
        path: &below_mount(&scope_path),
        query: query.as_ref().map_or(&[], |query| query.as_bytes()),
        headers: &lines,
        connection: Connection {
            client: client.as_ref().map(|client| client.to_str()).transpose()?,
            secure: match &scheme {
                Some(scheme) => matches!(scheme.to_str()?, "https" | "wss"),
                None => false,
            },
            multiplexed,
            origin: None,
        },
    };
    let downstream = Downstream {
        multiplexed,
        adds_date: adds_date(scope)?,
    };
    Ok(prepare(&inbound).map(|request| (Box::new(request), downstream)))
}

/// uvicorn and hypercorn put Date and Server on every response, beside the app's own. They are
/// told from test clients by `asgi.spec_version`; granian lets the app's stand.
fn adds_date(scope: &Bound<'_, PyDict>) -> PyResult<bool> {
    let py = scope.py();
    let Some(asgi) = scope.get_item(intern!(py, "asgi"))? else {
        return Ok(false);
    };
    let Ok(asgi) = asgi.cast::<PyDict>() else {
        return Ok(false);
    };
    if !asgi.contains(intern!(py, "spec_version"))? || !asgi.contains(intern!(py, "version"))? {
        return Ok(false);
    }
    Ok(!is_granian(scope)?)
}

/// Whether granian serves, by the extension that only it offers.
#[pyfunction]
pub(super) fn is_granian(scope: &Bound<'_, PyDict>) -> PyResult<bool> {
    let Some(extensions) = scope.get_item(intern!(scope.py(), "extensions"))? else {
        return Ok(false);
    };
    let pathsend = intern!(scope.py(), "http.response.pathsend");
    match extensions.cast::<PyDict>() {
        Ok(extensions) => extensions.contains(pathsend),
        Err(_) => Ok(false),
    }
}

fn text<'py>(
    scope: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyString>>> {
    value(scope, key, "str")
}

fn octets<'py>(
    scope: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    value(scope, key, "bytes")
}

/// A value of the scope of one type, if it is there and not `None`.
fn value<'py, T: pyo3::type_object::PyTypeCheck>(
    scope: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
    expected: &str,
) -> PyResult<Option<Bound<'py, T>>> {
    match scope.get_item(key)? {
        None => Ok(None),
        Some(value) if value.is_none() => Ok(None),
        Some(value) => match value.cast_into::<T>() {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let found = error.into_inner().get_type().name()?.to_string();
                Err(PyTypeError::new_err(format!(
                    "scope[{key:?}] is a {found}, not {expected}"
                )))
            }
        },
    }
}

/// The first item of `client`, a pair in most servers and a list in some.
fn client_address<'py>(scope: &Bound<'py, PyDict>) -> PyResult<Option<Bound<'py, PyString>>> {
    let Some(client) = scope.get_item(intern!(scope.py(), "client"))? else {
        return Ok(None);
    };
    if client.is_none() {
        return Ok(None);
    }
    let host = client.get_item(0)?.cast_into::<PyString>().ok();
    Ok(host.filter(|host| !host.is_empty().unwrap_or(true)))
}

type Pair<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// A header line whose value is a piece of one block with all of them: the engine's thread gives
/// back one, and a copy for another try takes none.
struct ClientLine<'a> {
    name: &'a [u8],
    value: &'a [u8],
    values: &'a Bytes,
}

impl Line for ClientLine<'_> {
    fn octets(&self) -> &[u8] {
        self.value
    }

    fn is_named(&self, name: &HeaderName) -> bool {
        (self.name, self.value).is_named(name)
    }

    fn name(&self) -> Result<HeaderName, BadRequest> {
        (self.name, self.value).name()
    }

    fn value(&self) -> Result<HeaderValue, BadRequest> {
        let value = self.values.slice_ref(self.value);
        HeaderValue::from_maybe_shared(value).map_err(|_| BadRequest::Header)
    }
}

/// The values of all lines, one behind another.
fn values(lines: &[Pair<'_>]) -> Bytes {
    let values = lines.iter().map(|(_, value)| value.as_bytes());
    let mut all = Vec::with_capacity(values.clone().map(<[u8]>::len).sum());
    values.for_each(|value| all.extend_from_slice(value));
    Bytes::from(all)
}

fn header_lines<'py>(scope: &Bound<'py, PyDict>) -> PyResult<Vec<Pair<'py>>> {
    let Some(headers) = scope.get_item(intern!(scope.py(), "headers"))? else {
        return Ok(Vec::new());
    };
    crate::bridge::config::pairs(&headers)
}
