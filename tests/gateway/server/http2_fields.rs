//! HTTP/2: header fields that are malformed, and those that go no further.

use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};

use crate::server::http2::{ask, client, get, relaying};
use crate::server::support::{Upstream, header, ok};

#[tokio::test]
async fn blanks_around_a_value_are_malformed() {
    // RFC 9113 §8.2.1. An HTTP/1.1 upstream would take them off, and see another value than a
    // rate limit or a hash does.
    let url = Upstream::bind().serve(|_| ok("in"));
    let gateway = relaying(&url, "");
    let mut sender = client(&gateway).await;
    for value in [" key", "key ", "\tkey", "key\t"] {
        let mut request = get("/");
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert("x-api-key", value);
        assert_eq!(ask(&mut sender, request).await.status(), 400);
    }
    let mut request = get("/");
    let key = HeaderValue::from_static("a key");
    request.headers_mut().insert("x-api-key", key);
    assert_eq!(ask(&mut sender, request).await.body(), "in");
}

#[tokio::test]
async fn a_host_that_is_not_the_authority_is_malformed() {
    // RFC 9113 §8.3.1.
    let url = Upstream::bind().serve(|head| ok(header(head, "x-forwarded-host").unwrap_or("-")));
    let gateway = relaying(&url, "");
    let mut sender = client(&gateway).await;
    for (host, status) in [
        ("gateway.example", 200),
        ("GATEWAY.example:80", 200),
        ("gateway.example:443", 400),
        ("other.example", 400),
        ("", 400),
    ] {
        let mut request = get("/");
        let host = HeaderValue::from_static(host);
        request.headers_mut().insert("host", host);
        let answer = ask(&mut sender, request).await;
        assert_eq!(answer.status(), status);
        if status == 200 {
            assert_eq!(answer.body(), "gateway.example");
        }
    }
}

#[tokio::test]
async fn what_announces_trailers_is_dropped_like_any_header() {
    let url = Upstream::bind().serve(
        |head| match header(head, "te").or(header(head, "trailer")) {
            Some(passed) => ok(passed),
            None => ok("nothing"),
        },
    );
    for (more, expected) in [
        ("", "trailers"),
        ("      drop_request_headers: [te, trailer]\n", "nothing"),
        ("      allow_request_headers: [x-b]\n", "nothing"),
    ] {
        let gateway = relaying(&url, more);
        let mut sender = client(&gateway).await;
        let mut request = Request::post("http://gateway.example/")
            .body(Full::from("x").boxed())
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("trailer", HeaderValue::from_static("x-sum"));
        assert_eq!(ask(&mut sender, request).await.body(), expected);
    }
}
