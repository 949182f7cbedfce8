//! What is left of an upload when a connection could be parked is no request.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{a_while, gateway, until};
use crate::server::support::{Peer, Upstream};

#[test]
fn what_is_left_of_an_upload_is_no_request() {
    let asked = Arc::new(AtomicUsize::new(0));
    let gateway = gateway(&hasty(&asked), "http2: always");
    let mut client = Peer::client(&gateway);
    let body = "GET /body HTTP/1.1\r\nhost: h\r\n\r\n";
    let length = body.len() + 1;
    client.say(format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n1"
    ));
    // Answered before all of it has come.
    assert!(client.message().0.starts_with("HTTP/1.1 200"));
    a_while(&gateway);
    client.say(body);
    assert_eq!(client.get("/next", "").1, b"early");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// An upstream in HTTP/2 that answers before it has read a request, and reads it nevertheless.
fn hasty(asked: &Arc<AtomicUsize>) -> String {
    let asked = Arc::clone(asked);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let service = service_fn(move |request: Request<Incoming>| {
        asked.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(request.into_body().collect());
        async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("early")))) }
    });
    let serve = async move {
        let socket = tokio::net::TcpListener::from_std(socket).unwrap();
        while let Ok((stream, _)) = socket.accept().await {
            let builder = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service.clone()));
        }
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    thread::spawn(move || runtime.block_on(serve));
    url
}

#[test]
fn what_comes_of_a_refused_upload_is_no_request() {
    let upstream = Upstream::bind();
    let gateway = gateway(&upstream.url(), "max_body_size: 10");
    for (host, status) in [("h", "413"), ("h/", "400")] {
        let mut client = Peer::client(&gateway);
        client.say(format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1000\r\n\r\n"
        ));
        assert_eq!(client.message().0.get(9..12), Some(status));
        a_while(&gateway);
        client.say("GET /body HTTP/1.1\r\nhost: h\r\n\r\n");
        assert_eq!(client.ended(), "");
        until(&gateway, |open, _| open == 0);
        assert!(!upstream.has_connection(), "{status}");
    }
}
