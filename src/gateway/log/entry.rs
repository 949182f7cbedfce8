//! An entry of the access log, as far as a request's head tells.

use std::time::{Duration, SystemTime};

use http::header::{HOST, HeaderValue, REFERER, USER_AGENT};
use http::request::Parts;
use http::uri::Authority;
use http::{StatusCode, Version};

use super::Entry;
use crate::engine::report::without_parameters;
use crate::gateway::forward::Peer;
use crate::gateway::request_id::RequestId;

/// What is known of a request from its head.
#[must_use]
pub(in crate::gateway) fn of(peer: &Peer, parts: &Parts, id: &RequestId) -> Entry {
    let text = |value: Option<&HeaderValue>| {
        let octets = value.map(HeaderValue::as_bytes).unwrap_or_default();
        String::from_utf8_lossy(octets).into_owned()
    };
    let authority = parts.uri.authority().map(Authority::as_str);
    let target = match parts.uri.path_and_query() {
        Some(path) => masked(path.as_str()),
        // As CONNECT has it.
        None => host_of(authority.unwrap_or_default()).to_owned(),
    };
    let host = authority.map_or_else(|| text(parts.headers.get(HOST)), ToOwned::to_owned);
    Entry {
        method: parts.method.to_string(),
        target,
        version: match parts.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        },
        host: host_of(&host).to_owned(),
        referer: masked(&text(parts.headers.get(REFERER))),
        user_agent: text(parts.headers.get(USER_AGENT)),
        request_id: id.to_string(),
        ..of_nothing(peer, StatusCode::OK)
    }
}

/// What is known where there is no head.
#[must_use]
pub(in crate::gateway) fn of_nothing(peer: &Peer, status: StatusCode) -> Entry {
    Entry {
        at: SystemTime::now(),
        client: peer.text.as_deref().unwrap_or_default().to_owned(),
        method: String::new(),
        target: String::new(),
        version: "",
        host: String::new(),
        referer: String::new(),
        user_agent: String::new(),
        request_id: String::new(),
        route: String::new(),
        upstream: String::new(),
        status: status.as_u16(),
        sent: 0,
        time: Duration::ZERO,
        first_byte: None,
        cut_short: None,
    }
}

/// A URL or a request target with no value of its query or of its path's parameters, and no user
/// information.
fn masked(url: &str) -> String {
    let (front, query) = match url.split_once('?') {
        None => (url, None),
        Some((front, query)) => (front, Some(query)),
    };
    let mut out = without_parameters(&without_user(front)).into_owned();
    for (at, part) in query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .enumerate()
    {
        out.push(if at == 0 { '?' } else { '&' });
        if let Some((name, _)) = part.split_once('=') {
            out.push_str(name);
            out.push('=');
        }
        out.push_str("***");
    }
    out
}

/// A URL without user information; a path stays as it is.
fn without_user(url: &str) -> String {
    let whole = url.split_once("://").filter(|_| !url.starts_with('/'));
    let Some((scheme, rest)) = whole else {
        return url.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    format!("{scheme}://{}{path}", host_of(authority))
}

/// An authority without user information.
fn host_of(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn an_authority_alone_is_a_target_too() -> http::Result<()> {
        let (parts, ()) = Request::connect("user:pw@h:443").body(())?.into_parts();
        let entry = of(&Peer::new(None, false), &parts, &RequestId::new());
        assert_eq!((&*entry.target, &*entry.host), ("h:443", "h:443"));
        Ok(())
    }

    #[test]
    fn user_information_goes_and_paths_stay() {
        let cases = [
            ("https://user:pw@site/@name?q=1", "https://site/@name?q=***"),
            ("https://site/@name/article", "https://site/@name/article"),
            ("https://a@b:c@site", "https://site"),
            ("/x://y@/admin", "/x://y@/admin"),
            ("/a;user=secret/b;c?d=e", "/a;user=***/b;***?d=***"),
            ("https://site/a;sid=1;t=2/", "https://site/a;sid=***;t=***/"),
        ];
        for (url, shown) in cases {
            assert_eq!(masked(url), shown);
        }
    }
}
