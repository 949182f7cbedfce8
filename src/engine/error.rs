//! What can go wrong on the way to an upstream, and the one table that turns it into a response.
//!
//! An error carries how far the request got: whether it may be retried is a value, not a guess.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

/// The kinds of failure. [`Kind::name`] is what logs and answers call one: the name of an exception in
/// Python, but for [`Kind::Unavailable`] and [`Kind::Busy`], which are answered and never raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The name of the upstream could not be resolved.
    Resolve,
    /// No connection: refused, unreachable, reset while connecting.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// Not connected within `timeout.connect`.
    ConnectTimeout,
    /// Nothing read within `timeout.read`.
    ReadTimeout,
    /// Nothing written within `timeout.write`.
    WriteTimeout,
    /// No free connection within `timeout.pool`.
    PoolTimeout,
    /// The connection broke while reading.
    Read,
    /// The connection broke while writing.
    Write,
    /// The upstream's answer is malformed or incomplete.
    Protocol,
    /// More redirects than are followed.
    TooManyRedirects,
    /// No target is healthy. 503.
    Unavailable,
    /// All targets have as much in flight as they may. 503.
    Busy,
    /// The relay is shutting down.
    Shutdown,
    /// The client's body is not as long as it announced. The client's fault: 400.
    BodyLength,
    /// The client left, or its upload failed: nobody is there to be told.
    Abandoned,
}

impl Kind {
    /// Those that a configuration may name for retries, in no particular order.
    pub const NAMED: [Self; 12] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::ConnectTimeout,
        Self::ReadTimeout,
        Self::WriteTimeout,
        Self::PoolTimeout,
        Self::Read,
        Self::Write,
        Self::Protocol,
        Self::TooManyRedirects,
        Self::Shutdown,
    ];

    /// What it is called; what is nobody's to name is called as the base of all.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "NameResolutionError",
            Self::Connect => "ConnectError",
            Self::Tls => "TLSError",
            Self::ConnectTimeout => "ConnectTimeout",
            Self::ReadTimeout => "ReadTimeout",
            Self::WriteTimeout => "WriteTimeout",
            Self::PoolTimeout => "PoolTimeout",
            Self::Read => "ReadError",
            Self::Write => "WriteError",
            Self::Protocol => "RemoteProtocolError",
            Self::TooManyRedirects => "TooManyRedirects",
            Self::Unavailable => "NoHealthyTarget",
            Self::Busy => "TargetsBusy",
            Self::Shutdown | Self::BodyLength | Self::Abandoned => "RelayError",
        }
    }

    /// What a client may be told: the kind of failure, nothing about the inside.
    #[must_use]
    pub const fn public(self) -> &'static str {
        match self {
            Self::Resolve => "the upstream's name cannot be resolved",
            Self::Connect => "cannot connect to the upstream",
            Self::Tls => "no secure connection to the upstream",
            Self::ConnectTimeout => "connecting took too long",
            Self::ReadTimeout => "the upstream did not answer in time",
            Self::WriteTimeout => "the upstream did not take the request in time",
            Self::PoolTimeout => "no connection came free in time",
            Self::Read => "the connection broke while reading the answer",
            Self::Write => "the connection broke while sending the request",
            Self::Protocol => "the upstream's answer is malformed or incomplete",
            Self::TooManyRedirects => "the upstream redirects too often",
            Self::Unavailable => "no upstream is healthy",
            Self::Busy => "the upstreams have no room for more requests",
            Self::Shutdown => "the relay is shutting down",
            Self::BodyLength => "the body is not as long as its Content-Length",
            Self::Abandoned => "the request was abandoned",
        }
    }

    /// Whether time ran out.
    #[must_use]
    pub const fn is_timeout(self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout | Self::ReadTimeout | Self::WriteTimeout | Self::PoolTimeout
        )
    }
}

/// How far the request got before the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No octet of it left, or the upstream says that it has not looked at it.
    NotSent,
    /// The same, and the connection goes on (RFC 9113 §8.7).
    Refused,
    /// The upstream may have begun to act on it.
    MaybeSent,
}

impl Reach {
    /// Whether any method may be tried again, as the upstream has done nothing.
    #[must_use]
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::NotSent | Self::Refused)
    }
}

/// A failed exchange.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    reach: Reach,
    detail: Cow<'static, str>,
    retry_after: Option<u32>,
}

impl Error {
    /// A failure after the upstream may have seen the request. `detail` is for the log: it names
    /// no address and no secret.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            reach: Reach::MaybeSent,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// A failure before any octet of the request left.
    #[must_use]
    pub fn not_sent(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reach: Reach::NotSent,
            ..Self::new(kind, detail)
        }
    }

    /// A failure of a request that the upstream did not want on this connection, for now.
    #[must_use]
    pub fn refused(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reach: Reach::Refused,
            ..Self::new(kind, detail)
        }
    }

    /// The same with the seconds after which the client may try again (RFC 9110 §10.2.3).
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// The seconds after which the client may try again.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// The kind of failure.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// How far the request got.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        self.reach
    }

    /// What happened, for the log and for exceptions; names no address and no secret.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What the client gets where no response has started: status and plain text.
    #[must_use]
    pub fn response(&self) -> (StatusCode, String) {
        if self.kind.is_timeout() {
            return (StatusCode::GATEWAY_TIMEOUT, "Gateway Timeout".to_owned());
        }
        if self.kind == Kind::BodyLength {
            let text = format!("Bad request: {}", self.kind.public());
            return (StatusCode::BAD_REQUEST, text);
        }
        if matches!(self.kind, Kind::Unavailable | Kind::Busy) {
            let text = format!("Service Unavailable: {}", self.kind.public());
            return (StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let text = format!(
            "Upstream error: {} ({})",
            self.kind.public(),
            self.kind.name()
        );
        (StatusCode::BAD_GATEWAY, text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.detail)
    }
}

impl std::error::Error for Error {}
