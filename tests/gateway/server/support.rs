//! What these tests have in common: a gateway from a few lines of YAML, upstreams and clients that
//! a test plays by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use asgi_relay::gateway::config::settings::Settings;
use asgi_relay::gateway::config::{Overrides, from_text};
use asgi_relay::gateway::{Gateway, Handle};
use socket2::{Domain, SockRef, Socket, Type};

/// Where nobody listens. No port that was free just now: another test may be given that.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

/// After this long a test fails instead of waiting for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a file would say; `{upstream}` stands for the upstream's address.
pub(crate) fn settings(text: &str) -> Settings {
    let loaded = from_text(
        text,
        "gateway.yaml",
        Path::new("/"),
        &|_: &str| Err(std::env::VarError::NotPresent),
        &Overrides::default(),
    );
    loaded.unwrap_or_else(|error| panic!("{error}")).settings
}

/// A gateway on any port, with one worker.
pub(crate) fn start(text: &str) -> Handle {
    Gateway::start(settings(text)).unwrap()
}

/// Everything to one upstream, and `more` of `server`'s keys.
pub(crate) fn relaying(upstream: &Upstream, more: &str) -> String {
    format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n{more}\n  reverse_proxy:\n    - path: \
         /\n      targets: [{}]\n",
        upstream.url()
    )
}

/// An upstream, a gateway in front of it with `more` of `server`'s keys, and a client of that.
pub(crate) fn set_up(more: &str) -> (Upstream, Handle, Peer) {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, more));
    let client = Peer::client(&gateway);
    (upstream, gateway, client)
}

/// The same once `request` is in flight: its head has gone upstream, to the last one.
pub(crate) fn in_flight(more: &str, request: &str) -> (Upstream, Handle, Peer, Peer) {
    let (upstream, gateway, mut client) = set_up(more);
    client.say(request);
    let mut peer = upstream.accept();
    peer.head();
    (upstream, gateway, client, peer)
}

/// An upstream whose part a test plays.
pub(crate) struct Upstream(TcpListener);

impl Upstream {
    pub(crate) fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Linux has it hold for accepting, too: a connection that never comes is no endless wait.
        SockRef::from(&listener)
            .set_read_timeout(Some(PATIENCE))
            .unwrap();
        Self(listener)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().unwrap();
        Peer::new(stream)
    }

    /// Whether a connection waits to be accepted.
    pub(crate) fn has_connection(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let found = self.0.accept().is_ok();
        self.0.set_nonblocking(false).unwrap();
        found
    }

    /// Answers requests on as many connections as come, in threads, until the test is over.
    pub(crate) fn serve(self, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
        let url = self.url();
        let answer = std::sync::Arc::new(answer);
        std::thread::spawn(move || {
            SockRef::from(&self.0).set_read_timeout(None).unwrap();
            for stream in self.0.incoming() {
                let (mut peer, answer) = (Peer::new(stream.unwrap()), answer.clone());
                std::thread::spawn(move || {
                    while let Some(head) = peer.next_head() {
                        peer.say(answer(&head));
                    }
                });
            }
        });
        url
    }
}

/// The port of a gateway's first listener.
pub(crate) fn port_of(gateway: &Handle) -> String {
    let address: SocketAddr = gateway.addresses()[0].parse().unwrap();
    address.port().to_string()
}

/// What comes until `mark`, octet by octet, so that nothing behind it is lost.
pub(crate) fn until(stream: &mut impl Read, mark: &str) -> String {
    let mut text = Vec::new();
    let mut octet = [0];
    while !text.ends_with(mark.as_bytes()) {
        let read = stream.read(&mut octet);
        let so_far = || String::from_utf8_lossy(&text).into_owned();
        match read {
            Ok(1) => text.push(octet[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => panic!("{other:?} after {:?}, no {mark:?}", so_far()),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// One end of a connection, whose part a test plays.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// A client of the gateway's first listener.
    pub(crate) fn client(gateway: &Handle) -> Self {
        Self::new(TcpStream::connect(&gateway.addresses()[0]).unwrap())
    }

    /// One that has room for so many octets of what it does not read.
    pub(crate) fn narrow(gateway: &Handle, octets: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(octets).unwrap();
        let address: SocketAddr = gateway.addresses()[0].parse().unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket.into())
    }

    pub(crate) fn say(&mut self, octets: impl AsRef<[u8]>) {
        self.0.write_all(octets.as_ref()).unwrap();
    }

    /// What comes until `mark`.
    pub(crate) fn until(&mut self, mark: &str) -> String {
        until(&mut self.0, mark)
    }

    /// A head; `None` at the end of the connection.
    pub(crate) fn next_head(&mut self) -> Option<String> {
        let mut first = [0];
        self.0.read_exact(&mut first).ok()?;
        let rest = self.until("\r\n\r\n");
        Some(format!("{}{rest}", char::from(first[0])))
    }

    /// A head.
    pub(crate) fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    /// A head and a body of the length that it announces.
    pub(crate) fn message(&mut self) -> (String, Vec<u8>) {
        let head = self.head();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        (head, self.exactly(length))
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.0.read_exact(&mut octets).unwrap();
        octets
    }

    /// All that comes until the end of the connection; a reset is an end, too.
    pub(crate) fn ended(&mut self) -> String {
        let mut octets = Vec::new();
        let mut space = [0; 4096];
        loop {
            match self.0.read(&mut space) {
                Ok(0) => break,
                Ok(count) => octets.extend_from_slice(&space[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&octets)),
            }
        }
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Sends a request without a body and reads the whole answer.
    pub(crate) fn get(&mut self, path: &str, headers: &str) -> (String, Vec<u8>) {
        self.say(format!(
            "GET {path} HTTP/1.1\r\nhost: gateway\r\n{headers}\r\n"
        ));
        self.message()
    }
}

/// The value of a header in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Every line of a head, in lower case.
pub(crate) fn lines(head: &str) -> Vec<String> {
    head.lines().map(str::to_ascii_lowercase).collect()
}

/// A small response that keeps the connection.
pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
