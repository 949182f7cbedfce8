//! Reloads that change where a gateway listens. A port that it leaves for a while is at an address
//! that no other test listens at, as that would be given it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::iter;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use asgi_relay::gateway::plan::PlanError;

use crate::server::support::{PATIENCE, Peer, Upstream, ok, port_of, settings, start};

fn listening(host: &str, port: &str, workers: usize, url: &str) -> String {
    format!(
        "server:\n  workers: {workers}\n  listeners: [{{host: {host}, port: {port}}}]\nroutes: \
         [{{targets: \"{url}\"}}]\n"
    )
}

/// Asks over a new connection, and again where that is reset: one whose handshake is still under way
/// when a worker stops listening is.
fn asked(address: &str) -> String {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let is_reset = |asked: &io::Result<String>| match asked {
        Ok(_) => false,
        Err(error) => {
            let kind = error.kind();
            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        }
    };
    let answer = iter::repeat_with(ask).find(|asked| !is_reset(asked));
    answer.unwrap().unwrap()
}

#[test]
fn a_listener_changes_its_host_and_keeps_its_port() {
    for workers in [1, 3] {
        let url = Upstream::bind().serve(|_| ok("in"));
        let gateway = start(&listening("127.0.0.1", "0", workers, &url));
        let port = port_of(&gateway);
        let reach = |host: &str| TcpStream::connect(format!("{host}:{port}"));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let clients: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            let answer = asked(&format!("127.0.0.1:{port}"));
                            assert!(answer.ends_with("\r\n\r\nin"), "{answer}");
                        }
                    })
                })
                .collect();
            let hosts = ["0.0.0.0", "localhost", "127.0.0.1", "0.0.0.0", "127.0.0.1"];
            let reloaded = hosts.into_iter().try_for_each(|host| {
                gateway.reload(settings(&listening(host, &port, workers, &url)))?;
                // The old one may take a moment to leave.
                while reach("127.0.0.2").is_ok() != (host == "0.0.0.0") {}
                Ok::<_, PlanError>(())
            });
            over.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().unwrap();
            }
            reloaded.unwrap();
            assert_eq!(gateway.addresses(), [format!("127.0.0.1:{port}")]);
        });
    }
}

#[test]
fn a_host_that_cannot_be_had_changes_nothing() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&listening("127.0.0.1", "0", 2, &url));
    let address = gateway.addresses().remove(0);
    let port = port_of(&gateway);
    let occupant = TcpListener::bind(format!("127.0.0.2:{port}")).unwrap();
    let wide = settings(&listening("0.0.0.0", &port, 2, &url));
    let error = gateway.reload(wide.clone()).unwrap_err();
    let expected = format!("cannot listen on 0.0.0.0:{port}: the address is in use");
    assert_eq!(error.to_string(), expected);
    assert_eq!(gateway.addresses(), [address]);
    assert_eq!(Peer::client(&gateway).get("/", "").1, b"in");
    drop(occupant);
    gateway.reload(wide).unwrap();
    // Where only the new socket listens: a connection is reset that comes as the old one is closed.
    let mut client = Peer::new(TcpStream::connect(format!("127.0.0.2:{port}")).unwrap());
    assert_eq!(client.get("/", "").1, b"in");
    // What stays is no more in the way of its neighbours than at a start.
    let text = listening("127.0.0.1", &port, 2, &url).replace(
        "listeners: [",
        &format!(
            "listeners: [{{host: 127.0.0.2, port: {port}}}, {{host: 0.0.0.0, port: {port}}}, "
        ),
    );
    assert!(gateway.reload(settings(&text)).is_err());
    assert_eq!(gateway.addresses(), [format!("0.0.0.0:{port}")]);
}

#[test]
fn a_listener_that_goes_before_it_is_looked_at_has_lost_nobody() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&listening("127.0.0.1", "0", 1, &url));
    let port = port_of(&gateway);
    let settings = ["0.0.0.0", "127.0.0.1"].map(|host| settings(&listening(host, &port, 1, &url)));
    for _ in 0..20 {
        gateway.reload(settings[0].clone()).unwrap();
        let mut client = Peer::new(TcpStream::connect(format!("127.0.0.2:{port}")).unwrap());
        gateway.reload(settings[1].clone()).unwrap();
        assert_eq!(client.get("/", "").1, b"in");
    }
}

#[test]
fn a_port_that_was_left_just_now_may_be_had_again() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&listening("127.0.0.11", "0", 2, &url));
    let port = port_of(&gateway);
    let [first, second] =
        ["127.0.0.11", "127.0.0.12"].map(|host| settings(&listening(host, &port, 2, &url)));
    // A worker that has not left yet is not waited for.
    for _ in 0..50 {
        gateway.reload(second.clone()).unwrap();
        gateway.reload(first.clone()).unwrap();
    }
    let address = gateway.addresses().remove(0);
    assert!(asked(&address).ends_with("\r\n\r\nin"));
}

#[test]
fn a_gateway_that_is_full_may_come_back_to_a_port() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let text = |host: &str, port: &str| {
        listening(host, port, 1, &url).replace("workers", "limits: {max_connections: 1}\n  workers")
    };
    let gateway = start(&text("127.0.0.11", "0"));
    let port = port_of(&gateway);
    let mut first = Peer::client(&gateway);
    first.say("GET / HTTP/1.1\r\nho");
    // Waits for room, and the old listener with it.
    let mut second = Peer::client(&gateway);
    gateway
        .reload(settings(&text("127.0.0.12", &port)))
        .unwrap();
    gateway
        .reload(settings(&text("127.0.0.11", &port)))
        .unwrap();
    first.say("st: h\r\nconnection: close\r\n\r\n");
    assert_eq!(first.message().1, b"in");
    assert_eq!(second.get("/", "connection: close\r\n").1, b"in");
    assert_eq!(Peer::client(&gateway).get("/", "").1, b"in");
}

#[test]
fn a_kept_connection_goes_by_what_its_listener_does_by_now() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let text = listening("127.0.0.1", "0", 1, &url);
    let redirecting = text.replace("port: 0", "port: 0, redirect_https: 8443");
    let gateway = start(&text);
    let mut client = Peer::client(&gateway);
    for (text, status) in [(&text, "200"), (&redirecting, "308"), (&text, "200")] {
        gateway.reload(settings(text)).unwrap();
        let (head, _) = client.get("/", "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
    // One whose listener goes stays with what that did when they met.
    gateway.reload(settings(&redirecting)).unwrap();
    let mut client = Peer::client(&gateway);
    // They have met once it is answered: until then the system alone knows of it.
    assert!(client.get("/", "").0.starts_with("HTTP/1.1 308"));
    let elsewhere = text.replace("127.0.0.1", "localhost");
    gateway.reload(settings(&elsewhere)).unwrap();
    assert!(client.get("/", "").0.starts_with("HTTP/1.1 308"));
}
