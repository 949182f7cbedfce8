//! What the engine's tests have in common: an upstream that a test plays by hand, relays to it, and
//! counters for wakes.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use asgi_relay::engine::balance::settings::{Balancing, TargetSettings};
use asgi_relay::engine::body::{ResponseBody, Source};
use asgi_relay::engine::config::{Config, Headers, Http2, Limits, Timeouts, WebSockets};
use asgi_relay::engine::deliver::{ExchangeMailbox, deliver};
use asgi_relay::engine::doorbell::Doorbell;
use asgi_relay::engine::error::{Error, Kind};
use asgi_relay::engine::mailbox::Mailbox;
use asgi_relay::engine::policy::request::{Connection, Framing};
use asgi_relay::engine::policy::retry::RetryPolicy;
use asgi_relay::engine::relay::{Inbound, Relay, Request};
use asgi_relay::engine::target::Target;
use asgi_relay::engine::upstream::tls::{Credentials, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// After this long a test fails instead of waiting for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream whose part a test plays.
pub(crate) struct Upstream(TcpListener);

impl Upstream {
    pub(crate) async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(PATIENCE, self.0.accept())
            .await
            .expect("a connection")
            .unwrap();
        Peer(stream)
    }

    /// Whether a connection waits to be accepted.
    pub(crate) async fn has_connection(&self) -> bool {
        timeout(Duration::ZERO, self.0.accept()).await.is_ok()
    }
}

/// The upstream's end of a connection.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    /// The head of the next request.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// What comes until `mark`, octet by octet, so that nothing behind it is lost.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(mark) {
            let octet = timeout(PATIENCE, self.0.read_u8()).await;
            text.push(
                octet
                    .unwrap_or_else(|_| panic!("only {text:?}"))
                    .unwrap()
                    .into(),
            );
        }
        text
    }

    pub(crate) async fn say(&mut self, octets: impl AsRef<[u8]>) {
        self.0.write_all(octets.as_ref()).await.unwrap();
    }

    /// Waits for the end of the connection; what came before it.
    pub(crate) async fn ended(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        // A reset is an end, too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut octets))
            .await
            .expect("the end");
        octets
    }
}

/// A configuration with no time limits and no retries.
pub(crate) fn config(url: &str) -> Config {
    let target = Arc::new(Target::parse(url, "/").unwrap());
    Config {
        targets: vec![TargetSettings::new(Arc::clone(&target))],
        target,
        balancing: Balancing::default(),
        timeouts: Timeouts {
            connect: None,
            read: None,
            write: None,
            pool: None,
        },
        limits: Limits {
            max_connections: Some(10),
            max_keepalive_connections: Some(10),
            keepalive_expiry: Some(Duration::from_secs(5)),
        },
        headers: Headers::default(),
        retry: RetryPolicy {
            max_retries: 0,
            backoff_factor: 0.0,
            statuses: Vec::new(),
            kinds: Vec::new(),
            non_idempotent: false,
        },
        follow_redirects: false,
        credentials: Credentials::new(Trust::Anyone, None),
        server_name: None,
        http2: Http2::Never,
        max_headers: 256,
        in_memory: false,
        web_sockets: WebSockets::default(),
        report: false,
    }
}

pub(crate) fn relay(config: Config) -> Arc<Relay> {
    Relay::new(config).unwrap()
}

pub(crate) fn request(relay: &Relay, method: &str, path: &str) -> Box<Request> {
    let connection = Connection {
        client: None,
        secure: false,
        multiplexed: false,
        origin: None,
    };
    let inbound = Inbound {
        method,
        path: path.as_bytes(),
        query: b"",
        headers: &[] as &[(&[u8], &[u8])],
        given: &[],
        connection,
    };
    Box::new(relay.prepare(&inbound).unwrap())
}

/// A request with a whole body.
pub(crate) fn post(relay: &Relay, body: &'static [u8]) -> Box<Request> {
    let mut request = request(relay, "POST", "/");
    request.framing = Framing::Length(body.len() as u64);
    request.body = Source::Whole(body.into());
    request
}

/// A mailbox that nobody is woken for; also an observer.
pub(crate) fn mailbox() -> Arc<ExchangeMailbox> {
    Mailbox::new(Doorbell::new(|| {}))
}

/// Asks for `/` as a task of its own, as the bridge does.
pub(crate) fn spawn(relay: &Arc<Relay>, mailbox: &Arc<ExchangeMailbox>) {
    let (request, mailbox) = (request(relay, "GET", "/"), Arc::clone(mailbox));
    let in_flight = Arc::clone(relay).enter(Arc::clone(&mailbox) as _);
    tokio::spawn(deliver(in_flight, request, mailbox));
}

/// Runs one exchange to the end of its body.
pub(crate) async fn fetch(relay: &Relay, request: Box<Request>) -> Result<(u16, Vec<u8>), Kind> {
    let response = relay
        .exchange(request, &*mailbox())
        .await
        .map_err(|error| error.kind())?;
    let body = read(response.answer.body)
        .await
        .map_err(|error| error.kind())?;
    Ok((response.answer.status.as_u16(), body))
}

pub(crate) async fn read(mut body: ResponseBody) -> Result<Vec<u8>, Error> {
    let mut octets = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, poll_fn(|context| body.poll_next(context)))
        .await
        .expect("a chunk")
    {
        octets.extend_from_slice(&chunk?);
    }
    Ok(octets)
}

/// A small response that keeps the connection.
pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Lets everything that can run on this thread run.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Counts its wakes.
pub(crate) struct Alarm(AtomicUsize);

impl Alarm {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0)))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A doorbell, and how often it woke its loop.
pub(crate) fn counting_doorbell() -> (Doorbell, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&wakes);
    let ring = move || {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    (Doorbell::new(ring), wakes)
}
