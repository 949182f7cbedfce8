//! What a tunnel says of its own between two frames of a WebSocket, and when.

use std::thread;

use asgi_relay::gateway::Handle;

use crate::server::support::{PATIENCE, Peer, Upstream, relaying, start};
use crate::server::upgrade::agreed;

const PING: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
const PONG: &[u8] = &[0x8A, 0];

/// A close with this code, as it comes to a client.
fn to_client(code: u16) -> Vec<u8> {
    [&[0x88, 2][..], &code.to_be_bytes()].concat()
}

/// The same as it comes to an upstream.
fn to_upstream(code: u16) -> Vec<u8> {
    [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat()
}

/// A frame of zeros, under a mask of zeros where a client sends it.
fn frame(first: u8, length: u8, from_client: bool) -> Vec<u8> {
    let mask: &[u8] = if from_client { &[0; 4] } else { &[] };
    let second = length | if from_client { 0x80 } else { 0 };
    [&[first, second], mask, &vec![0; length.into()]].concat()
}

/// A gateway with these keys of its route, a client and an upstream that have agreed.
fn joined(keys: &str) -> (Handle, Peer, Peer) {
    let (_, gateway, client, peer) = beside(keys);
    (gateway, client, peer)
}

/// The same with the upstream, where there may be more of them.
fn beside(keys: &str) -> (Upstream, Handle, Peer, Peer) {
    let upstream = Upstream::bind();
    let gateway = start(&(relaying(&upstream, "") + "      " + keys + "\n"));
    let mut client = Peer::client(&gateway);
    let peer = agreed(&upstream, &mut client, "");
    (upstream, gateway, client, peer)
}

/// What comes to an upstream behind all pings.
fn behind_pings(peer: &mut Peer, length: usize) -> Vec<u8> {
    loop {
        let begun = peer.exactly(6);
        if begun != PING {
            return [begun, peer.exactly(length - 6)].concat();
        }
    }
}

#[test]
fn a_silent_one_ends_after_its_idle_timeout() {
    let (_gateway, mut client, mut peer) = joined("ws_idle_timeout: 0.3");
    assert_eq!(client.exactly(4), to_client(1011));
    assert_eq!(peer.exactly(8), to_upstream(1001));
    drop(peer);
    assert_eq!(client.ended(), "");
}

#[test]
fn pings_are_no_messages() {
    let keys = "ws_ping_interval: 0.1\n      ws_idle_timeout: 1.5";
    let (_gateway, mut client, mut peer) = joined(keys);
    let pings = thread::spawn(move || {
        let mut pings = 0;
        while peer.exactly(1) == [0x89] {
            peer.exactly(5);
            peer.say(PONG);
            pings += 1;
        }
        pings
    });
    while client.exactly(2) != [0x88, 2] {}
    assert_eq!(client.exactly(2), 1011_u16.to_be_bytes());
    assert!(pings.join().unwrap() > 0);
}

#[test]
fn a_silent_upstream_is_asked_and_given_up() {
    let keys = "ws_ping_interval: 0.2\n      ws_ping_timeout: 2";
    let (_gateway, mut client, mut peer) = joined(keys);
    for _ in 0..2 {
        assert_eq!(peer.exactly(6), PING);
        // A client knows what to do with one that it has not asked for: nothing (RFC 6455 §5.5.3).
        peer.say(PONG);
        assert_eq!(client.exactly(2), PONG);
    }
    assert_eq!(client.exactly(4), to_client(1011));
    assert_eq!(behind_pings(&mut peer, 8), to_upstream(1001));
}

#[test]
fn each_interval_of_silence_is_asked_about() {
    let keys = "ws_ping_interval: 0.1\n      ws_ping_timeout: null";
    let (_gateway, mut client, mut peer) = joined(keys);
    for _ in 0..4 {
        assert_eq!(peer.exactly(6), PING);
    }
    peer.say(PONG);
    assert_eq!(client.exactly(2), PONG);
}

#[test]
fn one_that_was_asked_is_given_up_within_a_frame_too() {
    let keys = "ws_ping_interval: 0.2\n      ws_ping_timeout: 0.6";
    let (_gateway, mut client, mut peer) = joined(keys);
    assert_eq!(peer.exactly(6), PING);
    client.say(&frame(0x82, 100, true)[..50]);
    assert_eq!(client.exactly(4), to_client(1011));
}

#[test]
fn nobody_is_asked_within_a_frame_or_behind_a_close() {
    let keys = "ws_ping_interval: 2\n      ws_ping_timeout: null";
    let (upstream, gateway, mut client, mut peer) = beside(keys);
    let message = frame(0x82, 100, true);
    client.say(&message[..50]);
    assert_eq!(peer.exactly(50), message[..50]);
    // When one that came later has been asked, this one would have been.
    let mut later = Peer::client(&gateway);
    assert_eq!(agreed(&upstream, &mut later, "").exactly(6), PING);
    client.say(&message[50..]);
    assert_eq!(peer.exactly(message.len() - 50), message[50..]);
    assert_eq!(peer.exactly(6), PING);
    peer.say(PONG);
    client.exactly(2);
    let close = to_upstream(1000);
    client.say(&close);
    assert_eq!(behind_pings(&mut peer, close.len()), close);
    drop(client);
    assert_eq!(peer.ended(), "");
}

#[test]
fn who_sends_too_long_a_message_is_told() {
    let keys = "ws_max_message_size: 100";
    let (_gateway, mut client, mut peer) = joined(keys);
    let most = [frame(0x02, 60, true), frame(0x80, 40, true)].concat();
    for _ in 0..2 {
        client.say(&most);
        assert_eq!(peer.exactly(most.len()), most);
    }
    let first = frame(0x02, 60, true);
    client.say([&first[..], &frame(0x80, 41, true), &first].concat());
    assert_eq!(peer.exactly(first.len()), first);
    assert_eq!(peer.exactly(8), to_upstream(1001));
    assert_eq!(client.exactly(4), to_client(1009));
    // The other way, too.
    let (_gateway, mut client, mut peer) = joined(keys);
    peer.say(frame(0x82, 100, false));
    client.exactly(102);
    peer.say(frame(0x82, 101, false));
    assert_eq!(peer.exactly(8), to_upstream(1009));
    assert_eq!(client.exactly(4), to_client(1011));
}

#[test]
fn a_message_too_long_whose_head_comes_in_pieces_just_ends() {
    let (_gateway, mut client, mut peer) = joined("ws_max_message_size: 100");
    let message = frame(0x82, 101, true);
    client.say(&message[..1]);
    assert_eq!(peer.exactly(1), message[..1]);
    client.say(&message[1..]);
    assert_eq!(client.exactly(4), to_client(1009));
    client.say(to_upstream(1009));
    drop(client);
    assert_eq!(peer.ended(), "");
}

#[test]
fn a_goodbye_does_not_follow_another() {
    let (gateway, mut client, mut peer) = joined("");
    let close = to_upstream(1000);
    client.say(&close);
    assert_eq!(peer.exactly(close.len()), close);
    thread::scope(|scope| {
        scope.spawn(|| gateway.drain(PATIENCE));
        assert_eq!(client.exactly(4), to_client(1001));
        drop(client);
        assert_eq!(peer.ended(), "");
        drop(peer);
    });
}
