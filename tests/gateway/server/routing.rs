//! Which route answers, and what it makes of paths and cookies.

use crate::server::support::{Peer, Upstream, header, ok, start};

/// A gateway whose upstreams answer with their name, what they were asked for, and a cookie.
fn gateway() -> asgi_relay::gateway::Handle {
    let named = |name: &'static str| {
        Upstream::bind().serve(move |head| {
            let line = head.lines().next().unwrap();
            let target = line.split(' ').nth(1).unwrap();
            let body = format!("{name} {target}");
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nset-cookie: a=1; Domain=inner.example; \
                 Path=/\r\n\r\n{body}"
            )
        })
    };
    start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\nroutes:\n  - {{path: /api, targets: [\"{}/base\"], \
         rewrite_set_cookie_domain: outer.example}}\n  - {{path: /whole, targets: [\"{}\"], strip_prefix: \
         false, rewrite_set_cookie_domain: \"\"}}\n  - {{path: /api/v2, targets: [\"{}\"], methods: [GET]}}\n  \
         - {{path: /, hosts: [\"*.example.org\"], targets: [\"{}\"]}}\n",
        named("api"),
        named("whole"),
        named("v2"),
        named("host"),
    ))
}

#[test]
fn the_longest_prefix_wins_and_is_cut_off() {
    let gateway = gateway();
    let mut client = Peer::client(&gateway);
    for (path, expected) in [
        ("/api", "api /base"),
        ("/api/", "api /base/"),
        ("/api/a%2Fb?x", "api /base/a%2Fb?x"),
        ("/api/v2/x", "v2 /x"),
        ("/api/v20", "api /base/v20"),
        ("/whole/x", "whole /whole/x"),
        ("http://gateway/api/abs", "api /base/abs"),
    ] {
        let body = client.get(path, "").1;
        assert_eq!(String::from_utf8(body).unwrap(), expected, "{path}");
    }
    for path in ["/apifoo", "/", "/other"] {
        let (head, body) = client.get(path, "");
        assert!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
        assert_eq!(body, b"Not Found");
    }
}

#[test]
fn no_route_is_left_by_its_path() {
    let gateway = gateway();
    let mut client = Peer::client(&gateway);
    for path in [
        "/whole/../api/x",
        "/whole/..",
        "/whole/%2e%2e/x",
        "/whole/x/../../y",
        "/api/..%2f..%2fx",
        "/../etc",
    ] {
        let (head, body) = client.get(path, "");
        assert!(head.starts_with("HTTP/1.1 400"), "{path}: {head}");
        assert!(
            body.ends_with(b"the path leaves the area that is served here"),
            "{path}"
        );
    }
    let (head, body) = client.get("/other/../api/x", "");
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert!(body.ends_with(b"the path can be read in two ways"));
    assert_eq!(client.get("/whole/x/../y", "").1, b"whole /whole/x/../y");
}

#[test]
fn hosts_and_methods_choose_too() {
    let gateway = gateway();
    let mut client = Peer::client(&gateway);
    client.say("GET /x HTTP/1.1\r\nhost: a.Example.org:8000\r\n\r\n");
    assert_eq!(client.message().1, b"host /x");
    client.say("POST /api/v2/x HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
    let (head, _) = client.message();
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    assert_eq!(header(&head, "allow"), Some("GET, HEAD"));
    let mut client = Peer::client(&gateway);
    client.say("CONNECT other.example:443 HTTP/1.1\r\nhost: other.example:443\r\n\r\n");
    let (head, _) = client.message();
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    let usual = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    assert_eq!(header(&head, "allow"), Some(usual));
}

#[test]
fn the_domain_of_cookies_is_rewritten() {
    let gateway = gateway();
    let mut client = Peer::client(&gateway);
    for (path, expected) in [
        ("/api/x", "a=1; Domain=outer.example; Path=/"),
        ("/whole/x", "a=1; Path=/"),
        ("/api/v2/x", "a=1; Domain=inner.example; Path=/"),
    ] {
        let (head, _) = client.get(path, "");
        assert_eq!(header(&head, "set-cookie"), Some(expected), "{path}");
    }
}

#[test]
fn old_clients_are_served_too() {
    let url = Upstream::bind().serve(|head| {
        assert!(head.contains(" HTTP/1.1\r\n"), "{head}");
        match head.starts_with("GET /chunked ") {
            true => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .to_owned(),
            false => ok("abc"),
        }
    });
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n"
    ));
    for path in ["/", "/chunked"] {
        let mut client = Peer::client(&gateway);
        client.say(format!("GET {path} HTTP/1.0\r\n\r\n"));
        let answer = client.ended();
        assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
        assert!(header(&answer, "transfer-encoding").is_none(), "{answer}");
    }
}

#[test]
fn health_and_balancing_work_behind_a_route() {
    let well = Upstream::bind().serve(|head| {
        let kind = if head.contains("asgi-relay-health-check") {
            "check"
        } else {
            "well"
        };
        ok(kind)
    });
    let ill =
        Upstream::bind().serve(|_| "HTTP/1.1 500 Ill\r\ncontent-length: 3\r\n\r\nill".to_owned());
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\nroutes:\n  - path: /\n    targets: [\"{well}\", \
         \"{ill}\"]\n    health_check: {{path: /healthz, method: GET, interval: 0.05}}\n    sticky: {{}}\n"
    ));
    for _ in 0..10 {
        let mut client = Peer::client(&gateway);
        let (head, body) = client.get("/", "");
        assert_eq!(body, b"well");
        assert!(header(&head, "set-cookie").unwrap().starts_with("relay="));
    }
}

#[test]
fn a_hash_of_the_client_is_of_the_one_behind_trusted_proxies() {
    let targets = ["a", "b"].map(|name| Upstream::bind().serve(move |_| ok(name)));
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  trusted_proxies: [127.0.0.0/8]\nroutes:\n  - \
         path: /\n    targets: [\"{}\", \"{}\"]\n    balance: {{consistent_hash: {{client_address: true}}}}\n",
        targets[0], targets[1]
    );
    let homes = |text: &str| -> Vec<Vec<u8>> {
        let gateway = start(text);
        let mut client = Peer::client(&gateway);
        let clients = (0..100).map(|host| format!("x-forwarded-for: 192.0.2.{host}\r\n"));
        let asked = clients.map(|from| client.get("/", &from).1);
        asked.collect()
    };
    let found = homes(&text);
    for name in [&b"a"[..], b"b"] {
        assert!(found.iter().any(|home| home == name), "{found:?}");
    }
    assert_eq!(homes(&text), found);
    // Of others it is hearsay.
    let mut found = homes(&text.replace("127.0.0.0/8", "192.0.2.0/24"));
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
}
