//! Several targets: who gets a turn, who waits, who is left out, and names that become targets.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asgi_relay::engine::balance::affinity::Affinity;
use asgi_relay::engine::balance::ejection::PassiveHealth;
use asgi_relay::engine::balance::member::State;
use asgi_relay::engine::balance::outcome::Change;
use asgi_relay::engine::balance::policy::Policy;
use asgi_relay::engine::balance::set::{Balancer, SetError};
use asgi_relay::engine::balance::settings::{Balancing, TargetSettings};
use asgi_relay::engine::balance::turn::Turn;
use asgi_relay::engine::config::Config;
use asgi_relay::engine::error::{Error, Kind};
use asgi_relay::engine::target::Target;
use http::StatusCode;
use tokio::time::{advance, timeout};

use crate::support;

pub(crate) fn target(url: &str) -> TargetSettings {
    TargetSettings::new(Arc::new(Target::parse(url, "/").unwrap()))
}

pub(crate) fn config(urls: &[&str], balancing: Balancing) -> Config {
    Config {
        targets: urls.iter().map(|url| target(url)).collect(),
        balancing,
        ..support::config("http://a")
    }
}

pub(crate) fn in_turn() -> Balancing {
    Balancing {
        policy: Policy::RoundRobin,
        passive: Some(PassiveHealth {
            consecutive_failures: Some(2),
            failure_rate: None,
            eject_time: Duration::from_secs(10),
            max_ejected: 0.5,
        }),
        ..Balancing::default()
    }
}

pub(crate) fn balancer(urls: &[&str], balancing: Balancing) -> Arc<Balancer> {
    Arc::clone(support::relay(config(urls, balancing)).balancer())
}

pub(crate) async fn turn(balancer: &Arc<Balancer>) -> Turn {
    balancer.turn(None, &[]).await.unwrap()
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// A turn that is answered well, to the end.
pub(crate) trait Well {
    fn well(&mut self);
}

impl Well for Turn {
    fn well(&mut self) {
        self.answered(StatusCode::OK, now(), false);
        self.completed();
    }
}

pub(crate) fn url(turn: &Turn) -> String {
    turn.member().url().to_owned()
}

pub(crate) fn states(balancer: &Balancer) -> Vec<State> {
    balancer
        .status()
        .iter()
        .map(|status| status.state)
        .collect()
}

/// Fails every turn that this target gets, until it is ejected.
pub(crate) async fn eject(balancer: &Arc<Balancer>, wanted: &str) {
    for _ in 0..100 {
        let mut turn = turn(balancer).await;
        if url(&turn) == wanted {
            turn.failed(&Error::not_sent(Kind::Connect, "refused"));
        } else {
            turn.well();
        }
    }
}

fn full(balancing: Balancing, urls: &[&str]) -> Arc<Balancer> {
    let mut config = config(urls, balancing);
    for target in &mut config.targets {
        target.max_in_flight = Some(1);
    }
    Arc::clone(support::relay(config).balancer())
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_room_and_is_next() {
    let balancer = full(in_turn(), &["http://a", "http://b"]);
    let (first, second) = (turn(&balancer).await, turn(&balancer).await);
    assert_ne!(url(&first), url(&second));
    let waiting = tokio::spawn({
        let balancer = Arc::clone(&balancer);
        async move { url(&turn(&balancer).await) }
    });
    support::settle().await;
    assert!(!waiting.is_finished());
    let freed = url(&first);
    drop(first);
    assert_eq!(waiting.await.unwrap(), freed);
    drop(second);
    assert!(balancer.status().iter().all(|status| status.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_too_long_may_come_again() {
    let balancing = Balancing {
        queue_timeout: Duration::from_millis(2500),
        ..in_turn()
    };
    let balancer = full(balancing, &["http://a"]);
    let _first = turn(&balancer).await;
    let error = balancer.turn(None, &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert_eq!(error.retry_after(), Some(3));
    assert_eq!(error.response().0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_waited_for_begins_when_the_request_came() {
    const AGO: Duration = Duration::from_secs(3);
    let balancer = full(in_turn(), &["http://a"]);
    let came = now();
    advance(AGO).await;
    let mut first = balancer.turn_at_once(None, Some(came)).unwrap();
    first.well();
    assert_eq!(balancer.status()[0].latency, Some(AGO));
    assert!(balancer.turn_at_once(None, Some(came)).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_stops_waiting_leaves_its_place_to_the_next() {
    let balancer = full(in_turn(), &["http://a"]);
    let first = turn(&balancer).await;
    let mut gone = Box::pin(balancer.turn(None, &[]));
    assert!(timeout(Duration::ZERO, &mut gone).await.is_err());
    let mut stays = Box::pin(balancer.turn(None, &[]));
    assert!(timeout(Duration::ZERO, &mut stays).await.is_err());
    drop(first);
    drop(gone);
    assert!(stays.await.is_ok());
}

#[tokio::test]
async fn what_the_client_does_is_not_held_against_a_target() {
    let balancer = balancer(&["http://a", "http://b"], in_turn());
    for _ in 0..10 {
        let mut turn = turn(&balancer).await;
        turn.failed(&Error::new(Kind::Abandoned, "the client left"));
        turn.failed(&Error::new(Kind::PoolTimeout, "none came free"));
    }
    assert_eq!(states(&balancer), [State::Healthy; 2]);
    assert!(balancer.status().iter().all(|status| status.failures == 0));
}

#[tokio::test]
async fn targets_come_and_go_while_requests_are_in_flight() {
    let balancer = balancer(&["http://a", "http://b"], in_turn());
    let (_first, _second) = (turn(&balancer).await, turn(&balancer).await);
    balancer.remove("http://a").unwrap();
    balancer.drain("http://b").unwrap();
    let error = balancer.turn(None, &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    balancer.add(target("http://c")).unwrap();
    assert_eq!(url(&turn(&balancer).await), "http://c");
    balancer.add(target("http://b")).unwrap();
    assert_eq!(states(&balancer), [State::Healthy; 2]);
    let duplicate = balancer.add(target("http://b")).unwrap_err();
    assert_eq!(duplicate, SetError::Duplicate("http://b".to_owned()));
    let mixed = balancer.add(target("https://d")).unwrap_err();
    assert_eq!(mixed, SetError::MixedSchemes("https://d".to_owned()));
    assert!(balancer.remove("http://nobody").is_err());
    assert!(balancer.drain("http://nobody").is_err());
}

#[tokio::test]
async fn a_retry_goes_where_none_has_been() {
    let balancer = balancer(&["http://a", "http://b", "http://c"], in_turn());
    let mut tried = vec![Arc::clone(turn(&balancer).await.member())];
    for _ in 0..2 {
        let other = balancer.other_turn(None, &tried).unwrap();
        assert!(
            !tried
                .iter()
                .any(|member| Arc::ptr_eq(member, other.member()))
        );
        tried.push(Arc::clone(other.member()));
    }
    assert!(balancer.other_turn(None, &tried).is_none());
    assert!(balancer.turn(None, &tried).await.is_ok());
}

#[tokio::test]
async fn a_preference_holds_while_its_target_is_fit() {
    let balancer = balancer(&["http://a", "http://b"], in_turn());
    let affinity = Affinity {
        preferred: Some("http://b".to_owned()),
        ..Affinity::default()
    };
    for _ in 0..5 {
        let turn = balancer.turn(Some(&affinity), &[]).await.unwrap();
        assert_eq!(url(&turn), "http://b");
    }
    balancer.drain("http://b").unwrap();
    let turn = balancer.turn(Some(&affinity), &[]).await.unwrap();
    assert_eq!(url(&turn), "http://a");
}

#[tokio::test]
async fn a_name_becomes_a_target_per_address() {
    let balancing = Balancing {
        dns_refresh: Some(Duration::from_secs(60)),
        ..in_turn()
    };
    let relay = support::relay(config(
        &["http://service:8000/base", "http://127.0.0.9"],
        balancing,
    ));
    let balancer = relay.balancer();
    let addresses = |texts: &[&str]| -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let urls = || -> Vec<String> {
        let members = balancer.members();
        let mut urls: Vec<_> = members
            .iter()
            .map(|member| member.url().to_owned())
            .collect();
        urls.sort();
        urls
    };
    balancer.resolved(
        "http://service:8000/base",
        addresses(&["10.0.0.2", "10.0.0.1", "10.0.0.2", "::1"]),
    );
    assert_eq!(
        urls(),
        [
            "http://10.0.0.1:8000/base",
            "http://10.0.0.2:8000/base",
            "http://127.0.0.9",
            "http://[::1]:8000/base",
        ]
    );
    let kept = balancer.members();
    let kept = kept
        .iter()
        .find(|member| member.url().contains("10.0.0.2"))
        .unwrap();
    balancer.resolved(
        "http://service:8000/base",
        addresses(&["10.0.0.2", "10.0.0.3"]),
    );
    assert_eq!(
        urls(),
        [
            "http://10.0.0.2:8000/base",
            "http://10.0.0.3:8000/base",
            "http://127.0.0.9"
        ]
    );
    assert!(
        balancer
            .members()
            .iter()
            .any(|member| Arc::ptr_eq(member, kept)),
        "it stays itself"
    );
    assert_eq!(
        kept.target().authority(),
        "service:8000",
        "Host stays the name's"
    );
    balancer.resolved("http://service:8000/base", Vec::new());
    assert_eq!(urls().len(), 3, "no address at all keeps what there is");
    balancer.remove("http://service:8000/base").unwrap();
    assert_eq!(urls(), ["http://127.0.0.9"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_does_not_make_a_target_slow() {
    let balancer = balancer(&["http://a"], in_turn());
    for waited in [true, false] {
        let mut turn = turn(&balancer).await;
        advance(Duration::from_secs(60)).await;
        turn.answered(StatusCode::OK, now(), waited);
        let latency = balancer.status().first().and_then(|status| status.latency);
        assert_eq!(latency, (!waited).then_some(Duration::from_secs(60)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_at_once_is_no_bargain() {
    let balancing = Balancing {
        policy: Policy::LeastLatency,
        passive: None,
        ..Balancing::default()
    };
    let balancer = balancer(&["http://good", "http://broken"], balancing);
    let mut broken = 0;
    for _ in 0..100 {
        let mut turn = turn(&balancer).await;
        if url(&turn) == "http://broken" {
            turn.failed(&Error::not_sent(Kind::Connect, "refused"));
            broken += 1;
        } else {
            advance(Duration::from_millis(10)).await;
            turn.well();
        }
    }
    assert!(broken < 5, "{broken} of 100");
}

#[tokio::test(start_paused = true)]
async fn one_that_has_been_taken_out_changes_nothing() {
    let balancer = balancer(&["http://a", "http://b", "http://c"], in_turn());
    eject(&balancer, "http://b").await;
    advance(Duration::from_secs(10)).await;
    let mut trial = turn(&balancer).await;
    assert_eq!(url(&trial), "http://b");
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    balancer.listen(Some(Arc::new(move |change: Change| {
        heard.lock().unwrap().push(change)
    })));
    balancer.remove("http://b").unwrap();
    trial.well();
    assert_eq!(*told.lock().unwrap(), []);
    eject(&balancer, "http://c").await;
    advance(Duration::from_secs(10)).await;
    assert_eq!(url(&turn(&balancer).await), "http://c", "its trial is due");
}
