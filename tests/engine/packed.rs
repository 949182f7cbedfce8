//! A request that crosses threads in one block is the same on the other side.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use asgi_relay::engine::doorbell::Doorbell;
use asgi_relay::engine::mailbox::{End, Mailbox};
use asgi_relay::engine::packed::Packed;
use asgi_relay::engine::policy::request::{Connection, Line};
use asgi_relay::engine::runtime::{Job, Runtime};

use crate::support::{Upstream, config, relay};

const FROM_NOWHERE: Connection<'_> = Connection {
    client: None,
    secure: false,
    multiplexed: false,
    origin: None,
};

#[test]
fn what_is_read_is_what_was_packed() {
    let lines: [(&[u8], &[u8]); 4] = [
        (b"accept", b"*/*"),
        (b"x-empty", b""),
        (b"X-Twice", b"\xff\x80"),
        (b"x-twice", b"2"),
    ];
    let connections = [
        FROM_NOWHERE,
        Connection {
            client: Some(""),
            secure: true,
            ..FROM_NOWHERE
        },
        Connection {
            client: Some("::1"),
            multiplexed: true,
            ..FROM_NOWHERE
        },
    ];
    for (connection, room) in connections.into_iter().zip([0, 4, 100]) {
        let mut packed = Packed::new("GET", b"/a%2F\xff", b"", &connection, room);
        for (name, value) in lines {
            packed.push(name, value);
        }
        packed.give(b"X-Given", b"\xff");
        packed.read(|inbound| {
            assert_eq!((inbound.method, inbound.path), ("GET", &b"/a%2F\xff"[..]));
            assert_eq!(inbound.query, b"");
            let came = &inbound.connection;
            assert_eq!(came.client, connection.client);
            assert_eq!(came.secure, connection.secure);
            assert_eq!(came.multiplexed, connection.multiplexed);
            assert_eq!(inbound.headers.len(), lines.len());
            assert_eq!(inbound.given.len(), 1);
            assert_eq!(inbound.given[0].octets(), b"\xff");
            assert_eq!(inbound.given[0].name().unwrap(), "x-given");
            for (line, (name, value)) in inbound.headers.iter().zip(lines) {
                assert_eq!(line.octets(), value);
                assert_eq!(line.value().unwrap().as_bytes(), value);
                let name = name.to_ascii_lowercase();
                assert_eq!(line.name().unwrap().as_str().as_bytes(), name);
            }
        });
    }
}

#[tokio::test]
async fn one_that_cannot_be_passed_on_is_answered() {
    let relay = relay(config("http://127.0.0.1:1"));
    let runtime = Runtime::start().unwrap();
    let (woken, wakes) = channel();
    let doorbell = Doorbell::new(move || woken.send(()).unwrap());
    let mailbox = Mailbox::new(doorbell);
    assert!(mailbox.park(0));
    let packed = Packed::new("GET", b"/../", b"", &FROM_NOWHERE, 0);
    let in_flight = Arc::clone(&relay).enter(Arc::clone(&mailbox) as _);
    runtime.enqueue(Job::Prepare(in_flight, packed, Arc::clone(&mailbox)));
    runtime.flush();
    wakes.recv_timeout(Duration::from_secs(20)).unwrap();
    let contents = mailbox.take().unwrap();
    let head = contents.head.unwrap();
    assert_eq!((head.status.as_u16(), head.own), (400, true));
    let text = "Bad request: the path leaves the area that is served here";
    assert_eq!(contents.chunks.concat(), text.as_bytes());
    assert!(matches!(contents.end, Some(End::Complete)));
    // It is in flight no longer.
    let drained = relay.drain(Duration::from_secs(60));
    let drained = tokio::time::timeout(Duration::from_secs(20), drained).await;
    assert!(drained.is_ok());
    runtime.stop();
}

#[tokio::test]
async fn one_that_nobody_waits_for_any_more_is_not_sent() {
    let upstream = Upstream::bind().await;
    for cut in [false, true] {
        let relay = relay(config(&upstream.url()));
        let mailbox = Mailbox::new(Doorbell::new(|| {}));
        let packed = Packed::new("GET", b"/", b"", &FROM_NOWHERE, 0);
        let in_flight = Arc::clone(&relay).enter(Arc::clone(&mailbox) as _);
        match cut {
            true => relay.cut(),
            false => drop(mailbox.abort()),
        }
        let runtime = Runtime::start().unwrap();
        runtime.enqueue(Job::Prepare(in_flight, packed, Arc::clone(&mailbox)));
        runtime.flush();
        let drained = relay.drain(Duration::from_secs(60));
        let drained = tokio::time::timeout(Duration::from_secs(20), drained).await;
        assert!(drained.is_ok());
        let contents = mailbox.take().unwrap();
        assert_eq!(contents.aborted, !cut);
        assert_eq!(
            contents.head.map(|head| head.status.as_u16()),
            cut.then_some(502)
        );
        runtime.stop();
    }
    assert!(!upstream.has_connection().await);
}
