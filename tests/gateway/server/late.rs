//! Clients that read late: their answers are small, so that each would go at once.

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::server::certificates::Authority;
use crate::server::support::{PATIENCE, Peer, Upstream, ok, relaying, start, until};
use crate::server::tls::{configuration, over};

/// Requests of one client, and octets of each answer's body: together more than the system holds.
const REQUESTS: usize = 1000;
const BODY: usize = 12 * 1024;

/// Octets that wait in a client's own buffer.
const ROOM: usize = 64 * 1024;

/// What tells that no further request comes.
const SILENCE: Duration = Duration::from_millis(300);

fn body(number: usize) -> String {
    format!("{number:0>BODY$}")
}

/// Answers all requests over one connection; tells when there is none for a while.
fn serve(upstream: Upstream) -> (JoinHandle<()>, Receiver<()>) {
    let (tell, told) = channel();
    let serving = thread::spawn(move || {
        let mut peer = upstream.accept();
        peer.0.set_read_timeout(Some(SILENCE)).unwrap();
        for number in 0..REQUESTS {
            if let Err(error) = peer.0.peek(&mut [0]) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                tell.send(()).unwrap();
                peer.0.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            let head = peer.head();
            assert!(head.starts_with(&format!("GET /{number} ")), "{head}");
            peer.say(ok(&body(number)));
        }
    });
    (serving, told)
}

/// Asks for everything, and reads when the gateway cannot go on.
fn read_late(mut stream: impl Read + Write, told: &Receiver<()>) {
    for number in 0..REQUESTS {
        write!(
            stream,
            "GET /{number} HTTP/1.1\r\nhost: one.example\r\n\r\n"
        )
        .unwrap();
    }
    stream.flush().unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    let mut stream = std::io::BufReader::new(stream);
    for number in 0..REQUESTS {
        let head = until(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{number}");
        let mut come = vec![0; BODY];
        stream.read_exact(&mut come).unwrap();
        assert!(come == body(number).as_bytes(), "{number}");
    }
}

#[test]
fn every_answer_comes() {
    let upstream = Upstream::bind();
    let gateway = start(&relaying(&upstream, ""));
    let (serving, told) = serve(upstream);
    read_late(Peer::narrow(&gateway, ROOM).0, &told);
    serving.join().unwrap();
}

#[test]
fn every_answer_comes_over_tls() {
    let authority = Authority::new("late");
    authority.issue("one.example");
    authority.issue("two.example");
    let upstream = Upstream::bind();
    let gateway = start(&configuration(&authority, &upstream.url(), ""));
    let (serving, told) = serve(upstream);
    let config = authority.client(&["http/1.1"], None);
    let stream = over(Peer::narrow(&gateway, ROOM).0, &config, "one.example");
    read_late(stream, &told);
    serving.join().unwrap();
}
