//! The one table from failures to answers.

use std::collections::HashSet;

use asgi_relay::engine::error::{Error, Kind, Reach};

#[test]
fn timeouts_are_504_and_say_no_more() {
    for kind in Kind::NAMED.into_iter().filter(|kind| kind.is_timeout()) {
        let (status, text) = Error::new(kind, "10.0.0.7:8000 did nothing").response();
        assert_eq!(
            (status.as_u16(), &*text),
            (504, "Gateway Timeout"),
            "{kind:?}"
        );
    }
}

#[test]
fn other_failures_are_502_with_their_kind_and_without_the_detail() {
    for kind in Kind::NAMED.into_iter().filter(|kind| !kind.is_timeout()) {
        let (status, text) = Error::new(kind, "10.0.0.7:8000").response();
        assert_eq!(status.as_u16(), 502);
        assert!(text.starts_with("Upstream error: "), "{text}");
        assert!(
            text.contains(kind.name()) && !text.contains("10.0.0.7"),
            "{text}"
        );
    }
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: HashSet<_> = Kind::NAMED.into_iter().map(Kind::name).collect();
    assert_eq!(names.len(), Kind::NAMED.len());
}

#[test]
fn how_far_a_request_got_travels_with_the_error() {
    assert_eq!(Error::new(Kind::Read, "").reach(), Reach::MaybeSent);
    assert_eq!(Error::not_sent(Kind::Connect, "").reach(), Reach::NotSent);
}

#[test]
fn the_log_reads_kind_and_detail() {
    let error = Error::new(
        Kind::Protocol,
        "closed before the response head was complete",
    );
    let text = "RemoteProtocolError: closed before the response head was complete";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_the_clients_fault() {
    let (status, text) = Error::new(Kind::BodyLength, "shorter").response();
    let expected = "Bad request: the body is not as long as its Content-Length";
    assert_eq!((status.as_u16(), &*text), (400, expected));
}
