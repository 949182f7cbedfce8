//! HTTP/2 frame by frame: what an upstream or a client says that no well-kept library would.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::server::http2::{PREFACE, ask, client, get, relaying};
use crate::server::support::{PATIENCE, Upstream};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A 200 without a body: HEADERS with one indexed field, and the end of the stream.
fn answered(stream: u32) -> Vec<u8> {
    frame(1, 0b101, stream, &[0x88])
}

fn reset(stream: u32, reason: h2::Reason) -> Vec<u8> {
    frame(3, 0, stream, &u32::from(reason).to_be_bytes())
}

/// A 200 with this much of a body, the last of it where the flag says so, and a reset that is no
/// error: what is left of the request is not wanted.
fn early(stream: u32, flags: u8, body: &[u8]) -> Vec<u8> {
    let head = frame(1, 0b100, stream, &[0x88]);
    let body = frame(0, flags, stream, body);
    [head, body, reset(stream, h2::Reason::NO_ERROR)].concat()
}

/// The streams of each connection, in the order in which they were opened.
type Streams = Arc<Mutex<Vec<Vec<u32>>>>;

/// An upstream in HTTP/2 that says of each request what `script` has for its connection, counted
/// from 0, and its stream.
async fn scripted(script: fn(usize, u32) -> Vec<u8>) -> (String, Streams) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let streams = Streams::default();
    let seen = Arc::clone(&streams);
    tokio::spawn(async move {
        for number in 0.. {
            let (peer, _) = listener.accept().await.unwrap();
            seen.lock().unwrap().push(Vec::new());
            tokio::spawn(say(peer, number, script, Arc::clone(&seen)));
        }
    });
    (url, streams)
}

async fn say(
    mut peer: TcpStream,
    number: usize,
    script: fn(usize, u32) -> Vec<u8>,
    seen: Streams,
) -> std::io::Result<()> {
    peer.read_exact(&mut [0; 24]).await?;
    peer.write_all(&frame(4, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        peer.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        peer.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes(stream);
        let said = match (kind, flags & 1) {
            (1, _) => {
                seen.lock().unwrap()[number].push(stream);
                script(number, stream)
            }
            // SETTINGS and PING are acknowledged.
            (4, 0) => frame(4, 1, 0, &[]),
            (6, 0) => frame(6, 1, 0, &payload),
            _ => continue,
        };
        peer.write_all(&said).await?;
    }
}

/// What a gateway before such an upstream answers to a GET, and then to a request with `method`.
async fn twice(script: fn(usize, u32) -> Vec<u8>, method: Method) -> (StatusCode, Vec<Vec<u32>>) {
    let (url, streams) = scripted(script).await;
    let gateway = relaying(&url, "      http2: always\n");
    let mut sender = client(&gateway).await;
    assert_eq!(ask(&mut sender, get("/")).await.status(), 200);
    let mut request = get("/");
    *request.method_mut() = method;
    let status = ask(&mut sender, request).await.status();
    let streams = streams.lock().unwrap().clone();
    (status, streams)
}

#[tokio::test]
async fn a_stream_that_is_reset_is_not_asked_for_again() {
    let script = |_, stream| match stream {
        1 => answered(stream),
        _ => reset(stream, h2::Reason::INTERNAL_ERROR),
    };
    let (status, streams) = twice(script, Method::GET).await;
    assert_eq!((status.as_u16(), streams), (502, vec![vec![1, 3]]));
}

#[tokio::test]
async fn a_stream_that_is_refused_is_asked_for_once_more() {
    // RFC 9113 §8.7: whatever the method, as it has not been looked at.
    let script = |_, stream| match stream {
        3 => reset(stream, h2::Reason::REFUSED_STREAM),
        _ => answered(stream),
    };
    let (status, streams) = twice(script, Method::POST).await;
    assert_eq!((status.as_u16(), streams), (200, vec![vec![1, 3, 5]]));
}

#[tokio::test]
async fn a_stream_that_is_always_refused_is_a_failure() {
    let script = |_, stream| match stream {
        1 => answered(stream),
        _ => reset(stream, h2::Reason::REFUSED_STREAM),
    };
    let (status, streams) = twice(script, Method::POST).await;
    assert_eq!((status.as_u16(), streams), (502, vec![vec![1, 3, 5]]));
}

#[tokio::test]
async fn what_a_goodbye_leaves_out_goes_over_a_new_connection() {
    // RFC 9113 §6.8: stream 3 is beyond the last that the upstream looks at, and it keeps the
    // connection for those before.
    let (url, streams) = scripted(|number, stream| match (number, stream) {
        // A head, and no end.
        (0, 1) => frame(1, 0b100, stream, &[0x88]),
        (0, _) => frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        _ => answered(stream),
    })
    .await;
    let gateway = relaying(&url, "      http2: always\n");
    let mut sender = client(&gateway).await;
    let open = timeout(PATIENCE, sender.send_request(get("/"))).await;
    let mut request = get("/");
    *request.method_mut() = Method::POST;
    let status = ask(&mut sender, request).await.status();
    let streams = streams.lock().unwrap().clone();
    assert_eq!((status.as_u16(), streams), (200, vec![vec![1, 3], vec![1]]));
    assert_eq!(open.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_reset_without_an_error_is_no_end_of_a_body() {
    // RFC 9113 §8.1: it is for requests whose response is whole.
    let (url, _) = scripted(|_, stream| early(stream, 0, b"par")).await;
    let gateway = relaying(&url, "      http2: always\n");
    let mut sender = client(&gateway).await;
    let answer = async {
        let response = sender.send_request(get("/")).await?;
        Ok::<_, hyper::Error>(response.into_body().collect().await?.to_bytes())
    };
    let body = timeout(PATIENCE, answer).await.expect("an end");
    assert!(body.is_err(), "{body:?}");
}

#[tokio::test]
async fn an_answer_may_be_whole_before_its_request_is() {
    let (url, _) = scripted(|_, stream| early(stream, 1, b"whole")).await;
    let gateway = relaying(&url, "      http2: always\n");
    let mut sender = client(&gateway).await;
    let (_sending, body) = Channel::<Bytes, Infallible>::new(1);
    let request = Request::post("http://gateway.example/").body(body.boxed());
    assert_eq!(ask(&mut sender, request.unwrap()).await.body(), "whole");
}

#[tokio::test]
async fn a_client_that_resets_without_an_error_has_not_sent_all() {
    let upstream = Upstream::bind();
    let gateway = relaying(&upstream.url(), "");
    let (headed, head) = tokio::sync::oneshot::channel();
    let serving = tokio::task::spawn_blocking(move || {
        let mut peer = upstream.accept();
        peer.head();
        headed.send(()).unwrap();
        peer.ended()
    });
    let mut client = TcpStream::connect(&gateway.addresses()[0]).await.unwrap();
    let request = frame(1, 0b100, 1, &[0x83, 0x86, 0x84, 0x41, 1, b'h']);
    let said = [PREFACE, &frame(4, 0, 0, &[]), &request].concat();
    client.write_all(&said).await.unwrap();
    head.await.unwrap();
    let last = [frame(0, 0, 1, b"par"), reset(1, h2::Reason::NO_ERROR)];
    client.write_all(&last.concat()).await.unwrap();
    let arrived = timeout(PATIENCE, serving).await.expect("an end").unwrap();
    assert!(!arrived.ends_with("0\r\n\r\n"), "{arrived:?}");
}
