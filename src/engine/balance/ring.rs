//! Consistent hashing with bounded loads: a key leads to the same target as long as the set is the
//! same, to few others when it changes, and past a target that has more than its share.

/// Points on the ring for each unit of weight.
const POINTS: u64 = 100;
/// Points of all targets together; where that would be fewer than [`POINTS`], they are divided by
/// weight, but each target has one. So there are at most this many and one for each target.
const MOST_POINTS: u64 = 10_000;

/// Where each target's points lie.
#[derive(Debug, Default)]
pub struct Ring {
    /// In order.
    points: Vec<u64>,
    /// Whose the point at the same place is.
    owners: Vec<u32>,
}

impl Ring {
    /// For targets with these keys and weights. The points depend on the keys and not on the order.
    #[must_use]
    pub fn new<'a>(targets: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let total: u64 = targets.clone().map(|(_, weight)| u64::from(weight)).sum();
        let mut points = Vec::new();
        for (index, (key, weight)) in (0..).zip(targets) {
            let seed = hash_of(key.as_bytes());
            let number = number_of_points(weight.into(), total);
            points.extend((1..=number).map(|number| (point(seed, number), index)));
        }
        points.sort_unstable();
        let (points, owners) = points.into_iter().unzip();
        Self { points, owners }
    }

    /// How many points there are.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// The owners of all points, from `hash` on once around; each as often as it has points.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|point| *point < hash);
        let behind = self.owners.iter().skip(start);
        let before = self.owners.iter().take(start);
        behind.chain(before).map(|owner| *owner as usize)
    }
}

fn number_of_points(weight: u64, total: u64) -> u64 {
    if weight == 0 {
        0
    } else if total <= MOST_POINTS / POINTS {
        POINTS * weight
    } else {
        (MOST_POINTS * weight / total).max(1)
    }
}

/// What usable targets have in flight together, which bounds what each of them may have:
/// 1.25 times the average for its weight, rounded up.
#[derive(Debug)]
pub struct Bound {
    in_flight: u128,
    weights: u128,
}

impl Bound {
    /// Of targets with so many requests in flight and these weights.
    #[must_use]
    pub fn new(targets: impl Iterator<Item = (usize, u32)>) -> Self {
        let (in_flight, weights) = targets.fold((0, 0), |(in_flight, weights), (more, weight)| {
            (in_flight + more as u128, weights + u128::from(weight))
        });
        Self { in_flight, weights }
    }

    /// Whether a target stays within the bound with one request more.
    #[must_use]
    pub fn allows(&self, in_flight: usize, weight: u32) -> bool {
        // in_flight + 1 <= ⌈5/4 · (all in flight + 1) · weight / all weights⌉, in whole numbers.
        4 * self.weights * (in_flight as u128) < 5 * (self.in_flight + 1) * u128::from(weight)
    }

    /// The first of `walk` that `share` gives a weight and that is within the bound. There is
    /// always one, unless loads change meanwhile: then it is the first with a weight.
    pub fn choose(
        &self,
        walk: impl Iterator<Item = usize>,
        share: impl Fn(usize) -> Option<u32>,
        in_flight: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        if self.weights == 0 {
            return None;
        }
        let mut first = None;
        for index in walk {
            if let Some(weight) = share(index) {
                if self.allows(in_flight(index), weight) {
                    return Some(index);
                }
                first = first.or(Some(index));
            }
        }
        first
    }
}

/// The hash of a key: FNV-1a of 64 bits, mixed at the end as its upper bits need it.
///
/// Every process has to lead a key to the same target, also one of another build; the hash of the
/// standard library may change with its release. A client that chooses keys for one target's sake
/// meets the bound, so the hash keeps no secret.
#[must_use]
pub fn hash_of(octets: &[u8]) -> u64 {
    mix(octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// A number of the sequence that SplitMix64 makes of a seed.
fn point(seed: u64, number: u64) -> u64 {
    mix(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The last step of SplitMix64: each bit in depends on each bit out.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
