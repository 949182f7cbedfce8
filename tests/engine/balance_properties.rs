//! What holds for every policy and every set, and for every run of answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asgi_relay::engine::balance::ejection::{
    Ejection, LONGEST_EJECTION, PassiveHealth, most_ejected,
};
use asgi_relay::engine::balance::policy::{Chooser, Policy};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::hosts::Host;

const NANOSECOND: Duration = Duration::from_nanos(1);

fn policy() -> impl Strategy<Value = Policy> {
    let mut policies = Policy::NAMED.to_vec();
    policies.push(Policy::ConsistentHash);
    prop::sample::select(policies)
}

fn host() -> impl Strategy<Value = Host> {
    let weight = prop_oneof![3 => 0..4_u32, 1 => any::<u32>()];
    let in_flight = prop_oneof![3 => 0..4_usize, 1 => any::<usize>()];
    let cost = prop_oneof![3 => 0.0..2.0_f64, 1 => any::<f64>()];
    (0..20_usize, weight, in_flight, cost, any::<bool>()).prop_map(
        |(number, weight, in_flight, cost, usable)| {
            let host = Host {
                cost,
                usable,
                ..Host::new(number, weight)
            };
            host.set(in_flight);
            host
        },
    )
}

/// A set, and the hashes of requests for it.
fn round() -> impl Strategy<Value = (Vec<Host>, Vec<Option<u64>>)> {
    (vec(host(), 0..12), vec(any::<Option<u64>>(), 1..12))
}

/// What happens to one of three targets: an answer of it, the end of a trial without one, time.
#[derive(Debug, Clone)]
enum Event {
    Answer { target: usize, success: bool },
    Abandon { target: usize },
    Wait(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_usize, prop::bool::weighted(0.3))
            .prop_map(|(target, success)| Event::Answer { target, success }),
        1 => (0..3_usize).prop_map(|target| Event::Abandon { target }),
        2 => (0..200_u64).prop_map(|tenths| Event::Wait(Duration::from_millis(100 * tenths))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Also while the set changes under it, with keys twice in it and figures at their limits.
    #[test]
    fn a_usable_target_is_chosen_where_there_is_one_and_no_other(
        policy in policy(), seed: u64, rounds in vec(round(), 1..4),
    ) {
        let mut chooser = Chooser::new(policy, Some(seed));
        for (hosts, hashes) in rounds {
            let targets: Vec<_> = hosts.into_iter().map(Arc::new).collect();
            chooser.rebuild(&targets);
            let fit = |host: &Host| host.usable && host.weight > 0;
            for hash in hashes {
                let chosen = chooser.choose(&targets, |host| host.usable, hash, Instant::now());
                prop_assert_eq!(chosen.is_some(), targets.iter().any(|host| fit(host)));
                prop_assert!(chosen.is_none_or(|index| fit(&targets[index])));
            }
        }
    }

    /// Whoever is usable when: nobody waits for more turns of others than there are others.
    #[test]
    fn round_robin_starves_nobody(usable in vec(vec(any::<bool>(), 5), 1..200)) {
        let mut targets: Vec<_> = (0..5).map(|number| Arc::new(Host::new(number, 1))).collect();
        let mut chooser = Chooser::new(Policy::RoundRobin, None);
        chooser.rebuild(&targets);
        let mut passed_over = [0; 5];
        for usable in usable {
            for (host, usable) in targets.iter_mut().zip(&usable) {
                Arc::get_mut(host).unwrap().usable = *usable;
            }
            let chosen = chooser.choose(&targets, |host| host.usable, None, Instant::now());
            for (index, passed_over) in passed_over.iter_mut().enumerate() {
                *passed_over += usize::from(usable[index]);
                prop_assert!(*passed_over <= 5);
                if chosen == Some(index) {
                    *passed_over = 0;
                }
            }
        }
    }

    /// After any history, as many turns as the weights say.
    #[test]
    fn smooth_turns_keep_to_their_weights(
        weights in vec(1..50_u32, 2..6), history in vec(any::<u8>(), 0..40),
    ) {
        let targets: Vec<_> = (0..).zip(&weights).map(|(number, weight)| Arc::new(Host::new(number, *weight))).collect();
        let mut chooser = Chooser::new(Policy::WeightedRoundRobin, None);
        chooser.rebuild(&targets);
        for mask in history {
            let usable = |host: &Host| mask & 1 << (host.key.as_bytes()[14] - b'0') != 0;
            chooser.choose(&targets, usable, None, Instant::now());
        }
        let total: u32 = weights.iter().sum();
        let mut turns = vec![0; weights.len()];
        for _ in 0..10 * total {
            turns[chooser.choose(&targets, |_| true, None, Instant::now()).unwrap()] += 1;
        }
        for (turns, weight) in turns.iter().zip(&weights) {
            let owed = f64::from(10 * weight) - f64::from(*turns);
            prop_assert!(owed.abs() <= weights.len() as f64, "{turns:?} for {weights:?}");
        }
    }

    #[test]
    fn ejections_keep_to_the_share_and_double_and_end_with_a_trial(events in vec(event(), 0..300)) {
        let settings = PassiveHealth {
            consecutive_failures: Some(2),
            failure_rate: Some(0.5),
            eject_time: Duration::from_secs(3),
            max_ejected: 0.5,
        };
        let most = most_ejected(3, settings.max_ejected);
        let mut now = Instant::now();
        let mut targets: [Ejection; 3] = Default::default();
        let mut trials = [false; 3];
        let mut lengths = [Duration::ZERO; 3];
        let mut outs = [now; 3];
        for event in events {
            match event {
                Event::Wait(time) => now += time,
                Event::Abandon { target } => {
                    targets[target].end_trial();
                    trials[target] = false;
                }
                Event::Answer { target, success } => {
                    let began = targets[target].begin_trial(now, Duration::ZERO);
                    prop_assert!(!(began && trials[target]), "two trials at once");
                    trials[target] |= began;
                    let was_out = targets[target].is_ejected();
                    let free = targets.iter().filter(|one| one.is_ejected()).count() < most;
                    let trial = trials[target];
                    targets[target].record(&settings, success, trial, now, free);
                    match targets[target].next_trial() {
                        Some(out) if trial || !was_out => {
                            prop_assert!(!success && (trial || free));
                            let (length, again) = (out - now, (2 * lengths[target]).min(LONGEST_EJECTION));
                            let due = if was_out { again } else { length };
                            prop_assert!(length == due && [again, settings.eject_time].contains(&length));
                            (lengths[target], outs[target]) = (length, out);
                        }
                        Some(out) => prop_assert_eq!(out, outs[target], "nothing but a trial changes it"),
                        None => prop_assert!(!was_out || trial && success),
                    }
                    trials[target] = false;
                }
            }
            prop_assert!(targets.iter().filter(|one| one.is_ejected()).count() <= most);
            for ((one, trial), out) in targets.iter().zip(trials).zip(outs) {
                prop_assert!(!one.trial_due(out - NANOSECOND), "not before its time");
                prop_assert_eq!(one.trial_due(out), one.is_ejected() && !trial, "but then");
            }
        }
        for (one, out) in targets.iter_mut().zip(outs) {
            one.end_trial();
            if one.begin_trial(out, Duration::ZERO) {
                one.record(&settings, true, true, out, false);
            }
            prop_assert!(!one.is_ejected());
        }
    }
}
