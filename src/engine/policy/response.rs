//! The response policy: which of the upstream's headers the client gets, and whether the head can
//! be trusted at all. Pure.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRAILER, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};

use super::headers::{NameSet, content_length, is_hop_by_hop, name_set, nominated};
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

    /// Makes an upstream's headers those for the client, in the upstream's order.
    ///
    /// # Errors
    /// A status that HTTP does not know (RFC 9110 §15).
    pub fn filter(&self, status: StatusCode, headers: &mut HeaderMap) -> Result<(), Error> {
        if status.as_u16() > 599 || status.as_u16() < 200 {
            return Err(Error::new(
                Kind::Protocol,
                "the status is not one of HTTP's",
            ));
        }
        // RFC 9110 §8.6: none in a 204; in a 304 it is the length of what is not sent, which some
        // ASGI servers take for the length of what is.
        let no_length = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.retain(headers, |name| !(no_length && *name == CONTENT_LENGTH))
    }

    /// Whether a trailer of this name goes back to the client.
    #[must_use]
    pub fn passes_behind(&self, name: &HeaderName) -> bool {
        let listed = |set: &NameSet| set.contains_key(name);
        !is_hop_by_hop(name)
            && *name != CONTENT_LENGTH
            && !listed(&self.dropped)
            && self.allowed.as_ref().is_none_or(listed)
    }

    /// The same for those of an accepted handshake, without those of the hop's own, unless the
    /// handshake `passes` through to the client.
    ///
    /// # Errors
    /// As for [`ResponsePolicy::filter`].
    pub fn filter_handshake(&self, headers: &mut HeaderMap, passes: bool) -> Result<(), Error> {
        self.retain(headers, |name| {
            *name != CONTENT_LENGTH && (passes || !is_own(name))
        })
    }

    fn retain(
        &self,
        headers: &mut HeaderMap,
        also: impl Fn(&HeaderName) -> bool,
    ) -> Result<(), Error> {
        let mut seen = Seen::default();
        let mut place = Place::Nowhere;
        let refused = |name: &HeaderName| {
            (is_hop_by_hop(name) && !(self.trailers && *name == TRAILER))
                || (!self.dropped.is_empty() && self.dropped.contains_key(name))
                || self
                    .allowed
                    .as_ref()
                    .is_some_and(|set| !set.contains_key(name))
                || !also(name)
        };
        for (name, value) in &*headers {
            seen.look(name, value)?;
            place.found(name, refused(name));
        }
        let nominated =
            |name: &HeaderName| seen.nominees.contains_key(name) && *name != CONTENT_LENGTH;
        match place {
            _ if !seen.nominees.is_empty() => {
                without(headers, |name| refused(name) || nominated(name));
            }
            Place::Nowhere => {}
            Place::Last(name) => {
                let name = name.clone();
                headers.remove(name);
            }
            Place::Anywhere => without(headers, refused),
        }
        if seen.repeated
            && let Some(length) = headers.get(CONTENT_LENGTH)
        {
            let length = one_length(length);
            headers.insert(CONTENT_LENGTH, length);
        }
        Ok(())
    }
}

/// What a look at every line tells.
#[derive(Default)]
struct Seen {
    /// The names that `Connection` nominates as hop-by-hop.
    nominees: NameSet,
    /// The `Content-Length`.
    length: Option<u64>,
    /// It stands there more than once, in lines or in a list.
    repeated: bool,
}

impl Seen {
    fn look(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Error> {
        let octets = value.as_bytes();
        if *name == CONTENT_LENGTH {
            // hyper looks at it only where a body is to come: not behind a HEAD.
            let length = content_length(octets, self.length);
            self.repeated |= self.length.is_some() || octets.contains(&b',');
            self.length = Some(length.ok_or_else(bad_length)?);
        } else if *name == CONNECTION {
            // Nearly all there is, and names nothing.
            let usual = |word: &[u8]| octets.eq_ignore_ascii_case(word);
            if !usual(b"keep-alive") && !usual(b"close") && !nominated(octets, &mut self.nominees) {
                return Err(Error::new(Kind::Protocol, "too many names in Connection"));
            }
        }
        Ok(())
    }
}

fn bad_length() -> Error {
    Error::new(
        Kind::Protocol,
        "a Content-Length that is no number, or two that differ",
    )
}

/// Where the lines stand that do not pass. `HeaderMap::remove` puts the last name into the gap, so
/// it serves for that one alone, which is where many servers have `Connection`.
enum Place<'a> {
    Nowhere,
    /// This name's, behind all others.
    Last(&'a HeaderName),
    Anywhere,
}

impl<'a> Place<'a> {
    fn found(&mut self, name: &'a HeaderName, refused: bool) {
        match self {
            Self::Nowhere if refused => *self = Self::Last(name),
            Self::Last(last) if !refused || *last != name => *self = Self::Anywhere,
            _ => {}
        }
    }
}

/// Leaves the other headers, in their order.
fn without(headers: &mut HeaderMap, refused: impl Fn(&HeaderName) -> bool) {
    let mut rest = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    // A name comes with the first of its values.
    for (name, value) in std::mem::take(headers) {
        current = name.or(current);
        if let Some(name) = current.as_ref().filter(|name| !refused(name)) {
            rest.append(name.clone(), value);
        }
    }
    *headers = rest;
}

/// The one number that a Content-Length repeats (RFC 9110 §8.6), as it stands there first;
/// [`content_length`] has found that none differs.
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
    // Rare, and a look at some names costs less than to ask the map.
    if headers.keys().all(|name| *name != TRANSFER_ENCODING) {
        return Ok(());
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
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
    if !coding.is_some_and(chunked) || codings.next().is_some() {
        return Err(Error::new(
            Kind::Protocol,
            "a Transfer-Encoding other than chunked",
        ));
    }
    Ok(())
}
