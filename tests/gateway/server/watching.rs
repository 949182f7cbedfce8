//! What is counted, shown and written down of requests.

use std::fs::OpenOptions;
use std::time::{Duration, SystemTime};

use asgi_relay::gateway::config::settings::{AccessLog, LogFormat};
use asgi_relay::gateway::log::{Entry, Writer, open};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::server::certificates::Folder;
use crate::server::support::{NOBODY, PATIENCE, Peer, Upstream, header, ok, relaying, start};

#[test]
fn the_admin_listener_shows_health_and_metrics() {
    let url = Upstream::bind().serve(|_| ok("12345"));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\n  reverse_proxy:\n    - path: /api\n      \
         targets: [{url}]\n    - path: /gone\n      targets: [{NOBODY}]\nadmin: {{port: 0}}\n"
    ));
    let mut client = Peer::client(&gateway);
    for _ in 0..3 {
        client.get("/api/x?secret=1", "");
    }
    client.get("/gone", "");
    client.get("/nowhere", "");
    client.say("POST /api HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n7\r\n1234567\r\n0\r\n\r\n");
    client.message();
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
        format!("asgi_relay_requests_total{{route=\"/api\",target=\"{url}\",status=\"200\"}} 4"),
        format!(
            "asgi_relay_requests_total{{route=\"/gone\",target=\"{NOBODY}\",status=\"502\"}} 1"
        ),
        format!("asgi_relay_response_bytes_total{{route=\"/api\",target=\"{url}\"}} 20"),
        format!("asgi_relay_request_bytes_total{{route=\"/api\",target=\"{url}\"}} 7"),
        format!("asgi_relay_request_duration_seconds_count{{route=\"/api\",target=\"{url}\"}} 4"),
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
fn a_target_s_health_is_told_under_the_name_that_its_requests_are_counted_under() {
    let url = Upstream::bind().serve(|_| ok("x"));
    let gateway = start(&format!(
        "server: {{host: 127.0.0.1, port: 0, workers: 1}}\nadmin: {{port: 0}}\nroutes:\n  - path: \
         /api\n    targets: ['{url}/a', {{url: '{url}/b', weight: 0}}]\n  - path: /app\n    \
         unix: /no/such.sock\n"
    ));
    Peer::client(&gateway).get("/api", "");
    let stream = std::net::TcpStream::connect(gateway.admin_address().unwrap()).unwrap();
    let page = String::from_utf8(Peer::new(stream).get("/metrics", "").1).unwrap();
    let of = |name: &str| {
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // One of the two that are called so is drained.
    let api = format!("{{route=\"/api\",target=\"{url}\"");
    let app = "{route=\"/app\",target=\"unix:/no/such.sock\"";
    let name = "asgi_relay_target_healthy";
    assert_eq!(
        of(name),
        [format!("{name}{api}}} 0"), format!("{name}{app}}} 1")]
    );
    let name = "asgi_relay_requests_total";
    assert_eq!(of(name), [format!("{name}{api},status=\"200\"}} 1")]);
}

#[test]
fn clients_that_do_not_wait_are_counted_too() {
    let upstream = Upstream::bind();
    let gateway = start(&(relaying(&upstream, "") + "admin: {port: 0}\n"));
    let mut client = Peer::client(&gateway);
    client.say("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n123");
    let mut peer = upstream.accept();
    peer.until("\r\n\r\n123");
    drop(client);
    assert_eq!(peer.ended(), "");
    let stream = std::net::TcpStream::connect(gateway.admin_address().unwrap()).unwrap();
    let mut admin = Peer::new(stream);
    let page = loop {
        let page = String::from_utf8(admin.get("/metrics", "").1).unwrap();
        if page.contains("asgi_relay_requests_in_flight{route=\"/\"} 0\n") {
            break page;
        }
    };
    for line in [
        "asgi_relay_requests_total{route=\"/\",target=\"\",status=\"499\"} 1",
        "asgi_relay_request_bytes_total{route=\"/\",target=\"\"} 3",
    ] {
        assert!(page.lines().any(|own| own == line), "{line}: {page}");
    }
    // They would make the gateway look quick.
    assert!(!page.contains("request_duration_seconds_count"), "{page}");
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

/// A log into a pipe, and its reader, which reads nothing; without it the pipe could not be opened.
fn stopped_reader(folder: &Folder) -> (AccessLog, std::fs::File) {
    let path = folder.0.join("log");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let both_ways = OpenOptions::new().read(true).write(true).open(&path);
    let settings = AccessLog {
        format: LogFormat::Combined,
        path: Some(path),
    };
    (settings, both_ways.unwrap())
}

#[test]
fn nobody_waits_for_a_reader_of_the_log_that_has_stopped() {
    let folder = Folder::new("stuck");
    let (settings, both_ways) = stopped_reader(&folder);
    let writer = Writer::start().unwrap();
    writer.configure(open(Some(&settings)).unwrap());
    // More than the pipe holds, and then more than the queue does.
    writer.log().write(entry("a".repeat(200_000)));
    while writer.log().dropped() == 0 {
        writer.log().write(entry(String::new()));
    }
    writer.configure(None);
    drop(writer);
    drop(both_ways);
}

fn entry(target: String) -> Entry {
    let nothing = String::new;
    Entry {
        at: SystemTime::UNIX_EPOCH,
        client: nothing(),
        method: nothing(),
        target,
        version: "HTTP/1.1",
        host: nothing(),
        referer: nothing(),
        user_agent: nothing(),
        request_id: nothing(),
        route: nothing(),
        upstream: nothing(),
        status: 200,
        sent: 0,
        time: Duration::ZERO,
        first_byte: None,
        cut_short: None,
    }
}

#[test]
fn what_waits_for_the_log_is_bounded_in_octets_too() {
    let writer = Writer::start().unwrap();
    let folder = Folder::new("large");
    let (settings, both_ways) = stopped_reader(&folder);
    writer.configure(open(Some(&settings)).unwrap());
    let mut written = 0;
    while writer.log().dropped() == 0 {
        writer.log().write(entry("a".repeat(1_000_000)));
        written += 1;
    }
    // Nearly all the room is used where the writer is not thought to be stuck by then.
    assert!(written < 24, "{written}");
    drop(both_ways);
}
