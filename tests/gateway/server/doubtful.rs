//! Requests in HTTP/1.1 that two readers could read in two ways.

use crate::server::support::{Peer, Upstream, header, ok, relaying, set_up, start};

#[test]
fn what_two_readers_could_read_in_two_ways_is_refused() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    for request in [
        "GET /a/../../b HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /%2e%2e/b HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h:80:80\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h:8o\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: [::1]h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: [h]\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: ::1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h[]\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: <x>\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\"b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: %61\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a,b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a..b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a..\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: .a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: .\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: :80\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h:65536\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h:-1\r\n\r\n",
        "GET http://h:99999/ HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET http://a..b/ HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\n folded: x\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: h\r\n\r\n",
        "G\u{1}T / HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET h HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET h:80 HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET ftp://h/ HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET ws://h/ HTTP/1.1\r\nhost: h\r\n\r\n",
    ] {
        let mut client = Peer::client(&gateway);
        client.say(request);
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 400"), "{request:?}: {head}");
    }
    assert!(!upstream.has_connection());
}

#[test]
fn who_frames_oddly_is_not_read_any_further() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    for codings in [
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding:\r\ntransfer-encoding: chunked\r\n",
    ] {
        let mut client = Peer::client(&gateway);
        client.say(format!(
            "POST / HTTP/1.1\r\nhost: h\r\n{codings}\r\n0\r\n\r\nGET /behind HTTP/1.1\r\nhost: h\r\n\r\n"
        ));
        let (head, _) = client.message();
        assert!(head.starts_with("HTTP/1.1 400"), "{codings:?}: {head}");
        assert_eq!(header(&head, "connection"), Some("close"));
        assert_eq!(client.ended(), "");
    }
    assert!(!upstream.has_connection());
}

#[test]
fn a_target_in_absolute_form_names_the_host() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    for target in ["http://other/y", "HTTPS://other/y"] {
        let mut client = Peer::client(&gateway);
        client.say(format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let mut peer = upstream.accept();
        let head = peer.head();
        assert!(head.starts_with("GET /y HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "x-forwarded-host"), Some("other"));
    }
}

#[test]
fn chunked_beats_content_length_and_only_one_crosses() {
    let (upstream, _gateway, mut client) = set_up("");
    client.say("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    let head = peer.head();
    assert!(header(&head, "content-length").is_none(), "{head}");
    assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    peer.until("0\r\n\r\n");
    peer.say(ok("1"));
    assert_eq!(client.message().1, b"1");
    // Whoever sent both may mean what is behind it as part of the body (RFC 9112 §6.3).
    assert_eq!(client.ended(), "");
    assert!(!upstream.has_connection());
}

#[test]
fn hosts_in_each_form_pass() {
    let url = Upstream::bind().serve(|head| ok(header(head, "x-forwarded-host").unwrap_or("")));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n"
    ));
    let mut client = Peer::client(&gateway);
    for host in [
        "h",
        "h:80",
        "h:",
        "H.Example.",
        "a.b_c-d.",
        "h:65535",
        "192.0.2.1:8000",
        "[::1]",
        "[2001:db8::1]:443",
    ] {
        client.say(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(client.message().1, host.as_bytes());
    }
    // An empty one is one (RFC 9110 §7.2), of which there is nothing to tell.
    client.say("GET / HTTP/1.1\r\nhost:\r\n\r\n");
    assert_eq!(client.message().1, b"");
}

#[test]
fn an_asterisk_is_the_server_as_a_whole() {
    let url = Upstream::bind().serve(|head| ok(head.lines().next().unwrap()));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\nroutes:\n  - {{path: /, targets: \
         \"{url}\"}}\n  - {{path: /below, hosts: [narrow], targets: \"{url}\"}}\n  - {{path: /, hosts: \
         [based], targets: \"{url}/base\"}}\n  - {{path: /, hosts: [plain], methods: [GET], targets: \
         \"{url}\"}}\n"
    ));
    let mut client = Peer::client(&gateway);
    for (host, status, body) in [
        ("any", "200", "OPTIONS * HTTP/1.1"),
        ("narrow", "200", "OPTIONS * HTTP/1.1"),
        // What is relayed is but a part of that server.
        ("based", "404", "Not Found"),
        ("plain", "405", "Method Not Allowed"),
    ] {
        client.say(format!("OPTIONS * HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        let (head, found) = client.message();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{host}: {head}"
        );
        assert_eq!(String::from_utf8(found).unwrap(), body, "{host}");
    }
}
