//! The engine's values as Python objects, and header lines the other way.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use crate::engine::deliver::Head;
use crate::engine::policy::cookie;
use crate::engine::report::Event;

/// From this size on, octets from Python are held instead of copied.
const HELD: usize = 64 * 1024;

/// Octets of Python for the engine. Letting go of what is held needs no interpreter there: PyO3
/// does it when Python code calls next.
pub(super) fn octets(object: &Bound<'_, PyBytes>) -> Bytes {
    match object.as_bytes() {
        short if short.len() < HELD => Bytes::copy_from_slice(short),
        _ => Bytes::from_owner(PyBackedBytes::from(object.clone())),
    }
}

/// Chunks as one bytes object.
pub(super) fn joined<'py>(
    py: Python<'py>,
    chunks: &[Bytes],
    size: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    match chunks {
        [one] => Ok(PyBytes::new(py, one)),
        many => PyBytes::new_with(py, size, |space| {
            let mut at = 0;
            for chunk in many {
                if let Some(here) = space.get_mut(at..at + chunk.len()) {
                    here.copy_from_slice(chunk);
                }
                at += chunk.len();
            }
            Ok(())
        }),
    }
}

/// Names that most responses have, in the order of their lengths.
const FREQUENT: [&[u8]; 10] = [
    b"etag",
    b"vary",
    b"location",
    b"set-cookie",
    b"content-type",
    b"cache-control",
    b"last-modified",
    b"accept-ranges",
    b"content-length",
    b"content-encoding",
];

/// A header's name; the frequent ones are made once.
fn name_object<'py>(py: Python<'py>, name: &[u8]) -> Bound<'py, PyBytes> {
    static MADE: [PyOnceLock<Py<PyBytes>>; FREQUENT.len()] =
        [const { PyOnceLock::new() }; FREQUENT.len()];
    let made = FREQUENT.iter().zip(&MADE).find(|(one, _)| **one == name);
    match made {
        None => PyBytes::new(py, name),
        Some((_, made)) => {
            let made = made.get_or_init(py, || PyBytes::new(py, name).unbind());
            made.bind(py).clone()
        }
    }
}

pub(super) fn header_list<'py>(
    py: Python<'py>,
    head: &Head,
    server_adds_date: bool,
    rewrite: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let mut lines = Vec::with_capacity(head.headers.len());
    for (name, value) in head.headers.iter() {
        if server_adds_date && matches!(name, b"date" | b"server") {
            continue;
        }
        let value = match rewrite {
            Some(rewrite) if name == b"set-cookie" => rewritten(rewrite, value)?,
            _ => PyBytes::new(py, value),
        };
        lines.push((name_object(py, name), value));
    }
    PyList::new(py, lines)
}

/// A Set-Cookie value with the Domain that the callback wants.
fn rewritten<'py>(rewrite: &Bound<'py, PyAny>, line: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let py = rewrite.py();
    let domain = String::from_utf8_lossy(cookie::domain_value(line));
    let wanted = rewrite.call1((domain.as_ref(),))?;
    if wanted.is_none() {
        return Ok(PyBytes::new(py, line));
    }
    let wanted = wanted
        .cast::<PyString>()
        .map_err(|_| PyTypeError::new_err("rewrite_set_cookie_domain must return a str or None"))?;
    let wanted = wanted.to_str()?;
    if wanted.contains(|c: char| c.is_ascii_control() || c == ';' || c == ',' || c == ' ') {
        let text = "rewrite_set_cookie_domain returned something that is no domain";
        return Err(PyValueError::new_err(text));
    }
    Ok(PyBytes::new(
        py,
        &cookie::with_domain(line, wanted.as_bytes()),
    ))
}

pub(super) fn event_fields<'py>(
    py: Python<'py>,
    event: Event,
) -> PyResult<(&'static str, Bound<'py, PyDict>)> {
    let fields = PyDict::new(py);
    fields.set_item("url", event.url)?;
    if let Some(attempt) = event.attempt {
        fields.set_item("attempt", attempt)?;
    }
    if let Some(status) = event.status {
        fields.set_item("status", status)?;
    }
    if let Some(error) = event.error {
        fields.set_item("error", error)?;
    }
    Ok((event.name, fields))
}

/// A header line from Python, checked.
pub(super) fn header(name: &[u8], value: &[u8]) -> PyResult<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name).map_err(|_| {
        PyValueError::new_err(format!(
            "malformed header name {:?}",
            String::from_utf8_lossy(name)
        ))
    })?;
    let value = HeaderValue::from_bytes(value).map_err(|_| {
        PyValueError::new_err(format!(
            "the value of header {name} has octets that are not allowed"
        ))
    })?;
    Ok((name, value))
}
