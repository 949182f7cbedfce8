//! Connections to an upstream: kept, bounded, expired, and never handed on with a stain.

use std::sync::Arc;
use std::time::Duration;

use asgi_relay::engine::config::Http2;
use asgi_relay::engine::error::Kind;
use asgi_relay::engine::relay::Relay;
use http::header::{ACCEPT, HeaderValue, VIA};
use tokio::join;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    Peer, Upstream, config, fetch, mailbox, ok, post, read, relay, request, settle,
};

pub(crate) async fn get(relay: &Relay) -> Result<(u16, Vec<u8>), Kind> {
    fetch(relay, request(relay, "GET", "/")).await
}

/// One exchange, the upstream's part being to answer `answer` on a new connection.
pub(crate) async fn warm(upstream: &Upstream, relay: &Relay, answer: &str) -> Peer {
    let (_, peer) = join!(get(relay), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.say(answer).await;
        peer
    });
    settle().await;
    peer
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let mut peer = warm(&upstream, &relay, &ok("1")).await;
    let (answer, ()) = join!(get(&relay), async {
        assert!(peer.head().await.starts_with("GET / HTTP/1.1\r\n"));
        peer.say(ok("2")).await;
    });
    assert_eq!(answer, Ok((200, b"2".to_vec())));
    assert!(!upstream.has_connection().await);
}

#[tokio::test]
async fn a_request_over_the_limit_waits_for_its_turn() {
    let upstream = Upstream::bind().await;
    let mut config = config(&upstream.url());
    config.limits.max_connections = Some(1);
    let relay = relay(config);
    let (first, second, ()) = join!(get(&relay), get(&relay), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        settle().await;
        assert!(!upstream.has_connection().await);
        peer.say(ok("1")).await;
        peer.head().await;
        peer.say(ok("2")).await;
    });
    assert_eq!(
        (first, second),
        (Ok((200, b"1".into())), Ok((200, b"2".into())))
    );
}

#[tokio::test]
async fn a_request_that_waits_too_long_gets_a_pool_timeout() {
    let upstream = Upstream::bind().await;
    let mut config = config(&upstream.url());
    config.limits.max_connections = Some(1);
    config.timeouts.pool = Some(Duration::from_millis(20));
    let relay = relay(config);
    tokio::select! {
        biased;
        _ = fetch(&relay, request(&relay, "GET", "/first")) => panic!("nobody answered"),
        () = async {
            let mut peer = upstream.accept().await;
            assert!(peer.head().await.starts_with("GET /first "));
            assert_eq!(get(&relay).await, Err(Kind::PoolTimeout));
        } => {}
    }
    assert!(!upstream.has_connection().await);
}

#[tokio::test]
async fn an_exchange_that_is_dropped_closes_its_connection_and_frees_its_place() {
    let upstream = Upstream::bind().await;
    let mut config = config(&upstream.url());
    config.limits.max_connections = Some(1);
    let relay = relay(config);
    let mut peer = {
        let pending = get(&relay);
        tokio::select! {
            _ = pending => panic!("nobody answered"),
            peer = async {
                let mut peer = upstream.accept().await;
                peer.head().await;
                peer
            } => peer,
        }
    };
    assert!(peer.ended().await.is_empty());
    warm(&upstream, &relay, &ok("")).await;
}

#[tokio::test]
async fn a_body_that_is_dropped_half_read_closes_its_connection() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let observer = mailbox();
    let (response, mut peer) = join!(
        relay.exchange(request(&relay, "GET", "/"), &*observer),
        async {
            let mut peer = upstream.accept().await;
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
                .await;
            peer
        }
    );
    drop(response);
    assert!(peer.ended().await.is_empty());
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_error() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    drop(warm(&upstream, &relay, &ok("")).await);
    warm(&upstream, &relay, &ok("")).await;
    let peer = warm(&upstream, &relay, &ok("")).await;
    drop(peer);
    let (answer, ()) = join!(fetch(&relay, post(&relay, b"body")), async {
        let mut peer = upstream.accept().await;
        peer.until("body").await;
        peer.say(ok("posted")).await;
    });
    assert_eq!(answer, Ok((200, b"posted".to_vec())));
}

#[tokio::test]
async fn a_request_that_a_closing_connection_has_taken_is_sent_again_as_it_was() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let mut peer = warm(&upstream, &relay, &ok("1")).await;
    let mut asked = request(&relay, "GET", "/");
    for (name, value) in [(ACCEPT, "a"), (VIA, ""), (ACCEPT, "b")] {
        asked.headers.append(name, HeaderValue::from_static(value));
    }
    let (answer, (sent, again)) = join!(fetch(&relay, asked), async {
        let sent = peer.head().await;
        drop(peer);
        let mut other = upstream.accept().await;
        let again = other.head().await;
        other.say(ok("2")).await;
        (sent, again)
    });
    assert_eq!(answer, Ok((200, b"2".to_vec())));
    assert_eq!(sent, again);
    assert!(
        sent.contains("accept: a\r\naccept: b\r\nvia: \r\n"),
        "{sent}"
    );
}

#[tokio::test]
async fn octets_behind_a_response_are_nobodys_answer() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let poisoned = ok("1") + &ok("poison");
    let mut stained = warm(&upstream, &relay, &poisoned).await;
    let (answer, ()) = join!(get(&relay), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.say(ok("2")).await;
    });
    assert_eq!(answer, Ok((200, b"2".to_vec())));
    assert!(stained.ended().await.is_empty());
}

#[tokio::test]
async fn a_connection_that_the_upstream_wants_closed_is_not_kept() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let mut peer = warm(&upstream, &relay, answer).await;
    assert!(peer.ended().await.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let mut peer = warm(&upstream, &relay, &ok("")).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    assert!(peer.ended().await.is_empty());
}

#[tokio::test]
async fn only_so_many_idle_connections_are_kept() {
    let upstream = Upstream::bind().await;
    let mut config = config(&upstream.url());
    config.limits.max_keepalive_connections = Some(1);
    let relay = relay(config);
    let answer_both = async {
        let (mut one, mut two) = (upstream.accept().await, upstream.accept().await);
        one.head().await;
        two.head().await;
        one.say(ok("")).await;
        settle().await;
        two.say(ok("")).await;
        (one, two)
    };
    let (_, _, (mut older, _newer)) = join!(get(&relay), get(&relay), answer_both);
    settle().await;
    assert!(
        older.ended().await.is_empty(),
        "the one that was used last stays"
    );
}

#[tokio::test]
async fn a_pool_that_keeps_nothing_closes_each_connection() {
    let upstream = Upstream::bind().await;
    for change in [0, 1] {
        let mut config = config(&upstream.url());
        match change {
            0 => config.limits.max_keepalive_connections = Some(0),
            _ => config.limits.keepalive_expiry = Some(Duration::ZERO),
        }
        let mut peer = warm(&upstream, &relay(config), &ok("")).await;
        assert!(peer.ended().await.is_empty());
    }
}

#[tokio::test]
async fn an_answer_before_the_upload_is_complete_ends_the_connection() {
    use asgi_relay::engine::body::Source;
    use asgi_relay::engine::doorbell::Doorbell;
    use asgi_relay::engine::policy::request::Framing;
    use asgi_relay::engine::upload::Upload;

    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let upload = Upload::new(None, Doorbell::new(|| {}));
    upload.push("half".into());
    let mut request = request(&relay, "POST", "/");
    request.framing = Framing::Chunked;
    request.body = Source::Streamed(Arc::clone(&upload));
    let observer = mailbox();
    let (response, mut peer) = join!(relay.exchange(request, &*observer), async {
        let mut peer = upstream.accept().await;
        peer.until("4\r\nhalf\r\n").await;
        peer.say("HTTP/1.1 413 Too Much\r\ncontent-length: 3\r\n\r\nbig")
            .await;
        peer
    });
    let response = response.unwrap();
    assert_eq!(response.answer.status, 413);
    assert_eq!(read(response.answer.body).await.unwrap(), b"big");
    assert!(
        !peer.ended().await.ends_with(b"0\r\n\r\n"),
        "the upload must not look complete"
    );
}

/// Over TLS that is never answered.
#[tokio::test(start_paused = true)]
async fn those_who_wait_for_another_ones_connection_do_not_fail_in_turn() {
    let upstream = Upstream::bind().await;
    let mut config = config(&upstream.url().replace("http:", "https:"));
    config.http2 = Http2::Auto;
    let limit = Duration::from_secs(1);
    config.timeouts.connect = Some(limit);
    let relay = relay(config);
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..10 {
        let relay = Arc::clone(&relay);
        clients.spawn(async move { get(&relay).await });
    }
    for answer in clients.join_all().await {
        assert_eq!(answer, Err(Kind::ConnectTimeout));
    }
    assert!(begun.elapsed() <= limit * 2);
}

#[tokio::test]
async fn idle_connections_end_with_their_pool() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let mut peer = warm(&upstream, &relay, &ok("")).await;
    drop(relay);
    assert!(peer.ended().await.is_empty());
}
