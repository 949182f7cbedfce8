//! Who is retried, when, and after which wait.

use std::time::Duration;

use asgi_relay::engine::error::{Error, Kind};
use asgi_relay::engine::policy::retry::{RetryPolicy, is_idempotent};
use http::{Method, StatusCode};

fn policy(kinds: &[Kind]) -> RetryPolicy {
    RetryPolicy {
        max_retries: 2,
        backoff_factor: 0.2,
        statuses: vec![StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE],
        kinds: kinds.to_vec(),
        non_idempotent: false,
    }
}

#[test]
fn idempotence_is_as_in_rfc_9110() {
    let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
    let others = ["POST", "PATCH", "CONNECT", "PROPFIND", "get"];
    let method = |name: &str| Method::from_bytes(name.as_bytes()).unwrap();
    assert!(idempotent.iter().all(|name| is_idempotent(&method(name))));
    assert!(!others.iter().any(|name| is_idempotent(&method(name))));
}

#[test]
fn statuses_are_retried_for_idempotent_methods_as_often_as_allowed() {
    let policy = policy(&[]);
    for (method, status, retries, expected) in [
        (Method::GET, 503, 0, true),
        (Method::GET, 503, 1, true),
        (Method::GET, 503, 2, false),
        (Method::PUT, 502, 0, true),
        (Method::GET, 504, 0, false),
        (Method::GET, 200, 0, false),
        (Method::POST, 503, 0, false),
        (Method::PATCH, 503, 0, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let retried = policy.retries_status(&method, status, retries);
        assert_eq!(retried, expected, "{method} {status} after {retries}");
    }
}

#[test]
fn a_failure_before_the_first_octet_is_retried_for_every_method() {
    let policy = policy(&[Kind::Connect, Kind::ReadTimeout]);
    let refused = Error::not_sent(Kind::Connect, "refused");
    let silent = Error::new(Kind::ReadTimeout, "no answer");
    let broken = Error::new(Kind::Read, "reset");
    for (method, error, expected) in [
        (Method::GET, &refused, true),
        (Method::POST, &refused, true),
        (Method::GET, &silent, true),
        (Method::POST, &silent, false),
        (Method::GET, &broken, false),
    ] {
        let retried = policy.retries_error(&method, error, 0);
        assert_eq!(retried, expected, "{method} {error}");
        assert!(!policy.retries_error(&method, error, 2), "{method} {error}");
    }
}

#[test]
fn methods_that_are_not_idempotent_are_retried_on_demand() {
    let policy = RetryPolicy {
        non_idempotent: true,
        ..policy(&[Kind::ReadTimeout])
    };
    let silent = Error::new(Kind::ReadTimeout, "no answer");
    assert!(policy.retries_error(&Method::POST, &silent, 0));
    assert!(policy.retries_status(&Method::PATCH, StatusCode::BAD_GATEWAY, 0));
}

#[test]
fn the_wait_doubles_with_each_retry() {
    let policy = policy(&[]);
    let waits: Vec<_> = (1..=4).map(|number| policy.backoff(number)).collect();
    assert_eq!(waits, [200, 400, 800, 1600].map(Duration::from_millis));
}

#[test]
fn no_factor_means_no_wait_and_no_wait_is_endless() {
    let with = |backoff_factor| RetryPolicy {
        backoff_factor,
        ..policy(&[])
    };
    assert_eq!(with(0.0).backoff(9), Duration::ZERO);
    assert_eq!(with(0.0).backoff(u32::MAX), Duration::ZERO);
    assert_eq!(with(1.0).backoff(u32::MAX), Duration::from_secs(31_536_000));
}
