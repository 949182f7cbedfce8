//! The response policy: which of the upstream's headers the client gets, and whether the head can
//! be trusted at all. Pure.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRAILER, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};

use super::headers::{HeaderList, NameSet, hop_by_hop, name_set, nominated};
use crate::engine::error::{Error, Kind};
use crate::engine::websocket::handshake::is_own;

/// Which headers go back to the client.
#[derive(Debug)]
pub struct ResponsePolicy {
    removed: NameSet,
    allowed: Option<NameSet>,
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
            removed: name_set(hop_by_hop().into_iter().chain(dropped)),
            allowed: allowed.map(framing),
        }
    }

    /// Also passes what announces trailers.
    #[must_use]
    pub fn with_trailers(mut self) -> Self {
        self.removed.remove(TRAILER);
        self
    }

    /// The headers for the client.
    ///
    /// # Errors
    /// A status that HTTP does not know (RFC 9110 §15).
    pub fn headers(&self, status: StatusCode, headers: &HeaderMap) -> Result<HeaderList, Error> {
        if status.as_u16() > 599 || status.as_u16() < 200 {
            return Err(Error::new(
                Kind::Protocol,
                "the status is not one of HTTP's",
            ));
        }
        self.list(status, headers)
    }

    /// The headers of an accepted handshake for the client, without those of the hop's own, unless
    /// the handshake `passes` through to the client.
    ///
    /// # Errors
    /// As for [`ResponsePolicy::headers`].
    pub fn handshake_headers(
        &self,
        headers: &HeaderMap,
        passes: bool,
    ) -> Result<HeaderList, Error> {
        let mut list = self.list(StatusCode::NO_CONTENT, headers)?;
        list.retain(|(name, _)| passes || !is_own(name));
        Ok(list)
    }

    fn list(&self, status: StatusCode, headers: &HeaderMap) -> Result<HeaderList, Error> {
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
        // RFC 9110 §8.6: none in a 204; in a 304 it is the length of what is not sent, which some
        // ASGI servers take for the length of what is.
        let no_length = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut length_seen = false;
        let mut list = HeaderList::with_capacity(headers.len());
        for (name, value) in headers {
            if self.removed.contains_key(name)
                || (!nominees.is_empty() && nominees.contains_key(name) && name != CONTENT_LENGTH)
                || self
                    .allowed
                    .as_ref()
                    .is_some_and(|set| !set.contains_key(name))
            {
                continue;
            }
            if name == CONTENT_LENGTH {
                if !no_length && !std::mem::replace(&mut length_seen, true) {
                    list.push((CONTENT_LENGTH, one_length(value)));
                }
                continue;
            }
            list.push((name.clone(), value.clone()));
        }
        Ok(list)
    }
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
