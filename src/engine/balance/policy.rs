//! Which target gets a request: the policies, and what they keep between two choices. Whether a
//! target may be chosen at all is the caller's to say.

use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::draws::{Draws, least};
use super::ring::{Bound, Ring};
use super::turns::{Smooth, Turns};

/// How a target is chosen among the usable ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// One after the other; weights count for nothing, except 0.
    RoundRobin,
    /// In turn, as often as the weights say, evenly mixed.
    WeightedRoundRobin,
    /// By chance, in proportion to the weights.
    Random,
    /// Of two drawn by weight, the one with fewer requests in flight for its weight.
    PowerOfTwo,
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// Of two drawn by weight, the one with the lower latency cost for its weight; of up to
    /// [`FEW`] usable ones the best of all.
    LeastLatency,
    /// The one that a key's hash leads to, as long as its load is within bounds.
    ConsistentHash,
}

/// Up to this many usable targets are all compared by [`Policy::LeastLatency`].
pub const FEW: usize = 4;

impl Policy {
    /// Those that have nothing to configure, and so a name is enough.
    pub const NAMED: [Self; 6] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::Random,
        Self::PowerOfTwo,
        Self::LeastConnections,
        Self::LeastLatency,
    ];

    /// Its name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::Random => "random",
            Self::PowerOfTwo => "p2c",
            Self::LeastConnections => "least_connections",
            Self::LeastLatency => "least_latency",
            Self::ConsistentHash => "consistent_hash",
        }
    }

    /// The one of [`Policy::NAMED`] with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|policy| policy.name() == name)
    }
}

/// What a policy wants to know about a target.
pub trait Candidate {
    /// What makes it the same target when the set has changed.
    fn key(&self) -> &str;
    /// Its share beside the others'; 0 is never chosen.
    fn weight(&self) -> u32;
    /// Requests that it has not answered to the end.
    fn in_flight(&self) -> usize;
    /// What one more request may cost there, see [`Latency::cost`](super::latency::Latency::cost).
    fn cost(&self, now: Instant) -> f64;
}

/// A policy at work on one set of targets.
#[derive(Debug)]
pub struct Chooser {
    policy: Policy,
    random: Rng,
    memory: Memory,
}

/// What the policies keep about the set, each its own.
#[derive(Debug)]
enum Memory {
    Nothing,
    Turns(Turns),
    Smooth(Smooth),
    Draws(Draws),
    Ring(Ring, Draws),
}

impl Chooser {
    /// A policy without targets. The same seed and the same questions give the same choices;
    /// without a seed it is another one each time.
    #[must_use]
    pub fn new(policy: Policy, seed: Option<u64>) -> Self {
        Self {
            policy,
            random: seed.map_or_else(Rng::new, Rng::with_seed),
            memory: match policy {
                Policy::RoundRobin => Memory::Turns(Turns::default()),
                Policy::WeightedRoundRobin => Memory::Smooth(Smooth::default()),
                Policy::Random | Policy::PowerOfTwo | Policy::LeastLatency => {
                    Memory::Draws(Draws::default())
                }
                Policy::LeastConnections => Memory::Nothing,
                Policy::ConsistentHash => Memory::Ring(Ring::default(), Draws::default()),
            },
        }
    }

    /// Makes the choices other ones than those of a copy of this process.
    pub fn reseed(&mut self) {
        self.random = Rng::new();
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Takes in a set, at the start and whenever a target comes, goes or changes its weight.
    /// Whose turn it is stays as it was for those that stay.
    pub fn rebuild<C: Candidate>(&mut self, targets: &[Arc<C>]) {
        let keys = || targets.iter().map(|target| target.key());
        let weights = || targets.iter().map(|target| target.weight());
        match &mut self.memory {
            Memory::Nothing => {}
            Memory::Turns(turns) => turns.rebuild(keys()),
            Memory::Smooth(smooth) => smooth.rebuild(keys()),
            Memory::Draws(draws) => *draws = Draws::new(weights()),
            Memory::Ring(ring, draws) => {
                *ring = Ring::new(keys().zip(weights()));
                *draws = Draws::new(weights());
            }
        }
    }

    /// The index of the target that gets the next request: one that is `usable` and whose weight
    /// is not 0, or `None` where there is none. `targets` is the set of the last
    /// [`rebuild`](Self::rebuild); `hash` is that of the request's key, where it has one. Nothing
    /// is allocated.
    pub fn choose<C: Candidate>(
        &mut self,
        targets: &[Arc<C>],
        usable: impl Fn(&C) -> bool,
        hash: Option<u64>,
        now: Instant,
    ) -> Option<usize> {
        // The weight of a target that may be chosen.
        let share = |index: usize| {
            let target = targets.get(index)?;
            let weight = target.weight();
            (weight > 0 && usable(target)).then_some(weight)
        };
        let in_flight = |index: usize| targets.get(index).map_or(0, |target| target.in_flight());
        let busy = |index, weight| in_flight(index) as f64 / f64::from(weight);
        let slow = |index: usize, weight| {
            let cost = targets.get(index).map_or(0.0, |target| target.cost(now));
            cost / f64::from(weight)
        };
        let all = (0..targets.len()).filter_map(|index| Some((index, share(index)?)));
        let random = &mut self.random;
        let found = match &mut self.memory {
            Memory::Turns(turns) => return turns.next(|index| share(index).is_some()),
            Memory::Smooth(smooth) => return smooth.next(share),
            Memory::Nothing => least(all, busy, random),
            Memory::Draws(draws) => match self.policy {
                Policy::PowerOfTwo => draws.better_of_two(random, share, busy),
                Policy::LeastLatency => match few(all) {
                    Some(few) => least(few.into_iter().flatten(), slow, random),
                    None => draws.better_of_two(random, share, slow),
                },
                _ => draws.draw(random, share),
            },
            Memory::Ring(ring, draws) => match hash {
                Some(hash) => {
                    let bound = Bound::new(all.map(|(index, weight)| (in_flight(index), weight)));
                    return bound.choose(ring.walk(hash), share, in_flight);
                }
                None => draws.draw(random, share),
            },
        };
        found.map(|(index, _)| index)
    }
}

/// All of them, where there are no more than [`FEW`].
fn few(all: impl Iterator<Item = (usize, u32)>) -> Option<[Option<(usize, u32)>; FEW]> {
    let mut found = [None; FEW];
    let mut places = found.iter_mut();
    for target in all {
        *places.next()? = Some(target);
    }
    Some(found)
}
