//! Reads an ASGI scope, with what servers and frameworks make of it.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::config::each_pair;
use crate::engine::packed::Packed;
use crate::engine::policy::path::{ScopePath, below_mount};
use crate::engine::policy::request::Connection;

/// What the scope tells beside the request itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Downstream {
    /// The server puts its own Date and Server on every response, whatever the app sends.
    pub(crate) adds_date: bool,
    /// There may be a body: one is announced, or need not be.
    pub(crate) may_have_body: bool,
}

/// An `http` scope's request, with the lines that are `given` in place of the client's.
pub(crate) fn read(
    scope: &Bound<'_, PyDict>,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Packed, Downstream)> {
    let method = text(scope, intern!(scope.py(), "method"))?;
    let method = method.ok_or_else(|| PyKeyError::new_err("method"))?;
    read_with(scope, method.to_str()?, given)
}

/// A `websocket` scope's handshake, as [`read`].
pub(crate) fn read_handshake(
    scope: &Bound<'_, PyDict>,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Packed, Downstream)> {
    read_with(scope, "GET", given)
}

/// The subprotocols that a client offers.
pub(crate) fn offers(scope: &Bound<'_, PyDict>) -> PyResult<Vec<String>> {
    match scope.get_item(intern!(scope.py(), "subprotocols"))? {
        Some(offers) if !offers.is_none() => offers
            .extract()
            .map_err(|_| PyTypeError::new_err("scope['subprotocols'] is not a list of str")),
        _ => Ok(Vec::new()),
    }
}

fn read_with(
    scope: &Bound<'_, PyDict>,
    method: &str,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Packed, Downstream)> {
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
    let multiplexed = match &version {
        Some(version) => matches!(version.to_str()?, "2" | "2.0" | "3" | "3.0"),
        None => false,
    };
    let scope_path = ScopePath {
        path,
        raw_path: raw_path.as_ref().map(|raw| raw.as_bytes()),
        root_path,
    };
    let connection = Connection {
        client: client.as_ref().map(|client| client.to_str()).transpose()?,
        secure: match &scheme {
            Some(scheme) => matches!(scheme.to_str()?, "https" | "wss"),
            None => false,
        },
        multiplexed,
        origin: None,
    };
    let headers = scope.get_item(intern!(py, "headers"))?;
    let mut packed = Packed::new(
        method,
        &below_mount(&scope_path),
        query.as_ref().map_or(&[], |query| query.as_bytes()),
        &connection,
        headers
            .as_ref()
            .map_or(0, |lines| lines.len().unwrap_or(16)),
    );
    let mut announced = false;
    if let Some(headers) = headers {
        each_pair(&headers, |name, value| {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            announced |= [CONTENT_LENGTH, TRANSFER_ENCODING]
                .iter()
                .any(|framing| name.eq_ignore_ascii_case(framing.as_str().as_bytes()));
            packed.push(name, value);
            Ok(())
        })?;
    }
    give(&mut packed, given)?;
    let downstream = Downstream {
        adds_date: adds_date(scope)?,
        // Where nothing announces a body, HTTP/1 has none; but HTTP/2 needs no announcement, and
        // some test clients make none for the methods that usually have one.
        may_have_body: announced || multiplexed || matches!(method, "POST" | "PUT" | "PATCH"),
    };
    Ok((packed, downstream))
}

/// Adds the lines that the endpoint gives, if it does.
fn give(packed: &mut Packed, given: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let Some(given) = given else {
        return Ok(());
    };
    each_pair(given, |name, value| {
        packed.give(name.as_bytes(), value.as_bytes());
        Ok(())
    })
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
