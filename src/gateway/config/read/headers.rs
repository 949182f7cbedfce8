//! Which headers cross, and what becomes of cookies.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::check::Check;
use super::super::section::{Item, Section};
use super::super::settings::CookieDomain;
use crate::engine::config::Headers;
use crate::engine::policy::headers::is_framing;

/// A route's headers; `credentials` come from its targets' URLs.
pub(super) fn headers(
    check: &mut Check<'_>,
    section: &Section,
    credentials: Option<HeaderValue>,
) -> Headers {
    let mut extra_request = lines(check, section.headers("extra_request_headers"));
    if let Some(credentials) = credentials {
        extra_request.entry(AUTHORIZATION).or_insert(credentials);
    }
    Headers {
        preserve_host: section.flag("preserve_host"),
        extra_request,
        drop_request: names(check, section.list("drop_request_headers")),
        allow_request: some_names(check, section, "allow_request_headers"),
        drop_response: names(check, section.list("drop_response_headers")),
        allow_response: some_names(check, section, "allow_response_headers"),
        trailers: true,
    }
}

/// Header lines that are sent along; none that frame the request, which the relay does itself.
pub(super) fn lines(check: &mut Check<'_>, lines: &[(String, Item)]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(lines.len());
    for (name, item) in lines {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            check.mistake(&item.place, "its name is not a header name (RFC 9110 §5.1)");
            continue;
        };
        if is_framing(&name) {
            check.mistake(&item.place, "is set by the gateway itself");
            continue;
        }
        let Some(text) = item.text() else { continue };
        match HeaderValue::from_bytes(text.as_bytes()) {
            Ok(mut value) => {
                // It may be a secret: shown by no Debug, and in no table of HPACK.
                value.set_sensitive(true);
                map.insert(name, value);
            }
            Err(_) => check.mistake(&item.place, "has characters that no header may have"),
        }
    }
    map
}

fn names(check: &mut Check<'_>, items: &[Item]) -> Vec<HeaderName> {
    items
        .iter()
        .filter_map(|item| check.header_name(item))
        .collect()
}

fn some_names(check: &mut Check<'_>, section: &Section, key: &str) -> Option<Vec<HeaderName>> {
    let items = section.list_or_null(key)?;
    Some(names(check, items))
}

/// `rewrite_set_cookie_domain`.
pub(super) fn cookie_domain(check: &mut Check<'_>, section: &Section) -> CookieDomain {
    let Some(item) = section.item("rewrite_set_cookie_domain") else {
        return CookieDomain::Keep;
    };
    match item.text() {
        None => CookieDomain::Keep,
        Some("") => CookieDomain::Drop,
        Some(domain) => {
            // A leading dot means nothing (RFC 6265 §5.2.3), but people write it.
            let name = domain.strip_prefix('.').unwrap_or(domain);
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
            if !plain || super::bare_host(name).is_none() {
                check.refuse(item, "a domain in ASCII, or \"\" to drop it");
            }
            CookieDomain::Set(domain.to_owned())
        }
    }
}
