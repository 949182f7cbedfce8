//! Chance in proportion to weights: one draw, the better of two, the least of many.

use fastrand::Rng;

/// Draws that may hit an unusable target before all targets are looked at.
const TRIES: usize = 8;

/// The weights of a set, ready for draws that take logarithmic time.
#[derive(Debug, Default)]
pub struct Draws {
    /// Each target's weight and all those before it.
    sums: Vec<u64>,
}

impl Draws {
    /// For targets with these weights.
    #[must_use]
    pub fn new(weights: impl Iterator<Item = u32>) -> Self {
        let add = |sum: &mut u64, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        };
        Self {
            sums: weights.scan(0, add).collect(),
        }
    }

    /// One of those for which `share` gives a weight, in proportion to it; and that weight.
    ///
    /// Draws until it hits such a one, which keeps the proportions among them; where most are
    /// unusable it looks at all instead.
    pub fn draw(
        &self,
        random: &mut Rng,
        share: impl Fn(usize) -> Option<u32>,
    ) -> Option<(usize, u32)> {
        let total = *self.sums.last().filter(|total| **total > 0)?;
        for _ in 0..TRIES {
            let point = random.u64(..total);
            let index = self.sums.partition_point(|sum| *sum <= point);
            if let Some(weight) = share(index) {
                return Some((index, weight));
            }
        }
        let all = (0..self.sums.len()).filter_map(|index| Some((index, share(index)?)));
        least(all, |_, _| 0.0, random)
    }

    /// Of two distinct ones, drawn as by [`draw`](Self::draw), that with the lower `load`; the
    /// first of them where they are equal, so that weights count also while nothing is loaded.
    pub fn better_of_two(
        &self,
        random: &mut Rng,
        share: impl Fn(usize) -> Option<u32>,
        load: impl Fn(usize, u32) -> f64,
    ) -> Option<(usize, u32)> {
        let (first, weight) = self.draw(random, &share)?;
        let others = |index| if index == first { None } else { share(index) };
        let Some((second, its_weight)) = self.draw(random, others) else {
            return Some((first, weight));
        };
        let better = load(second, its_weight).total_cmp(&load(first, weight));
        Some(if better.is_lt() {
            (second, its_weight)
        } else {
            (first, weight)
        })
    }
}

/// The target with the lowest load, of some given by index and weight; among equals, one of them by
/// chance, in proportion to their weights.
pub fn least(
    targets: impl Iterator<Item = (usize, u32)>,
    load: impl Fn(usize, u32) -> f64,
    random: &mut Rng,
) -> Option<(usize, u32)> {
    let mut best = None;
    let mut lowest = f64::INFINITY;
    // The weights of those that are as good as the best.
    let mut equals = 0;
    for (index, weight) in targets {
        let load = load(index, weight);
        if load > lowest {
            continue;
        }
        if load < lowest {
            equals = 0;
        }
        equals += u64::from(weight);
        if random.u64(..equals) < weight.into() {
            best = Some((index, weight));
            lowest = load;
        }
    }
    best
}
