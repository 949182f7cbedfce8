//! Stopping: what is in flight, what waits, and who is told.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::server::support::{PATIENCE, Peer, Upstream, header, in_flight, ok, relaying, start};

/// Whether somebody listens there. Who connects as a listener leaves is ignored, and the system asks
/// again only after a second, which is longer than idle connections have for their last words.
fn is_open(address: &str) -> bool {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_millis(10)).is_ok()
}

#[test]
fn a_gateway_that_stops_finishes_what_is_in_flight() {
    let (upstream, gateway, mut client, mut peer) =
        in_flight("", "GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut idle = Peer::client(&gateway);
    let mut asking = Peer::client(&gateway);
    let address = gateway.addresses().remove(0);
    thread::scope(|scope| {
        let drained = scope.spawn(|| gateway.drain(PATIENCE));
        while is_open(&address) {}
        // One that asks now, as it cannot know, still gets its answer, and learns of the end.
        asking.say("GET /late HTTP/1.1\r\nhost: h\r\n\r\n");
        let mut late = upstream.accept();
        late.head();
        late.say(ok("late"));
        let (head, body) = asking.message();
        assert_eq!(body, b"late");
        assert_eq!(header(&head, "connection"), Some("close"));
        assert_eq!(asking.ended(), "");
        assert_eq!(idle.ended(), "");
        peer.say(ok("done"));
        assert_eq!(client.message().1, b"done");
        assert_eq!(client.ended(), "");
        drained.join().unwrap();
    });
}

#[test]
fn what_does_not_finish_in_time_is_cut_off() {
    let (_upstream, gateway, mut client, mut peer) =
        in_flight("", "GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    gateway.drain(Duration::from_millis(200));
    assert_eq!(client.ended(), "");
    assert_eq!(peer.ended(), "");
}

#[test]
fn a_second_drain_cuts_the_first_short() {
    let (_upstream, gateway, mut client, mut peer) =
        in_flight("", "GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    let address = gateway.addresses().remove(0);
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.drain(Duration::MAX));
        while is_open(&address) {}
        // A longer one changes nothing.
        let longer = scope.spawn(|| gateway.drain(PATIENCE));
        gateway.drain(Duration::ZERO);
        first.join().unwrap();
        longer.join().unwrap();
    });
    assert_eq!(client.ended(), "");
    assert_eq!(peer.ended(), "");
}

#[test]
fn health_is_told_until_the_last_worker_is_done() {
    let upstream = Upstream::bind();
    let text = relaying(&upstream, "").replace("workers: 1", "workers: 3") + "admin: {port: 0}\n";
    let gateway = start(&text);
    // Enough for each worker to have one, whichever way they are dealt.
    let mut clients: Vec<_> = (0..24).map(|_| Peer::client(&gateway)).collect();
    let mut peers = Vec::new();
    for client in &mut clients {
        client.say("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        peers.push(peer);
    }
    let health = || {
        let stream = std::net::TcpStream::connect(gateway.admin_address().unwrap());
        Peer::new(stream.unwrap()).get("/healthz", "")
    };
    assert_eq!(health().1, b"ok\n");
    thread::scope(|scope| {
        let drained = scope.spawn(|| gateway.drain(PATIENCE));
        while health().1 == b"ok\n" {}
        for (mut client, mut peer) in clients.drain(..).zip(peers.drain(..)) {
            let (head, body) = health();
            assert!(head.starts_with("HTTP/1.1 503"), "{head}");
            assert_eq!(body, b"draining\n");
            peer.say(ok("done"));
            assert_eq!(client.message().1, b"done");
            assert_eq!(client.ended(), "");
        }
        drained.join().unwrap();
    });
    assert!(std::net::TcpStream::connect(gateway.admin_address().unwrap()).is_err());
}
