//! HTTP/1.1 through the gateway: what arrives upstream, and what comes back.

use std::thread;

use crate::server::support::{
    NOBODY, Peer, Upstream, header, in_flight, lines, ok, relaying, set_up, start,
};

#[test]
fn a_request_arrives_and_its_answer_comes_back() {
    let (upstream, _gateway, mut client) = set_up("");
    client.say("GET /a%2Fb?x=1&y HTTP/1.1\r\nHost: example.org\r\nX-Own: 1\r\nConnection: x-own, keep-alive\r\nCookie: a=b\r\n\r\n");
    let mut peer = upstream.accept();
    let head = peer.head();
    assert!(head.starts_with("GET /a%2Fb?x=1&y HTTP/1.1\r\n"), "{head}");
    let lines = lines(&head);
    let host = format!("host: {}", upstream.address());
    for expected in [
        host.as_str(),
        "cookie: a=b",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: example.org",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected}: {head}"
        );
    }
    assert!(header(&head, "x-own").is_none());
    assert_eq!(header(&head, "x-request-id").map(str::len), Some(32));
    peer.say("HTTP/1.1 201 Made\r\ncontent-length: 5\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nserver: up\r\n\r\nhello");
    let (head, body) = client.message();
    assert!(head.starts_with("HTTP/1.1 201 Created\r\n"), "{head}");
    assert_eq!(body, b"hello");
    assert_eq!(head.matches("set-cookie").count(), 2);
    assert_eq!(header(&head, "server"), Some("up"));
    // Both connections are kept.
    client.say("GET /again HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(peer.head().starts_with("GET /again "));
    peer.say(ok("2"));
    assert_eq!(client.message().1, b"2");
}

#[test]
fn bodies_stream_both_ways() {
    let (upstream, _gateway, mut client) = set_up("");
    client.say("POST /s HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let mut peer = upstream.accept();
    assert_eq!(header(&peer.head(), "transfer-encoding"), Some("chunked"));
    peer.until("3\r\nabc\r\n");
    peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    client.head();
    peer.say("2\r\nxy\r\n");
    client.until("2\r\nxy\r\n");
    client.say("2\r\nde\r\n");
    peer.until("2\r\nde\r\n");
    client.say("0\r\n\r\n");
    peer.until("0\r\n\r\n");
    peer.say("0\r\n\r\n");
    client.until("0\r\n\r\n");
}

#[test]
fn a_client_that_waits_for_100_gets_it_when_the_upstream_takes_the_body() {
    let (upstream, _gateway, mut client) = set_up("");
    client.say("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    let mut peer = upstream.accept();
    assert!(header(&peer.head(), "expect").is_none());
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.say("ok");
    assert_eq!(peer.exactly(2), b"ok");
    peer.say(ok(""));
    assert!(client.head().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    let (upstream, gateway, client, mut peer) =
        in_flight("", "GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    drop(client);
    assert_eq!(peer.ended(), "");
    // In the middle of the answer, too.
    let mut client = Peer::client(&gateway);
    client.say("GET /stream HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
    client.until("1\r\na\r\n");
    drop(client);
    assert_eq!(peer.ended(), "");
}

#[test]
fn an_unfinished_upload_never_looks_finished() {
    let (upstream, _gateway, mut client) = set_up("");
    client.say("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let mut peer = upstream.accept();
    peer.until("3\r\nabc\r\n");
    drop(client);
    assert_eq!(peer.ended(), "");
}

#[test]
fn an_upstream_that_dies_in_its_answer_leaves_a_broken_one() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    for framing in ["content-length: 50", "transfer-encoding: chunked"] {
        let mut client = Peer::client(&gateway);
        client.say("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        peer.say(format!(
            "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nabcde\r\n"
        ));
        client.until("abc");
        drop(peer);
        let rest = client.ended();
        assert!(!rest.contains("0\r\n"), "{rest:?}");
    }
}

#[test]
fn failures_are_told_as_a_relay_tells_them() {
    let gateway = start(&format!(
        "server: {{host: 127.0.0.1, port: 0, workers: 1, reverse_proxy: [{{path: /, targets: \
         [\"{NOBODY}\"]}}]}}"
    ));
    let mut client = Peer::client(&gateway);
    let (head, body) = client.get("/", "");
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("Upstream error: "), "{body}");
    assert!(!body.contains(NOBODY), "{body}");
    // The connection is kept.
    assert!(client.get("/", "").0.starts_with("HTTP/1.1 502"));
}

#[test]
fn a_silent_upstream_is_a_504() {
    let upstream = Upstream::bind();
    let text = relaying(&upstream, "") + "      timeout: {read: 0.1}\n";
    let gateway = start(&text);
    let mut client = Peer::client(&gateway);
    let (head, body) = client.get("/", "");
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    assert_eq!(body, b"Gateway Timeout");
}

#[test]
fn who_the_client_is_comes_from_trusted_proxies_alone() {
    let upstream = Upstream::bind();
    let hearsay = "x-forwarded-for: 192.0.2.9\r\nx-forwarded-proto: https\r\nx-forwarded-host: claimed\r\nx-forwarded-port: 1\r\nforwarded: for=192.0.2.9\r\nx-real-ip: 192.0.2.9\r\nx_forwarded_for: 192.0.2.9\r\nx_real_ip: 192.0.2.9\r\n";
    let seen = |more: &str| {
        let gateway = start(&relaying(&upstream, more));
        let mut client = Peer::client(&gateway);
        client.say(format!("GET / HTTP/1.1\r\nhost: h\r\n{hearsay}\r\n"));
        let mut peer = upstream.accept();
        let head = peer.head();
        peer.say(ok(""));
        client.head();
        head
    };
    let head = seen("");
    assert_eq!(header(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("h"));
    for gone in [
        "x-forwarded-port",
        "forwarded",
        "x-real-ip",
        "x_real_ip",
        "x_forwarded_for",
    ] {
        assert_eq!(header(&head, gone), None, "{gone}");
    }
    let head = seen("  trusted_proxies: [127.0.0.0/8]");
    assert_eq!(
        header(&head, "x-forwarded-for"),
        Some("192.0.2.9, 127.0.0.1")
    );
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("claimed"));
    assert_eq!(header(&head, "forwarded"), Some("for=192.0.2.9"));
}

#[test]
fn a_trace_passes_where_the_route_names_it() {
    let url = Upstream::bind().serve(|head| ok(header(head, "authorization").unwrap_or("-")));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\nroutes:\n  - {{path: /, targets: \"{url}\", \
         extra_request_headers: {{authorization: secret}}}}\n  - {{path: /named, targets: \"{url}\", methods: \
         [GET, TRACE]}}\n"
    ));
    let mut client = Peer::client(&gateway);
    client.say("TRACE / HTTP/1.1\r\nhost: h\r\n\r\n");
    let (head, body) = client.message();
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert_eq!(body, b"Method Not Allowed");
    let usual = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    assert_eq!(header(&head, "allow"), Some(usual));
    client.say("TRACE /named HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(client.message().1, b"-");
}

#[test]
fn nothing_passes_in_a_trailer_that_would_not_in_the_head() {
    let upstream = Upstream::bind();
    let drop = "      drop_request_headers: [x-own]\n      drop_response_headers: [x-other]\n";
    let gateway = start(&(relaying(&upstream, "") + drop));
    let mut client = Peer::client(&gateway);
    client.say(
        "POST / HTTP/1.1\r\nhost: h\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum, x-own, cookie, x-request-id, x-forwarded-for, \
         x-real_ip\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-own: 1\r\nx-sum: 2\r\ncookie: \
         3\r\nx-request-id: 4\r\nx-forwarded-for: 5\r\nx-real_ip: 6\r\n\r\n",
    );
    let mut peer = upstream.accept();
    peer.head();
    assert_eq!(peer.until("\r\n\r\n"), "0\r\nx-sum: 2\r\n\r\n");
    peer.say(
        "HTTP/1.1 200 OK\r\ntrailer: x-sum, x-other, keep-alive\r\ntransfer-encoding: \
         chunked\r\n\r\n0\r\nx-other: 1\r\nkeep-alive: 2\r\nx-sum: 3\r\n\r\n",
    );
    client.head();
    assert_eq!(client.until("\r\n\r\n"), "0\r\nx-sum: 3\r\n\r\n");
}

#[test]
fn trailers_cross_both_ways() {
    let (upstream, _gateway, mut client) = set_up("");
    client.say("POST / HTTP/1.1\r\nhost: h\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
    let mut peer = upstream.accept();
    let head = peer.head();
    assert_eq!(header(&head, "te"), Some("trailers"), "{head}");
    peer.until("0\r\nx-sum: 1\r\n\r\n");
    peer.say("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nx-sum: 2\r\n\r\n");
    client.head();
    client.until("0\r\nx-sum: 2\r\n\r\n");
}

#[test]
fn a_slow_client_holds_the_upstream_back() {
    let (_upstream, _gateway, mut client, mut peer) =
        in_flight("", "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
    client.head();
    // Nobody reads: the upstream can write what the sockets and the gateway hold, and no more.
    let writer = thread::spawn(move || {
        use std::io::Write;
        peer.0
            .set_write_timeout(Some(std::time::Duration::from_millis(500)))
            .unwrap();
        let piece = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while let Ok(count) = peer.0.write(&piece) {
            sent += count;
        }
        sent
    });
    let sent = writer.join().unwrap();
    assert!(sent < 32 * 1024 * 1024, "{sent}");
}

#[test]
fn answers_without_a_body_are_framed_as_such() {
    let (upstream, _gateway, mut client) = set_up("");
    let mut peer: Option<Peer> = None;
    for (method, answer, length) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
            Some("10"),
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
            None,
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Some("0"),
        ),
    ] {
        client.say(format!("{method} / HTTP/1.1\r\nhost: h\r\n\r\n"));
        let peer = peer.get_or_insert_with(|| upstream.accept());
        assert!(peer.head().starts_with(method));
        peer.say(format!(
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{answer}"
        ));
        let head = client.head();
        assert_eq!(head.lines().next(), answer.lines().next());
        assert_eq!(header(&head, "content-length"), length, "{head}");
        assert!(header(&head, "transfer-encoding").is_none(), "{head}");
    }
}

#[test]
fn an_upload_may_pause_once_the_answer_has_begun() {
    let (upstream, gateway, mut client) = set_up("  limits: {body_timeout: 2}");
    client.say("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
    let mut peer = upstream.accept();
    peer.until("1\r\na\r\n");
    peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nA\r\n");
    client.until("1\r\nA\r\n");
    // As long as one that nobody has answered may stop for.
    let mut stopped = Peer::client(&gateway);
    stopped.say("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n12");
    let _other = upstream.accept();
    assert!(stopped.head().starts_with("HTTP/1.1 408"));
    client.say("1\r\nb\r\n0\r\n\r\n");
    peer.until("1\r\nb\r\n0\r\n\r\n");
    peer.say("1\r\nB\r\n0\r\n\r\n");
    client.until("1\r\nB\r\n0\r\n\r\n");
}

#[test]
fn a_broken_answer_shows_where_only_the_end_of_the_connection_ends_it() {
    use std::io::Read;
    let (_upstream, _gateway, mut client, mut peer) = in_flight("", "GET / HTTP/1.0\r\n\r\n");
    peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n");
    client.until("abcde");
    drop(peer);
    let end = client.0.read(&mut [0; 16]);
    assert!(end.is_err(), "{end:?}");
}
