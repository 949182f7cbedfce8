//! The access log and the counters of connections.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;

use asgi_relay::gateway::Handle;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use serde_json::Value;

use crate::server::certificates::{Authority, Folder};
use crate::server::support::{NOBODY, PATIENCE, Peer, Upstream, ok, settings, start};

#[test]
fn a_pipe_delays_nobody_whoever_reads_it() {
    let folder = Folder::new("pipe");
    let path = folder.0.join("log");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let url = Upstream::bind().serve(|_| ok("in"));
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\nroutes: [{{targets: \"{url}\"}}]\n\
         access_log: {{path: {}}}\n",
        path.display()
    );
    let (started, gateway) = channel();
    thread::spawn({
        let text = text.clone();
        move || {
            let gateway = start(&text);
            gateway.reload(settings(&text)).unwrap();
            started.send(gateway).unwrap();
        }
    });
    // Nobody reads it yet.
    let gateway = gateway.recv_timeout(PATIENCE).unwrap();
    let mut client = Peer::client(&gateway);
    let mut ask = |path: &str| assert_eq!(client.get(path, "").1, b"in");
    let read = |expected: &[&str]| {
        let mut lines = BufReader::new(File::open(&path).unwrap()).lines();
        for path in expected {
            let line = lines.next().unwrap().unwrap();
            assert!(line.contains(&format!("\"GET {path} HTTP/1.1\"")), "{line}");
        }
    };
    ask("/before");
    read(&["/before"]);
    // More than it holds, and nobody reads it any more.
    let long = format!("/{}", "x".repeat(8000));
    for _ in 0..20 {
        ask(&long);
    }
    let log = thread::spawn(move || {
        let mut lines = BufReader::new(File::open(&path).unwrap()).lines();
        lines.find(|line| line.as_ref().unwrap().contains("GET /after "))
    });
    while !log.is_finished() {
        ask("/after");
    }
    assert!(log.join().unwrap().is_some());
}

#[test]
fn who_leaves_without_a_word_has_failed_at_nothing() {
    let authority = Authority::new("quiet");
    authority.issue("own");
    let path = |name: &str| authority.path(name).display().to_string();
    let upstream = Upstream::bind();
    let text = format!(
        "admin: {{port: 0}}\nserver:\n  workers: 1\n  limits: {{keepalive_timeout: 1, header_timeout: \
         1}}\n  listeners:\n    - {{host: 127.0.0.1, port: 0}}\n    - {{host: 127.0.0.1, port: 0, \
         proxy_protocol: true}}\n    - host: 127.0.0.1\n      port: 0\n      ssl: {{certificates: \
         [{{cert_file: {}, key_file: {}}}]}}\nroutes: [{{targets: \"{}\"}}]\n",
        path("own.pem"),
        path("own.key"),
        upstream.url()
    );
    let gateway = start(&text);
    let connect = |number: usize| {
        let address = &gateway.addresses()[number];
        Peer::new(TcpStream::connect(address).unwrap())
    };
    for number in 0..3 {
        // It leaves at once, with an end or a reset, or is told to.
        drop(connect(number));
        let reset = socket2::Socket::from(connect(number).0);
        reset.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(reset);
        assert_eq!(connect(number).ended(), "");
    }
    // Neither does a client that says half of a request: that is its own affair.
    let mut half = connect(0);
    half.say("GET ");
    half.ended();
    // These have begun with what they had to say first, and failed at it.
    for (number, octets) in [
        (1, "PROXY TCP4"),
        (1, "GET / HTTP/1.1\r\n"),
        (2, "\u{16}\u{3}"),
    ] {
        let mut peer = connect(number);
        peer.say(octets);
        peer.ended();
    }
    loop {
        let admin = TcpStream::connect(gateway.admin_address().unwrap());
        let (_, body) = Peer::new(admin.unwrap()).get("/metrics", "");
        let text = String::from_utf8(body).unwrap();
        let value = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
        };
        if value("asgi_relay_connections") == "0" && value("asgi_relay_connections_total") == "13" {
            assert_eq!(value("asgi_relay_connections_failed_total"), "3");
            return;
        }
    }
}

#[test]
fn what_is_no_request_is_logged_and_counted() {
    let folder = Folder::new("nonsense");
    let path = folder.0.join("log");
    let url = Upstream::bind().serve(|_| ok("in"));
    let text = |format: &str| {
        format!(
            "admin: {{port: 0}}\nserver:\n  host: 127.0.0.1\n  port: 0\n  workers: 2\n  limits: \
             {{max_header_size: 8192, header_timeout: 0.2}}\nroutes: [{{targets: \"{url}\"}}]\naccess_log: \
             {{path: {}, format: {format}}}\n",
            path.display()
        )
    };
    let gateway = start(&text("combined"));
    let counted = |count: usize| {
        let line = format!(
            "asgi_relay_malformed_requests_total{{listener=\"{}\"}} {count}\n",
            gateway.addresses()[0]
        );
        let admin = TcpStream::connect(gateway.admin_address().unwrap());
        let mut admin = Peer::new(admin.unwrap());
        while !String::from_utf8(admin.get("/metrics", "").1)
            .unwrap()
            .contains(&line)
        {}
    };
    counted(0);
    let long = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(10_000));
    for (before, (octets, status)) in [
        ("GET / HTTP/1.1\r\nhost : h\r\n\r\n", "400"),
        ("G@T / HTTP/1.1\r\n\r\n", "400"),
        (&long, "431"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Peer::client(&gateway);
        client.say(octets);
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        // One need not be in a hurry to leave, either.
        let hold = (before == 0).then_some(client);
        counted(before + 1);
        drop(hold);
    }
    gateway.reload(settings(&text("json"))).unwrap();
    Peer::client(&gateway).say("\0");
    counted(4);
    // This is one, and the other is not complete.
    Peer::client(&gateway).get("/", "");
    Peer::client(&gateway).say("GET / HT");
    drop(gateway);
    let log = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = log.lines().collect();
    for (line, status) in lines.iter().zip(["400", "400", "431"]) {
        assert!(line.starts_with("127.0.0.1 - - ["), "{log}");
        let end = format!("] \"-\" {status} 0 \"-\" \"-\"");
        assert!(line.ends_with(&end), "{log}");
    }
    assert!(lines[3].contains("\"method\":\"\""), "{log}");
    assert!(lines[3].contains("\"status\":400"), "{log}");
    assert!(lines[4].contains("\"status\":200"), "{log}");
    assert_eq!(lines.len(), 5, "{log}");
}

/// The lines in JSON of a gateway with such a route, for what is done with it.
fn logged(route: &str, work: impl FnOnce(&Handle)) -> Vec<Value> {
    let folder = Folder::new("logged");
    let path = folder.0.join("log");
    let gateway = start(&format!(
        "server: {{host: 127.0.0.1, port: 0, workers: 1}}\nroutes: [{{{route}}}]\naccess_log: {{path: {}, \
         format: json}}\n",
        path.display()
    ));
    work(&gateway);
    drop(gateway);
    let log = std::fs::read_to_string(&path).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_is_cut_short_is_marked() {
    let upstream = Upstream::bind();
    let lines = logged(&format!("targets: \"{}\"", upstream.url()), |gateway| {
        let heads = [
            "content-length: 3\r\n\r\nabc",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "content-length: 9\r\n\r\nabc",
            "content-length: 9000000\r\n\r\nabc",
        ];
        for (number, head) in heads.iter().enumerate() {
            let mut client = Peer::client(gateway);
            client.say(format!("GET /{number} HTTP/1.1\r\nhost: h\r\n\r\n"));
            let mut peer = upstream.accept();
            peer.head();
            peer.say(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{head}"));
            client.until("abc");
            if number == 3 {
                drop(client);
                // Its exchange ends with it.
                while peer.0.write_all(b"more").is_ok() {}
            } else if number == 2 {
                drop(peer);
                client.ended();
            }
        }
        let mut client = Peer::client(gateway);
        client.say("HEAD /4 HTTP/1.1\r\nhost: h\r\n\r\n");
        let mut peer = upstream.accept();
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
        client.head();
    });
    let marks: Vec<_> = lines
        .iter()
        .map(|line| line["cut_short"].as_str())
        .collect();
    let expected = [None, None, Some("upstream"), Some("downstream"), None];
    assert_eq!(marks, expected, "{lines:?}");
}

#[test]
fn a_failure_names_the_target_of_the_last_try() {
    // What it answers is none of HTTP's, and the request is not tried again.
    let closing = Upstream::bind().serve(|_| "nonsense\r\n\r\n".to_owned());
    let route =
        format!("targets: [\"{NOBODY}\", \"{closing}\"], max_retries: 1, balance: round_robin");
    let lines = logged(&route, |gateway| {
        let mut client = Peer::client(gateway);
        // One of them goes to the other one first.
        for _ in 0..2 {
            assert!(client.get("/", "").0.starts_with("HTTP/1.1 502"));
        }
        client.say("GET / HTTP/1.1\r\nhost: h, i\r\n\r\n");
        client.message();
    });
    let found: Vec<_> = lines.iter().map(|line| line["upstream"].as_str()).collect();
    assert_eq!(found, [Some(&*closing), Some(&*closing), Some("")]);
}
