//! Idle connections to an upstream that rest: with the socket left to them and little else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asgi_relay::engine::relay::Relay;
use asgi_relay::engine::target::Target;
use asgi_relay::engine::upstream::idle::REST;
use asgi_relay::engine::upstream::pool::{Freshness, Pool};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::join;
use tokio::net::{TcpListener, UnixListener};

use crate::pool::{get, warm};
use crate::support::{Peer, Upstream, config, fetch, ok, post, relay, settle};
use crate::tls::acceptor;

/// Longer than a test has patience.
const EXPIRY: Duration = Duration::from_secs(60);

fn pool(relay: &Relay) -> Arc<Pool> {
    let members = relay.balancer().members();
    Arc::clone(members[0].pool())
}

/// How many connections are idle, and how many of these rest.
fn kept(relay: &Relay) -> (usize, usize) {
    let pool = pool(relay);
    (pool.idle_connections(), pool.resting_connections())
}

/// Has time pass at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time + Duration::from_millis(2)).await;
    tokio::time::resume();
    settle().await;
}

/// A relay with one connection that rests, and the upstream's end of it.
async fn rested(upstream: &Upstream) -> (Arc<Relay>, Peer) {
    let mut config = config(&upstream.url());
    config.limits.max_connections = Some(1);
    config.limits.keepalive_expiry = Some(EXPIRY);
    let relay = relay(config);
    let peer = warm(upstream, &relay, &ok("")).await;
    pass(REST).await;
    assert_eq!(kept(&relay), (1, 1));
    (relay, peer)
}

/// An exchange over a new connection.
async fn begins_anew(relay: &Relay, upstream: &Upstream) {
    let (answer, _) = join!(get(relay), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.say(ok("new")).await;
        peer
    });
    assert_eq!(answer, Ok((200, b"new".to_vec())));
}

/// Answers each request with the number of its connection.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, number: usize) {
    let mut head = Vec::new();
    while let Ok(octet) = stream.read_u8().await {
        head.push(octet);
        if head.ends_with(b"\r\n\r\n") {
            let answer = ok(&number.to_string());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            head.clear();
        }
    }
}

/// Asks, has the connection rest, and so on; all over one.
async fn rests_and_goes_on(url: &str) {
    let relay = relay(config(url));
    for _ in 0..3 {
        assert_eq!(get(&relay).await, Ok((200, b"1".to_vec())));
        settle().await;
        assert_eq!(kept(&relay), (1, 0));
        pass(REST).await;
        assert_eq!(kept(&relay), (1, 1));
    }
}

#[tokio::test]
async fn a_connection_that_rested_serves_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = AtomicUsize::new(0);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, accepted.fetch_add(1, Ordering::Relaxed) + 1));
        }
    });
    rests_and_goes_on(&format!("http://{address}")).await;
}

#[tokio::test]
async fn so_does_one_over_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (acceptor, _) = acceptor("upstream.test");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(acceptor.accept(stream).await.unwrap(), 1).await;
    });
    rests_and_goes_on(&format!("https://{address}")).await;
}

/// A path for a socket, gone with it.
struct Path(PathBuf);

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn and_one_over_a_unix_socket() {
    let name = format!("asgi-relay-rest-{}", std::process::id());
    let path = Path(std::env::temp_dir().join(name));
    let listener = UnixListener::bind(&path.0).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, 1).await;
    });
    let path = path.0.to_str().unwrap().replace('/', "%2F");
    rests_and_goes_on(&format!("http+unix://{path}")).await;
}

#[tokio::test]
async fn one_that_is_used_does_not_rest() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let mut peer = warm(&upstream, &relay, &ok("")).await;
    for _ in 0..3 {
        pass(REST / 2).await;
        assert_eq!(kept(&relay), (1, 0));
        let (answer, ()) = join!(get(&relay), async {
            peer.head().await;
            peer.say(ok("")).await;
        });
        answer.unwrap();
    }
}

#[tokio::test]
async fn each_rests_in_its_time() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let (mut first, mut second) = {
        let (_, _, peers) = join!(get(&relay), get(&relay), async {
            let (mut first, mut second) = (upstream.accept().await, upstream.accept().await);
            first.head().await;
            second.head().await;
            first.say(ok("")).await;
            settle().await;
            pass(REST / 2).await;
            second.say(ok("")).await;
            (first, second)
        });
        peers
    };
    settle().await;
    pass(REST / 2).await;
    assert_eq!(kept(&relay), (2, 1));
    pass(REST / 2).await;
    assert_eq!(kept(&relay), (2, 2));
    drop(relay);
    assert!(first.ended().await.is_empty() && second.ended().await.is_empty());
}

#[tokio::test]
async fn an_upstream_that_closes_one_costs_no_error() {
    let upstream = Upstream::bind().await;
    let (relay, peer) = rested(&upstream).await;
    drop(peer);
    settle().await;
    assert_eq!(kept(&relay), (0, 0));
    begins_anew(&relay, &upstream).await;
}

#[tokio::test]
async fn octets_that_nobody_asked_for_end_it() {
    let upstream = Upstream::bind().await;
    let (relay, mut peer) = rested(&upstream).await;
    peer.say(ok("poison")).await;
    assert!(peer.ended().await.is_empty());
    assert_eq!(kept(&relay), (0, 0));
    begins_anew(&relay, &upstream).await;
}

#[tokio::test]
async fn it_ends_when_its_time_is_over() {
    let upstream = Upstream::bind().await;
    let (relay, mut peer) = rested(&upstream).await;
    pass(EXPIRY - REST * 5).await;
    assert_eq!(kept(&relay), (1, 1));
    pass(REST * 4).await;
    assert_eq!(kept(&relay), (0, 0));
    assert!(peer.ended().await.is_empty());
}

#[tokio::test]
async fn it_ends_with_its_pool() {
    let upstream = Upstream::bind().await;
    let (relay, mut peer) = rested(&upstream).await;
    relay.drain(Duration::ZERO).await;
    assert!(peer.ended().await.is_empty());
    let (relay, mut peer) = rested(&upstream).await;
    drop(relay);
    assert!(peer.ended().await.is_empty());
}

#[tokio::test]
async fn it_makes_room_for_a_connection_elsewhere() {
    let upstream = Upstream::bind().await;
    let (relay, mut peer) = rested(&upstream).await;
    let other = Upstream::bind().await;
    let target = Target::parse(&other.url(), "/").unwrap();
    let pool = pool(&relay);
    let lease = pool.lease(target.origin(), Freshness::Any);
    let (lease, _peer) = join!(lease, other.accept());
    assert!(!lease.unwrap().is_reused());
    assert!(peer.ended().await.is_empty());
}

#[tokio::test]
async fn a_request_that_cannot_be_repeated_goes_over_it_if_it_is_open() {
    let upstream = Upstream::bind().await;
    let (relay, mut peer) = rested(&upstream).await;
    let (answer, ()) = join!(fetch(&relay, post(&relay, b"body")), async {
        peer.until("body").await;
        peer.say(ok("posted")).await;
    });
    assert_eq!(answer, Ok((200, b"posted".to_vec())));
}

#[tokio::test]
async fn but_not_if_a_look_at_it_shows_its_end() {
    let upstream = Upstream::bind().await;
    let (relay, peer) = rested(&upstream).await;
    let (pool, target) = (pool(&relay), Target::parse(&upstream.url(), "/").unwrap());
    // The task does not know of it when it is woken.
    drop(peer);
    let lease = pool.lease(target.origin(), Freshness::Checked);
    let (lease, _peer) = join!(lease, upstream.accept());
    assert!(!lease.unwrap().is_reused());
}

#[tokio::test]
async fn a_client_that_leaves_while_it_wakes_loses_no_more_than_it() {
    let upstream = Upstream::bind().await;
    let (relay, mut peer) = rested(&upstream).await;
    tokio::select! {
        biased;
        _ = get(&relay) => panic!("nobody answered"),
        () = async {} => assert_eq!(kept(&relay), (0, 0), "somebody has it woken"),
    }
    assert!(peer.ended().await.is_empty());
    begins_anew(&relay, &upstream).await;
}
