//! From a client's request head to the engine's: who the client is, which host it asks for, and
//! what of its headers is believed. No I/O here.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, RANGE,
    TE, TRAILER, UPGRADE,
};
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Version};

use super::answer::Reply;
use super::config::network::Trusted;
use super::host::{host_line, is_same_host};
use super::request_id::RequestId;
use super::said::Said;
use crate::engine::policy::headers::{begins_alike, has_token, is_alias, retain};
use crate::engine::policy::path::climbs;
use crate::engine::policy::request::{
    BadRequest, Connection, Framing, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use crate::engine::relay::{Inbound, Relay, Request};
use crate::engine::websocket::handshake::Handshake;

/// Names the request, from here to the last of its upstreams.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Octets of a client's `X-Request-Id` that are passed on.
const MAX_REQUEST_ID: usize = 128;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address; a Unix socket has none.
    pub address: Option<IpAddr>,
    /// The same as text.
    pub text: Option<Box<str>>,
    /// It came over TLS.
    pub secure: bool,
}

impl Peer {
    /// A peer with this address.
    #[must_use]
    pub fn new(address: Option<IpAddr>, secure: bool) -> Self {
        let address = address.map(|address| address.to_canonical());
        Self {
            address,
            text: address.map(|address| address.to_string().into()),
            secure,
        }
    }
}

/// What a request says of its client.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The peer is a proxy whose word is taken.
    pub trusted: bool,
    /// The client itself, as far as it is known.
    pub client: Option<IpAddr>,
    /// The client's connection is secure.
    pub secure: bool,
}

/// Reads who asks.
#[must_use]
pub fn origin(parts: &Parts, peer: &Peer, trusted: &Trusted) -> Origin {
    if trusted.is_empty() || !trusted.contains(peer.address) {
        return Origin {
            trusted: false,
            client: peer.address,
            secure: peer.secure,
        };
    }
    Origin {
        trusted: true,
        client: client_of(&parts.headers, trusted).or(peer.address),
        secure: secure_of(&parts.headers).unwrap_or(peer.secure),
    }
}

/// What of a head decides how it is passed on, found in one pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    host: Option<&'a HeaderValue>,
    hosts: usize,
    id: Option<&'a HeaderValue>,
    upgrade: Option<&'a HeaderValue>,
    /// `TE` or `Trailer` is among the headers.
    trailers: bool,
    /// A value begins or ends with a blank, which HTTP/1.1 takes off.
    blanks: bool,
}

impl<'a> Seen<'a> {
    /// Looks at every header once.
    #[must_use]
    pub fn of(parts: &'a Parts) -> Self {
        let mut seen = Self::default();
        let multiplexed = parts.version == Version::HTTP_2;
        let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
        for (name, value) in &parts.headers {
            if multiplexed {
                let octets = value.as_bytes();
                seen.blanks |= blank(octets.first()) || blank(octets.last());
            }
            match *name {
                HOST => {
                    seen.host.get_or_insert(value);
                    seen.hosts += 1;
                }
                UPGRADE => {
                    seen.upgrade.get_or_insert(value);
                }
                TE | TRAILER => seen.trailers = true,
                ref custom if *custom == X_REQUEST_ID => {
                    seen.id.get_or_insert(value);
                }
                _ => {}
            }
        }
        seen
    }

    /// Whether a header is malformed in HTTP/2 (RFC 9113 §8.2.1): two readers may see two values.
    #[must_use]
    pub const fn has_blanks(&self) -> bool {
        self.blanks
    }

    /// The host that is asked for: of the target in absolute form, of `:authority`, or of `Host`
    /// (RFC 9112 §3.2), with its port; empty where HTTP/1.0 names none.
    ///
    /// # Errors
    /// 400 where it is missing or malformed, or there is more than one, or `:authority` names another
    /// (RFC 9113 §8.3.1), or where the target is none of a server's.
    pub fn host(&self, parts: &'a Parts) -> Result<HeaderValue, Reply> {
        if self.hosts > 1 {
            return Err(Reply::bad_request("the request has more than one Host"));
        }
        // A target in absolute form is of the web; an authority alone is for CONNECT (RFC 9112 §3.2).
        let web = |scheme: &Scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        let (scheme, authority) = (parts.uri.scheme(), parts.uri.authority());
        if authority.is_some() && !scheme.is_some_and(web) {
            return Err(Reply::bad_request(BadRequest::Target));
        }
        let host = match (authority, self.host) {
            (Some(authority), Some(line))
                if parts.version == Version::HTTP_2
                    && !is_same_host(authority.as_str().as_bytes(), line.as_bytes(), scheme) =>
            {
                return Err(Reply::bad_request("Host is not what :authority is"));
            }
            (Some(authority), _) => authority.as_str().as_bytes(),
            (None, Some(line)) => line.as_bytes(),
            (None, None) if parts.version == Version::HTTP_10 => b"",
            (None, None) => return Err(Reply::bad_request("the request has no Host")),
        };
        host_line(host).ok_or_else(|| Reply::bad_request("the Host is malformed"))
    }

    /// The protocol that the client wants to change to, if it may.
    #[must_use]
    pub fn upgrade(&self, parts: &Parts) -> Option<HeaderValue> {
        let protocol = self.upgrade?;
        if parts.version != Version::HTTP_11 {
            return None;
        }
        let wanted = has_token(&parts.headers, CONNECTION, "upgrade");
        // HTTP/2 is between two neighbours, and has its own ways to begin.
        let text = protocol.as_bytes();
        let one = !text.contains(&b',') && !text.to_ascii_lowercase().starts_with(b"h2");
        (wanted && one).then(|| protocol.clone())
    }

    /// The request's name: the client's own, where it is fit to be passed on.
    #[must_use]
    pub fn id(&self) -> RequestId {
        let Some(id) = self.id else {
            return RequestId::new();
        };
        let fit = (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic);
        match fit {
            true => RequestId::Client(id.clone()),
            false => RequestId::new(),
        }
    }
}

/// The last address in `X-Forwarded-For` that is not a proxy of ours.
fn client_of(headers: &HeaderMap, trusted: &Trusted) -> Option<IpAddr> {
    let mut earliest = None;
    for item in from_the_last(headers, X_FORWARDED_FOR) {
        let Some(address) = address_of(item) else {
            return earliest;
        };
        earliest = Some(address);
        if !trusted.contains(earliest) {
            return earliest;
        }
    }
    earliest
}

/// The items of a list, in however many lines, the last one first: each proxy appends its own.
fn from_the_last(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).iter().rev();
    let items = lines.flat_map(|line| line.as_bytes().rsplit(|&octet| octet == b','));
    items.map(<[u8]>::trim_ascii)
}

/// An address, with which some proxies write the port.
fn address_of(item: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(item).ok()?;
    let address = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok();
    let address = address.or_else(|| Some(with_port()?.ip()));
    address.map(|address| address.to_canonical())
}

/// What the last of the proxies says, where each appends to what the one before it has said.
fn secure_of(headers: &HeaderMap) -> Option<bool> {
    let scheme = from_the_last(headers, X_FORWARDED_PROTO).next()?;
    let is = |names: [&str; 2]| {
        let mut names = names.iter();
        names.any(|name| scheme.eq_ignore_ascii_case(name.as_bytes()))
    };
    let (secure, open) = (is(["https", "wss"]), is(["http", "ws"]));
    (secure || open).then_some(secure)
}

/// Whether only a proxy that is trusted may say this, in any spelling that a reader may take for
/// it.
fn is_hearsay(name: &HeaderName) -> bool {
    if *name == FORWARDED || *name == X_REAL_IP {
        return true;
    }
    let name = name.as_str();
    name.starts_with('x')
        && (begins_alike(name, "x-forwarded-") || begins_alike(name, X_REAL_IP.as_str()))
}

/// Takes out of a client's trailers what would not have passed in its head, and what says nothing
/// there (RFC 9110 §6.5.1): some upstreams make one of both.
pub fn clean_trailers(trailers: &mut HeaderMap, relay: &Relay) {
    retain(trailers, |name| {
        relay.passes(name)
            && !is_hearsay(name)
            && !OF_THE_HEAD.contains(name)
            && !is_alias(name, &X_REQUEST_ID)
    });
}

/// Credentials, and what decides where a request goes and how its body is read.
const OF_THE_HEAD: [HeaderName; 10] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    HOST,
    MAX_FORWARDS,
    RANGE,
];

/// How a request is to be passed on.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'a> {
    /// Octets of the path that are the route's.
    pub below: usize,
    /// They do not go upstream.
    pub strip: bool,
    /// Who asks.
    pub origin: Origin,
    /// The host that is asked for.
    pub host: &'a HeaderValue,
    /// What its head says.
    pub seen: Seen<'a>,
    /// The peer.
    pub peer: &'a Peer,
}

/// The engine's request for a client's, with no body yet; `id` is its name, `has_body` where HTTP/2
/// announces one without a length.
///
/// # Errors
/// 400, with what makes it unfit to be passed on.
pub fn prepare(
    relay: &Relay,
    parts: &Parts,
    manner: Manner<'_>,
    id: &RequestId,
    has_body: bool,
) -> Result<Box<Request>, Reply> {
    let path = parts.uri.path().as_bytes();
    let below = path.get(manner.below..).unwrap_or_default();
    if !manner.strip && climbs(below) {
        return Err(Reply::bad_request(BadRequest::PathEscape));
    }
    let origin = manner.origin;
    let mut lines = Vec::with_capacity(parts.headers.len() + 1);
    if !manner.host.is_empty() {
        lines.push(Said::Host(manner.host));
    }
    for (name, value) in &parts.headers {
        if *name != HOST && !is_alias(name, &X_REQUEST_ID) && (origin.trusted || !is_hearsay(name))
        {
            lines.push(Said::Line(name, value));
        }
    }
    let inbound = Inbound {
        method: parts.method.as_str(),
        path: if manner.strip { below } else { path },
        query: parts.uri.query().unwrap_or_default().as_bytes(),
        headers: &lines,
        given: &[],
        connection: Connection {
            client: manner.peer.text.as_deref(),
            secure: origin.secure,
            multiplexed: parts.version == Version::HTTP_2,
            origin: origin.client.filter(|_| origin.trusted),
        },
    };
    let mut request = Box::new(relay.prepare(&inbound).map_err(Reply::bad_request)?);
    if origin.trusted
        && let Some(host) = parts.headers.get(X_FORWARDED_HOST)
        && !relay.gives(&X_FORWARDED_HOST)
    {
        request.headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if !relay.gives(&X_REQUEST_ID) {
        request.headers.insert(X_REQUEST_ID, id.value());
    }
    if has_body && request.framing == Framing::None {
        request.framing = Framing::Chunked;
    }
    if manner.seen.trailers {
        pass_trailers(&mut request, parts, relay);
    }
    Ok(request)
}

/// Tells the upstream that the client takes trailers, and which ones it will send.
fn pass_trailers(request: &mut Request, parts: &Parts, relay: &Relay) {
    if relay.allows(&TE) && has_token(&parts.headers, TE, "trailers") {
        let trailers = HeaderValue::from_static("trailers");
        request.headers.insert(TE, trailers);
        // It is for this neighbour alone (RFC 9110 §10.1.4).
        let own = HeaderValue::from_static("te");
        request.headers.insert(CONNECTION, own);
    }
    if relay.allows(&TRAILER) && request.framing == Framing::Chunked {
        for line in parts.headers.get_all(TRAILER) {
            request.headers.append(TRAILER, line.clone());
        }
    }
}

/// Makes a request the client's own handshake for `protocol`.
///
/// # Errors
/// 400 where it has a body, which no upgrade can have.
pub fn pass_handshake(request: &mut Request, protocol: HeaderValue) -> Result<(), Reply> {
    if !matches!(request.framing, Framing::None | Framing::Length(0)) {
        return Err(Reply::bad_request("an upgrade with a body"));
    }
    let handshake = Handshake::passing(protocol);
    handshake
        .apply(&mut request.headers)
        .map_err(Reply::bad_request)?;
    request.framing = Framing::None;
    request.handshake = Some(handshake);
    Ok(())
}

/// Whether the method can be relayed at all: CONNECT asks for a tunnel to anywhere.
#[must_use]
pub fn is_relayed(method: &Method) -> bool {
    *method != Method::CONNECT
}
