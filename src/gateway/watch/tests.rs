use std::time::Duration;

use super::*;
use crate::gateway::config::settings::ServerLimits;

/// Limits under which whatever is idle has been so for too long.
fn impatient() -> ServerLimits {
    ServerLimits {
        keepalive_timeout: Some(Duration::from_secs(1)),
        body_timeout: Some(Duration::from_secs(100)),
        header_timeout: None,
        max_header_size: 8192,
        max_headers: 100,
        max_body_size: None,
        max_connections: None,
    }
}

/// A connection whose only request is over.
fn answered() -> Watch {
    let watch = Watch::new(Clock::new());
    watch.begin();
    watch.finish();
    watch
}

#[test]
fn who_still_takes_an_answer_is_not_idle() {
    let watch = answered();
    assert!(watch.may_be_evicted(UNDISTURBED + 1));
    assert_eq!(watch.verdict(&impatient(), 2000), Order::Leave);

    watch.block(true);
    assert!(!watch.may_be_evicted(50_000));
    assert_eq!(watch.verdict(&impatient(), 50_000), Order::Stay);
    watch.tell(Order::Leave);
    assert_eq!(watch.verdict(&impatient(), 50_000), Order::Stay);
    // Unless nothing of it is taken.
    assert_eq!(watch.verdict(&impatient(), 100_001), Order::Die);
}

#[test]
fn who_has_no_room_for_an_answer_in_http2_is_not_idle_either() {
    let watch = answered();
    watch.write(1);
    assert!(!watch.may_be_evicted(50_000));
    watch.tell(Order::Leave);
    assert_eq!(watch.verdict(&impatient(), 50_000), Order::Stay);
    assert_eq!(watch.verdict(&impatient(), 100_001), Order::Die);
    // Something of it is taken, and then the rest.
    watch.clock.advance(Duration::from_secs(50));
    watch.write(1);
    assert_eq!(watch.verdict(&impatient(), 149_900), Order::Stay);
    watch.write(0);
    assert_eq!(watch.verdict(&impatient(), 51_900), Order::Leave);
    assert_eq!(watch.verdict(&impatient(), 52_100), Order::Die);
}

#[test]
fn who_has_taken_an_answer_is_idle_from_then_on() {
    let watch = answered();
    watch.block(true);
    watch.clock.advance(Duration::from_secs(50));
    watch.block(false);
    assert!(!watch.may_be_evicted(50_050));
    assert_eq!(watch.verdict(&impatient(), 50_900), Order::Stay);
    assert_eq!(watch.verdict(&impatient(), 51_100), Order::Leave);
    watch.tell(Order::Leave);
    assert_eq!(watch.verdict(&impatient(), 51_900), Order::Leave);
    assert_eq!(watch.verdict(&impatient(), 52_100), Order::Die);
}
