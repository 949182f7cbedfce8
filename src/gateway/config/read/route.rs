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
use super::tls;
use crate::engine::config::{Limits, Timeouts, WebSockets};
use crate::engine::error::Kind;
use crate::engine::policy::retry::RetryPolicy;

/// A route; `max_body_size` is what holds for every route without its own.
pub(super) fn route(check: &mut Check<'_>, section: &Section, max_body_size: Option<u64>) -> Route {
    let (targets, user) = targets(check, section);
    // All are of one scheme.
    let secure = targets.iter().any(|to| to.target.origin().secure);
    let (credentials, server_name) = tls::route(check, section, secure);
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
        headers: headers(check, section, user),
        cookie_domain: cookie_domain(check, section),
        timeouts: timeouts(section),
        limits: limits(section),
        retry: retry(section),
        retry_budget: section.number("retry_budget"),
        follow_redirects: section.flag("follow_redirects"),
        credentials,
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
        name => Kind::NAMED
            .into_iter()
            .filter(|kind| kind.name() == name)
            .collect(),
    }
}
