//! An upstream's address: parsed and checked once, so that a bad one cannot exist later.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Authority, PathAndQuery};
use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode,
};
use url::{Position, Url};

use super::policy::path::{NOT_IN_A_URI, climbs, request_target};
use super::policy::request::BadRequest;

/// What must be encoded to put a socket's path where a host stands (RFC 3986 §2.3).
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The request target of an OPTIONS for a whole server.
pub const ASTERISK: &str = "*";

/// Where connections go; also what the pool tells idle connections apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host and port over TCP.
    Tcp {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// An endpoint with its security: one key of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// Which of the endpoint's addresses, where it matters.
    pub address: Option<IpAddr>,
    /// Whether TLS is spoken there.
    pub secure: bool,
}

impl Origin {
    /// Whether this is the place that `other` names, by the same name or by the address it has
    /// here.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        let at_address = || match (&self.endpoint, self.address, &other.endpoint) {
            (Endpoint::Tcp { port: own, .. }, Some(address), Endpoint::Tcp { host, port }) => {
                own == port && host.parse() == Ok(address)
            }
            _ => false,
        };
        self.secure == other.secure && (self.endpoint == other.endpoint || at_address())
    }
}

/// Why a target URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all, with the parser's reason.
    #[error("is not an absolute URL ({0}); expected something like 'http://host:8000/base'")]
    Malformed(String),
    /// A scheme that is not spoken.
    #[error("has the scheme {0:?}; allowed are http, https, ws, wss, http+unix and https+unix")]
    Scheme(String),
    /// No host, or no socket path.
    #[error("names no {0}")]
    Missing(&'static str),
    /// User information in the URL, which nothing would ever send.
    #[error("carries user information; pass credentials in extra_request_headers instead")]
    UserInfo,
    /// Something that a base URL cannot have.
    #[error("has a {0}; a base URL ends with its path")]
    Extra(&'static str),
    /// Port 0.
    #[error("has the port {0}; allowed are 1 to 65535")]
    Port(u16),
    /// A path that no request target can carry.
    #[error("has a path with characters that must be percent-encoded, or with dot segments")]
    Path,
    /// The prefix, not the URL, is such a path.
    #[error("has characters that must be percent-encoded, or dot segments")]
    Prefix,
}

/// An upstream: origin, Host and base path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    origin: Arc<Origin>,
    authority: HeaderValue,
    base: String,
    /// How much of `base` is the URL's own path; a prefix may be behind it.
    own: usize,
    name: String,
    url: Url,
}

impl Target {
    /// Reads a base URL; `prefix` is put behind its path.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(text: &str, prefix: &str) -> Result<Self, TargetError> {
        // Url would drop these without a word.
        if text.bytes().any(|b| b.is_ascii_control() || b == b' ') {
            return Err(TargetError::Malformed("it contains white space".to_owned()));
        }
        // Url would forgive these, and find another host or path in them than other readers do.
        let no_host = || TargetError::Malformed("no '://' with a host behind it".to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(no_host)?;
        if text.contains('\\') || rest.starts_with('/') {
            return Err(no_host());
        }
        let url = Url::parse(text).map_err(|error| TargetError::Malformed(error.to_string()))?;
        if !scheme.eq_ignore_ascii_case(url.scheme()) {
            return Err(no_host());
        }
        let (secure, unix) = match url.scheme() {
            "http" | "ws" => (false, false),
            "https" | "wss" => (true, false),
            "http+unix" | "ws+unix" => (false, true),
            "https+unix" | "wss+unix" => (true, true),
            other => return Err(TargetError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::UserInfo);
        }
        if url.query().is_some() {
            return Err(TargetError::Extra("query"));
        }
        if url.fragment().is_some() {
            return Err(TargetError::Extra("fragment"));
        }
        let mut target = if unix {
            Self::unix(&url, secure)?
        } else {
            Self::tcp(&url, secure)?
        };
        base_path("", prefix).map_err(|_| TargetError::Prefix)?;
        target.base = base_path(raw_path_of(text), prefix)?;
        target.own = base_path(raw_path_of(text), "")?.len();
        target.name = target.url_with(target.own_base());
        Ok(target)
    }

    /// The target of an absolute `http`/`https` URL, as a redirect names it.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn from_url(url: &Url) -> Result<Self, TargetError> {
        Self::tcp(url, url.scheme() == "https")
    }

    fn tcp(url: &Url, secure: bool) -> Result<Self, TargetError> {
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(TargetError::Missing("host"))?;
        let default = if secure { 443 } else { 80 };
        let port = url.port().unwrap_or(default);
        if port == 0 {
            return Err(TargetError::Port(port));
        }
        let authority = match port == default {
            true => host.to_owned(),
            false => format!("{host}:{port}"),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let endpoint = Endpoint::Tcp {
            host: bare.to_owned(),
            port,
        };
        Self::new(endpoint, secure, &authority)
    }

    fn unix(url: &Url, secure: bool) -> Result<Self, TargetError> {
        if let Some(port) = url.port() {
            return Err(TargetError::Port(port));
        }
        let host = url.host_str().unwrap_or_default();
        let path = percent_decode_str(host).decode_utf8_lossy().into_owned();
        if path.is_empty() {
            return Err(TargetError::Missing("socket path"));
        }
        Self::new(Endpoint::Unix(PathBuf::from(path)), secure, "localhost")
    }

    fn new(endpoint: Endpoint, secure: bool, authority: &str) -> Result<Self, TargetError> {
        let malformed = || TargetError::Malformed("its host is malformed".to_owned());
        authority.parse::<Authority>().map_err(|_| malformed())?;
        let scheme = if secure { "https" } else { "http" };
        Ok(Self {
            origin: Arc::new(Origin {
                endpoint,
                address: None,
                secure,
            }),
            authority: HeaderValue::from_str(authority).map_err(|_| malformed())?,
            base: String::new(),
            own: 0,
            name: String::new(),
            url: Url::parse(&format!("{scheme}://{authority}/")).map_err(|_| malformed())?,
        })
    }

    /// The same target at one of its host's addresses.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        let origin = Origin {
            address: Some(address),
            ..(*self.origin).clone()
        };
        let mut target = Self {
            origin: Arc::new(origin),
            ..self.clone()
        };
        target.name = target.url_with(target.own_base());
        target
    }

    /// The URL as it was given, in its normal form: what tells one target from another.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL's own path, without a slash at its end and without the prefix.
    #[must_use]
    pub fn own_base(&self) -> &str {
        self.base.get(..self.own).unwrap_or_default()
    }

    /// Where connections go.
    #[must_use]
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// The value of the Host header: the host, with the port where it is not the scheme's.
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// The URL of a request target here, for resolving a Location; [`Target::shown`] is for logs.
    #[must_use]
    pub fn url(&self, target: &PathAndQuery) -> Url {
        let mut url = self.url.clone();
        url.set_path(target.path());
        url.set_query(target.query());
        url
    }

    /// A URL here as a person is told of it: one of a Unix socket names the socket, as the target's
    /// own name does.
    #[must_use]
    pub fn shown(&self, url: &Url) -> String {
        match self.origin.endpoint {
            Endpoint::Unix(_) => self.url_with(&url[Position::BeforePath..]),
            Endpoint::Tcp { .. } => url.to_string(),
        }
    }

    /// The request target here for one that was joined for another target; `at_mount` where what
    /// was joined is empty, so that a slash without a base in front of it is not the client's.
    ///
    /// # Errors
    /// [`BadRequest::Target`] where it gets too long here. It must not go elsewhere than below the
    /// base of this target.
    pub fn rebased(
        &self,
        path: &PathAndQuery,
        from: &Self,
        at_mount: bool,
    ) -> Result<PathAndQuery, BadRequest> {
        if self.base == from.base {
            return Ok(path.clone());
        }
        if path == ASTERISK {
            return self.join(ASTERISK.as_bytes(), &[]);
        }
        let prefix = match from.base.as_str() {
            "" if at_mount => "/",
            base => base,
        };
        let below = path.as_str().strip_prefix(prefix);
        let below = below.ok_or(BadRequest::Target)?;
        let slash = match below.starts_with('/') {
            false if self.base.is_empty() => "/",
            _ => "",
        };
        request_target(format!("{}{slash}{below}", self.base).into_bytes())
    }

    /// The request target that stands for the whole server (RFC 9112 §3.2.4), where no base
    /// narrows it.
    #[must_use]
    pub fn asterisk(&self) -> Option<PathAndQuery> {
        let whole = self.base.is_empty();
        whole.then(|| PathAndQuery::from_static(ASTERISK))
    }

    /// The request target for what a client asked for below the mount.
    ///
    /// # Errors
    /// [`BadRequest::PathEscape`] where dot segments climb above the base, [`BadRequest::Target`]
    /// where it holds an octet that a request target cannot carry.
    pub fn join(&self, path: &[u8], query: &[u8]) -> Result<PathAndQuery, BadRequest> {
        if climbs(path) {
            return Err(BadRequest::PathEscape);
        }
        let mut joined = Vec::with_capacity(self.base.len() + path.len() + query.len() + 2);
        joined.extend_from_slice(self.base.as_bytes());
        if !path.starts_with(b"/") && (!path.is_empty() || joined.is_empty()) {
            joined.push(b'/');
        }
        joined.extend_from_slice(path);
        if !query.is_empty() {
            joined.push(b'?');
            joined.extend_from_slice(query);
        }
        request_target(joined)
    }
}

/// The path of a URL text, octets as they stand there.
fn raw_path_of(text: &str) -> &str {
    let behind = text.split_once("://").map_or("", |(_, rest)| rest);
    behind
        .find('/')
        .and_then(|at| behind.get(at..))
        .unwrap_or("")
}

/// Base path and prefix as one path without a slash at its end; doubled slashes where they meet
/// and in the prefix are one.
fn base_path(base: &str, prefix: &str) -> Result<String, TargetError> {
    let mut path = base.trim_end_matches('/').to_owned();
    for segment in prefix.split('/').filter(|segment| !segment.is_empty()) {
        path.push('/');
        path.push_str(segment);
    }
    let dots = |segment: &str| {
        matches!(
            segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
            "." | ".."
        )
    };
    if path.contains('?') || path.split('/').any(dots) {
        return Err(TargetError::Path);
    }
    // Encoded, so that it stays what it is when more is joined to it.
    let path = percent_encode(path.as_bytes(), NOT_IN_A_URI).to_string();
    if !path.is_empty() && request_target(path.clone().into_bytes()).is_err() {
        return Err(TargetError::Path);
    }
    Ok(path)
}

impl Target {
    fn url_with(&self, path: &str) -> String {
        let (scheme, default) = match self.origin.secure {
            true => ("https", 443),
            false => ("http", 80),
        };
        match (&self.origin.endpoint, self.origin.address) {
            (Endpoint::Tcp { port, .. }, Some(IpAddr::V6(address))) if *port == default => {
                format!("{scheme}://[{address}]{path}")
            }
            (Endpoint::Tcp { port, .. }, Some(address)) if *port == default => {
                format!("{scheme}://{address}{path}")
            }
            (Endpoint::Tcp { port, .. }, Some(address)) => {
                format!("{scheme}://{}{path}", SocketAddr::new(address, *port))
            }
            (Endpoint::Tcp { .. }, None) => {
                let authority = self.authority.to_str().unwrap_or_default();
                format!("{scheme}://{authority}{path}")
            }
            (Endpoint::Unix(socket), _) => {
                let socket = socket.to_string_lossy();
                let socket = utf8_percent_encode(&socket, NOT_UNRESERVED);
                format!("{scheme}+unix://{socket}{path}")
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url_with(&self.base))
    }
}
