//! Connections that are idle for a while are parked. Nobody at the other end is to notice.
//!
//! What is to take longer than a connection stays unparked lasts until another one, which became
//! idle later, is parked.

mod uploads;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use asgi_relay::gateway::{Handle, relief};
use http_body_util::BodyExt;

use crate::server::certificates::{Authority, Folder};
use crate::server::support::{PATIENCE, Peer, Upstream, header, ok, start};
use crate::server::tls::connect;

/// A gateway with one worker in front of `url`, and `more` of its route's keys.
fn gateway(url: &str, more: &str) -> Handle {
    listening("{host: 127.0.0.1, port: 0}", url, "{}", more)
}

/// The same with limits of the server's.
fn limited(url: &str, limits: &str) -> Handle {
    listening("{host: 127.0.0.1, port: 0}", url, limits, "")
}

fn listening(listener: &str, url: &str, limits: &str, more: &str) -> Handle {
    start(&format!(
        "server:\n  workers: 1\n  listeners: [{listener}]\n  limits: {limits}\nroutes:\n  - path: \
         /\n    targets: [\"{url}\"]\n    {more}\nadmin: {{port: 0}}\n"
    ))
}

fn echo() -> String {
    Upstream::bind().serve(|head| ok(head.split(' ').nth(1).unwrap()))
}

/// Asks the gateway how many connections are open, and how many of them parked, until `enough`.
fn until(gateway: &Handle, enough: impl Fn(usize, usize) -> bool) -> (usize, usize) {
    let mut admin = Peer::new(TcpStream::connect(gateway.admin_address().unwrap()).unwrap());
    let started = Instant::now();
    loop {
        let page = String::from_utf8(admin.get("/metrics", "").1).unwrap();
        let gauge = |name: &str| {
            let value = page.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap().trim().parse().unwrap()
        };
        let open = gauge("asgi_relay_connections ");
        let parked = gauge("asgi_relay_connections_parked ");
        if enough(open, parked) {
            return (open, parked);
        }
        assert!(started.elapsed() < PATIENCE, "{open} open, {parked} parked");
    }
}

/// Waits until so many are parked.
fn parked(gateway: &Handle, count: usize) {
    until(gateway, |_, parked| parked == count);
}

/// Waits for longer than an idle connection takes to be parked.
fn a_while(gateway: &Handle) {
    let (open, before) = until(gateway, |_, _| true);
    let other = Peer::client(gateway);
    until(gateway, |_, parked| parked > before);
    drop(other);
    until(gateway, |left, _| left == open);
}

#[test]
fn a_parked_connection_goes_on_where_it_was() {
    let gateway = gateway(&echo(), "");
    let mut client = Peer::client(&gateway);
    let mut silent = Peer::client(&gateway);
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.get(path, "").1, path.as_bytes());
        parked(&gateway, 2);
    }
    client.say("GET /split HTTP/1.1\r\nho");
    client.say("st: h\r\n\r\nGET /pipelined HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(client.message().1, b"/split");
    assert_eq!(client.message().1, b"/pipelined");
    assert_eq!(silent.get("/first", "").1, b"/first");
}

#[test]
fn many_are_parked_and_all_of_them_answer() {
    let gateway = gateway(&echo(), "");
    let mut clients: Vec<_> = (0..200).map(|_| Peer::client(&gateway)).collect();
    for _ in 0..2 {
        for client in &mut clients {
            client.get("/", "");
        }
        parked(&gateway, 200);
    }
    for client in &mut clients {
        client.say("GET /at-once HTTP/1.1\r\nhost: h\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.message().1, b"/at-once");
    }
    drop(clients);
    until(&gateway, |open, parked| (open, parked) == (0, 0));
}

#[test]
fn half_a_head_is_not_parked() {
    let gateway = gateway(&echo(), "");
    let mut first = Peer::client(&gateway);
    let mut second = Peer::client(&gateway);
    second.get("/", "");
    parked(&gateway, 2);
    for client in [&mut first, &mut second] {
        client.say("GET /half HTTP/1.1\r\nho");
    }
    parked(&gateway, 0);
    a_while(&gateway);
    parked(&gateway, 0);
    for client in [&mut first, &mut second] {
        client.say("st: h\r\n\r\n");
        assert_eq!(client.message().1, b"/half");
    }
}

#[test]
fn half_a_head_behind_a_request_is_kept() {
    let gateway = gateway(&echo(), "");
    let mut client = Peer::client(&gateway);
    client.say("POST /1 HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\nxGET /2 HTTP/1.1\r\nho");
    assert_eq!(client.message().1, b"/1");
    a_while(&gateway);
    client.say("st: h\r\n\r\n");
    assert_eq!(client.message().1, b"/2");
}

#[test]
fn who_reads_late_gets_all_of_it() {
    let sized = |head: &str| "x".repeat(head.split(['/', ' ']).nth(2).unwrap().parse().unwrap());
    let gateway = gateway(&Upstream::bind().serve(move |head| ok(&sized(head))), "");
    // Of some of them, the end waits for room behind what the system takes.
    let sizes = (1..=40).map(|number| number * 75_000);
    let mut clients: Vec<_> = sizes
        .map(|size| (Peer::narrow(&gateway, 4096), size))
        .collect();
    for (client, size) in &mut clients {
        client.say(format!("GET /{size} HTTP/1.1\r\nhost: h\r\n\r\n"));
        client.0.peek(&mut [0]).unwrap();
    }
    a_while(&gateway);
    for (client, size) in &mut clients {
        assert_eq!(client.message().1.len(), *size);
        assert_eq!(client.get("/7", "").1, b"xxxxxxx");
    }
}

#[test]
fn parked_connections_end_with_the_gateway() {
    let gateway = gateway(&echo(), "");
    let mut client = Peer::client(&gateway);
    let mut silent = Peer::client(&gateway);
    client.get("/", "");
    parked(&gateway, 2);
    gateway.drain(PATIENCE);
    assert_eq!(client.ended(), "");
    assert_eq!(silent.ended(), "");
}

#[test]
fn a_gateway_that_is_let_go_of_holds_no_parked_ones() {
    let gateway = gateway(&echo(), "");
    let mut client = Peer::client(&gateway);
    client.get("/", "");
    parked(&gateway, 1);
    drop(gateway);
    assert_eq!(client.ended(), "");
}

#[test]
fn parked_connections_are_not_kept_for_ever() {
    let gateway = limited(&echo(), "{keepalive_timeout: 6}");
    let mut client = Peer::client(&gateway);
    let mut silent = Peer::client(&gateway);
    client.get("/", "");
    parked(&gateway, 2);
    assert_eq!(client.ended(), "");
    assert_eq!(silent.ended(), "");
    until(&gateway, |open, parked| (open, parked) == (0, 0));
}

#[test]
fn parked_connections_make_room() {
    let gateway = limited(&echo(), "{max_connections: 2}");
    let mut first = Peer::client(&gateway);
    first.get("/", "");
    parked(&gateway, 1);
    let mut second = Peer::client(&gateway);
    second.get("/", "");
    parked(&gateway, 2);
    let mut third = Peer::client(&gateway);
    assert_eq!(third.get("/third", "").1, b"/third");
    assert_eq!(first.ended(), "");
    assert_eq!(second.get("/second", "").1, b"/second");
}

#[test]
fn who_leaves_while_parked_is_let_go() {
    let gateway = gateway(&echo(), "");
    let mut client = Peer::client(&gateway);
    client.get("/", "");
    let silent = Peer::client(&gateway);
    parked(&gateway, 2);
    drop((client, silent));
    until(&gateway, |open, parked| (open, parked) == (0, 0));
}

#[tokio::test]
async fn only_http1_is_parked() {
    let gateway = Arc::new(gateway(&echo(), ""));
    let mut multiplexed = crate::server::http2::client(&gateway).await;
    for _ in 0..2 {
        let answer = multiplexed
            .send_request(crate::server::http2::get("/1"))
            .await;
        assert_eq!(answer.unwrap().collect().await.unwrap().to_bytes(), "/1");
        let waiting = Arc::clone(&gateway);
        let waited = tokio::task::spawn_blocking(move || {
            a_while(&waiting);
            until(&waiting, |_, _| true)
        });
        assert_eq!(waited.await.unwrap(), (1, 0));
    }
}

#[test]
fn who_has_been_silent_may_still_speak_http2() {
    let gateway = gateway(&echo(), "");
    let mut client = Peer::client(&gateway);
    parked(&gateway, 1);
    client.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // Its own settings, of stream 0.
    assert_eq!(client.exactly(9)[3..], [4, 0, 0, 0, 0, 0]);
}

#[test]
fn who_it_is_is_not_forgotten() {
    let url = Upstream::bind().serve(|head| ok(header(head, "x-forwarded-for").unwrap()));
    let listener = "{host: 127.0.0.1, port: 0, proxy_protocol: true}";
    let gateway = listening(listener, &url, "{}", "");
    let mut client = Peer::client(&gateway);
    client.say("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n");
    parked(&gateway, 1);
    assert_eq!(client.get("/", "").1, b"192.0.2.7");
    parked(&gateway, 1);
    assert_eq!(client.get("/", "").1, b"192.0.2.7");
}

/// Reads to the first place where `end` ends, and not an octet more.
fn read_until(stream: &mut impl Read, end: &str) {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        text.extend(octet);
    }
}

#[test]
fn unix_sockets_are_parked_too() {
    let folder = Folder::new("parking-unix");
    let path = folder.0.join("front.sock");
    let gateway = listening(&format!("{{unix: {}}}", path.display()), &echo(), "{}", "");
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    parked(&gateway, 1);
    client
        .write_all(b"GET /1 HTTP/1.1\r\nhost: h\r\n\r\n")
        .unwrap();
    read_until(&mut client, "\r\n\r\n/1");
    parked(&gateway, 1);
    client
        .write_all(b"GET /2 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("\r\n\r\n/2"), "{text}");
}

#[test]
fn tls_goes_on_where_it_was() {
    let authority = Authority::new("parking");
    authority.issue("one.example");
    let url = Upstream::bind().serve(|head| ok(header(head, "x-forwarded-proto").unwrap()));
    let folder = authority.folder.0.display();
    let listener = format!(
        "{{host: 127.0.0.1, port: 0, ssl: {{certificates: [{{cert_file: {folder}/one.example.pem, \
         key_file: {folder}/one.example.key}}]}}}}"
    );
    let gateway = listening(&listener, &url, "{}", "");
    let mut client = connect(
        &gateway,
        &authority.client(&["http/1.1"], None),
        "one.example",
    );
    client.flush().unwrap();
    for _ in 0..2 {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .unwrap();
        read_until(&mut client, "\r\n\r\nhttps");
        parked(&gateway, 1);
    }
    gateway.drain(PATIENCE);
    // With a goodbye, without which this fails.
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn memory_is_given_back_behind_them() {
    static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);
    relief::give_back_with(|| {
        GIVEN_BACK.fetch_add(1, Ordering::SeqCst);
    });
    let gateway = gateway(&echo(), "");
    let mut client = Peer::client(&gateway);
    client.get("/", "");
    parked(&gateway, 1);
    let before = GIVEN_BACK.load(Ordering::SeqCst);
    until(&gateway, |_, _| GIVEN_BACK.load(Ordering::SeqCst) > before);
}
