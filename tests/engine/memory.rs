//! An upstream in this process: the engine calls, and whoever serves the call answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use asgi_relay::engine::error::{Error, Kind};
use asgi_relay::engine::exchange::Response;
use asgi_relay::engine::mailbox::End;
use asgi_relay::engine::relay::{Relay, Request};
use asgi_relay::engine::report::Note;
use asgi_relay::engine::upstream::memory::Call;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::support::{config, mailbox, post, read, relay, request, settle};

/// One poll of a future, to let it get as far as it can.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

fn in_memory() -> Arc<Relay> {
    let mut config = config("http://app.test/base");
    config.in_memory = true;
    relay(config)
}

/// Starts an exchange and plays its upstream; what the client gets.
async fn served(
    relay: &Relay,
    request: Box<Request>,
    serve: impl AsyncFnOnce(Arc<Call>),
) -> Result<Response, Error> {
    let observer = mailbox();
    let mut exchange = std::pin::pin!(relay.exchange(request, &*observer));
    assert!(poll_once(exchange.as_mut()).await.is_pending());
    let notes = observer.take().unwrap().notes;
    let Ok([Note::Call(call)]) = <[Note; 1]>::try_from(notes) else {
        panic!("no call")
    };
    settle().await;
    serve(call).await;
    exchange.await
}

#[tokio::test]
async fn a_call_carries_the_request() {
    let relay = in_memory();
    let response = served(&relay, post(&relay, b"body"), async |call| {
        assert_eq!(
            (call.head.method.as_str(), call.url.as_str()),
            ("POST", "http://app.test/base/")
        );
        assert_eq!(call.head.headers["content-length"], "4");
        let body = call.body.take().unwrap();
        assert_eq!(body.chunks.concat(), b"body");
        assert!(matches!(body.end, Some(End::Complete)));
        call.respond(StatusCode::CREATED, HeaderMap::new());
        call.response.push(Bytes::from_static(b"made"));
        call.response.finish();
    });
    let response = response.await.unwrap();
    assert_eq!(response.answer.status, 201);
    assert_eq!(read(response.answer.body).await.unwrap(), b"made");
}

#[tokio::test]
async fn a_call_that_fails_before_its_head_is_an_error_of_the_exchange() {
    let relay = in_memory();
    let response = served(&relay, request(&relay, "GET", "/"), async |call| {
        call.fail(Error::new(Kind::ConnectTimeout, "too slow"));
    });
    assert_eq!(response.await.unwrap_err().kind(), Kind::ConnectTimeout);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_not_waited_for() {
    let relay = in_memory();
    let response = served(&relay, request(&relay, "GET", "/"), async |call| drop(call));
    assert_eq!(response.await.unwrap_err().kind(), Kind::Protocol);
}

#[tokio::test]
async fn a_call_that_fails_after_its_head_cuts_the_body() {
    let relay = in_memory();
    let response = served(&relay, request(&relay, "GET", "/"), async |call| {
        call.respond(StatusCode::OK, HeaderMap::new());
        call.response.push(Bytes::from_static(b"some"));
        settle().await;
        call.fail(Error::new(Kind::Read, "broken"));
    });
    let failure = read(response.await.unwrap().answer.body).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::Read);
}

#[tokio::test]
async fn a_second_answer_changes_nothing() {
    let relay = in_memory();
    let response = served(&relay, request(&relay, "GET", "/"), async |call| {
        call.respond(StatusCode::OK, HeaderMap::new());
        call.response.finish();
        call.respond(StatusCode::BAD_GATEWAY, HeaderMap::new());
    });
    let response = response.await.unwrap();
    assert_eq!(response.answer.status, 200);
    assert_eq!(read(response.answer.body).await.unwrap(), b"");
}

#[tokio::test]
async fn who_serves_a_call_learns_that_nobody_waits_any_more() {
    let relay = in_memory();
    let observer = mailbox();
    let call = {
        let mut exchange = std::pin::pin!(relay.exchange(request(&relay, "GET", "/"), &*observer));
        assert!(poll_once(exchange.as_mut()).await.is_pending());
        let notes = observer.take().unwrap().notes;
        let Ok([Note::Call(call)]) = <[Note; 1]>::try_from(notes) else {
            panic!("no call")
        };
        call
    };
    assert!(call.body.take().unwrap().aborted);
    call.respond(StatusCode::OK, HeaderMap::new());
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_time_is_a_read_timeout() {
    let mut config = config("http://app.test");
    config.in_memory = true;
    config.timeouts.read = Some(Duration::from_millis(30));
    let relay = relay(config);
    let response = served(&relay, request(&relay, "GET", "/"), async |call| {
        std::mem::forget(call)
    });
    assert_eq!(response.await.unwrap_err().kind(), Kind::ReadTimeout);
}

#[tokio::test]
async fn the_policies_hold_for_answers_of_this_process_too() {
    let relay = in_memory();
    let response = served(&relay, request(&relay, "GET", "/"), async |call| {
        let mut headers = HeaderMap::new();
        headers.insert("connection", "x-hop".parse().unwrap());
        headers.insert("x-hop", "1".parse().unwrap());
        headers.insert("x-end", "1".parse().unwrap());
        call.respond(StatusCode::OK, headers);
        call.response.finish();
    });
    let response = response.await.unwrap();
    let names: Vec<_> = response.answer.headers.keys().collect();
    assert_eq!(names, ["x-end"]);
}
