//! One exchange: what is tried again, with which body, and what is left to the client.

use std::sync::Arc;
use std::time::Duration;

use asgi_relay::engine::body::Source;
use asgi_relay::engine::config::Config;
use asgi_relay::engine::doorbell::Doorbell;
use asgi_relay::engine::error::Kind;
use asgi_relay::engine::policy::request::Framing;
use asgi_relay::engine::replay::REPLAY_LIMIT;
use asgi_relay::engine::report::Note;
use asgi_relay::engine::upload::Upload;
use bytes::Bytes;
use http::StatusCode;
use tokio::join;

use crate::support::{Upstream, config, fetch, mailbox, ok, post, relay, request, settle};

const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy";

fn retrying(url: &str, max_retries: u32) -> Config {
    let mut config = config(url);
    config.retry.max_retries = max_retries;
    config.retry.statuses = vec![StatusCode::SERVICE_UNAVAILABLE];
    config.retry.kinds = vec![Kind::Connect, Kind::ReadTimeout, Kind::Protocol];
    config
}

#[tokio::test]
async fn a_retryable_status_is_followed_by_another_try() {
    let upstream = Upstream::bind().await;
    let relay = relay(retrying(&upstream.url(), 1));
    let (answer, ()) = join!(fetch(&relay, request(&relay, "GET", "/")), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.say(BUSY).await;
        peer.head().await;
        peer.say(ok("now")).await;
    });
    assert_eq!(answer, Ok((200, b"now".to_vec())));
}

#[tokio::test]
async fn the_last_answer_arrives_whole() {
    let upstream = Upstream::bind().await;
    let relay = relay(retrying(&upstream.url(), 1));
    let observer = mailbox();
    let (response, ()) = join!(
        relay.exchange(request(&relay, "GET", "/"), &*observer),
        async {
            let mut peer = upstream.accept().await;
            for _ in 0..2 {
                peer.head().await;
                peer.say(BUSY).await;
            }
        }
    );
    let response = response.unwrap();
    let lines: Vec<_> = response
        .answer
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_bytes()))
        .collect();
    assert_eq!(
        lines,
        [("retry-after", &b"7"[..]), ("content-length", b"4")]
    );
    assert_eq!(
        crate::support::read(response.answer.body).await.unwrap(),
        b"busy"
    );
}

#[tokio::test]
async fn a_post_is_not_repeated_after_an_answer() {
    let upstream = Upstream::bind().await;
    let relay = relay(retrying(&upstream.url(), 3));
    let (answer, ()) = join!(fetch(&relay, post(&relay, b"once")), async {
        let mut peer = upstream.accept().await;
        assert!(peer.until("once").await.contains("content-length: 4\r\n"));
        peer.say(BUSY).await;
    });
    assert_eq!(answer, Ok((503, b"busy".to_vec())));
}

#[tokio::test]
async fn a_streamed_body_is_sent_again_from_its_start() {
    let upstream = Upstream::bind().await;
    let relay = relay(retrying(&upstream.url(), 1));
    let upload = Upload::new(None, Doorbell::new(|| {}));
    let mut request = request(&relay, "PUT", "/");
    request.framing = Framing::Chunked;
    request.body = Source::Streamed(Arc::clone(&upload));
    let (answer, ()) = join!(fetch(&relay, request), async {
        let mut peer = upstream.accept().await;
        upload.push(Bytes::from_static(b"ab"));
        peer.until("2\r\nab\r\n").await;
        upload.push(Bytes::from_static(b"cde"));
        upload.finish();
        peer.until("3\r\ncde\r\n0\r\n\r\n").await;
        peer.say(BUSY).await;
        let second = peer.until("0\r\n\r\n").await;
        let body = second.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body, "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n");
        peer.say(ok("whole")).await;
    });
    assert_eq!(answer, Ok((200, b"whole".to_vec())));
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_not_sent_again() {
    let upstream = Upstream::bind().await;
    let relay = relay(retrying(&upstream.url(), 1));
    let upload = Upload::new(None, Doorbell::new(|| {}));
    upload.push(Bytes::from(vec![b'x'; REPLAY_LIMIT + 1]));
    upload.finish();
    let mut request = request(&relay, "PUT", "/");
    request.framing = Framing::Chunked;
    request.body = Source::Streamed(upload);
    let (answer, ()) = join!(fetch(&relay, request), async {
        let mut peer = upstream.accept().await;
        peer.until("0\r\n\r\n").await;
        peer.say(BUSY).await;
    });
    assert_eq!(answer, Ok((503, b"busy".to_vec())));
    assert!(!upstream.has_connection().await);
}

#[tokio::test(start_paused = true)]
async fn the_waits_between_tries_double() {
    // Nobody listens there, and nothing but the waits takes virtual time.
    let mut config = retrying("http://127.0.0.1:1", 3);
    config.retry.backoff_factor = 1.0;
    let relay = relay(config);
    let before = tokio::time::Instant::now();
    assert_eq!(fetch(&relay, post(&relay, b"x")).await, Err(Kind::Connect));
    let waited = before.elapsed();
    assert!(
        (Duration::from_secs(7)..Duration::from_millis(7_010)).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_silent_upstream_is_given_up_after_the_read_timeout() {
    let upstream = Upstream::bind().await;
    let mut config = config(&upstream.url());
    config.timeouts.read = Some(Duration::from_millis(30));
    let relay = relay(config);
    let (answer, ()) = join!(fetch(&relay, request(&relay, "GET", "/")), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        assert!(peer.ended().await.is_empty());
    });
    assert_eq!(answer, Err(Kind::ReadTimeout));
}

#[tokio::test]
async fn a_stall_in_the_middle_of_a_body_is_a_read_timeout() {
    let upstream = Upstream::bind().await;
    let mut config = config(&upstream.url());
    config.timeouts.read = Some(Duration::from_millis(30));
    let relay = relay(config);
    let (answer, ()) = join!(fetch(&relay, request(&relay, "GET", "/")), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsome")
            .await;
        assert!(peer.ended().await.is_empty());
    });
    assert_eq!(answer, Err(Kind::ReadTimeout));
}

#[tokio::test]
async fn bad_answers_are_told_apart_from_broken_connections() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nconten",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ncut\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 700 Odd\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (outcome, ()) = join!(fetch(&relay, request(&relay, "GET", "/")), async {
            let mut peer = upstream.accept().await;
            peer.head().await;
            peer.say(answer).await;
        });
        assert_eq!(outcome, Err(Kind::Protocol), "{answer:?}");
    }
}

#[tokio::test]
async fn interim_answers_are_swallowed() {
    let upstream = Upstream::bind().await;
    let relay = relay(config(&upstream.url()));
    let (answer, ()) = join!(fetch(&relay, request(&relay, "GET", "/")), async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
            .await;
        peer.say(ok("final")).await;
    });
    assert_eq!(answer, Ok((200, b"final".to_vec())));
}

#[tokio::test]
async fn events_are_told_with_masked_urls() {
    let upstream = Upstream::bind().await;
    let mut config = retrying(&upstream.url(), 1);
    config.report = true;
    let relay = relay(config);
    let observer = mailbox();
    let asked = request(&relay, "GET", "/a?token=secret");
    let (response, ()) = join!(relay.exchange(asked, &*observer), async {
        let mut peer = upstream.accept().await;
        for answer in [BUSY, &ok("")] {
            peer.head().await;
            peer.say(answer).await;
            settle().await;
        }
    });
    assert!(response.is_ok());
    let notes = observer.take().unwrap().notes;
    let [Note::Event(event)] = &*notes else {
        panic!("{notes:?}")
    };
    assert_eq!(
        (event.name, event.attempt, event.status),
        ("upstream_retryable_status", Some(1), Some(503))
    );
    assert_eq!(event.url, format!("{}/a?token=***", upstream.url()));
}
