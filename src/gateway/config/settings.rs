//! The gateway's settings: typed, checked, with every default filled in. Nothing here can be wrong
//! any more; what is written in a file and what is allowed there stands in `keys`.
//!
//! Where the engine has a type of its own it is used; `None` is "none", "for ever" or "any number".

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use super::network::Trusted;
pub use crate::engine::balance::affinity::{HashKey, SameSite};
pub use crate::engine::balance::ejection::PassiveHealth;
pub use crate::engine::config::Http2;
use crate::engine::config::{Headers, Limits, Timeouts, WebSockets};
use crate::engine::policy::retry::RetryPolicy;
use crate::engine::target::Target;
use crate::engine::upstream::tls::Credentials;

/// A whole gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where and how clients are served.
    pub server: Server,
    /// Where health and metrics are shown.
    pub admin: Option<Admin>,
    /// What is written for each request.
    pub access_log: Option<AccessLog>,
    /// At least one, in the file's order.
    pub routes: Vec<Route>,
}

/// `server`: the side of the clients.
#[derive(Debug, Clone)]
pub struct Server {
    /// Threads; `None` is one for each core.
    pub workers: Option<usize>,
    /// At least one, no two on the same address.
    pub listeners: Vec<Listener>,
    /// What requests in flight get when the gateway stops.
    pub shutdown_grace: Duration,
    /// Peers whose `X-Forwarded-*` headers are passed on; those of others are replaced.
    pub trusted_proxies: Trusted,
    /// What one client may take.
    pub limits: ServerLimits,
}

/// `server.limits`: what clients may take of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// From the first octet of a request's head to its last, and of a TLS handshake.
    pub header_timeout: Option<Duration>,
    /// Between octets of a request's body.
    pub body_timeout: Option<Duration>,
    /// How long a connection may be kept without a request.
    pub keepalive_timeout: Option<Duration>,
    /// Octets of a request's head; more is a 431. At least 8,192, as HTTP/1.1 reads in such pieces.
    pub max_header_size: usize,
    /// Header lines of a request; more is a 431.
    pub max_headers: usize,
    /// Octets of a request's body; more is a 413. Already in every [`Route::max_body_size`].
    pub max_body_size: Option<u64>,
    /// Connections at once, over all listeners.
    pub max_connections: Option<usize>,
}

/// One address to listen on.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where.
    pub bind: Bind,
    /// With TLS, its certificates.
    pub tls: Option<ListenerTls>,
    /// Answer every request with a redirect to https on this port; 0 is the one that the first
    /// listener with TLS is given.
    pub redirect_https: Option<u16>,
    /// Every connection begins with a PROXY protocol header, version 1 or 2, whoever the peer is.
    pub proxy_protocol: bool,
}

/// What a listener binds to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// TCP.
    Tcp {
        /// An address or a name, IPv6 without brackets.
        host: String,
        /// 0 takes any that is free.
        port: u16,
        /// Tells those at one host apart whose port is 0, counted from 0 in the file's order.
        nth: usize,
    },
    /// A Unix socket; its folder exists.
    Unix(PathBuf),
}

/// `ssl` of a listener, as its files were when the configuration was read.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// At least one; SNI chooses, and the first is for clients that name none that is known.
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// Clients must show a certificate that one of these authorities has signed.
    pub client_authorities: Option<Arc<RootCertStore>>,
}

/// `admin`: a listener of its own for `/healthz` and `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// An address or a name; loopback by default.
    pub host: String,
    /// 0 takes any that is free.
    pub port: u16,
}

/// `access_log`: a line for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// How it looks.
    pub format: LogFormat,
    /// Appended to; `None` is standard output.
    pub path: Option<PathBuf>,
}

/// What a line of the access log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Apache's combined format.
    Combined,
    /// An object in JSON.
    Json,
}

/// Which requests go where, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// The line of the file it begins at, for messages; 0 where it comes from the command line.
    pub line: usize,
    /// Percent-decoded prefix without a slash at its end; `/` is everything.
    pub path: String,
    /// Hosts it is for; empty for all.
    pub hosts: Vec<HostPattern>,
    /// Methods it is for; empty for all. GET includes HEAD.
    pub methods: Vec<Method>,
    /// Where it goes: at least one, all of one scheme, no two alike, not all of weight 0.
    pub targets: Vec<RouteTarget>,
    /// Cut `path` off what is asked of the target.
    pub strip_prefix: bool,
    /// Which headers cross. User information of a target's URL is in `extra_request`.
    pub headers: Headers,
    /// What becomes of the Domain of cookies that the target sets.
    pub cookie_domain: CookieDomain,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many connections each target may have.
    pub limits: Limits,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Retries for each request, over time; `None` is no bound.
    pub retry_budget: Option<f64>,
    /// Follow redirects instead of passing them on.
    pub follow_redirects: bool,
    /// Whom to trust over TLS, and the client certificate. Read, unless no target has TLS and no file
    /// is named; other routes may have the same.
    pub credentials: Arc<Credentials>,
    /// The name to ask for over TLS and to check the certificate against; `None` is the target's.
    pub server_name: Option<String>,
    /// Which HTTP the target is spoken to in.
    pub http2: Http2,
    /// How WebSockets are watched.
    pub web_sockets: WebSockets,
    /// How a target is chosen.
    pub balance: Balance,
    /// A cookie that keeps a client with its target.
    pub sticky: Option<StickyCookie>,
    /// When a target that fails is left alone.
    pub passive_health: Option<PassiveHealth>,
    /// How long a request waits for room at a target.
    pub queue_timeout: Duration,
    /// How often names of targets are resolved anew, each address a target of its own.
    pub dns_refresh: Option<Duration>,
    /// How many requests a client may make.
    pub rate_limit: Option<RateLimit>,
    /// Octets of a request's body; more is a 413.
    pub max_body_size: Option<u64>,
}

/// One of a route's targets, with what the route says of all of them filled in.
#[derive(Debug, Clone)]
pub struct RouteTarget {
    /// Its address; `upstream_prefix` is behind its base path.
    pub target: Target,
    /// Its share beside the others; 0 gives it nothing.
    pub weight: u32,
    /// Requests at once.
    pub max_in_flight: Option<usize>,
    /// How it is checked.
    pub health_check: Option<HealthCheck>,
}

/// A host as a route names it, in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// All below this one, at any depth: `*.example.org` is `example.org` here.
    Below(String),
}

/// `rewrite_set_cookie_domain`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CookieDomain {
    /// The cookie passes octet for octet.
    #[default]
    Keep,
    /// The attribute goes, which makes the cookie the gateway's host's.
    Drop,
    /// The attribute gets this value.
    Set(String),
}

/// `balance`: how a target is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// In turn, each as often as its weight.
    WeightedRoundRobin,
    /// By chance.
    Random,
    /// The better of two by chance.
    #[default]
    P2c,
    /// With the fewest requests in flight.
    LeastConnections,
    /// The quickest of late.
    LeastLatency,
    /// The same for the same key.
    ConsistentHash(HashKey),
}

/// `sticky`: the cookie that keeps a client with its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyCookie {
    /// Its name.
    pub name: String,
    /// What its value is made with.
    pub secret: Option<Secret>,
    /// Seconds it lives; `None` is until the browser closes.
    pub max_age: Option<u64>,
    /// Its Path.
    pub path: String,
    /// Its SameSite.
    pub same_site: SameSite,
    /// Its Secure; `None` is as the client's connection is.
    pub secure: Option<bool>,
}

/// Text that nothing shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// `health_check`: requests that find out whether a target is well.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// Asked for, behind the target's own base path.
    pub path: String,
    /// Between two.
    pub interval: Duration,
    /// Until one counts as failed.
    pub timeout: Duration,
    /// HEAD by default.
    pub method: Method,
    /// Sent with it, beside Host and User-Agent.
    pub headers: HeaderMap,
    /// Answers that are well.
    pub expected_statuses: Vec<RangeInclusive<u16>>,
    /// Good ones in a row that make a target healthy.
    pub rise: u32,
    /// Bad ones in a row that make it unhealthy.
    pub fall: u32,
    /// The interval varies by this share, 0 to 1.
    pub jitter: f64,
}

/// `rate_limit`: a token bucket for each client.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Tokens that come per second, more than 0.
    pub rate: f64,
    /// Tokens that a bucket holds, at least 1.
    pub burst: u32,
    /// What tells clients apart.
    pub key: RateKey,
}

/// What tells clients apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// The client's address.
    ClientAddress,
    /// The value of this header; requests without it share one bucket.
    Header(HeaderName),
}
