//! What follows a 101: octets both ways, as they are.

use std::time::Duration;

use crate::server::support::{Peer, Upstream, header, in_flight, ok, relaying, set_up, start};

const ASK: &str = "GET /chat?room=1 HTTP/1.1\r\nhost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\nsec-websocket-protocol: a, b\r\n\r\n";
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-extensions: permessage-deflate\r\nset-cookie: a=1\r\n\r\n";

/// A client and an upstream that have agreed, with what the upstream says at once behind its 101.
pub(crate) fn agreed(upstream: &Upstream, client: &mut Peer, early: &str) -> Peer {
    client.say(ASK);
    let mut peer = upstream.accept();
    let head = peer.head();
    assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "a, b"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(header(&head, name), Some(value), "{head}");
    }
    peer.say(format!("{ACCEPT}{early}"));
    let head = client.head();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("set-cookie", "a=1"),
    ] {
        assert_eq!(header(&head, name), Some(value), "{head}");
    }
    peer
}

#[test]
fn octets_pass_both_ways_with_what_came_early() {
    let (upstream, _gateway, mut client) = set_up("");
    let mut peer = agreed(&upstream, &mut client, "early");
    assert_eq!(client.exactly(5), b"early");
    client.say("any octets \0\u{1}");
    peer.until("any octets \0\u{1}");
    peer.say(vec![7; 1_000_000]);
    assert!(client.exactly(1_000_000).iter().all(|octet| *octet == 7));
    // An end passes, too, and nothing is left behind.
    drop(client);
    assert_eq!(peer.ended(), "");
}

#[test]
fn an_upstream_that_ends_ends_the_client() {
    let (upstream, _gateway, mut client) = set_up("");
    let mut peer = agreed(&upstream, &mut client, "");
    peer.say("bye");
    drop(peer);
    assert_eq!(client.ended(), "bye");
}

#[test]
fn a_refusal_is_an_answer() {
    let (upstream, _gateway, mut client, mut peer) = in_flight("", ASK);
    peer.say("HTTP/1.1 403 Forbidden\r\nx-why: no\r\ncontent-length: 2\r\n\r\nno");
    let (head, body) = client.message();
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
    assert_eq!((header(&head, "x-why"), &*body), (Some("no"), &b"no"[..]));
    // It is still HTTP.
    client.say("GET /next HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    assert!(peer.head().starts_with("GET /next "));
    peer.say(ok(""));
    client.head();
}

#[test]
fn only_what_was_asked_for_is_an_upgrade() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    // Nobody changed to another protocol here, so what follows would be read as HTTP by one side.
    let mut client = Peer::client(&gateway);
    client.say("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    peer.say(ACCEPT);
    assert!(client.head().starts_with("HTTP/1.1 502"));
    let mut client = Peer::client(&gateway);
    client.say(ASK);
    let mut peer = upstream.accept();
    peer.head();
    peer.say(ACCEPT.replace("websocket\r\n", "other\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 502"));
    // HTTP/2 is no protocol to tunnel: its requests would not be seen.
    let mut client = Peer::client(&gateway);
    client.say("GET /plain HTTP/1.1\r\nhost: h\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n");
    let mut peer = upstream.accept();
    let head = peer.head();
    assert!(header(&head, "upgrade").is_none(), "{head}");
    peer.say(ok("plain"));
    assert_eq!(client.message().1, b"plain");
}

#[test]
fn a_gateway_that_stops_says_goodbye_between_two_frames() {
    let (upstream, gateway, mut client) = set_up("");
    let mut peer = agreed(&upstream, &mut client, "");
    // A text frame of which half has come.
    peer.say([0x81, 4, b'a', b'b']);
    client.exactly(4);
    std::thread::scope(|scope| {
        scope.spawn(|| gateway.drain(Duration::from_secs(20)));
        // To the upstream there is a border at once.
        assert_eq!(peer.exactly(8), [0x88, 0x82, 0, 0, 0, 0, 3, 0xE9]);
        // What it says of its own accord comes too late.
        peer.say([b'c', b'd', 0x88, 2, 3, 0xE8]);
        drop(peer);
        assert_eq!(client.exactly(6), [b'c', b'd', 0x88, 2, 3, 0xE9]);
        assert_eq!(client.ended(), "");
        drop(client);
    });
}
