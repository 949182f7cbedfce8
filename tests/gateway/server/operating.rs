//! Stopping, reloading, watching: what happens around requests.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::server::certificates::Folder;
use crate::server::support::{PATIENCE, Peer, Upstream, header, ok, relaying, settings, start};

#[test]
fn a_gateway_that_stops_finishes_what_is_in_flight() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    let mut client = Peer::client(&gateway);
    client.say("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    let mut idle = Peer::client(&gateway);
    let mut asking = Peer::client(&gateway);
    let address = gateway.addresses().remove(0);
    thread::scope(|scope| {
        let drained = scope.spawn(|| gateway.drain(PATIENCE));
        while std::net::TcpStream::connect(&address).is_ok() {}
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
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    let mut client = Peer::client(&gateway);
    client.say("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = upstream.accept();
    peer.head();
    gateway.drain(Duration::from_millis(200));
    assert_eq!(client.ended(), "");
    assert_eq!(peer.ended(), "");
}

#[test]
fn a_reload_changes_all_or_nothing() {
    let old = Upstream::bind();
    let gateway = start(&relaying(&old, ""));
    let mut kept = Peer::client(&gateway);
    kept.say("GET /1 HTTP/1.1\r\nhost: h\r\n\r\n");
    let mut peer = old.accept();
    peer.head();
    let new = Upstream::bind().serve(|_| ok("new"));
    let text = |port: &str, more: &str| {
        format!(
            "server:\n  listeners:\n    - {{host: 127.0.0.1, port: 0}}\n{port}  reverse_proxy:\n    \
             - path: /\n      targets: [{new}]\n{more}"
        )
    };
    // What cannot be bound changes nothing.
    let taken = Upstream::bind().address().port();
    let occupied = Upstream::bind();
    let port = format!(
        "    - {{host: 127.0.0.1, port: {}}}\n",
        occupied.address().port()
    );
    let error = gateway.reload(settings(&text(&port, ""))).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{error}"
    );
    // What can be is in place for the next request, on connections that are kept, too.
    let port = format!("    - {{host: 127.0.0.1, port: {taken}}}\n");
    gateway.reload(settings(&text(&port, ""))).unwrap();
    peer.say(ok("old"));
    assert_eq!(kept.message().1, b"old");
    assert_eq!(kept.get("/2", "").1, b"new");
    assert_eq!(gateway.addresses().len(), 2);
    let mut second = Peer::new(std::net::TcpStream::connect(&gateway.addresses()[1]).unwrap());
    assert_eq!(second.get("/", "").1, b"new");
    // A listener that is gone takes no new connection; those that are open go on.
    gateway.reload(settings(&text("", ""))).unwrap();
    assert_eq!(gateway.addresses().len(), 1);
    assert_eq!(second.get("/", "").1, b"new");
}

#[test]
fn reloads_lose_no_request() {
    let url = Upstream::bind().serve(|_| ok("x"));
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n"
    );
    let gateway = start(&text);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Peer::client(&gateway);
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(client.get("/", "").1, b"x");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..50 {
            gateway.reload(settings(&text)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        let counts: Vec<i32> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    });
}

#[test]
fn the_admin_listener_shows_health_and_metrics() {
    let url = Upstream::bind().serve(|_| ok("12345"));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\n  reverse_proxy:\n    - path: /api\n      \
         targets: [{url}]\n    - path: /gone\n      targets: [\"http://127.0.0.1:1\"]\nadmin: {{port: 0}}\n"
    ));
    let mut client = Peer::client(&gateway);
    for _ in 0..3 {
        client.get("/api/x?secret=1", "");
    }
    client.get("/gone", "");
    client.get("/nowhere", "");
    let address = gateway.admin_address().unwrap();
    let mut admin = Peer::new(std::net::TcpStream::connect(address).unwrap());
    let (head, body) = admin.get("/healthz", "");
    assert!(
        head.starts_with("HTTP/1.1 200") && body == b"ok\n",
        "{head}"
    );
    let (head, body) = admin.get("/metrics", "");
    assert!(
        header(&head, "content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let page = String::from_utf8(body).unwrap();
    for line in [
        format!("asgi_relay_requests_total{{route=\"/api\",target=\"{url}\",status=\"200\"}} 3"),
        "asgi_relay_requests_total{route=\"/gone\",target=\"\",status=\"502\"} 1".to_owned(),
        format!("asgi_relay_response_bytes_total{{route=\"/api\",target=\"{url}\"}} 15"),
        format!("asgi_relay_request_duration_seconds_count{{route=\"/api\",target=\"{url}\"}} 3"),
        "asgi_relay_requests_in_flight{route=\"/api\"} 0".to_owned(),
        "asgi_relay_connections 1".to_owned(),
        format!("asgi_relay_target_healthy{{route=\"/api\",target=\"{url}\"}} 1"),
    ] {
        assert!(
            page.lines().any(|own| own == line),
            "{line} is not in\n{page}"
        );
    }
    assert!(!page.contains("secret"));
    assert!(admin.get("/other", "").0.starts_with("HTTP/1.1 404"));
}

#[test]
fn requests_are_logged_without_their_secrets() {
    let folder = Folder::new("log");
    let url = Upstream::bind().serve(|_| ok("12345"));
    let path = folder.0.join("access.log");
    let text = |format: &str| {
        format!(
            "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  reverse_proxy:\n    - path: /api\n      \
             targets: [{url}]\naccess_log: {{format: {format}, path: {}}}\n",
            path.display()
        )
    };
    let ask = "cookie: secret\r\nauthorization: secret\r\nuser-agent: test \"1\"\r\nreferer: http://a/?x=secret\r\n";
    for (format, expected) in [
        (
            "combined",
            "\"GET /api/x?token=*** HTTP/1.1\" 200 5 \"http://a/?x=***\" \"test \\\"1\\\"\"",
        ),
        ("json", "\"target\":\"/api/x?token=***\""),
    ] {
        let gateway = start(&text(format));
        Peer::client(&gateway).get("/api/x?token=secret", ask);
        gateway.drain(PATIENCE);
        drop(gateway);
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.contains(expected), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
    let log = std::fs::read_to_string(&path).unwrap();
    let line = log.lines().last().unwrap();
    for part in [
        "\"client\":\"127.0.0.1\"".to_owned(),
        "\"route\":\"/api\"".to_owned(),
        format!("\"upstream\":\"{url}\""),
        "\"status\":200,\"sent\":5,\"duration_ms\":".to_owned(),
        "\"request_id\":\"".to_owned(),
    ] {
        assert!(line.contains(&part), "{part} is not in {line}");
    }
}

#[test]
fn request_ids_are_passed_on_or_made() {
    let url = Upstream::bind().serve(|head| ok(header(head, "x-request-id").unwrap()));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n"
    ));
    let mut client = Peer::client(&gateway);
    assert_eq!(client.get("/", "x-request-id: mine-1\r\n").1, b"mine-1");
    let made = client.get("/", "").1;
    assert_eq!(made.len(), 32);
    assert_ne!(client.get("/", "").1, made);
    // What no id looks like is replaced.
    assert_eq!(client.get("/", "x-request-id: a b\r\n").1.len(), 32);
    let long = format!("x-request-id: {}\r\n", "a".repeat(129));
    assert_eq!(client.get("/", &long).1.len(), 32);
}

#[test]
fn the_proxy_protocol_is_read_where_it_is_configured() {
    let url = Upstream::bind().serve(|head| ok(header(head, "x-forwarded-for").unwrap_or("-")));
    let gateway = start(&format!(
        "server:\n  workers: 1\n  listeners:\n    - {{host: 127.0.0.1, port: 0, proxy_protocol: true}}\n    \
         - {{host: 127.0.0.2, port: 0, redirect_https: 443}}\n  reverse_proxy:\n    - path: /\n      \
         targets: [{url}]\n"
    ));
    let mut client = Peer::client(&gateway);
    client.say("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n");
    assert_eq!(client.get("/", "").1, b"192.0.2.7");
    assert_eq!(client.get("/", "").1, b"192.0.2.7");
    let mut without = Peer::client(&gateway);
    without.say("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(without.ended(), "");
    let mut elsewhere = Peer::new(std::net::TcpStream::connect(&gateway.addresses()[1]).unwrap());
    elsewhere.say("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(elsewhere.head().starts_with("HTTP/1.1 400"));
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let folder = Folder::new("unix");
    let (front, back) = (folder.0.join("front.sock"), folder.0.join("back.sock"));
    let upstream = std::os::unix::net::UnixListener::bind(&back).unwrap();
    let text = format!(
        "server:\n  workers: 2\n  listeners: [{{unix: {}}}]\n  reverse_proxy:\n    - path: /\n      unix: \
         {}\n",
        front.display(),
        back.display()
    );
    let gateway = start(&text);
    let mut client = UnixStream::connect(&front).unwrap();
    use std::io::Write;
    client
        .write_all(b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .unwrap();
    let (mut peer, _) = upstream.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        peer.read_exact(&mut octet).unwrap();
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("GET /x HTTP/1.1\r\nhost: localhost\r\n"),
        "{head}"
    );
    peer.write_all(ok("unix").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nunix"), "{answer}");
    // Who listens there already is not pushed aside; what was left behind is.
    let error = asgi_relay::gateway::Gateway::start(settings(&text)).unwrap_err();
    assert!(error.to_string().contains("front.sock"), "{error}");
    drop(gateway);
    assert!(!front.exists());
    drop(std::os::unix::net::UnixListener::bind(&front).unwrap());
    drop(start(&text));
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let folder = Folder::new("nothing");
    let path = folder.0.join("front.sock");
    let taken = Upstream::bind();
    let text = format!(
        "server:\n  workers: 1\n  listeners: [{{unix: {}}}, {{host: 127.0.0.1, port: {}}}]\n  \
         reverse_proxy:\n    - path: /\n",
        path.display(),
        taken.address().port()
    );
    assert!(asgi_relay::gateway::Gateway::start(settings(&text)).is_err());
    assert!(!path.exists());
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = Upstream::bind();
    let port = taken.address().port();
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: {port}\n  workers: 2\n  reverse_proxy:\n    - path: /\n"
    );
    let error = asgi_relay::gateway::Gateway::start(settings(&text)).unwrap_err();
    let expected = format!("cannot listen on 127.0.0.1:{port}: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    // Another gateway is no better a neighbour.
    let first = start(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\n  reverse_proxy:\n    - path: /\n",
    );
    let port = first.addresses()[0].rsplit(':').next().unwrap().to_owned();
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: {port}\n  workers: 2\n  reverse_proxy:\n    - path: /\n"
    );
    assert!(asgi_relay::gateway::Gateway::start(settings(&text)).is_err());
}
