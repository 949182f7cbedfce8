//! What a client may take: heads, bodies, time, connections.

use std::io::Write;

use crate::server::http2::PREFACE;
use crate::server::support::{Peer, Upstream, header, in_flight, ok, relaying, set_up, start};

#[test]
fn heads_are_bounded() {
    let upstream = Upstream::bind();
    let limits = "  limits: {max_header_size: 8192, max_headers: 20}";
    let gateway = start(&relaying(&upstream, limits));
    let many = "x-a: 1\r\n".repeat(21);
    let long = format!("x-a: {}\r\n", "a".repeat(10_000));
    let endless = "a".repeat(100_000);
    for request in [
        format!("GET / HTTP/1.1\r\nhost: h\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: h\r\n{long}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: h\r\nx-a: {endless}"),
        format!("GET /{endless} HTTP/1.1\r\nhost: h\r\n\r\n"),
    ] {
        let mut client = Peer::client(&gateway);
        // The gateway may end the connection before it has all.
        let _ = client.0.write_all(request.as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 431"), "{head}");
        client.ended();
    }
    assert!(!upstream.has_connection());
}

#[test]
fn bodies_are_bounded() {
    let (upstream, gateway, mut client) = set_up("  limits: {max_body_size: 5}");
    client.say("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\n123456");
    assert!(client.head().starts_with("HTTP/1.1 413"));
    assert!(!upstream.has_connection());
    // Of a chunked body the size shows while it streams; what has gone upstream looks unfinished.
    let mut client = Peer::client(&gateway);
    client.say("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\n123\r\n");
    let mut peer = upstream.accept();
    peer.until("3\r\n123\r\n");
    client.say("3\r\n456\r\n0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 413"));
    assert_eq!(peer.ended(), "");
    // One that is just small enough passes.
    let mut client = Peer::client(&gateway);
    client.say("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n12345");
    let mut peer = upstream.accept();
    assert_eq!(peer.message().1, b"12345");
    peer.say(ok(""));
    assert!(client.head().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_refused_upload_can_be_read_about() {
    let (_upstream, gateway, mut client) = set_up("  limits: {max_body_size: 5}");
    client.say("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5000000\r\n\r\n");
    // A client that sends all before it reads must not find a reset in place of its answer.
    let _ = client.0.write_all(&vec![b'x'; 5_000_000]);
    assert!(client.head().starts_with("HTTP/1.1 413"));
    let mut client = Peer::client(&gateway);
    client.say("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n4c4b40\r\n");
    let _ = client.0.write_all(&vec![b'x'; 5_000_000]);
    assert!(client.head().starts_with("HTTP/1.1 413"));
}

#[test]
fn slow_heads_and_silent_connections_are_ended() {
    let upstream = Upstream::bind();
    let limits = "  limits: {header_timeout: 0.2, keepalive_timeout: 2}";
    let gateway = start(&relaying(&upstream, limits));
    let mut slow = Peer::client(&gateway);
    slow.say("GET / HTTP/1.1\r\nhost: h\r\nx-a");
    let mut silent = Peer::client(&gateway);
    let mut kept = Peer::client(&gateway);
    kept.say("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    assert_eq!(slow.ended(), "");
    assert_eq!(silent.ended(), "");
    // One that waits for its answer is not silent.
    peer.say(ok("late"));
    assert_eq!(kept.message().1, b"late");
    assert_eq!(kept.ended(), "");
}

#[test]
fn slow_heads_in_http2_are_ended_too() {
    let (_upstream, gateway, _) =
        set_up("  limits: {header_timeout: 0.2, keepalive_timeout: null}");
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // A GET whose CONTINUATION is still to come.
    const BEGUN: [u8; 12] = [0, 0, 3, 1, 1, 0, 0, 0, 1, 0x82, 0x86, 0x84];
    for parts in [
        &[&PREFACE[..10]][..],
        &[PREFACE],
        &[PREFACE, &SETTINGS[..5]],
        &[PREFACE, &SETTINGS, &BEGUN],
        &[PREFACE, &SETTINGS, &BEGUN[..10]],
    ] {
        let mut client = Peer::client(&gateway);
        client.say(parts.concat());
        client.ended();
    }
}

#[test]
fn a_connection_that_is_not_kept_has_its_first_request() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&format!(
        "admin: {{port: 0}}\nserver:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  limits: \
         {{keepalive_timeout: 0}}\nroutes: [{{targets: \"{url}\"}}]\n"
    ));
    let mut client = Peer::client(&gateway);
    // It takes its time.
    let admin = std::net::TcpStream::connect(gateway.admin_address().unwrap());
    let mut admin = Peer::new(admin.unwrap());
    let parked = "asgi_relay_connections_parked 1\n";
    while !String::from_utf8(admin.get("/metrics", "").1)
        .unwrap()
        .contains(parked)
    {}
    client.say("GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(2));
    let (head, body) = client.message();
    assert_eq!(header(&head, "connection"), Some("close"), "{head}");
    assert_eq!(body, b"in");
    assert_eq!(client.ended(), "");
    // One that the gateway answers itself is no other.
    let mut client = Peer::client(&gateway);
    client.say("GET / HTTP/1.1\r\n\r\n");
    assert!(client.ended().starts_with("HTTP/1.1 400"));
}

#[test]
fn an_upload_that_stops_is_a_408() {
    let (upstream, _gateway, mut client) = set_up("  limits: {body_timeout: 0.2}");
    client.say("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n12");
    let mut peer = upstream.accept();
    peer.until("\r\n\r\n12");
    assert!(client.head().starts_with("HTTP/1.1 408"));
    assert_eq!(peer.ended(), "");
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let (_upstream, _gateway, _client, mut peer) = in_flight(
        "  limits: {body_timeout: 0.3}",
        "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
    );
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
    let piece = vec![b'x'; 64 * 1024];
    // Ends when the gateway gives the upstream's connection up.
    while peer.0.write(&piece).is_ok() {}
}

#[test]
fn more_connections_than_allowed_wait() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, "  limits: {max_connections: 1}"));
    let mut first = Peer::client(&gateway);
    first.say("GET /1 HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    let mut second = Peer::client(&gateway);
    second.say("GET /2 HTTP/1.1\r\nhost: h\r\n\r\n");
    peer.say(ok("1"));
    assert_eq!(first.message().1, b"1");
    // The first one is idle now, and makes room.
    assert_eq!(first.ended(), "");
    assert!(peer.head().starts_with("GET /2 "));
    peer.say(ok("2"));
    assert_eq!(second.message().1, b"2");
}

#[test]
fn an_idle_connection_makes_room_whichever_worker_has_it() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 4\n  limits: {{max_connections: \
         1}}\nroutes: [{{targets: \"{url}\"}}]\n"
    ));
    let mut idle = Peer::client(&gateway);
    assert_eq!(idle.get("/", "").1, b"in");
    // The system deals them out by chance.
    for _ in 0..8 {
        let mut next = Peer::client(&gateway);
        assert_eq!(next.get("/", "").1, b"in");
        assert_eq!(idle.ended(), "");
        idle = next;
    }
}

#[test]
fn clients_that_ask_too_often_are_told_when_to_come_again() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n      rate_limit: {{rate: 0.01, burst: 2}}\n    - path: /key\n      targets: \
         [{url}]\n      rate_limit: {{rate: 0.01, burst: 1, key: \"header:x-key\"}}\n"
    ));
    let mut client = Peer::client(&gateway);
    assert_eq!(client.get("/", "").1, b"in");
    assert_eq!(client.get("/", "").1, b"in");
    let (head, body) = client.get("/", "");
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    let after: u64 = header(&head, "retry-after").unwrap().parse().unwrap();
    assert!((90..=100).contains(&after), "{after}");
    assert_eq!(body, b"Too Many Requests");
    // Each key has a bucket of its own.
    assert_eq!(client.get("/key", "x-key: a\r\n").1, b"in");
    assert!(
        client
            .get("/key", "x-key: a\r\n")
            .0
            .starts_with("HTTP/1.1 429")
    );
    assert_eq!(client.get("/key", "x-key: b\r\n").1, b"in");
    // Beside another one it is the same key.
    for lines in ["x-key: c\r\nx-key: a\r\n", "x-key: a\r\nx-key: d\r\n"] {
        let (head, _) = client.get("/key", lines);
        assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    }
}

#[test]
fn clients_behind_a_proxy_are_told_apart_however_it_writes_them() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  trusted_proxies: [127.0.0.1]\n  \
         reverse_proxy:\n    - path: /\n      targets: [{url}]\n      rate_limit: {{rate: 0.01, burst: 1}}\n"
    ));
    let mut client = Peer::client(&gateway);
    let mut ask = |from: &str| {
        let (head, _) = client.get("/", &format!("x-forwarded-for: {from}\r\n"));
        head.starts_with("HTTP/1.1 200")
    };
    for own in [
        "::ffff:192.0.2.1",
        "::ffff:192.0.2.2",
        "192.0.2.3:5000",
        "[2001:db8::1]:5000",
    ] {
        assert!(ask(own), "{own}");
    }
    for known in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::2"] {
        assert!(!ask(known), "{known}");
    }
}
