//! How targets are chosen and watched, and how many requests a client may make.

use std::ops::RangeInclusive;

use http::Method;

use super::super::check::Check;
use super::super::section::{Item, Section, Value};
use super::super::settings::{
    Balance, HashKey, HealthCheck, PassiveHealth, RateKey, RateLimit, SameSite, Secret,
    StickyCookie,
};
use super::headers::lines;

pub(super) fn health_check(check: &mut Check<'_>, section: &Section) -> HealthCheck {
    HealthCheck {
        path: check.absolute_path(section, "path"),
        interval: section.seconds("interval").unwrap_or_default(),
        timeout: section.seconds("timeout").unwrap_or_default(),
        method: match section.text("method") {
            Some("GET") => Method::GET,
            _ => Method::HEAD,
        },
        headers: lines(check, section.headers("headers")),
        expected_statuses: statuses(check, section),
        rise: section.count("rise").unwrap_or_default(),
        fall: section.count("fall").unwrap_or_default(),
        jitter: section.number("jitter").unwrap_or_default(),
    }
}

fn statuses(check: &mut Check<'_>, section: &Section) -> Vec<RangeInclusive<u16>> {
    let items = section.list("expected_statuses");
    if items.is_empty() {
        let place = section.place_of("expected_statuses");
        check.mistake(&place, "found no status: no target would ever be well");
    }
    items.iter().filter_map(|item| range(check, item)).collect()
}

fn range(check: &mut Check<'_>, item: &Item) -> Option<RangeInclusive<u16>> {
    let text = match &item.value {
        Some(Value::Whole(status)) => {
            let status = u16::try_from(*status).ok()?;
            return Some(status..=status);
        }
        _ => item.text()?,
    };
    let status = |text: &str| {
        text.parse()
            .ok()
            .filter(|status| (200..=599).contains(status))
    };
    let range = text
        .split_once('-')
        .and_then(|(first, last)| Some(status(first)?..=status(last)?))
        .filter(|range| !range.is_empty());
    if range.is_none() {
        check.refuse(item, "a status, or a range such as 200-399");
    }
    range
}

pub(super) fn passive_health(section: &Section) -> PassiveHealth {
    PassiveHealth {
        consecutive_failures: section.count("consecutive_failures"),
        failure_rate: section.number("failure_rate"),
        eject_time: section.seconds("eject_time").unwrap_or_default(),
        max_ejected: section.number("max_ejected").unwrap_or_default(),
    }
}

pub(super) fn balance(check: &mut Check<'_>, route: &Section) -> Balance {
    match route.text("balance") {
        Some("round_robin") => Balance::RoundRobin,
        Some("weighted_round_robin") => Balance::WeightedRoundRobin,
        Some("random") => Balance::Random,
        Some("least_connections") => Balance::LeastConnections,
        Some("least_latency") => Balance::LeastLatency,
        Some(_) => Balance::P2c,
        None => match route.section("balance") {
            Some(section) => hash(check, section).map_or(Balance::P2c, Balance::ConsistentHash),
            None => Balance::P2c,
        },
    }
}

fn hash(check: &mut Check<'_>, balance: &Section) -> Option<HashKey> {
    let Some(section) = balance.section("consistent_hash") else {
        if !balance.is_written("consistent_hash") {
            check.missing(balance, "has no consistent_hash, which is all it may have");
        }
        return None;
    };
    let mut keys = Vec::new();
    if let Some(item) = section.item("header") {
        keys.push(check.header_name(item).map(HashKey::Header));
    }
    if let Some(item) = section.item("cookie") {
        keys.push(check.cookie_name(item).map(HashKey::Cookie));
    }
    if section.flag("client_address") {
        keys.push(Some(HashKey::ClientAddress));
    }
    if keys.len() != 1 {
        let message = format!(
            "names {} keys; exactly one of header, cookie, client_address",
            keys.len()
        );
        check.mistake(&section.place, message);
    }
    keys.pop().flatten()
}

pub(super) fn sticky(check: &mut Check<'_>, section: &Section) -> StickyCookie {
    let same_site = match section.text("same_site") {
        Some("strict") => SameSite::Strict,
        Some("none") => SameSite::None,
        _ => SameSite::Lax,
    };
    let secure = match section.value("secure") {
        Some(Value::Flag(secure)) => Some(*secure),
        _ => None,
    };
    if same_site == SameSite::None && secure == Some(false) {
        let place = section.place_of("secure");
        check.mistake(
            &place,
            "browsers drop a cookie with SameSite=None that is not Secure",
        );
    }
    StickyCookie {
        name: section
            .item("name")
            .and_then(|item| check.cookie_name(item))
            .unwrap_or_default(),
        secret: section.text("secret").map(|text| Secret(text.to_owned())),
        max_age: section.whole("max_age"),
        path: check.absolute_path(section, "path"),
        same_site,
        secure,
    }
}

pub(super) fn rate_limit(check: &mut Check<'_>, section: &Section) -> RateLimit {
    if section.item("rate").is_none() {
        check.missing(section, "has no rate; requests per second");
    }
    let rate = section.number("rate").unwrap_or(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most a million"
    )]
    let as_many = rate.ceil().max(1.0) as u32;
    RateLimit {
        rate,
        burst: section.count("burst").unwrap_or(as_many),
        key: rate_key(check, section).unwrap_or(RateKey::ClientAddress),
    }
}

fn rate_key(check: &mut Check<'_>, section: &Section) -> Option<RateKey> {
    let item = section.item("key")?;
    let text = item.text()?;
    if text == "client_address" {
        return Some(RateKey::ClientAddress);
    }
    let name = text
        .strip_prefix("header:")
        .and_then(|name| name.trim().parse().ok());
    if name.is_none() {
        check.refuse(item, "client_address, or header: and a header name");
    }
    name.map(RateKey::Header)
}

impl Check<'_> {
    /// A token (RFC 6265 §4.1.1).
    fn cookie_name(&mut self, item: &Item) -> Option<String> {
        let text = item.text()?;
        // Header names have the same grammar.
        let token = http::HeaderName::from_bytes(text.as_bytes()).is_ok();
        if !token {
            self.refuse(item, "a cookie's name (RFC 6265 §4.1.1)");
        }
        token.then(|| text.to_owned())
    }

    /// A path that can stand in a request target, and in a cookie.
    fn absolute_path(&mut self, section: &Section, key: &str) -> String {
        let Some(item) = section.item(key) else {
            return String::new();
        };
        let text = item.text().unwrap_or("/");
        let usable = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}#;".contains(&b);
        if !text.starts_with('/') || !text.bytes().all(usable) {
            self.refuse(
                item,
                "a path that begins with /, percent-encoded where need be",
            );
        }
        text.to_owned()
    }
}
