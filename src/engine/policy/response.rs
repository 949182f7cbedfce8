//! The response policy: which of the upstream's headers the client gets, and whether the head can
//! be trusted at all. Pure.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRAILER, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};

use super::headers::{NameSet, is_hop_by_hop, name_set, nominated};
use crate::engine::error::{Error, Kind};
use crate::engine::websocket::handshake::is_own;

/// Which headers go back to the client.
#[derive(Debug)]
pub struct ResponsePolicy {
    dropped: NameSet,
    allowed: Option<NameSet>,
    trailers: bool,
}

impl ResponsePolicy {
    /// `dropped` never pass; where there is an `allowed`, only those do, and the framing.
    #[must_use]
    pub fn new(dropped: Vec<HeaderName>, allowed: Option<Vec<HeaderName>>) -> Self {
        let framing = |mut names: Vec<HeaderName>| {
            names.push(CONTENT_LENGTH);
            name_set(names)
        };
        Self {
            dropped: name_set(dropped),
            allowed: allowed.map(framing),
            trailers: false,
        }
    }

    /// Also passes what announces trailers.
    #[must_use]
    pub fn with_trailers(mut self) -> Self {
        self.trailers = true;
        self
    }

    /// The headers for the client, in the upstream's order.
    ///
    /// # Errors
    /// A status that HTTP does not know (RFC 9110 §15).
    pub fn headers(&self, status: StatusCode, headers: HeaderMap) -> Result<HeaderMap, Error> {
        if status.as_u16() > 599 || status.as_u16() < 200 {
            return Err(Error::new(
                Kind::Protocol,
                "the status is not one of HTTP's",
            ));
        }
        // RFC 9110 §8.6: none in a 204; in a 304 it is the length of what is not sent, which some
        // ASGI servers take for the length of what is.
        let no_length = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.filtered(headers, |name| !(no_length && *name == CONTENT_LENGTH))
    }

    /// The headers of an accepted handshake for the client, without those of the hop's own, unless
    /// the handshake `passes` through to the client.
    ///
    /// # Errors
    /// As for [`ResponsePolicy::headers`].
    pub fn handshake_headers(&self, headers: HeaderMap, passes: bool) -> Result<HeaderMap, Error> {
        self.filtered(headers, |name| {
            *name != CONTENT_LENGTH && (passes || !is_own(name))
        })
    }

    fn filtered(
        &self,
        headers: HeaderMap,
        also: impl Fn(&HeaderName) -> bool,
    ) -> Result<HeaderMap, Error> {
        let nominees = nominees(&headers)?;
        let passes = |name: &HeaderName| {
            (!is_hop_by_hop(name) || (self.trailers && *name == TRAILER))
                && (self.dropped.is_empty() || !self.dropped.contains_key(name))
                && (nominees.is_empty() || !nominees.contains_key(name) || *name == CONTENT_LENGTH)
                && self
                    .allowed
                    .as_ref()
                    .is_none_or(|set| set.contains_key(name))
                && also(name)
        };
        let mut headers = kept(headers, passes);
        if let Some(length) = headers.get(CONTENT_LENGTH)
            && (headers.len() > headers.keys().len() || length.as_bytes().contains(&b','))
        {
            let length = one_length(length);
            headers.insert(CONTENT_LENGTH, length);
        }
        Ok(headers)
    }
}

/// The names that `Connection` nominates as hop-by-hop.
fn nominees(headers: &HeaderMap) -> Result<NameSet, Error> {
    let mut nominees = NameSet::default();
    for value in headers.get_all(CONNECTION) {
        // Nearly all there is, and names nothing.
        let usual = |word: &[u8]| value.as_bytes().eq_ignore_ascii_case(word);
        if usual(b"keep-alive") || usual(b"close") {
            continue;
        }
        if !nominated(value.as_bytes(), &mut nominees) {
            return Err(Error::new(Kind::Protocol, "too many names in Connection"));
        }
    }
    Ok(nominees)
}

/// The headers whose names pass, in their order. `HeaderMap::remove` puts the last one into the
/// gap, so it serves for the last one alone, which is where many servers have `Connection`.
fn kept(mut headers: HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut refused = headers.keys().filter(|name| !passes(name));
    let Some(first) = refused.next() else {
        return headers;
    };
    if headers.keys().last() == Some(first) {
        let last = first.clone();
        headers.remove(last);
        return headers;
    }
    let mut rest = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    // A name comes with the first of its values.
    for (name, value) in headers {
        current = name.or(current);
        if let Some(name) = current.as_ref().filter(|name| passes(name)) {
            rest.append(name.clone(), value);
        }
    }
    rest
}

/// The one number that a Content-Length repeats (RFC 9110 §8.6); hyper has refused it if the
/// numbers differ.
fn one_length(value: &HeaderValue) -> HeaderValue {
    let first = value
        .as_bytes()
        .split(|&b| b == b',')
        .next()
        .unwrap_or_default();
    HeaderValue::from_bytes(first.trim_ascii()).unwrap_or_else(|_| value.clone())
}

/// Refuses a head that could make two readers disagree about where the body ends (RFC 9112 §6.3):
/// with both lengths, or with a coding that the engine has not undone.
///
/// # Errors
/// [`Kind::Protocol`].
pub fn check_framing(headers: &HeaderMap) -> Result<(), Error> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if headers.contains_key(CONTENT_LENGTH) {
        let detail = "both Content-Length and Transfer-Encoding";
        return Err(Error::new(Kind::Protocol, detail));
    }
    let chunked = |value: &HeaderValue| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    };
    if !chunked(coding) || codings.next().is_some() {
        return Err(Error::new(
            Kind::Protocol,
            "a Transfer-Encoding other than chunked",
        ));
    }
    Ok(())
}
