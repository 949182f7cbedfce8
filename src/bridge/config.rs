//! Reads a relay's configuration from what `asgi_relay.Relay` passes. Types and ranges of single
//! values were checked there; here they become the engine's own types.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::balance::{
    Defaults, HealthCheckParts, StickyParts, TargetParts, hash_key, policy_named, read_targets,
};
use crate::engine::balance::ejection::PassiveHealth;
use crate::engine::balance::policy::Policy;
use crate::engine::balance::settings::Balancing;
use crate::engine::config::{Config, Headers, Http2, Limits, Timeouts, WebSockets};
use crate::engine::error::Kind;
use crate::engine::policy::headers::is_framing;
use crate::engine::policy::retry::RetryPolicy;
use crate::engine::upstream::tls::{Credentials, Identity, Trust};

/// Header lines of an upstream's response at most.
const MAX_HEADERS: usize = 256;

/// The mapping that `asgi_relay.Relay` passes; keys are the constructor's parameters, except that
/// objects have been taken apart.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Settings {
    targets: Vec<TargetParts>,
    upstream_prefix: String,
    balance: String,
    hash: Option<(String, String)>,
    sticky: Option<StickyParts>,
    passive_health: Option<(Option<u32>, Option<f64>, f64, f64)>,
    max_in_flight: Option<usize>,
    health_check: Option<HealthCheckParts>,
    queue_timeout: f64,
    retry_budget: Option<f64>,
    dns_refresh: Option<f64>,
    preserve_host: bool,
    timeout: (Option<f64>, Option<f64>, Option<f64>, Option<f64>),
    limits: (Option<usize>, Option<usize>, Option<f64>),
    follow_redirects: bool,
    extra_request_headers: Vec<(String, String)>,
    drop_request_headers: Vec<String>,
    drop_response_headers: Vec<String>,
    allow_request_headers: Option<Vec<String>>,
    allow_response_headers: Option<Vec<String>>,
    in_memory: bool,
    max_retries: u32,
    retry_backoff_factor: f64,
    retry_statuses: Vec<u16>,
    retry_exceptions: Vec<String>,
    retry_non_idempotent: bool,
    verify: bool,
    authorities: Option<PathBuf>,
    cert: Option<(PathBuf, PathBuf)>,
    web_sockets: (Option<f64>, Option<f64>, Option<f64>, Option<usize>),
    report: bool,
}

impl Settings {
    /// The engine's configuration.
    pub(crate) fn into_config(self) -> PyResult<(Config, Defaults)> {
        let defaults = Defaults {
            prefix: self.upstream_prefix,
            max_in_flight: self.max_in_flight,
            health_check: match self.health_check {
                Some(parts) => Some(Arc::new(parts.into_check()?)),
                None => None,
            },
        };
        let targets = read_targets(self.targets, &defaults)?;
        let Some(first) = targets.first() else {
            return Err(invalid("target_base_url", "the list of targets is empty"));
        };
        let target = Arc::clone(&first.target);
        let balancing = Balancing {
            policy: match &self.hash {
                Some(_) => Policy::ConsistentHash,
                None => policy_named(&self.balance)?,
            },
            hash: match self.hash {
                Some((kind, name)) => Some(hash_key(&kind, name)?),
                None => None,
            },
            sticky: match self.sticky {
                Some(parts) => Some(Arc::new(parts.into_cookie()?)),
                None => None,
            },
            passive: match self.passive_health {
                None => None,
                Some((consecutive_failures, failure_rate, eject_time, max_ejected)) => {
                    Some(PassiveHealth {
                        consecutive_failures,
                        failure_rate,
                        eject_time: seconds("passive_health.eject_time", eject_time)?,
                        max_ejected,
                    })
                }
            },
            queue_timeout: seconds("queue_timeout", self.queue_timeout)?,
            retry_budget: self.retry_budget,
            dns_refresh: optional_seconds("dns_refresh", self.dns_refresh)?,
            seed: None,
        };
        let (connect, read, write, pool) = self.timeout;
        let (ping_interval, ping_timeout, idle_timeout, max_message_size) = self.web_sockets;
        let (max_connections, max_keepalive_connections, expiry) = self.limits;
        let statuses: Result<_, _> = self
            .retry_statuses
            .into_iter()
            .map(StatusCode::from_u16)
            .collect();
        let kinds: PyResult<_> = self
            .retry_exceptions
            .iter()
            .map(|name| kind_named(name))
            .collect();
        let config = Config {
            target,
            targets,
            balancing,
            timeouts: Timeouts {
                connect: optional_seconds("timeout.connect", connect)?,
                read: optional_seconds("timeout.read", read)?,
                write: optional_seconds("timeout.write", write)?,
                pool: optional_seconds("timeout.pool", pool)?,
            },
            limits: Limits {
                max_connections,
                max_keepalive_connections,
                keepalive_expiry: optional_seconds("limits.keepalive_expiry", expiry)?,
            },
            headers: Headers {
                preserve_host: self.preserve_host,
                extra_request: extra_headers("extra_request_headers", self.extra_request_headers)?,
                drop_request: names("drop_request_headers", self.drop_request_headers)?,
                drop_response: names("drop_response_headers", self.drop_response_headers)?,
                allow_request: optional_names("allow_request_headers", self.allow_request_headers)?,
                allow_response: optional_names(
                    "allow_response_headers",
                    self.allow_response_headers,
                )?,
                trailers: false,
            },
            retry: RetryPolicy {
                max_retries: self.max_retries,
                backoff_factor: self.retry_backoff_factor,
                statuses: statuses.map_err(|error| invalid("retry_statuses", error))?,
                kinds: kinds?,
                non_idempotent: self.retry_non_idempotent,
            },
            follow_redirects: self.follow_redirects,
            credentials: Credentials::new(
                match (self.verify, self.authorities) {
                    (_, Some(path)) => Trust::File(path),
                    (true, None) => Trust::Platform,
                    (false, None) => Trust::Anyone,
                },
                self.cert
                    .map(|(certificate, key)| Identity { certificate, key }),
            ),
            server_name: None,
            http2: Http2::Never,
            max_headers: MAX_HEADERS,
            in_memory: self.in_memory,
            web_sockets: WebSockets {
                ping_interval: optional_seconds("ws_ping_interval", ping_interval)?,
                ping_timeout: optional_seconds("ws_ping_timeout", ping_timeout)?,
                idle_timeout: optional_seconds("ws_idle_timeout", idle_timeout)?,
                max_message_size,
            },
            report: self.report,
        };
        Ok((config, defaults))
    }
}

pub(super) fn seconds(parameter: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| invalid(parameter, error))
}

fn optional_seconds(parameter: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    value.map(|value| seconds(parameter, value)).transpose()
}

pub(super) fn invalid(parameter: &str, reason: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{parameter}: {reason}"))
}

pub(super) fn name(parameter: &str, name: &str) -> PyResult<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        invalid(
            parameter,
            format!("{name:?} is not a header name (RFC 9110 §5.1)"),
        )
    })
}

fn names(parameter: &str, list: Vec<String>) -> PyResult<Vec<HeaderName>> {
    list.iter().map(|text| name(parameter, text)).collect()
}

fn optional_names(parameter: &str, list: Option<Vec<String>>) -> PyResult<Option<Vec<HeaderName>>> {
    list.map(|list| names(parameter, list)).transpose()
}

/// The extra headers; a value is not repeated in an error, as it may well be a secret.
pub(super) fn extra_headers(parameter: &str, pairs: Vec<(String, String)>) -> PyResult<HeaderMap> {
    let mut map = HeaderMap::with_capacity(pairs.len());
    for (text, value) in pairs {
        let name = name(parameter, &text)?;
        if is_framing(&name) {
            return Err(invalid(
                parameter,
                format!("{text:?} is set by the relay itself"),
            ));
        }
        let refused = || {
            invalid(
                parameter,
                format!("the value of {text:?} has characters that are not allowed"),
            )
        };
        let value = http::HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?;
        map.insert(name, value);
    }
    Ok(map)
}

/// The kind of failure whose exception has this name.
pub(crate) fn kind_named(name: &str) -> PyResult<Kind> {
    let found = Kind::NAMED.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("{name:?} names no failure of an exchange")))
}

/// Reads header lines from Python, an iterable of pairs of bytes.
pub(crate) fn each_pair<'py>(
    lines: &Bound<'py, PyAny>,
    mut read: impl FnMut(&Bound<'py, PyBytes>, &Bound<'py, PyBytes>) -> PyResult<()>,
) -> PyResult<()> {
    let mut visit = |line: Bound<'py, PyAny>| -> PyResult<()> {
        let (name, value) = match line.cast::<PyTuple>() {
            Ok(pair) => (pair.get_item(0)?, pair.get_item(1)?),
            Err(_) => (line.get_item(0)?, line.get_item(1)?),
        };
        match (name.cast::<PyBytes>(), value.cast::<PyBytes>()) {
            (Ok(name), Ok(value)) => read(name, value),
            _ => Err(PyTypeError::new_err("headers must be pairs of bytes")),
        }
    };
    match lines.cast::<PyList>() {
        Ok(list) => list.iter().try_for_each(&mut visit),
        Err(_) => lines.try_iter()?.try_for_each(|line| visit(line?)),
    }
}
