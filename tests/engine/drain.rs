//! The end of a relay: exchanges in flight get their time, and not more.

use std::sync::Arc;
use std::time::Duration;

use asgi_relay::engine::deliver::ExchangeMailbox;
use asgi_relay::engine::mailbox::End;
use asgi_relay::engine::relay::Relay;
use tokio::join;
use tokio::time::{Instant, timeout};

use crate::support::{Peer, Upstream, config, mailbox, ok, relay, settle, spawn};

const LONG: Duration = Duration::from_secs(60);

async fn in_flight(upstream: &Upstream, relay: &Arc<Relay>) -> (Peer, Arc<ExchangeMailbox>) {
    let mailbox = mailbox();
    spawn(relay, &mailbox);
    let mut peer = upstream.accept().await;
    peer.head().await;
    (peer, mailbox)
}

#[tokio::test]
async fn with_nothing_in_flight_it_is_over_at_once() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let before = Instant::now();
    relay.drain(LONG).await;
    relay.drain(LONG).await;
    assert!(before.elapsed() < LONG);
}

#[tokio::test]
async fn an_exchange_in_flight_is_waited_for() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let (mut peer, mailbox) = in_flight(&upstream, &relay).await;
    let draining = Arc::clone(&relay);
    let drain = tokio::spawn(async move { draining.drain(LONG).await });
    settle().await;
    assert!(!drain.is_finished());
    peer.say(ok("late")).await;
    timeout(LONG, drain)
        .await
        .expect("the end of the drain")
        .unwrap();
    let contents = mailbox.take().unwrap();
    assert_eq!(contents.chunks.concat(), b"late");
    assert!(matches!(contents.end, Some(End::Complete)));
    assert!(peer.ended().await.is_empty(), "its connection is not kept");
}

#[tokio::test]
async fn an_exchange_that_takes_longer_than_the_grace_is_cut() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let (mut peer, mailbox) = in_flight(&upstream, &relay).await;
    let (mut other, _) = in_flight(&upstream, &relay).await;
    let grace = Duration::from_millis(30);
    let before = Instant::now();
    relay.drain(grace).await;
    assert!(before.elapsed() >= grace);
    assert!(peer.ended().await.is_empty() && other.ended().await.is_empty());
    let contents = mailbox.take().unwrap();
    assert_eq!(contents.head.unwrap().status, 502);
    assert!(
        contents
            .chunks
            .concat()
            .starts_with(b"Upstream error: the relay is shutting down")
    );
    assert!(matches!(contents.end, Some(End::Complete)));
}

#[tokio::test]
async fn a_response_that_has_begun_breaks_off() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let (mut peer, mailbox) = in_flight(&upstream, &relay).await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        .await;
    let mut body = Vec::new();
    while body.len() < 4 {
        settle().await;
        body.extend(
            mailbox
                .take()
                .into_iter()
                .flat_map(|contents| contents.chunks.concat()),
        );
    }
    relay.drain(Duration::ZERO).await;
    let contents = mailbox.take().unwrap();
    assert!(contents.head.is_none() && contents.chunks.is_empty());
    let Some(End::Failed(error)) = contents.end else {
        panic!("{contents:?}")
    };
    assert_eq!(error.to_string(), "RelayError: the relay was shut down");
}

#[tokio::test]
async fn idle_connections_are_closed_at_once() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let (mut idle, _mailbox) = in_flight(&upstream, &relay).await;
    let (_busy, _) = in_flight(&upstream, &relay).await;
    idle.say(ok("")).await;
    settle().await;
    tokio::select! {
        biased;
        () = relay.drain(LONG) => panic!("one is still in flight"),
        octets = idle.ended() => assert!(octets.is_empty()),
    }
}

#[tokio::test]
async fn two_drains_at_once_both_end() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let (mut peer, _mailbox) = in_flight(&upstream, &relay).await;
    let both = async {
        join!(relay.drain(LONG), relay.drain(LONG), peer.say(ok("")));
    };
    timeout(LONG / 2, both).await.expect("the end of both");
}
