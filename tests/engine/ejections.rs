//! Targets that fail are left out for a while, and come back by a trial.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use asgi_relay::engine::balance::member::State;
use asgi_relay::engine::balance::outcome::Change;
use asgi_relay::engine::error::{Error, Kind};
use tokio::time::advance;

use crate::targets::{Well, balancer, eject, in_turn, states, turn, url};

#[tokio::test(start_paused = true)]
async fn a_failing_target_is_ejected_and_comes_back_by_one_trial() {
    let balancer = balancer(&["http://a", "http://b", "http://c"], in_turn());
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&changes);
    balancer.listen(Some(Arc::new(move |change: Change| {
        told.lock().unwrap().push((change.url, change.after));
    })));
    eject(&balancer, "http://b").await;
    assert_eq!(
        states(&balancer),
        [State::Healthy, State::Ejected, State::Healthy]
    );
    for _ in 0..20 {
        assert_ne!(url(&turn(&balancer).await), "http://b");
    }
    advance(Duration::from_secs(10)).await;
    let mut trial = turn(&balancer).await;
    assert_eq!(url(&trial), "http://b");
    for _ in 0..20 {
        assert_ne!(
            url(&turn(&balancer).await),
            "http://b",
            "one trial at a time"
        );
    }
    trial.well();
    assert_eq!(states(&balancer), [State::Healthy; 3]);
    let changes = changes.lock().unwrap().clone();
    let b = "http://b".to_owned();
    assert_eq!(changes, [(b.clone(), State::Ejected), (b, State::Healthy)]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_without_an_outcome_leaves_the_next_one_to_another() {
    let balancer = balancer(&["http://a", "http://b"], in_turn());
    eject(&balancer, "http://b").await;
    advance(Duration::from_secs(10)).await;
    let trial = turn(&balancer).await;
    assert_eq!(url(&trial), "http://b");
    drop(trial);
    assert_eq!(url(&turn(&balancer).await), "http://b");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_ejected_than_the_share() {
    let balancer = balancer(&["http://a", "http://b", "http://c", "http://d"], in_turn());
    for _ in 0..100 {
        let mut turn = turn(&balancer).await;
        turn.failed(&Error::not_sent(Kind::Connect, "refused"));
    }
    let ejected = states(&balancer)
        .iter()
        .filter(|s| **s == State::Ejected)
        .count();
    assert_eq!(ejected, 2);
}

#[tokio::test(start_paused = true)]
async fn where_all_are_ejected_all_are_tried() {
    let mut balancing = in_turn();
    if let Some(passive) = &mut balancing.passive {
        passive.max_ejected = 1.0;
    }
    let balancer = balancer(&["http://a", "http://b"], balancing);
    for _ in 0..10 {
        turn(&balancer)
            .await
            .failed(&Error::not_sent(Kind::Connect, "refused"));
    }
    assert_eq!(states(&balancer), [State::Ejected; 2]);
    let (first, second) = (turn(&balancer).await, turn(&balancer).await);
    assert_ne!(url(&first), url(&second));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_behind_its_end_is_a_failure_alone() {
    // As a WebSocket's, whose 101 is complete at once.
    let balancer = balancer(&["http://a", "http://b"], in_turn());
    for _ in 0..4 {
        let mut turn = turn(&balancer).await;
        turn.well();
        if url(&turn) == "http://b" {
            turn.interrupted(&Error::new(Kind::Read, "the connection ended"));
        }
    }
    assert_eq!(states(&balancer), [State::Healthy, State::Ejected]);
}
