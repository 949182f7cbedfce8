//! What requests and responses have in common: hop-by-hop headers and lists of names.

use http::HeaderName;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// A set of header names. A `HeaderMap` without values hashes names faster than a `HashSet` does.
pub type NameSet = HeaderMap<()>;

/// Collects names into a set.
pub fn name_set(names: impl IntoIterator<Item = HeaderName>) -> NameSet {
    names.into_iter().map(|name| (name, ())).collect()
}

/// Whether a header belongs to one connection alone (RFC 9110 §7.6.1), so that it never crosses a
/// proxy.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        CONNECTION | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRAILER
        | TRANSFER_ENCODING | UPGRADE => true,
        ref other => matches!(other.as_str(), "keep-alive" | "proxy-connection"),
    }
}

/// Whether both are one variable where a program gets them by CGI or WSGI, which write `-` as `_`
/// (RFC 3875 §4.1.18).
#[must_use]
pub fn is_alias(name: &HeaderName, of: &HeaderName) -> bool {
    let (name, of) = (name.as_str(), of.as_str());
    name.len() == of.len() && begins_alike(name, of)
}

/// Whether `name` begins with `pattern`, in which no `_` is, or with what CGI and WSGI take for it.
#[must_use]
pub fn begins_alike(name: &str, pattern: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    name.len() >= pattern.len() && name.bytes().zip(pattern.bytes()).all(same)
}

/// The name with which CGI and WSGI confuse one that has a `_`; `None` for all others.
#[must_use]
pub fn dashed(name: &HeaderName) -> Option<HeaderName> {
    let name = name.as_str();
    // Most have none: looking at all octets at once takes less time than stopping at the first.
    if !name
        .bytes()
        .fold(false, |found, octet| found | (octet == b'_'))
    {
        return None;
    }
    HeaderName::from_bytes(name.replace('_', "-").as_bytes()).ok()
}

/// More lines of a request's head, or more names in a `Connection`, are not believed to be meant.
pub const MAX_LINES: usize = 1000;

/// Whether a header that is a list of tokens, in however many lines, has one of them.
#[must_use]
pub fn has_token(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    headers.get_all(name).iter().any(|line| {
        let mut tokens = line.as_bytes().split(|&b| b == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    })
}

/// Whether a header frames a request or belongs to its connection, so that the relay alone sets it.
#[must_use]
pub fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == EXPECT || is_hop_by_hop(name)
}

/// Takes out the headers whose names do not pass.
pub fn retain(headers: &mut HeaderMap, passes: impl Fn(&HeaderName) -> bool) {
    let refused: Vec<_> = headers
        .keys()
        .filter(|name| !passes(name))
        .cloned()
        .collect();
    for name in refused {
        headers.remove(name);
    }
}

/// One `Content-Length` line, which may repeat one number (RFC 9110 §8.6) but no other than
/// `earlier`; `None` where it is malformed.
#[must_use]
pub fn content_length(value: &[u8], earlier: Option<u64>) -> Option<u64> {
    let mut length = earlier;
    for part in value.split(|&b| b == b',') {
        let part = part.trim_ascii();
        // Rust would read a sign, too.
        if !part.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number: u64 = std::str::from_utf8(part).ok()?.parse().ok()?;
        if length.is_some_and(|length| length != number) {
            return None;
        }
        length = Some(number);
    }
    length
}

/// Adds the names that one `Connection` value nominates as hop-by-hop; `false` where there are
/// more than [`MAX_LINES`].
#[must_use]
pub fn nominated(value: &[u8], names: &mut NameSet) -> bool {
    for token in value.split(|&b| b == b',') {
        if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
            names.insert(name, ());
        }
        if names.len() > MAX_LINES {
            return false;
        }
    }
    true
}
