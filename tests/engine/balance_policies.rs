//! Each policy on sets that stand still: whom it chooses, and how often.

use std::sync::Arc;
use std::time::Instant;

use asgi_relay::engine::balance::policy::Policy::{self, *};

use crate::hosts::{Host, chooser, counts, follows, hosts, next};

const EVERY: [Policy; 7] = [
    RoundRobin,
    WeightedRoundRobin,
    Random,
    PowerOfTwo,
    LeastConnections,
    LeastLatency,
    ConsistentHash,
];

fn change(targets: &mut [Arc<Host>], index: usize, to: impl Fn(&mut Host)) {
    to(Arc::get_mut(&mut targets[index]).unwrap());
}

#[test]
fn names_lead_to_policies_and_back() {
    for policy in Policy::NAMED {
        assert_eq!(Policy::from_name(policy.name()), Some(policy));
    }
    assert_eq!(Policy::from_name("fastest"), None);
    assert_eq!(Policy::from_name(ConsistentHash.name()), None);
}

#[test]
fn idle_targets_get_what_their_weights_say() {
    for policy in EVERY {
        let weights: &[u32] = if policy == RoundRobin {
            &[1, 1, 1, 1, 1]
        } else {
            &[1, 2, 3, 4, 10]
        };
        let targets = hosts(weights);
        let shares: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
        let counts = counts(&mut chooser(policy, &targets), &targets, 20_000);
        assert!(follows(&counts, &shares), "{policy:?}: {counts:?}");
    }
}

#[test]
fn weights_hold_among_the_usable_however_few_they_are() {
    for policy in EVERY {
        let mut targets = hosts(&[1; 40]);
        let mut shares = [0.0; 40];
        for (index, share) in shares.iter_mut().enumerate() {
            let usable = index % 20 == 7;
            *share = if usable { 1.0 } else { 0.0 };
            change(&mut targets, index, |host| host.usable = usable);
        }
        let counts = counts(&mut chooser(policy, &targets), &targets, 10_000);
        assert!(follows(&counts, &shares), "{policy:?}: {counts:?}");
    }
}

#[test]
fn nobody_is_chosen_where_nobody_can_be() {
    for policy in EVERY {
        let mut targets = hosts(&[0, 1]);
        change(&mut targets, 1, |host| host.usable = false);
        assert_eq!(
            next(&mut chooser(policy, &targets), &targets),
            None,
            "{policy:?}"
        );
        assert_eq!(next(&mut chooser(policy, &[]), &[]), None, "{policy:?}");
        let drained = hosts(&[0, 0]);
        assert_eq!(
            next(&mut chooser(policy, &drained), &drained),
            None,
            "{policy:?}"
        );
    }
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    for policy in EVERY {
        let targets = hosts(&[1; 9]);
        let sequence = || {
            let mut chooser = chooser(policy, &targets);
            (0..50)
                .map(|_| next(&mut chooser, &targets))
                .collect::<Vec<_>>()
        };
        assert_eq!(sequence(), sequence(), "{policy:?}");
    }
}

#[test]
fn round_robin_goes_round_and_ignores_weights() {
    let targets = hosts(&[1, 5, 0, 2]);
    let mut chooser = chooser(RoundRobin, &targets);
    let turns: Vec<_> = (0..6)
        .map(|_| next(&mut chooser, &targets).unwrap())
        .collect();
    assert_eq!(turns, [0, 1, 3, 0, 1, 3]);
}

#[test]
fn nobody_inherits_the_turns_of_an_unusable_target() {
    let mut targets = hosts(&[1; 4]);
    let mut chooser = chooser(RoundRobin, &targets);
    assert_eq!(counts(&mut chooser, &targets, 6), [2, 2, 1, 1]);
    change(&mut targets, 2, |host| host.usable = false);
    assert_eq!(counts(&mut chooser, &targets, 300), [100, 100, 0, 100]);
    change(&mut targets, 2, |host| host.usable = true);
    assert_eq!(next(&mut chooser, &targets), Some(2));
    assert_eq!(counts(&mut chooser, &targets, 400), [100; 4]);
}

#[test]
fn turns_go_on_when_the_set_changes() {
    let targets = hosts(&[1; 4]);
    let mut chooser = chooser(RoundRobin, &targets);
    assert_eq!(counts(&mut chooser, &targets, 2), [1, 1, 0, 0]);
    let mut changed = vec![Arc::clone(&targets[3]), Arc::clone(&targets[0])];
    changed.push(Arc::new(Host::new(9, 1)));
    chooser.rebuild(&changed);
    let turns: Vec<_> = (0..4)
        .map(|_| next(&mut chooser, &changed).unwrap())
        .collect();
    assert_eq!(turns, [2, 0, 1, 2]);
}

#[test]
fn heavy_targets_get_their_turns_apart() {
    let targets = hosts(&[5, 1, 1]);
    let mut chooser = chooser(WeightedRoundRobin, &targets);
    let turns: Vec<_> = (0..7)
        .map(|_| next(&mut chooser, &targets).unwrap())
        .collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    next(&mut chooser, &targets);
    next(&mut chooser, &targets);
    chooser.rebuild(&targets);
    assert_eq!(
        next(&mut chooser, &targets),
        Some(1),
        "credit is kept by key"
    );
}

#[test]
fn fewest_in_flight_for_the_weight_wins() {
    let targets = hosts(&[1, 4, 1]);
    for (host, in_flight) in targets.iter().zip([2, 4, 3]) {
        host.set(in_flight);
    }
    let of_all = counts(&mut chooser(LeastConnections, &targets), &targets, 100);
    assert_eq!(of_all, [0, 100, 0]);
    let of_two = counts(&mut chooser(PowerOfTwo, &targets), &targets, 3_000);
    // The two light ones are a pair once in fifteen times.
    assert!(follows(&of_two, &[1.0, 14.0, 0.0]), "{of_two:?}");
}

#[test]
fn the_fuller_one_of_two_never_wins() {
    let targets = hosts(&[1; 10]);
    targets[3].set(1);
    for policy in [PowerOfTwo, LeastConnections] {
        assert_eq!(
            counts(&mut chooser(policy, &targets), &targets, 2_000)[3],
            0,
            "{policy:?}"
        );
    }
}

#[test]
fn the_cheapest_of_few_wins_and_of_many_the_dearest_never() {
    let mut targets = hosts(&[1; 5]);
    for (index, cost) in [3.0, 1.0, 2.0, 9.0, 4.0].into_iter().enumerate() {
        change(&mut targets, index, |host| host.cost = cost);
    }
    let many = counts(&mut chooser(LeastLatency, &targets), &targets, 5_000);
    // Of ten pairs the best is in four, the next in three, and so on.
    assert!(follows(&many, &[2.0, 4.0, 3.0, 0.0, 1.0]), "{many:?}");
    targets.pop();
    let few = counts(&mut chooser(LeastLatency, &targets), &targets, 100);
    assert_eq!(few, [0, 100, 0, 0]);
    change(&mut targets, 2, |host| host.weight = 3);
    let weighted = counts(&mut chooser(LeastLatency, &targets), &targets, 100);
    assert_eq!(
        weighted,
        [0, 0, 100, 0],
        "2 for a weight of 3 is less than 1"
    );
}

#[test]
fn a_key_leads_to_one_target_until_that_is_full() {
    let targets = hosts(&[1; 5]);
    let mut chooser = chooser(ConsistentHash, &targets);
    let mut at = |hash| {
        chooser
            .choose(&targets, |_| true, Some(hash), Instant::now())
            .unwrap()
    };
    let home = at(42);
    assert!((0..100).all(|_| at(42) == home));
    targets[home].set(1);
    let second = at(42);
    assert_ne!(second, home);
    assert!(
        (0..100).all(|_| at(42) == second),
        "the next on the ring, not any"
    );
}
