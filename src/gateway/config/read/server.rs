//! `server` and `ssl`: where clients are served, and what they may take.

use std::collections::HashMap;

use super::super::check::Check;
use super::super::network::{NetworkError, Trusted};
use super::super::section::{Item, Section, Value};
use super::super::settings::{Bind, Listener, Server, ServerLimits};
use super::tls;

pub(super) fn server(check: &mut Check<'_>, root: &Section) -> Server {
    let empty = Section::default();
    let section = root.section("server").unwrap_or(&empty);
    let listeners = match section.list("listeners") {
        [] => vec![only_listener(check, root, section)],
        items => {
            alone(check, root, section);
            let listeners = items
                .iter()
                .filter_map(|item| listener(check, item))
                .collect();
            redirects(check, listeners, items)
        }
    };
    Server {
        workers: section.count("workers"),
        listeners,
        shutdown_grace: section.seconds("shutdown_grace").unwrap_or_default(),
        trusted_proxies: trusted(check, section.list("trusted_proxies")),
        limits: limits(section.section("limits").unwrap_or(&empty)),
    }
}

fn limits(section: &Section) -> ServerLimits {
    ServerLimits {
        header_timeout: section.seconds("header_timeout"),
        body_timeout: section.seconds("body_timeout"),
        keepalive_timeout: section.seconds("keepalive_timeout"),
        max_header_size: section.count("max_header_size").unwrap_or_default(),
        max_headers: section.count("max_headers").unwrap_or_default(),
        max_body_size: section.whole("max_body_size"),
        max_connections: section.count("max_connections"),
    }
}

fn trusted(check: &mut Check<'_>, items: &[Item]) -> Trusted {
    let mut trusted = Trusted::default();
    for item in items {
        match item.text() {
            // As nginx writes it.
            Some("unix:") => trusted.unix = true,
            Some(text) => match text.parse() {
                Ok(network) => trusted.networks.push(network),
                Err(NetworkError::Malformed) => check.refuse(item, Trusted::ITEM),
                Err(NetworkError::HostBits) => {
                    check.refuse(item, "a network without bits behind its prefix");
                }
            },
            None => {}
        }
    }
    trusted
}

/// The listener of `server.host`, `server.port` and `ssl`.
fn only_listener(check: &mut Check<'_>, root: &Section, section: &Section) -> Listener {
    let bind = Bind::Tcp {
        host: check.own_host(section).unwrap_or_default(),
        port: section.count("port").unwrap_or_default(),
        nth: 0,
    };
    let ssl = root.section("ssl");
    let enabled = ssl.filter(|ssl| ssl.flag("enabled"));
    if let Some(ssl) = ssl
        && !ssl.is_written("enabled")
        && ["cert_file", "certificates"]
            .iter()
            .any(|key| ssl.is_written(key))
    {
        let message = "without `enabled: true`, so clients are served without TLS";
        check.notice(&ssl.place, message);
    }
    Listener {
        bind,
        tls: enabled.map(|ssl| tls::listener(check, ssl)),
        redirect_https: None,
        proxy_protocol: false,
    }
}

/// Beside `listeners`, what describes the one listener has no meaning.
fn alone(check: &mut Check<'_>, root: &Section, section: &Section) {
    let message = "describes one listener, but there is server.listeners; put it there";
    for key in ["host", "port"] {
        if section.is_written(key) {
            check.mistake(&section.place_of(key), message);
        }
    }
    if let Some(ssl) = root.section("ssl").filter(|ssl| ssl.flag("enabled")) {
        check.mistake(&ssl.place, message);
    }
}

fn listener(check: &mut Check<'_>, item: &Item) -> Option<Listener> {
    let section = item.section()?;
    let bind = match check.new_file(section, "unix") {
        Some(path) => {
            for key in ["host", "port"]
                .iter()
                .filter(|key| section.is_written(key))
            {
                check.mistake(
                    &section.place_of(key),
                    "not beside unix; name one of the two",
                );
            }
            Bind::Unix(path)
        }
        None => {
            if !section.is_written("port") && !section.is_written("unix") {
                check.missing(section, "has neither port nor unix; name one of the two");
            }
            Bind::Tcp {
                host: check.own_host(section).unwrap_or_default(),
                port: section.count("port").unwrap_or_default(),
                nth: 0,
            }
        }
    };
    Some(Listener {
        bind,
        tls: section.section("ssl").map(|ssl| tls::listener(check, ssl)),
        redirect_https: section.count("redirect_https"),
        proxy_protocol: section.flag("proxy_protocol"),
    })
}

/// Fills in where redirects go, and finds what is bound twice.
fn redirects(check: &mut Check<'_>, mut listeners: Vec<Listener>, items: &[Item]) -> Vec<Listener> {
    let secure = listeners.iter().find_map(|listener| match listener.bind {
        Bind::Tcp { port, .. } if listener.tls.is_some() => Some(port),
        _ => None,
    });
    let mut bound: HashMap<Bind, usize> = HashMap::new();
    let mut free: HashMap<String, usize> = HashMap::new();
    for (listener, item) in listeners.iter_mut().zip(items) {
        let Some(section) = item.section() else {
            continue;
        };
        if let Bind::Tcp { host, port: 0, nth } = &mut listener.bind {
            let count = free.entry(host.clone()).or_default();
            *nth = std::mem::replace(count, *count + 1);
        }
        if let Some(line) = bound.insert(listener.bind.clone(), item.place.line) {
            check.mistake(&item.place, format!("the same address as on line {line}"));
        }
        let place = section.place_of("redirect_https");
        let wanted = section
            .item("redirect_https")
            .and_then(|item| item.value.as_ref());
        if let Some(Value::Flag(true)) = wanted {
            listener.redirect_https = secure;
            if secure.is_none() {
                check.mistake(
                    &place,
                    "no listener has ssl and a port; name the port to redirect to",
                );
            }
        }
        if listener.redirect_https.is_some() && listener.tls.is_some() {
            check.mistake(&place, "not beside ssl: the connection is https already");
        }
    }
    listeners
}
