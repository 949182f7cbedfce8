//! Names that are to be resolved, and targets that are found by a name or by an address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use asgi_relay::engine::balance::member::State;
use asgi_relay::engine::balance::set::Balancer;
use asgi_relay::engine::balance::settings::Balancing;
use asgi_relay::engine::error::Kind;
use asgi_relay::engine::relay::Relay;
use asgi_relay::engine::target::Target;

use crate::support;
use crate::targets::{config, in_turn, states, url};

const NAME: &str = "http://service:8000";

/// A relay to a name and to these; its end would be the end of resolving.
fn named(others: &[&str]) -> Arc<Relay> {
    let balancing = Balancing {
        dns_refresh: Some(Duration::from_secs(60)),
        ..in_turn()
    };
    support::relay(config(&[&[NAME], others].concat(), balancing))
}

fn resolve(balancer: &Balancer, addresses: &[&str]) {
    let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
    balancer.resolved(NAME, addresses.collect());
}

#[tokio::test]
async fn a_name_gets_nothing_before_it_is_resolved() {
    let relay = named(&["http://127.0.0.9"]);
    let balancer = relay.balancer();
    assert_eq!(states(balancer), [State::Unhealthy, State::Healthy]);
    assert_eq!(balancer.pick(&[]).as_deref(), Some("http://127.0.0.9"));
    resolve(balancer, &["10.0.0.1"]);
    assert_eq!(states(balancer), [State::Healthy, State::Healthy]);
    // No address at all changes nothing, the second time.
    resolve(balancer, &[]);
    assert_eq!(balancer.members().len(), 2);
}

#[tokio::test]
async fn the_wait_is_not_over_before_it_has_begun() {
    let relay = named(&["http://127.0.0.9"]);
    let balancer = relay.balancer();
    balancer.drain("http://127.0.0.9").unwrap();
    balancer.remove(NAME).unwrap();
    assert!(!balancer.is_checked());
    balancer.begin();
    assert!(balancer.is_checked());
}

#[tokio::test]
async fn one_without_any_address_is_a_target_as_it_stands() {
    let relay = named(&[]);
    let balancer = relay.balancer();
    resolve(balancer, &[]);
    assert_eq!(states(balancer), [State::Healthy]);
    assert_eq!(balancer.pick(&[]).as_deref(), Some(NAME));
    resolve(balancer, &["10.0.0.1"]);
    assert_eq!(balancer.pick(&[]).as_deref(), Some("http://10.0.0.1:8000"));
}

#[tokio::test]
async fn a_target_is_found_by_its_name_and_by_its_address() {
    let relay = named(&["http://127.0.0.9/base"]);
    let balancer = relay.balancer();
    resolve(balancer, &["10.0.0.1", "10.0.0.2", "::1"]);
    let found = async |text: &str| {
        let target = Target::parse(text, "/").unwrap();
        let turn = balancer.turn_at(target.origin()).await;
        turn.map(|turn| url(&turn)).map_err(|error| error.kind())
    };
    let mut by_name = BTreeSet::new();
    for _ in 0..3 {
        by_name.insert(found("http://service:8000/elsewhere").await.unwrap());
    }
    let all = [
        "http://10.0.0.1:8000",
        "http://10.0.0.2:8000",
        "http://[::1]:8000",
    ];
    assert!(by_name.iter().eq(all));
    for (asked, target) in [
        ("http://10.0.0.2:8000/x", "http://10.0.0.2:8000"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("http://127.9:80/x", "http://127.0.0.9/base"),
    ] {
        assert_eq!(found(asked).await.as_deref(), Ok(target));
    }
    for other in [
        "http://10.0.0.3:8000",
        "http://10.0.0.2",
        "https://10.0.0.2:8000",
        "http://service",
        "http+unix://service",
    ] {
        let origin = Target::parse(other, "/").unwrap();
        assert!(!balancer.has_target_at(origin.origin()), "{other}");
        assert_eq!(found(other).await, Err(Kind::Unavailable));
    }
}
