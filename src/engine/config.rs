//! A relay's configuration, already checked: what is wrong with it is found before this exists.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::balance::settings::{Balancing, TargetSettings};
use super::policy::retry::RetryPolicy;
use super::target::Target;
use super::upstream::tls::Credentials;

/// How long things may take; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until connected: resolving, connecting and TLS together.
    pub connect: Option<Duration>,
    /// Between octets of the response, and from the end of the request to its head.
    pub read: Option<Duration>,
    /// Between octets of the request that the upstream takes.
    pub write: Option<Duration>,
    /// Until a connection comes free.
    pub pool: Option<Duration>,
}

/// How many connections each target may have; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in use at once.
    pub max_connections: Option<usize>,
    /// Idle connections kept.
    pub max_keepalive_connections: Option<usize>,
    /// How long an idle connection is kept.
    pub keepalive_expiry: Option<Duration>,
}

/// Which headers go upstream and come back.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// Send the client's Host rather than the target's authority.
    pub preserve_host: bool,
    /// Put in place of the client's headers of these names.
    pub extra_request: HeaderMap,
    /// Never sent upstream.
    pub drop_request: Vec<HeaderName>,
    /// Where present, only these of the client's are sent.
    pub allow_request: Option<Vec<HeaderName>>,
    /// Never sent to the client.
    pub drop_response: Vec<HeaderName>,
    /// Where present, only these are sent to the client.
    pub allow_response: Option<Vec<HeaderName>>,
    /// The client can be sent trailers: it is told which ones to expect.
    pub trailers: bool,
}

/// How WebSockets are watched, and what they may carry; `None` is for ever, or any size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebSockets {
    /// The upstream's silence after which it gets a ping.
    pub ping_interval: Option<Duration>,
    /// How long it may stay silent after that.
    pub ping_timeout: Option<Duration>,
    /// How long there may be no message either way.
    pub idle_timeout: Option<Duration>,
    /// Octets of one message.
    pub max_message_size: Option<usize>,
}

/// Which HTTP is spoken with an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Http2 {
    /// HTTP/1.1 alone.
    #[default]
    Never,
    /// Over TLS as ALPN decides, otherwise HTTP/1.1.
    Auto,
    /// HTTP/2 alone, without TLS by prior knowledge. What changes the protocol, as WebSockets do,
    /// still begins in HTTP/1.1.
    Always,
}

/// Everything that makes a relay.
#[derive(Debug, Clone)]
pub struct Config {
    /// The upstream for whose base path and Host requests are prepared: the first one. Each
    /// target puts its own in place.
    pub target: Arc<Target>,
    /// The upstreams.
    pub targets: Vec<TargetSettings>,
    /// How one of them is chosen.
    pub balancing: Balancing,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many connections there may be.
    pub limits: Limits,
    /// Which headers cross.
    pub headers: Headers,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Follow redirects instead of passing them on.
    pub follow_redirects: bool,
    /// Whom to trust over TLS, and the client certificate.
    pub credentials: Arc<Credentials>,
    /// The name to ask for over TLS, and to check the certificate against; `None` is the target's.
    pub server_name: Option<String>,
    /// Which HTTP is spoken.
    pub http2: Http2,
    /// Header lines of a response in HTTP/1.1; one more is a failure of the upstream. More than
    /// 100 cost each response some room.
    pub max_headers: usize,
    /// The upstream lives in this process and is called through the mailbox.
    pub in_memory: bool,
    /// How WebSockets are watched.
    pub web_sockets: WebSockets,
    /// Report events for the log.
    pub report: bool,
}
