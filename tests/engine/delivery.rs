//! From the upstream into the mailbox: one wake for a small answer, bounded memory for a large one,
//! and an end that whoever waits always gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asgi_relay::engine::deliver::{ExchangeMailbox, Head};
use asgi_relay::engine::doorbell::Doorbell;
use asgi_relay::engine::mailbox::{CAPACITY, Contents, End, Mailbox};
use asgi_relay::engine::relay::Relay;
use asgi_relay::engine::report::Note;
use asgi_relay::engine::upstream::socket::READ_BUFFER;
use tokio::sync::Notify;

use crate::support::{Peer, Upstream, config, ok, relay, settle, spawn};

/// An event loop with one exchange on it.
struct Loop {
    mailbox: Arc<ExchangeMailbox>,
    doorbell: Doorbell,
    woken: Arc<Notify>,
    wakes: Arc<AtomicUsize>,
}

impl Loop {
    fn start(relay: &Arc<Relay>) -> Self {
        let (woken, wakes) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (notify, count) = (Arc::clone(&woken), Arc::clone(&wakes));
        let doorbell = Doorbell::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            notify.notify_one();
        });
        let mailbox = Mailbox::new(doorbell.clone());
        spawn(relay, &mailbox);
        Self {
            mailbox,
            doorbell,
            woken,
            wakes,
        }
    }

    /// What a pump does: take what is there, or wait for a wake.
    async fn take(&self) -> Contents<Head, Note> {
        loop {
            if self.mailbox.park(0) {
                let woken = tokio::time::timeout(Duration::from_secs(20), self.woken.notified());
                woken.await.expect("a wake");
                assert_eq!(self.doorbell.answer(), [0]);
            }
            if let Some(contents) = self.mailbox.take() {
                return contents;
            }
        }
    }

    /// As `take`, but does not return for the note that the answer is slow.
    async fn take_news(&self) -> Contents<Head, Note> {
        loop {
            let contents = self.take().await;
            let nothing_else =
                contents.head.is_none() && contents.size == 0 && contents.end.is_none();
            if contents.notes.is_empty() || !nothing_else {
                return contents;
            }
            self.wakes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn asked(upstream: &Upstream) -> Peer {
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer
}

#[tokio::test]
async fn a_small_answer_costs_one_wake() {
    let upstream = Upstream::bind().await;
    let event_loop = Loop::start(&relay(config(&upstream.url())));
    let ((), contents) = tokio::join!(
        async { asked(&upstream).await.say(ok("body")).await },
        event_loop.take_news(),
    );
    assert_eq!(contents.head.unwrap().status, 200);
    assert_eq!(contents.chunks.concat(), b"body");
    assert!(matches!(contents.end, Some(End::Complete)));
    assert_eq!(event_loop.wakes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_head_does_not_wait_for_its_body() {
    let upstream = Upstream::bind().await;
    let event_loop = Loop::start(&relay(config(&upstream.url())));
    let mut peer = asked(&upstream).await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        .await;
    let head = event_loop.take_news().await;
    assert!(head.head.is_some() && head.chunks.is_empty() && head.end.is_none());
    peer.say("da").await;
    assert_eq!(event_loop.take_news().await.chunks.concat(), b"da");
    peer.say("ta").await;
    let last = event_loop.take_news().await;
    assert_eq!(last.chunks.concat(), b"ta");
    assert!(matches!(last.end, Some(End::Complete)));
}

#[tokio::test]
async fn a_slow_answer_is_noted_once() {
    let upstream = Upstream::bind().await;
    let event_loop = Loop::start(&relay(config(&upstream.url())));
    let mut peer = asked(&upstream).await;
    let contents = event_loop.take().await;
    assert!(matches!(&*contents.notes, [Note::Slow]));
    assert!(contents.head.is_none());
    peer.say(ok("")).await;
    let contents = event_loop.take().await;
    assert!(contents.notes.is_empty() && contents.head.is_some());
}

#[tokio::test]
async fn what_is_over_is_never_noted_as_slow() {
    // The second time, nobody is waiting for slow ones any more.
    for _ in 0..2 {
        let upstream = Upstream::bind().await;
        let relay = relay(config(&upstream.url()));
        let quick = Loop::start(&relay);
        let mut peer = asked(&upstream).await;
        peer.say(ok("")).await;
        assert!(quick.take_news().await.end.is_some());
        let slow = [Loop::start(&relay), Loop::start(&relay)];
        // The first takes the connection that is kept.
        peer.head().await;
        let mut other = asked(&upstream).await;
        for event_loop in &slow {
            let contents = event_loop.take().await;
            assert!(matches!(&*contents.notes, [Note::Slow]));
        }
        assert!(quick.mailbox.take().is_none());
        peer.say(ok("")).await;
        other.say(ok("")).await;
        for event_loop in slow {
            assert!(event_loop.take().await.head.is_some());
        }
    }
}

#[tokio::test]
async fn a_mailbox_that_nobody_empties_stops_the_reading() {
    const PIECE: usize = 64 * 1024;
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let event_loop = Loop::start(&relay);
    let mut peer = asked(&upstream).await;
    let pieces = 1024;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        pieces * PIECE
    );
    peer.say(head).await;
    let flood = tokio::spawn(async move {
        for _ in 0..pieces {
            peer.say([0; PIECE]).await;
        }
    });
    let mut taken = event_loop.take_news().await.size;
    while event_loop.mailbox.park(0) {
        settle().await;
    }
    settle().await;
    // Far less than the 64 MiB that want to come: the rest waits in the kernel.
    assert!(!flood.is_finished());
    loop {
        let contents = event_loop.take_news().await;
        assert!(
            contents.size <= CAPACITY + CAPACITY / 2 + READ_BUFFER,
            "{}",
            contents.size
        );
        taken += contents.size;
        if contents.end.is_some() {
            break;
        }
    }
    assert_eq!(taken, pieces * PIECE);
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_exchange() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let event_loop = Loop::start(&relay);
    let mut peer = asked(&upstream).await;
    event_loop.mailbox.abort();
    assert!(peer.ended().await.is_empty());
    relay.drain(Duration::MAX).await;
}

#[tokio::test]
async fn whatever_ends_the_task_whoever_waits_is_told() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let event_loop = Loop::start(&relay);
    let mut peer = asked(&upstream).await;
    relay.drain(Duration::ZERO).await;
    let contents = event_loop.take_news().await;
    assert_eq!(contents.head.unwrap().status, 502);
    assert!(matches!(contents.end, Some(End::Complete)));
    assert!(peer.ended().await.is_empty());
}

#[tokio::test]
async fn a_failure_before_the_head_is_an_answer() {
    let upstream = Upstream::bind().await;
    let event_loop = Loop::start(&relay(config(&upstream.url())));
    drop(asked(&upstream).await);
    let contents = event_loop.take_news().await;
    assert_eq!(contents.head.unwrap().status, 502);
    assert!(contents.chunks.concat().starts_with(b"Upstream error: "));
    assert!(matches!(contents.end, Some(End::Complete)));
}

#[tokio::test]
async fn a_failure_after_the_head_cuts_the_body() {
    let upstream = Upstream::bind().await;
    let event_loop = Loop::start(&relay(config(&upstream.url())));
    let mut peer = asked(&upstream).await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut")
        .await;
    let mut body = event_loop.take_news().await.chunks.concat();
    drop(peer);
    let end = loop {
        let contents = event_loop.take_news().await;
        body.extend(contents.chunks.concat());
        if let Some(end) = contents.end {
            break end;
        }
    };
    assert_eq!(body, b"cut");
    let End::Failed(error) = end else {
        panic!("a cut body is not complete")
    };
    assert_eq!(error.kind().name(), "RemoteProtocolError");
}
