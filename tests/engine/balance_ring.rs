//! Consistent hashing: few keys move when the set changes, and no target gets too much.

use std::sync::Arc;
use std::time::Instant;

use asgi_relay::engine::balance::policy::Policy;
use asgi_relay::engine::balance::ring::{Bound, Ring, hash_of};

use crate::hosts::{Host, chooser, hosts};

const KEYS: u32 = 5_000;

/// The key of the target that each key leads to.
fn homes(targets: &[Arc<Host>]) -> Vec<String> {
    let mut chooser = chooser(Policy::ConsistentHash, targets);
    let mut home = |key: u32| {
        let hash = Some(hash_of(format!("user-{key}").as_bytes()));
        let index = chooser.choose(targets, |_| true, hash, Instant::now());
        targets[index.unwrap()].key.clone()
    };
    (0..KEYS).map(&mut home).collect()
}

fn ring(weights: &[u32]) -> Ring {
    let targets = hosts(weights);
    Ring::new(targets.iter().map(|host| (&*host.key, host.weight)))
}

#[test]
fn a_hash_is_the_same_in_every_build() {
    assert_eq!(hash_of(b""), 0xf52a_15e9_a9b5_e89b);
    assert_eq!(hash_of(b"a"), 0x02c0_bdbf_4814_20f8);
}

#[test]
fn targets_that_come_or_go_move_their_own_keys_alone() {
    let all = hosts(&[1; 10]);
    let gone = all[3].key.clone();
    let left: Vec<_> = all
        .iter()
        .filter(|host| host.key != gone)
        .cloned()
        .collect();
    let (with, without) = (homes(&all), homes(&left));
    let moved = with
        .iter()
        .zip(&without)
        .filter(|(with, without)| with != without);
    assert!(moved.clone().all(|(with, _)| *with == gone));
    let part = moved.count() as f64 / f64::from(KEYS);
    assert!((0.05..0.15).contains(&part), "a tenth, not {part}");
}

#[test]
fn an_unusable_target_is_passed_over_as_if_it_were_gone() {
    let mut targets = hosts(&[1; 6]);
    let whole = homes(&targets);
    Arc::get_mut(&mut targets[2]).unwrap().weight = 0;
    let reweighted = homes(&targets);
    targets.remove(2);
    assert_eq!(reweighted, homes(&targets));
    assert_ne!(reweighted, whole);
}

#[test]
fn keys_do_not_depend_on_the_order_of_targets() {
    let targets = hosts(&[1, 2, 3, 4]);
    let reversed: Vec<_> = targets.iter().rev().cloned().collect();
    assert_eq!(homes(&targets), homes(&reversed));
}

#[test]
fn keys_are_spread_by_weight() {
    let targets = hosts(&[1, 1, 2, 4]);
    let homes = homes(&targets);
    for host in &targets {
        let part = homes.iter().filter(|home| **home == host.key).count() as f64;
        let due = f64::from(KEYS) * f64::from(host.weight) / 8.0;
        assert!(
            (0.7..1.3).contains(&(part / due)),
            "{}: {part} of {due}",
            host.weight
        );
    }
}

#[test]
fn points_are_bounded_and_each_target_has_one() {
    assert_eq!(ring(&[1, 0, 3]).points(), 400);
    assert_eq!(ring(&[1; 100]).points(), 10_000);
    assert!(ring(&[1; 130]).points() <= 10_000);
    let uneven = ring(&[1, u32::MAX, u32::MAX, 1]);
    assert!((9_990..=10_004).contains(&uneven.points()));
    for index in [0, 3] {
        assert!(uneven.walk(0).any(|owner| owner == index));
    }
}

#[test]
fn one_key_for_all_fills_no_target_beyond_the_bound() {
    let targets = hosts(&[1, 1, 2, 4]);
    let mut chooser = chooser(Policy::ConsistentHash, &targets);
    let mut in_flight = [0_u32; 4];
    for total in 1..=400_u32 {
        let index = chooser
            .choose(&targets, |_| true, Some(1), Instant::now())
            .unwrap();
        in_flight[index] += 1;
        targets[index].set(in_flight[index] as usize);
        let bound = (1.25 * f64::from(total * targets[index].weight) / 8.0).ceil();
        assert!(
            f64::from(in_flight[index]) <= bound,
            "{in_flight:?} of {total}"
        );
    }
    let reached = in_flight
        .iter()
        .zip(&targets)
        .filter(|(count, host)| **count == 50 * host.weight * 5 / 4);
    assert!(
        reached.count() >= 2,
        "a target is filled before the next is: {in_flight:?}"
    );
}

#[test]
fn a_request_goes_somewhere_though_loads_grow_meanwhile() {
    let bound = Bound::new([(0, 1), (0, 1)].into_iter());
    let chosen = bound.choose([1, 0].into_iter(), |_| Some(1), |_| 9);
    assert_eq!(chosen, Some(1));
}
