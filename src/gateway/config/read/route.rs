//! A route: which requests it is for, and how they are passed on.

use http::StatusCode;
use percent_encoding::percent_decode_str;
use url::Host;

use super::super::check::Check;
use super::super::section::{Item, Section, Value, duration};
use super::super::settings::{HostPattern, Http2, Route};
use super::headers::{cookie_domain, headers};
use super::health::{balance, passive_health, rate_limit, sticky};
use super::target::targets;
use crate::engine::config::{Limits, Timeouts, WebSockets};
use crate::engine::error::Kind;
use crate::engine::policy::retry::RetryPolicy;
use crate::engine::upstream::tls::{Identity, Trust};

/// A route; `max_body_size` is what holds for every route without its own.
pub(super) fn route(check: &mut Check<'_>, section: &Section, max_body_size: Option<u64>) -> Route {
    let (targets, credentials) = targets(check, section);
    let (trust, identity, server_name) = tls(check, section);
    Route {
        line: section.place.line,
        path: prefix(check, section),
        hosts: section
            .list("hosts")
            .iter()
            .filter_map(|item| host(check, item))
            .collect(),
        methods: section
            .list("methods")
            .iter()
            .filter_map(|item| check.method(item))
            .collect(),
        targets,
        strip_prefix: section.flag("strip_prefix"),
        headers: headers(check, section, credentials),
        cookie_domain: cookie_domain(check, section),
        timeouts: timeouts(section),
        limits: limits(section),
        retry: retry(section),
        retry_budget: section.number("retry_budget"),
        follow_redirects: section.flag("follow_redirects"),
        trust,
        identity,
        server_name,
        http2: match section.text("http2") {
            Some("always") => Http2::Always,
            Some("never") => Http2::Never,
            _ => Http2::Auto,
        },
        web_sockets: WebSockets {
            ping_interval: section.seconds("ws_ping_interval"),
            ping_timeout: section.seconds("ws_ping_timeout"),
            idle_timeout: section.seconds("ws_idle_timeout"),
            max_message_size: section.count("ws_max_message_size"),
        },
        balance: balance(check, section),
        sticky: section
            .section("sticky")
            .map(|section| sticky(check, section)),
        passive_health: section.section("passive_health").map(passive_health),
        queue_timeout: section.seconds("queue_timeout").unwrap_or_default(),
        dns_refresh: section.seconds("dns_refresh"),
        rate_limit: section
            .section("rate_limit")
            .map(|section| rate_limit(check, section)),
        max_body_size: match section.item("max_body_size") {
            Some(_) => section.whole("max_body_size"),
            None => max_body_size,
        },
    }
}

/// The prefix, percent-decoded, without slashes at its end.
fn prefix(check: &mut Check<'_>, section: &Section) -> String {
    let root = || "/".to_owned();
    let Some(item) = section.item("path") else {
        return root();
    };
    let text = item.text().unwrap_or("/");
    let Ok(decoded) = percent_decode_str(text).decode_utf8() else {
        check.refuse(item, "a path in UTF-8");
        return root();
    };
    let trimmed = decoded.trim_end_matches('/');
    if text.starts_with('/') && trimmed.is_empty() {
        return root();
    }
    // What readers of a path do not agree on would make a prefix that guards nothing.
    let doubtful = |segment: &str| matches!(segment, "" | "." | "..");
    let encoded = text.to_ascii_lowercase();
    let allowed = if !text.starts_with('/') {
        "a path that begins with /"
    } else if text.ends_with('*') {
        "a prefix, which needs no * at its end"
    } else if text.contains(['?', '#']) {
        "a path without a query or a fragment"
    } else if encoded.contains("%2f")
        || decoded.contains(['\\', ';'])
        || decoded.contains(char::is_control)
        || trimmed.split('/').skip(1).any(doubtful)
    {
        "a path without empty or dot segments, backslashes, semicolons and encoded slashes"
    } else {
        return trimmed.to_owned();
    };
    check.refuse(item, allowed);
    root()
}

fn host(check: &mut Check<'_>, item: &Item) -> Option<HostPattern> {
    let text = item.text()?;
    let name = text.strip_suffix('.').unwrap_or(text);
    let host = |text: &str| Host::parse(text).ok().filter(|_| !text.contains('*'));
    let pattern = match name.strip_prefix("*.") {
        None => host(name).map(|host| HostPattern::Exact(host.to_string())),
        Some(name) => match host(name) {
            Some(Host::Domain(name)) => Some(HostPattern::Below(name)),
            _ => None,
        },
    };
    if pattern.is_none() {
        let allowed = match text {
            "*" => "a host; leave hosts out where a route is for all of them",
            _ => "a host such as api.example.org or *.example.org, without a port",
        };
        check.refuse(item, allowed);
    }
    pattern
}

fn timeouts(route: &Section) -> Timeouts {
    let all = match route.value("timeout") {
        Some(Value::Number(seconds)) => duration(*seconds),
        _ => None,
    };
    match route.section("timeout") {
        None => Timeouts {
            connect: all,
            read: all,
            write: all,
            pool: all,
        },
        Some(section) => Timeouts {
            connect: section.seconds("connect"),
            read: section.seconds("read"),
            write: section.seconds("write"),
            pool: section.seconds("pool"),
        },
    }
}

fn limits(route: &Section) -> Limits {
    let empty = Section::default();
    let section = route.section("limits").unwrap_or(&empty);
    Limits {
        max_connections: section.count("max_connections"),
        max_keepalive_connections: section.count("max_keepalive_connections"),
        keepalive_expiry: section.seconds("keepalive_expiry"),
    }
}

fn retry(route: &Section) -> RetryPolicy {
    let status = |item: &Item| match item.value {
        Some(Value::Whole(status)) => StatusCode::from_u16(u16::try_from(status).ok()?).ok(),
        _ => None,
    };
    let mut kinds: Vec<Kind> = Vec::new();
    for item in route.list("retry_exceptions") {
        for kind in item.text().map(covered_by).unwrap_or_default() {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    RetryPolicy {
        max_retries: route.count("max_retries").unwrap_or_default(),
        backoff_factor: route.number("retry_backoff_factor").unwrap_or_default(),
        statuses: route
            .list("retry_statuses")
            .iter()
            .filter_map(status)
            .collect(),
        kinds,
        non_idempotent: route.flag("retry_non_idempotent"),
    }
}

/// The kinds of failure that an exception of this name covers in Python.
fn covered_by(name: &str) -> Vec<Kind> {
    use Kind::{
        Connect, ConnectTimeout, PoolTimeout, Protocol, Read, ReadTimeout, Resolve, Tls,
        TooManyRedirects, Write, WriteTimeout,
    };
    match name {
        "ConnectError" => vec![Connect, Resolve, Tls],
        "TimeoutException" => vec![ConnectTimeout, ReadTimeout, WriteTimeout, PoolTimeout],
        "NetworkError" => vec![Connect, Resolve, Tls, Read, Write],
        "ProtocolError" => vec![Protocol],
        "TransportError" => {
            let mut kinds = covered_by("TimeoutException");
            kinds.extend(covered_by("NetworkError"));
            kinds.extend([Protocol, TooManyRedirects]);
            kinds
        }
        name => Kind::ALL
            .into_iter()
            .filter(|kind| kind.name() == name)
            .collect(),
    }
}

/// `tls`, or Relay's `verify` and `cert`.
fn tls(check: &mut Check<'_>, route: &Section) -> (Trust, Option<Identity>, Option<String>) {
    let empty = Section::default();
    let section = route.section("tls").unwrap_or(&empty);
    for (ours, theirs) in [
        ("verify", ["verify", "ca_file"]),
        ("cert", ["cert_file", "key_file"]),
    ] {
        for key in theirs {
            if route.is_written(ours) && section.is_written(key) {
                let place = section.place_of(key);
                check.mistake(&place, format!("not beside {ours}, which says the same"));
            }
        }
    }
    let authorities = match route.text("verify") {
        Some(_) => check.file(route, "verify"),
        None => check.file(section, "ca_file"),
    };
    let believes = matches!(route.value("verify"), Some(Value::Flag(false)));
    let trust = match authorities {
        Some(path) => Trust::File(path),
        None if believes || !section.flag("verify") => Trust::Anyone,
        None => Trust::Platform,
    };
    if section.is_written("ca_file") && !section.flag("verify") {
        let place = section.place_of("verify");
        check.mistake(&place, "not beside ca_file: that would never be looked at");
    }
    (
        trust,
        identity(check, route, section),
        server_name(check, section),
    )
}

fn identity(check: &mut Check<'_>, route: &Section, tls: &Section) -> Option<Identity> {
    let files = match route.item("cert").and_then(|item| item.value.as_ref()) {
        Some(Value::List(items)) => {
            if items.len() != 2 {
                let message = format!(
                    "found a list of {}; allowed is a pair: certificate, key",
                    items.len()
                );
                check.mistake(&route.place_of("cert"), message);
            }
            items
                .iter()
                .filter_map(|item| check.file_at(item))
                .collect()
        }
        Some(Value::Text { .. }) => Vec::from_iter(check.file(route, "cert")),
        _ => {
            if tls.item("key_file").is_some() && tls.item("cert_file").is_none() {
                check.mistake(&tls.place, "has a key_file, but no cert_file");
            }
            let files = ["cert_file", "key_file"].map(|key| check.file(tls, key));
            files.into_iter().flatten().collect()
        }
    };
    let certificate = files.first()?.clone();
    let key = files.get(1).unwrap_or(&certificate).clone();
    Some(Identity { certificate, key })
}

fn server_name(check: &mut Check<'_>, tls: &Section) -> Option<String> {
    let item = tls.item("server_name")?;
    let name = super::bare_host(item.text()?);
    if name.is_none() {
        check.refuse(item, "a host name");
    }
    name
}
