//! A relay that runs: the policies and the pool that belong to one configuration, and the
//! exchanges that are in flight.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};
use tokio::sync::{Notify, watch};

use super::balance::affinity::Affinity;
use super::balance::set::Balancer;
use super::balance::settings::Balancing;
use super::body::Source;
use super::config::Config;
use super::policy::budget::RetryBudget;
use super::policy::cookie::without_cookie;
use super::policy::headers::retain;
use super::policy::request::{BadRequest, Connection, Framing, Line, RequestPolicy};
use super::policy::response::ResponsePolicy;
use super::slots::Slots;
use super::target::ASTERISK;
use super::upstream::connect::{Connector, Speech};
use super::upstream::tls::TlsError;
use super::websocket::handshake::Handshake;

/// What a client asks for, as far as a relay cares.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'a, L> {
    /// The method.
    pub method: &'a str,
    /// The path below the mount, octets as the client sent them.
    pub path: &'a [u8],
    /// The query without its `?`.
    pub query: &'a [u8],
    /// Header lines.
    pub headers: &'a [L],
    /// Lines of whoever passes this request on, which stand in place of all others of their names.
    pub given: &'a [L],
    /// The client's connection.
    pub connection: Connection<'a>,
}

impl<'a, L: Line> Inbound<'a, L> {
    /// The values of the lines with this name: the given ones, else the client's.
    pub fn values(&self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let lines = match self.given.iter().any(|line| line.is_named(name)) {
            true => self.given,
            false => self.headers,
        };
        let named = lines.iter().filter(move |line| line.is_named(name));
        named.map(Line::octets)
    }
}

/// A request as it will go upstream.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query on the upstream.
    pub target: PathAndQuery,
    /// Headers without framing, which [`Request::body`] decides.
    pub headers: HeaderMap,
    /// The body, to be set by whoever reads it from the client.
    pub body: Source,
    /// How the client framed the body.
    pub framing: Framing,
    /// The handshake, where the client wants a WebSocket.
    pub handshake: Option<Handshake>,
    /// Host is to be the authority of whichever target is chosen.
    pub own_host: bool,
    /// The client asked for the mount itself, without a slash at its end.
    pub at_mount: bool,
    /// What speaks for one target rather than another.
    pub affinity: Option<Box<Affinity>>,
    /// The names of the headers that were given for it alone.
    pub given: Vec<HeaderName>,
    /// When it came, where somebody has asked the clock already: its first turn begins then, unless
    /// it has to wait for one.
    pub came: Option<Instant>,
}

impl Request {
    /// Has it go to the target with this URL, where that is fit for it.
    pub fn prefer(&mut self, url: String) {
        self.affinity.get_or_insert_default().preferred = Some(url);
    }
}

/// Something in flight, as the end of its relay sees it.
pub trait Ongoing: Debug + Send + Sync {
    /// Ends it at once: 502 where no response has begun, else a broken one.
    fn cut(&self);
}

/// A configuration at work.
#[derive(Debug)]
pub struct Relay {
    pub(super) config: Config,
    pub(super) request_policy: RequestPolicy,
    pub(super) response_policy: ResponsePolicy,
    balancer: Arc<Balancer>,
    budget: Option<Mutex<RetryBudget>>,
    in_flight: Mutex<Slots<Arc<dyn Ongoing>>>,
    drained: Notify,
    phase: watch::Sender<Phase>,
}

/// How far a relay is with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Running,
    Leaving,
    Over,
}

impl Relay {
    /// A relay that has no connection yet.
    ///
    /// # Errors
    /// Where the certificates or keys for TLS cannot be used.
    pub fn new(config: Config) -> Result<Arc<Self>, TlsError> {
        let headers = config.headers.clone();
        let speech = Speech {
            http2: config.http2,
            server_name: config.server_name.clone(),
            max_headers: config.max_headers,
        };
        if config.target.origin().secure {
            config.credentials.read()?;
        }
        let credentials = Arc::clone(&config.credentials);
        let connector = Arc::new(Connector::new(credentials, speech, config.timeouts));
        let mut response_policy =
            ResponsePolicy::new(headers.drop_response, headers.allow_response);
        if headers.trailers {
            response_policy = response_policy.with_trailers();
        }
        Ok(Arc::new(Self {
            request_policy: RequestPolicy::new(
                config.target.authority().clone(),
                headers.preserve_host,
                headers.extra_request,
                headers.drop_request,
                headers.allow_request,
            ),
            response_policy,
            balancer: Balancer::new(
                config.targets.clone(),
                config.balancing.clone(),
                connector,
                config.limits,
                config.timeouts,
            ),
            budget: match config.balancing.retry_budget {
                Some(ratio) if config.retry.max_retries > 0 => {
                    Some(Mutex::new(RetryBudget::new(ratio)))
                }
                _ => None,
            },
            config,
            in_flight: Mutex::default(),
            drained: Notify::new(),
            phase: watch::Sender::new(Phase::Running),
        }))
    }

    /// The request that goes upstream for what a client sent, with no body yet.
    ///
    /// # Errors
    /// What makes the request unfit to be passed on.
    pub fn prepare(&self, inbound: &Inbound<'_, impl Line>) -> Result<Request, BadRequest> {
        let method =
            Method::from_bytes(inbound.method.as_bytes()).map_err(|_| BadRequest::Method)?;
        if method == Method::CONNECT {
            return Err(BadRequest::Method);
        }
        let target = &self.config.target;
        let asterisk = method == Method::OPTIONS
            && inbound.path == ASTERISK.as_bytes()
            && inbound.query.is_empty();
        let target = match target.asterisk().filter(|_| asterisk) {
            Some(asterisk) => asterisk,
            None => target.join(inbound.path, inbound.query)?,
        };
        let mut outgoing =
            self.request_policy
                .headers(inbound.headers, inbound.given, &inbound.connection)?;
        let Balancing { hash, sticky, .. } = &self.config.balancing;
        let affinity = (hash.is_some() || sticky.is_some()).then(|| {
            let (hash, sticky) = (hash.as_ref(), sticky.as_deref());
            Box::new(Affinity::read(inbound, hash, sticky))
        });
        if let (Some(sticky), Some(affinity)) = (sticky, &affinity)
            && !affinity.cookies.is_empty()
        {
            // It is the relay's own.
            without_cookie(&mut outgoing.headers, &sticky.name);
        }
        Ok(Request {
            method,
            target,
            own_host: outgoing.own_host,
            at_mount: inbound.path.is_empty(),
            affinity,
            headers: outgoing.headers,
            body: Source::Empty,
            framing: outgoing.framing,
            handshake: None,
            given: outgoing.given,
            came: None,
        })
    }

    /// Whether a header of this name goes upstream as a client sent it; of trailers, too.
    #[must_use]
    pub fn passes(&self, name: &HeaderName) -> bool {
        self.request_policy.passes(name)
    }

    /// Whether the lists let a header of this name go upstream, whoever it is for.
    #[must_use]
    pub fn allows(&self, name: &HeaderName) -> bool {
        self.request_policy.allows(name)
    }

    /// Whether the configuration gives every request a header of this name.
    #[must_use]
    pub fn gives(&self, name: &HeaderName) -> bool {
        self.request_policy.gives(name)
    }

    /// Takes out of a response's trailers what does not go back to the client.
    pub fn clean_trailers(&self, trailers: &mut HeaderMap) {
        retain(trailers, |name| self.response_policy.passes_behind(name));
    }

    /// The handshake that goes upstream for what a client sent.
    ///
    /// # Errors
    /// What makes it unfit to be passed on.
    pub fn prepare_handshake(
        &self,
        inbound: &Inbound<'_, impl Line>,
        subprotocols: Vec<String>,
    ) -> Result<Request, BadRequest> {
        let handshake = Handshake::new(subprotocols);
        let mut request = self.prepare(inbound)?;
        handshake.apply(&mut request.headers)?;
        Ok(Request {
            framing: Framing::None,
            handshake: Some(handshake),
            ..request
        })
    }

    fn lock(&self) -> MutexGuard<'_, Slots<Arc<dyn Ongoing>>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The targets.
    #[must_use]
    pub fn balancer(&self) -> &Arc<Balancer> {
        &self.balancer
    }

    /// Saves up for retries.
    pub(super) fn deposit(&self) {
        if let Some(budget) = &self.budget {
            let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.deposit();
        }
    }

    /// Whether one more retry is within the budget.
    pub(super) fn affords_retry(&self) -> bool {
        self.budget.as_ref().is_none_or(|budget| {
            let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.withdraw(Instant::now())
        })
    }

    /// Counts an exchange among those in flight, from before it is submitted.
    #[must_use]
    pub fn enter(self: Arc<Self>, mailbox: Arc<dyn Ongoing>) -> InFlight {
        let number = self.lock().insert(mailbox);
        InFlight {
            relay: self,
            number,
        }
    }

    /// Waits until the end begins: what would not end by itself has to.
    pub async fn leaving(&self) {
        self.reach(Phase::Leaving).await;
    }

    /// What tells, without a lock, whether the end has come nearer since: as long as it has not, what
    /// waits for it and has been polled need not be polled again by the same task.
    pub fn changes(&self) -> impl Fn() -> bool + use<> {
        let phase = self.phase.subscribe();
        move || phase.has_changed().unwrap_or(true)
    }

    /// Waits until nothing may be in flight any more.
    pub async fn over(&self) {
        self.reach(Phase::Over).await;
    }

    async fn reach(&self, wanted: Phase) {
        // The sender lives as long as `self`.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|phase| *phase >= wanted)
            .await;
    }

    /// Waits for the exchanges in flight, at most `grace`; then cuts those that are left. Idle
    /// connections are closed at once.
    pub async fn drain(&self, grace: Duration) {
        self.balancer.close();
        self.phase.send_replace(Phase::Leaving);
        if tokio::time::timeout(grace, self.idle()).await.is_err() {
            self.cut();
            // Their tasks end at once; one that was never submitted may take for ever.
            let _ = tokio::time::timeout(LAST_ROUND, self.idle()).await;
        }
    }

    /// Ends all exchanges in flight: 502 where no response has begun, a broken one elsewhere.
    pub fn cut(&self) {
        self.phase.send_replace(Phase::Over);
        let left: Vec<_> = self.lock().iter().cloned().collect();
        for mailbox in left {
            mailbox.cut();
        }
    }

    async fn idle(&self) {
        loop {
            let drained = self.drained.notified();
            if self.lock().is_empty() {
                return;
            }
            drained.await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Its checks would go on.
        self.balancer.close();
    }
}

/// How long tasks that were cut have to end.
const LAST_ROUND: Duration = Duration::from_millis(100);

/// Keeps an exchange in the list of those in flight.
#[derive(Debug)]
pub struct InFlight {
    relay: Arc<Relay>,
    number: usize,
}

impl InFlight {
    /// The relay that the exchange belongs to.
    #[must_use]
    pub fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut in_flight = self.relay.lock();
        let mailbox = in_flight.remove(self.number);
        let drained = in_flight.is_empty();
        drop(in_flight);
        drop(mailbox);
        if drained {
            self.relay.drained.notify_waiters();
        }
    }
}
