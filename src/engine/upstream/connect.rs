//! Opening a connection: resolve, connect, TLS, which HTTP, all within `timeout.connect`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::dial;
use super::rest::{self, Awake, Io, Rest};
use super::sender::{self, Sender};
use super::socket::{Socket, SocketIo};
use super::tls::{Credentials, TlsError};
use crate::engine::config::{Http2, Timeouts};
use crate::engine::error::{Error, Kind};
use crate::engine::io::stream::Stream;
use crate::engine::target::{Endpoint, Origin};
use crate::engine::timer::Timer;

const NOT_IN_TIME: &str = "not connected in time";

/// What is spoken over with TLS. Boxed: a connection's task would have room for it besides hyper.
/// Whoever takes an upgraded connection apart asks for this type.
pub type SecureIo = Box<TlsStream<SocketIo>>;

/// A connection that can send a request.
#[derive(Debug)]
pub struct Connection {
    /// What has it rest, if it can. Dropped before hyper's handle, whose drop has the task look.
    pub rest: Option<Rest>,
    /// hyper's handle.
    pub sender: Sender,
    /// The task that reads and writes; aborting it closes the connection.
    pub task: AbortHandle,
    /// The socket, while the task lives.
    pub socket: Weak<Socket>,
    /// Of whoever waits for a response, and then for the next one.
    pub timer: Timer,
}

/// What a connection is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// One request after another.
    Requests,
    /// One handshake of another protocol.
    Upgrade,
}

/// What is spoken over connections, and to whom.
#[derive(Debug, Clone)]
pub struct Speech {
    /// Which HTTP.
    pub http2: Http2,
    /// The name to ask for over TLS, where it is not the host's.
    pub server_name: Option<String>,
    /// Header lines of a response in HTTP/1.1 at most.
    pub max_headers: usize,
}

/// Opens connections.
#[derive(Debug)]
pub struct Connector {
    credentials: Arc<Credentials>,
    /// For requests, and for handshakes of other protocols.
    tls: [OnceLock<Arc<ClientConfig>>; 2],
    speech: Speech,
    timeouts: Timeouts,
}

impl Connector {
    /// A connector that has its credentials read when it first needs them, unless they have been.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>, speech: Speech, timeouts: Timeouts) -> Self {
        Self {
            credentials,
            tls: Default::default(),
            speech,
            timeouts,
        }
    }

    /// The TLS configuration, made at the first call.
    fn tls(&self, purpose: Purpose) -> Result<Arc<ClientConfig>, TlsError> {
        let [requests, upgrades] = &self.tls;
        let (place, protocols): (_, &[&str]) = match (purpose, self.speech.http2) {
            (Purpose::Upgrade, _) => (upgrades, &["http/1.1"]),
            (Purpose::Requests, Http2::Never) => (requests, &["http/1.1"]),
            (Purpose::Requests, Http2::Auto) => (requests, &["h2", "http/1.1"]),
            (Purpose::Requests, Http2::Always) => (requests, &["h2"]),
        };
        if let Some(config) = place.get() {
            return Ok(Arc::clone(config));
        }
        let config = self.credentials.client(protocols)?;
        Ok(Arc::clone(place.get_or_init(|| Arc::new(config))))
    }

    /// Whether requests to `origin` may share a connection.
    #[must_use]
    pub fn may_multiplex(&self, origin: &Origin) -> bool {
        match self.speech.http2 {
            Http2::Never => false,
            Http2::Auto => origin.secure,
            Http2::Always => true,
        }
    }

    /// A connection to `origin`.
    ///
    /// # Errors
    /// [`Kind::Resolve`], [`Kind::Connect`], [`Kind::Tls`] or [`Kind::ConnectTimeout`].
    pub async fn connect(&self, origin: &Origin, purpose: Purpose) -> Result<Connection, Error> {
        self.in_time(self.open(origin, purpose)).await
    }

    /// Bounds work by the time that a connection may take.
    ///
    /// # Errors
    /// The work's own, or [`Kind::ConnectTimeout`].
    pub async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(limit) = self.timeouts.connect else {
            return connecting.await;
        };
        tokio::time::timeout(limit, connecting)
            .await
            .unwrap_or_else(|_| Err(Error::not_sent(Kind::ConnectTimeout, NOT_IN_TIME)))
    }

    /// The addresses of a name, by the system's resolver, in its order.
    ///
    /// # Errors
    /// What the resolver says.
    pub async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn open(&self, origin: &Origin, purpose: Purpose) -> Result<Connection, Error> {
        let (stream, host) = match &origin.endpoint {
            Endpoint::Tcp { host, port } => {
                let begun = Instant::now();
                let addresses = match origin.address {
                    Some(address) => vec![SocketAddr::new(address, *port)],
                    None => self.resolve(host, *port).await.map_err(|_| {
                        Error::not_sent(Kind::Resolve, "the name cannot be resolved")
                    })?,
                };
                let limit = self.timeouts.connect;
                let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
                let stream = dial(addresses, left).await;
                let stream = stream.map_err(|error| connect_error(&error))?;
                (Stream::Tcp(stream), host.as_str())
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| connect_error(&error))?;
                (Stream::Unix(stream), "localhost")
            }
        };
        let io = SocketIo::new(stream, self.timeouts.write);
        let always = self.speech.http2 == Http2::Always && purpose == Purpose::Requests;
        if !origin.secure {
            return self.serve(io, purpose, always).await;
        }
        // Boxed: whoever connects without it would carry its state.
        Box::pin(self.secure(io, host, purpose, always)).await
    }

    async fn secure(
        &self,
        io: SocketIo,
        host: &str,
        purpose: Purpose,
        always: bool,
    ) -> Result<Connection, Error> {
        let tls_error = |reason: String| Error::not_sent(Kind::Tls, reason);
        let config = self
            .tls(purpose)
            .map_err(|error| tls_error(error.to_string()))?;
        let host = self.speech.server_name.as_deref().unwrap_or(host);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| tls_error(error.to_string()))?;
        let io = TlsConnector::from(config).connect(name, io).await;
        // rustls names the certificate's fault, never a secret.
        let io = io.map_err(|error| tls_error(error.to_string()))?;
        let http2 = always || io.get_ref().1.alpn_protocol() == Some(b"h2");
        self.serve(SecureIo::new(io), purpose, http2).await
    }

    /// Speaks HTTP over `io` in a task of its own.
    async fn serve(&self, io: impl Io, purpose: Purpose, http2: bool) -> Result<Connection, Error> {
        let socket = Arc::downgrade(io.socket());
        if http2 {
            let (sender, work) = Box::pin(sender::handshake(io)).await?;
            return Ok(Connection {
                rest: None,
                sender: Sender::Http2(sender),
                task: tokio::spawn(work).abort_handle(),
                socket,
                timer: Timer::default(),
            });
        }
        let max_headers = self.speech.max_headers;
        let served = match purpose {
            Purpose::Requests => rest::serve(io, max_headers)
                .await
                .map(|(Awake { sender, rest }, task)| (sender, task, Some(rest))),
            Purpose::Upgrade => rest::http1(max_headers)
                .handshake(TokioIo::new(io))
                .await
                .map(|(sender, connection)| {
                    // Its error reaches whoever waits for the response.
                    let task = tokio::spawn(connection.with_upgrades());
                    (sender, task.abort_handle(), None)
                }),
        };
        let (sender, task, rest) =
            served.map_err(|_| Error::not_sent(Kind::Connect, "the connection was closed"))?;
        Ok(Connection {
            rest,
            sender: Sender::Http1(sender),
            task,
            socket,
            timer: Timer::default(),
        })
    }
}

/// The kind of a failed connection; the detail is the operating system's word without the address.
fn connect_error(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::not_sent(Kind::ConnectTimeout, NOT_IN_TIME),
        // Of a Unix socket; the standard library calls it an entity.
        ErrorKind::NotFound => Error::not_sent(Kind::Connect, "no such file"),
        kind => Error::not_sent(Kind::Connect, kind.to_string()),
    }
}
