//! An entry of the access log, as far as a request's head tells.

use std::time::{Duration, SystemTime};

use http::Version;
use http::header::{HOST, HeaderValue, REFERER, USER_AGENT};
use http::request::Parts;

use super::Entry;
use crate::engine::report::without_parameters;
use crate::gateway::forward::Peer;

/// What is known of a request from its head.
#[must_use]
pub(in crate::gateway) fn of(peer: &Peer, parts: &Parts, id: &HeaderValue) -> Entry {
    let text = |value: Option<&HeaderValue>| {
        let octets = value.map(HeaderValue::as_bytes).unwrap_or_default();
        String::from_utf8_lossy(octets).into_owned()
    };
    let host = parts.uri.authority().map(|authority| authority.to_string());
    let target = parts.uri.path_and_query().map_or("", |path| path.as_str());
    Entry {
        at: SystemTime::now(),
        client: peer.text.as_deref().unwrap_or_default().to_owned(),
        method: parts.method.to_string(),
        target: masked(target),
        version: match parts.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        },
        host: host_of(&host.unwrap_or_else(|| text(parts.headers.get(HOST)))).to_owned(),
        referer: masked(&text(parts.headers.get(REFERER))),
        user_agent: text(parts.headers.get(USER_AGENT)),
        request_id: text(Some(id)),
        route: String::new(),
        upstream: String::new(),
        status: 0,
        sent: 0,
        time: Duration::ZERO,
        first_byte: None,
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
    use super::masked;

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
