//! HTTP/2 on both sides: many requests on one connection, trailers, streams both ways.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asgi_relay::gateway::Handle;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::server::certificates::Authority;
use crate::server::support::{PATIENCE, Upstream, header, ok, port_of, start};

pub(crate) type AnyBody = BoxBody<Bytes, Infallible>;

/// How a client begins (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn speak<I>(io: I) -> SendRequest<AnyBody>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A client with prior knowledge.
pub(crate) async fn client(gateway: &Handle) -> SendRequest<AnyBody> {
    let stream = TcpStream::connect(&gateway.addresses()[0]).await.unwrap();
    speak(stream).await
}

pub(crate) fn get(path: &str) -> Request<AnyBody> {
    let uri = format!("http://gateway.example{path}");
    Request::get(uri).body(Empty::new().boxed()).unwrap()
}

/// A whole answer; fails instead of waiting for ever.
pub(crate) async fn ask(
    sender: &mut SendRequest<AnyBody>,
    request: Request<AnyBody>,
) -> Response<Bytes> {
    let answer = async {
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    };
    timeout(PATIENCE, answer).await.expect("an answer")
}

/// An upstream in HTTP/2 that echoes bodies with their trailers; returns its address and counts
/// its connections.
async fn echo() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let service = service_fn(|request: Request<Incoming>| async {
                assert_eq!(request.version(), Version::HTTP_2);
                let te = request.headers().get("te").cloned();
                let path = request.uri().path().to_owned();
                let mut response = Response::new(request.into_body());
                let headers = response.headers_mut();
                headers.insert("x-path", HeaderValue::from_str(&path).unwrap());
                if let Some(te) = te {
                    headers.insert("x-te", te);
                }
                Ok::<_, Infallible>(response)
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, count)
}

pub(crate) fn relaying(url: &str, more: &str) -> Handle {
    start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  reverse_proxy:\n    - path: /\n      \
         targets: [\"{url}\"]\n{more}"
    ))
}

#[tokio::test]
async fn a_client_speaks_http2_and_the_upstream_http1() {
    let url = Upstream::bind().serve(|head| {
        let seen = |name| header(head, name).unwrap_or("-").to_owned();
        let body = format!("{}|{}|{}", seen("cookie"), seen("x-forwarded-host"), seen("host"));
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-sum: 7\r\n\r\n", body.len())
    });
    let gateway = relaying(&url, "");
    let mut sender = client(&gateway).await;
    let mut request = get("/a?b");
    let headers = request.headers_mut();
    headers.append("cookie", HeaderValue::from_static("a=1"));
    headers.append("cookie", HeaderValue::from_static("b=2"));
    headers.append("te", HeaderValue::from_static("trailers"));
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let body = answer.into_body().collect().await.unwrap();
    let sum = body.trailers().and_then(|trailers| trailers.get("x-sum"));
    assert_eq!(sum, Some(&HeaderValue::from_static("7")));
    let authority = url.strip_prefix("http://").unwrap();
    let expected = format!("a=1; b=2|gateway.example|{authority}");
    assert_eq!(body.to_bytes(), expected);
}

#[tokio::test]
async fn requests_share_a_connection_to_an_http2_upstream() {
    let (url, connections) = echo().await;
    let gateway = relaying(&url, "      http2: always\n");
    let sender = client(&gateway).await;
    let asked = (0..50).map(|number| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let body = Full::new(Bytes::from(format!("body {number}"))).boxed();
            let request = Request::post("http://h/x").body(body).unwrap();
            let answer = ask(&mut sender, request).await;
            assert_eq!(answer.body(), format!("body {number}").as_bytes());
            assert_eq!(answer.headers().get("x-path").unwrap(), "/x");
        })
    });
    for task in asked.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn streams_go_both_ways_at_once_with_trailers_behind() {
    let (url, _) = echo().await;
    let gateway = relaying(&url, "      http2: always\n");
    let mut sender = client(&gateway).await;
    let (mut writer, body) = Channel::<Bytes, Infallible>::new(1);
    let request = Request::post("http://h/grpc")
        .header("te", "trailers")
        .body(body.boxed())
        .unwrap();
    let exchange = async {
        let mut answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.headers().get("x-te").unwrap(), "trailers");
        for piece in ["one", "two"] {
            writer.send_data(Bytes::from(piece)).await.unwrap();
            let frame = answer.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        writer.send_trailers(trailers.clone()).await.unwrap();
        let frame = answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap(), trailers);
        assert!(answer.body().is_end_stream() || answer.body_mut().frame().await.is_none());
    };
    timeout(PATIENCE, exchange).await.expect("an answer");
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_upstream_alone() {
    let upstream = Upstream::bind();
    let gateway = relaying(&upstream.url(), "");
    let mut sender = client(&gateway).await;
    let waiting = tokio::spawn(sender.send_request(get("/slow")));
    let (mut peer, upstream) = tokio::task::spawn_blocking(move || {
        let mut peer = upstream.accept();
        assert!(peer.head().starts_with("GET /slow "));
        (peer, upstream)
    })
    .await
    .unwrap();
    waiting.abort();
    let ended = tokio::task::spawn_blocking(move || peer.ended());
    assert_eq!(ended.await.unwrap(), "");
    // The connection goes on.
    let url = upstream.serve(|_| crate::server::support::ok("still"));
    assert!(!url.is_empty());
    assert_eq!(ask(&mut sender, get("/")).await.body(), "still");
}

#[tokio::test]
async fn alpn_decides_over_tls_on_both_sides() {
    let authority = Authority::new("alpn");
    authority.issue("localhost");
    let folder = authority.folder.0.display();
    // A gateway behind a gateway: the second one is the first one's upstream.
    let (url, connections) = echo().await;
    let tls = format!(
        "server:\n  workers: 1\n  listeners:\n    - host: 127.0.0.1\n      port: 0\n      ssl:\n        \
         certificates: [{{cert_file: {folder}/localhost.pem, key_file: {folder}/localhost.key}}]\n"
    );
    let inner = start(&format!(
        "{tls}  reverse_proxy:\n    - path: /\n      targets: [\"{url}\"]\n      http2: always\n"
    ));
    let port = port_of(&inner);
    let outer = start(&format!(
        "{tls}  reverse_proxy:\n    - path: /\n      targets: [\"https://127.0.0.1:{port}\"]\n      \
         http2: auto\n      tls: {{ca_file: {folder}/ca.pem, server_name: localhost}}\n"
    ));
    let stream = TcpStream::connect(&outer.addresses()[0]).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(authority.client(&["h2"], None));
    let name = "localhost".try_into().unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    let mut sender = speak(stream).await;
    for _ in 0..3 {
        let answer = ask(&mut sender, get("/x")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers().get("x-path").unwrap(), "/x");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn limits_hold_for_streams_too() {
    let (url, _) = echo().await;
    let gateway = relaying(&url, "      http2: always\n      max_body_size: 10\n");
    let mut sender = client(&gateway).await;
    let large = Full::new(Bytes::from(vec![b'x'; 100])).boxed();
    let request = Request::post("http://h/").body(large).unwrap();
    let answer = ask(&mut sender, request).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut request = get("/");
    for number in 0..200 {
        let name = format!("x-{number}").parse::<http::HeaderName>().unwrap();
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static("1"));
    }
    let answer = ask(&mut sender, request).await;
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let climbing = ask(&mut sender, get("/%2e%2e/x")).await;
    assert_eq!(climbing.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_gateway_that_stops_finishes_streams() {
    let (url, _) = echo().await;
    let gateway = relaying(&url, "      http2: always\n");
    let mut sender = client(&gateway).await;
    let (mut writer, body) = Channel::<Bytes, Infallible>::new(1);
    let request = Request::post("http://h/long").body(body.boxed()).unwrap();
    let mut answer = sender.send_request(request).await.unwrap();
    let drained = tokio::task::spawn_blocking(move || gateway.drain(PATIENCE));
    // No new stream is taken any more.
    let refused = async { while sender.send_request(get("/more")).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("GOAWAY");
    writer.send_data(Bytes::from("last")).await.unwrap();
    let frame = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "last");
    drop(writer);
    let rest = answer.into_body().collect().await.unwrap();
    assert_eq!(rest.to_bytes(), "");
    drained.await.unwrap();
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_ends_alone() {
    let upstream = Upstream::bind();
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  limits: {{body_timeout: 0.3}}\n  \
         reverse_proxy:\n    - path: /\n      targets: [\"{}\"]\n",
        upstream.url()
    ));
    let serving = tokio::task::spawn_blocking(move || {
        let mut peer = upstream.accept();
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 64 * 1024];
        // Ends when the gateway gives the upstream's connection up.
        while peer.0.write(&piece).is_ok() {}
        upstream.serve(|_| ok("beside"));
    });
    let mut sender = client(&gateway).await;
    let mut body = sender.send_request(get("/")).await.unwrap().into_body();
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert_eq!(ask(&mut sender, get("/beside")).await.body(), "beside");
    // What was on its way is still there; then comes the reset.
    let reset = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return true;
            }
        }
        false
    };
    assert!(timeout(PATIENCE, reset).await.unwrap());
}

/// Asks for `/` as a client that then says nothing any more; all that comes until the end.
async fn ask_and_listen(gateway: &Handle) -> std::io::Result<Vec<u8>> {
    let mut silent = TcpStream::connect(&gateway.addresses()[0]).await?;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // GET / at the host h, in HPACK.
    let head = [0x82, 0x86, 0x84, 0x41, 1, b'h'];
    let request = [&[0, 0, 6, 1, 5, 0, 0, 0, 1][..], &head].concat();
    let said = [PREFACE, &settings, &request].concat();
    silent.write_all(&said).await?;
    let mut heard = Vec::new();
    let ended = silent.read_to_end(&mut heard);
    timeout(PATIENCE, ended).await.expect("an end")?;
    Ok(heard)
}

fn impatient(url: &str) -> Handle {
    start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  limits: {{keepalive_timeout: 0.3}}\n  \
         reverse_proxy:\n    - path: /\n      targets: [\"{url}\"]\n"
    ))
}

#[tokio::test]
async fn an_asterisk_crosses_in_http2_too() {
    let (url, _) = echo().await;
    let gateway = relaying(&url, "      http2: always\n");
    let mut stream = TcpStream::connect(&gateway.addresses()[0]).await.unwrap();
    let request = b"OPTIONS * HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("an end").unwrap();
    assert_eq!(header(&answer, "x-path"), Some("*"), "{answer}");
}

#[tokio::test]
async fn a_client_that_has_not_asked_yet_is_not_slow() {
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = start(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  limits: {{header_timeout: \
         2}}\nroutes: [{{targets: \"{url}\"}}]\n"
    ));
    let mut sender = client(&gateway).await;
    // As long as it takes until one that is slow is let go.
    let mut slow = TcpStream::connect(&gateway.addresses()[0]).await.unwrap();
    slow.write_all(b"GET /").await.unwrap();
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, slow.read_to_end(&mut heard)).await;
    ended.expect("an end").unwrap();
    assert_eq!(ask(&mut sender, get("/")).await.body(), "in");
}

#[tokio::test]
async fn who_does_not_hear_a_goodbye_is_let_go() {
    let gateway = impatient(&Upstream::bind().serve(|_| ok("x")));
    let heard = ask_and_listen(&gateway).await.unwrap();
    // It was told: a GOAWAY is the frame of type 7.
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF];
    assert!(heard.windows(goaway.len()).any(|part| part == goaway));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_its_streams_end_alone() {
    let upstream = Upstream::bind();
    let gateway = impatient(&upstream.url());
    let serving = tokio::task::spawn_blocking(move || {
        let mut peer = upstream.accept();
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nx");
    });
    // The connection ends in good order, and takes nothing of other streams along.
    let heard = ask_and_listen(&gateway).await.unwrap();
    serving.await.unwrap();
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1];
    assert!(heard.windows(reset.len()).any(|part| part == reset));
}
