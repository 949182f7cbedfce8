//! The request policy: from what the client sent to what the upstream gets. Pure.

use std::net::IpAddr;

use http::header::{
    self, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE,
    EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};

use super::headers::{
    MAX_LINES, NameSet, content_length, dashed, is_alias, is_framing, is_hop_by_hop, name_set,
    nominated,
};

/// The addresses that a request came from, one for each proxy.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The Host that the client sent.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Why a client's request cannot be passed on; the answer is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Dot segments climb above the prefix.
    #[error("the path leaves the area that is served here")]
    PathEscape,
    /// An octet that no request target may carry (RFC 9112 §3.2), or a target that is too long.
    #[error("the request target is malformed")]
    Target,
    /// The method is not a token.
    #[error("the method is malformed")]
    Method,
    /// More lines than anyone means, or than a header map holds.
    #[error("the request has too many header lines")]
    TooManyHeaders,
    /// Two Host lines that contradict each other.
    #[error("the request has more than one Host")]
    Host,
    /// A header with a malformed name or value.
    #[error("a header is malformed")]
    Header,
    /// `Content-Length` values that are no number or contradict each other (RFC 9112 §6.3).
    #[error("the Content-Length is malformed")]
    ContentLength,
    /// A transfer coding other than `chunked`, or that one twice (RFC 9112 §6.1).
    #[error("the Transfer-Encoding is not supported")]
    TransferEncoding,
}

impl BadRequest {
    /// The text of the answer.
    #[must_use]
    pub fn answer(&self) -> String {
        format!("Bad request: {self}")
    }
}

/// How the client's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: in HTTP/1 there is no body.
    None,
    /// A known number of octets.
    Length(u64),
    /// A body of unknown length.
    Chunked,
}

/// What the client's connection tells beside its headers.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// The peer's address without port, if there is one.
    pub client: Option<&'a str>,
    /// Whether the client came over TLS.
    pub secure: bool,
    /// Whether the client speaks HTTP/2 or newer.
    pub multiplexed: bool,
    /// Who asks, where the peer is a proxy whose word is taken; else it is the peer.
    pub origin: Option<IpAddr>,
}

/// One line of a client's headers, as its server hands it on.
pub trait Line {
    /// Its value.
    fn octets(&self) -> &[u8];

    /// Whether this is its name.
    fn is_named(&self, name: &HeaderName) -> bool;

    /// Both for a header map.
    ///
    /// # Errors
    /// [`BadRequest::Header`] where one of them is malformed.
    fn name(&self) -> Result<HeaderName, BadRequest>;

    /// See [`Line::name`].
    ///
    /// # Errors
    /// [`BadRequest::Header`].
    fn value(&self) -> Result<HeaderValue, BadRequest>;
}

/// Octets, the name in any case.
impl Line for (&[u8], &[u8]) {
    fn octets(&self) -> &[u8] {
        self.1
    }

    fn is_named(&self, name: &HeaderName) -> bool {
        self.0.eq_ignore_ascii_case(name.as_str().as_bytes())
    }

    fn name(&self) -> Result<HeaderName, BadRequest> {
        HeaderName::from_bytes(self.0).map_err(|_| BadRequest::Header)
    }

    fn value(&self) -> Result<HeaderValue, BadRequest> {
        HeaderValue::from_bytes(self.1).map_err(|_| BadRequest::Header)
    }
}

/// The headers for the upstream.
#[derive(Debug)]
pub struct Outgoing {
    /// In the client's order, the computed ones behind.
    pub headers: HeaderMap,
    /// How the client framed its body.
    pub framing: Framing,
    /// Host is the upstream's own authority.
    pub own_host: bool,
    /// The names that were given for this request.
    pub given: Vec<HeaderName>,
}

/// Which headers go upstream.
#[derive(Debug)]
pub struct RequestPolicy {
    /// Removed from what the client sent, beside hop-by-hop and computed names: dropped and
    /// replaced ones.
    removed: NameSet,
    allowed: Option<NameSet>,
    extra: HeaderMap,
    preserve_host: bool,
    authority: HeaderValue,
}

impl RequestPolicy {
    /// `authority` is the upstream's, sent as Host unless `preserve_host` keeps the client's.
    #[must_use]
    pub fn new(
        authority: HeaderValue,
        preserve_host: bool,
        extra: HeaderMap,
        dropped: Vec<HeaderName>,
        allowed: Option<Vec<HeaderName>>,
    ) -> Self {
        let given = extra
            .keys()
            .flat_map(|name| dashed(name).into_iter().chain([name.clone()]));
        Self {
            removed: name_set(dropped.into_iter().chain(given)),
            allowed: allowed.map(name_set),
            extra,
            preserve_host,
            authority,
        }
    }

    /// The headers that go upstream for a client's lines, and for those `given` by whoever passes
    /// this request on: these stand in place of all others of their names.
    ///
    /// # Errors
    /// A malformed line, or lines that contradict each other about the body's length.
    pub fn headers<L: Line>(
        &self,
        lines: &[L],
        given: &[L],
        connection: &Connection<'_>,
    ) -> Result<Outgoing, BadRequest> {
        if lines.len() + given.len() > MAX_LINES {
            return Err(BadRequest::TooManyHeaders);
        }
        let nominated = nominated_by(lines)?;
        let room = lines.len() + self.extra.len() + given.len() + 4;
        let mut headers = HeaderMap::with_capacity(room);
        // Host comes first (RFC 9110 §7.2).
        headers.insert(HOST, self.authority.clone());
        let mut host = None;
        let mut length = None;
        let mut chunked = false;
        let mut forwarded_for: Vec<&[u8]> = Vec::new();
        let mut cookies: Vec<&[u8]> = Vec::new();
        for line in lines {
            let name = line.name()?;
            match name {
                HOST => {
                    let value = line.value()?;
                    // One reader would believe the first, another the last (RFC 9112 §3.2).
                    if host.as_ref().is_some_and(|host| *host != value) {
                        return Err(BadRequest::Host);
                    }
                    host = Some(value);
                    continue;
                }
                CONTENT_LENGTH => {
                    let read = content_length(line.octets(), length);
                    length = Some(read.ok_or(BadRequest::ContentLength)?);
                    continue;
                }
                TRANSFER_ENCODING => {
                    if chunked || !line.octets().trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return Err(BadRequest::TransferEncoding);
                    }
                    chunked = true;
                    continue;
                }
                _ => {}
            }
            if !self.passes(&name)
                || nominated
                    .as_ref()
                    .is_some_and(|set| set.contains_key(&name))
            {
                continue;
            }
            // HTTP/2 splits Cookie for compression; HTTP/1 wants one line (RFC 9113 §8.2.3).
            if connection.multiplexed && name == COOKIE {
                cookies.push(line.octets());
            } else if name == X_FORWARDED_FOR {
                forwarded_for.push(line.octets());
            } else {
                headers.append(name, line.value()?);
            }
        }
        append_joined(&mut headers, COOKIE, &cookies, b"; ")?;
        if !self.extra.contains_key(&X_FORWARDED_FOR) {
            forwarded_for.extend(connection.client.map(str::as_bytes));
            append_joined(&mut headers, X_FORWARDED_FOR, &forwarded_for, b", ")?;
        }
        let proto = if connection.secure { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
        let mut own_host = !self.extra.contains_key(HOST);
        if let Some(host) = host {
            if self.preserve_host && !host.is_empty() {
                own_host = false;
                headers.insert(HOST, host.clone());
            }
            headers.insert(X_FORWARDED_HOST, host);
        }
        for (name, value) in &self.extra {
            headers.insert(name.clone(), value.clone());
        }
        let given = insert_given(&mut headers, given)?;
        let framing = match (chunked, length) {
            // Transfer-Encoding overrides Content-Length (RFC 9112 §6.3), which must not cross.
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        };
        Ok(Outgoing {
            headers,
            framing,
            own_host,
            given,
        })
    }

    /// Whether a header of this name goes upstream as the client sent it.
    #[must_use]
    pub fn passes(&self, name: &HeaderName) -> bool {
        !is_hop_by_hop(name)
            && !is_computed(name)
            && !dashed(name).is_some_and(|meant| self.is_own(&meant))
            && self.allows(name)
    }

    /// Whether the lists let a header of this name go upstream.
    #[must_use]
    pub fn allows(&self, name: &HeaderName) -> bool {
        let allowed = self.allowed.as_ref();
        !self.removed.contains_key(name) && allowed.is_none_or(|set| set.contains_key(name))
    }

    /// Whether it is one of the extra headers.
    #[must_use]
    pub fn gives(&self, name: &HeaderName) -> bool {
        self.extra.contains_key(name)
    }

    /// Whether the relay sets or removes what the client says under this name: one that a program
    /// may confuse with it would tell another story.
    fn is_own(&self, name: &HeaderName) -> bool {
        is_framing(name)
            || is_computed(name)
            || *name == X_FORWARDED_FOR
            || self.removed.contains_key(name)
    }

    /// Takes out what must not follow a redirect to another origin: the client's credentials, and
    /// the extra headers and those `given`, which were meant for the configured upstream alone.
    /// What tells of the body stays.
    pub fn strip_credentials(&self, headers: &mut HeaderMap, given: &[HeaderName]) {
        for name in [AUTHORIZATION, COOKIE, header::PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
        let stay = [HOST, CONTENT_TYPE, CONTENT_ENCODING];
        let meant = self.extra.keys().chain(given);
        for name in meant.filter(|name| !stay.contains(name)) {
            headers.remove(name);
        }
    }
}

/// Puts in the lines that were given for one request, in place of those with names that a program
/// confuses with theirs; the names. What frames it, and its Host, are not for these to say.
fn insert_given(
    headers: &mut HeaderMap,
    given: &[impl Line],
) -> Result<Vec<HeaderName>, BadRequest> {
    let mut names = Vec::with_capacity(given.len());
    for line in given {
        let name = line.name()?;
        if name == HOST || is_framing(&name) {
            continue;
        }
        let others = headers.keys();
        let confused: Vec<_> = others
            .filter(|other| is_alias(other, &name) || is_alias(&name, other))
            .filter(|other| !names.contains(*other))
            .cloned()
            .collect();
        for other in confused {
            headers.remove(other);
        }
        headers.insert(name.clone(), line.value()?);
        names.push(name);
    }
    Ok(names)
}

/// Whether the relay says itself what this header tells of the client and its connection.
fn is_computed(name: &HeaderName) -> bool {
    [EXPECT, X_FORWARDED_PROTO, X_FORWARDED_HOST].contains(name)
}

/// The names that the `Connection` lines nominate; `None` in the common case of none.
fn nominated_by(lines: &[impl Line]) -> Result<Option<NameSet>, BadRequest> {
    let mut names = None;
    for line in lines {
        if line.is_named(&CONNECTION)
            && !line.octets().eq_ignore_ascii_case(b"keep-alive")
            && !nominated(line.octets(), names.get_or_insert_with(NameSet::default))
        {
            return Err(BadRequest::TooManyHeaders);
        }
    }
    Ok(names)
}

/// Appends `values` as one line, if there are any.
fn append_joined(
    headers: &mut HeaderMap,
    name: HeaderName,
    values: &[&[u8]],
    separator: &[u8],
) -> Result<(), BadRequest> {
    let value = match values {
        [] => return Ok(()),
        [one] => HeaderValue::from_bytes(one),
        many => HeaderValue::from_bytes(&many.join(separator)),
    };
    headers.append(name, value.map_err(|_| BadRequest::Header)?);
    Ok(())
}
