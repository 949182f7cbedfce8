//! Connecting to one of several addresses (RFC 8305), with a clock that stands still but for what
//! is waited for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use asgi_relay::engine::upstream::dial::{ATTEMPT_DELAY, MAX_ATTEMPTS, dial, interleaved};
use socket2::{Domain, Socket, Type};
use tokio::runtime::Handle;
use tokio::time::{Instant, interval};

/// An address where a connect never ends: its queue is full.
struct Silent {
    address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl Silent {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..3 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address);
            sockets.push(filler);
        }
        Self {
            address: address.as_socket().unwrap(),
            _sockets: sockets,
        }
    }
}

fn accepting() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens. No port that was free just now: another test may be given that.
const REFUSING: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Which address was connected to, and when.
async fn dialled(addresses: &[SocketAddr], limit: Option<Duration>) -> (SocketAddr, Duration) {
    let begun = Instant::now();
    let stream = dial(addresses.to_vec(), limit).await.unwrap();
    let connected = (stream.peer_addr().unwrap(), begun.elapsed());
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
    connected
}

#[test]
fn families_take_turns_in_the_resolvers_order() {
    let ordered = |addresses: &[&str]| -> Vec<String> {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        let merged = interleaved(addresses).into_iter();
        merged.map(|address| address.ip().to_string()).collect()
    };
    assert_eq!(
        ordered(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]),
        ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    );
    assert_eq!(
        ordered(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1", "[::2]:1", "[::3]:1"]),
        ["1.1.1.1", "::1", "2.2.2.2", "::2", "::3"]
    );
    assert_eq!(ordered(&["1.1.1.1:1"]), ["1.1.1.1"]);
    assert!(ordered(&[]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_silent_address_costs_a_delay() {
    let silent = Silent::new();
    let (_listener, good) = accepting();
    for limit in [None, Some(Duration::from_secs(5))] {
        let addresses = [silent.address, silent.address, silent.address, good];
        let (connected, took) = dialled(&addresses, limit).await;
        assert_eq!(connected, good);
        assert!(
            (3 * ATTEMPT_DELAY..4 * ATTEMPT_DELAY).contains(&took),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_costs_none() {
    let silent = Silent::new();
    let (_listener, good) = accepting();
    let (connected, took) = dialled(&[REFUSING, REFUSING, good, silent.address], None).await;
    assert_eq!(connected, good);
    assert!(took < ATTEMPT_DELAY, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn where_there_is_little_time_each_address_has_its_share() {
    let silent = Silent::new();
    let (_listener, good) = accepting();
    let limit = Duration::from_millis(200);
    let addresses = [silent.address, silent.address, silent.address, good];
    let (connected, took) = dialled(&addresses, Some(limit)).await;
    assert_eq!(connected, good);
    assert!(took < limit, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_at_once_are_bounded_and_all_addresses_tried() {
    let silent = Silent::new();
    let (_listener, good) = accepting();
    let mut addresses = vec![silent.address; 3 * MAX_ATTEMPTS];
    addresses.push(good);
    let dialling = dial(addresses, None);
    tokio::pin!(dialling);
    let mut looking = interval(ATTEMPT_DELAY / 2);
    let mut most = 0;
    let stream = loop {
        tokio::select! {
            stream = &mut dialling => break stream.unwrap(),
            _ = looking.tick() => {
                most = most.max(Handle::current().metrics().num_alive_tasks());
            }
        }
    };
    assert_eq!(stream.peer_addr().unwrap(), good);
    assert_eq!(most, MAX_ATTEMPTS);
}

#[tokio::test]
async fn where_none_succeeds_the_last_failure_is_told() {
    let error = dial(vec![REFUSING, REFUSING], None).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(dial(Vec::new(), None).await.is_err());
}
