//! What of a client's head is believed, and what of it goes upstream.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::server::certificates::Folder;
use crate::server::support::{Peer, Upstream, header, ok, relaying, set_up, start};

/// An upstream that answers with the head that it gets, a gateway with `more` of the route's keys
/// and `server` of the server's, and what the upstream gets for `headers`.
fn passed(server: &str, more: &str, headers: &str) -> String {
    let upstream = Upstream::bind();
    let gateway = start(&(relaying(&upstream, server) + more));
    upstream.serve(ok);
    let (_, body) = Peer::client(&gateway).get("/", headers);
    String::from_utf8(body).unwrap()
}

#[test]
fn no_other_spelling_of_a_name_says_what_the_gateway_says() {
    let route = "      drop_request_headers: [x-user]\n      extra_request_headers: {x-api-key: \
                 ours}\n";
    let theirs = "x_user: 1\r\nX_Api-Key: 2\r\nX_Request_Id: 3\r\nx_forwarded_proto: 4\r\nx_other: \
                  5\r\n";
    for server in ["", "  trusted_proxies: [127.0.0.1]"] {
        let head = passed(server, route, theirs);
        for gone in ["x_user", "x_api-key", "x_request_id", "x_forwarded_proto"] {
            assert_eq!(header(&head, gone), None, "{gone}");
        }
        assert_eq!(header(&head, "x-api-key"), Some("ours"));
        assert_ne!(header(&head, "x-request-id"), None);
        assert_eq!(header(&head, "x_other"), Some("5"));
    }
}

#[test]
fn no_other_spelling_of_a_name_passes_in_a_trailer() {
    let (upstream, _gateway, mut client) = set_up("");
    client.say(
        "POST / HTTP/1.1\r\nhost: h\r\ntrailer: x_request_id, x_sum, content_length\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx_request_id: \
         1\r\nx_sum: 2\r\ncontent_length: 3\r\n\r\n",
    );
    let mut peer = upstream.accept();
    peer.head();
    assert_eq!(peer.until("\r\n\r\n"), "0\r\nx_sum: 2\r\n\r\n");
}

#[test]
fn what_trusted_proxies_append_is_read_from_its_end() {
    let limited = "      rate_limit: {rate: 0.001, burst: 1}\n";
    let upstream = Upstream::bind();
    let text = relaying(&upstream, "  trusted_proxies: [127.0.0.1, 10.0.0.0/8]") + limited;
    let gateway = start(&text);
    upstream.serve(ok);
    let mut client = Peer::client(&gateway);
    let mut passes = |lines: &[&[u8]]| {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| [b"x-forwarded-for: ", *line, b"\r\n"].concat())
            .collect();
        client.say([b"GET / HTTP/1.1\r\nhost: h\r\n", &*lines.concat(), b"\r\n"].concat());
        client.message().0.starts_with("HTTP/1.1 200")
    };
    // Each is one client, whatever it puts in front.
    for (own, spoofed) in [
        (&b"192.0.2.1"[..], &b"\xff, 192.0.2.1"[..]),
        (b"192.0.2.2, 10.0.0.1", b"unknown, 192.0.2.2,10.0.0.9"),
    ] {
        assert!(passes(&[own]));
        assert!(!passes(&[spoofed]));
        assert!(!passes(&[b"\xfe", own]));
    }
    // The proxy itself, where it names nobody.
    assert!(passes(&[b"192.0.2.3, \xff"]));
    assert!(!passes(&[b"192.0.2.4, unknown"]));
}

#[test]
fn the_scheme_is_what_the_last_trusted_proxy_says() {
    for (said, scheme) in [
        ("https", "https"),
        ("HTTPS", "https"),
        ("wss", "https"),
        ("http, https", "https"),
        ("http\r\nx-forwarded-proto: Https", "https"),
        ("https, http", "http"),
        ("gopher", "http"),
    ] {
        let lines = format!("x-forwarded-proto: {said}\r\n");
        let head = passed("  trusted_proxies: [127.0.0.1]", "", &lines);
        assert_eq!(header(&head, "x-forwarded-proto"), Some(scheme), "{said}");
    }
}

#[test]
fn extra_headers_have_the_last_word() {
    let route =
        "      extra_request_headers: {x-request-id: ours, x-forwarded-host: public.example}\n";
    for server in ["", "  trusted_proxies: [127.0.0.1]"] {
        let theirs = "x-request-id: theirs\r\nx-forwarded-host: theirs\r\n";
        let head = passed(server, route, theirs);
        assert_eq!(header(&head, "x-request-id"), Some("ours"));
        let host = header(&head, "x-forwarded-host");
        assert_eq!(host, Some("public.example"));
    }
}

#[test]
fn a_proxy_on_a_unix_socket_can_be_trusted() {
    let folder = Folder::new("trusted-unix");
    let path = folder.0.join("front.sock");
    for (trusted, expected) in [
        ("\"0.0.0.0/0\", \"::/0\"", (None, Some("http"), Some("h"))),
        (
            "\"unix:\"",
            (Some("192.0.2.1"), Some("https"), Some("claimed")),
        ),
    ] {
        let url = Upstream::bind().serve(ok);
        let _gateway = start(&format!(
            "server:\n  workers: 1\n  trusted_proxies: [{trusted}]\n  listeners: [{{unix: \
             {}}}]\nroutes: [{{targets: \"{url}\"}}]\n",
            path.display()
        ));
        let mut client = UnixStream::connect(&path).unwrap();
        client
            .write_all(
                b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-forwarded-for: \
                  192.0.2.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: claimed\r\n\r\n",
            )
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let (_, head) = answer.split_once("\r\n\r\n").unwrap();
        let found =
            ["for", "proto", "host"].map(|name| header(head, &format!("x-forwarded-{name}")));
        assert_eq!((found[0], found[1], found[2]), expected, "{answer}");
    }
}
