//! Taking turns: plain and by weight. Both know targets by their keys when the set changes.

use std::collections::{HashMap, VecDeque};

/// A queue of targets: the first usable one is next and goes to the end.
///
/// An unusable one keeps its place instead of passing its turn to the one behind it, which then
/// is no more often next than the others; when it is back, it gets one turn and not all it has
/// missed. Costs a step for each unusable one that waits at the front.
#[derive(Debug, Default)]
pub struct Turns {
    keys: Vec<String>,
    queue: VecDeque<usize>,
}

impl Turns {
    /// A new set. Those that stay keep their order; new ones are next.
    pub fn rebuild<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        let indices = by_key(&keys);
        let mut new = vec![true; keys.len()];
        let mut queue = VecDeque::with_capacity(keys.len());
        for old in &self.queue {
            let index = self.keys.get(*old).and_then(|key| indices.get(&**key));
            if let Some(index) = index
                && let Some(new) = new.get_mut(*index)
                && std::mem::take(new)
            {
                queue.push_back(*index);
            }
        }
        for (index, _) in new.iter().enumerate().rev().filter(|(_, new)| **new) {
            queue.push_front(index);
        }
        self.queue = queue;
        self.keys = keys;
    }

    /// The next one that is usable.
    pub fn next(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let place = self.queue.iter().position(|index| usable(*index))?;
        let index = self.queue.remove(place)?;
        self.queue.push_back(index);
        Some(index)
    }
}

/// Turns in proportion to weights, mixed as evenly as they can be.
///
/// Each usable target earns its weight at each choice. The one with the most is chosen and pays
/// what all of them have earned. So a heavy one does not get its turns in a row, and what an
/// unusable one has earned stays as it is until it is back. Credits are bounded by the sum of the
/// weights, times the number of targets.
#[derive(Debug, Default)]
pub struct Smooth {
    keys: Vec<String>,
    credits: Vec<i64>,
}

impl Smooth {
    /// A new set. Those that stay keep their credit; new ones start without.
    pub fn rebuild<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        let old = by_key(&self.keys);
        let credit = |key: &String| {
            let old = old.get(&**key)?;
            self.credits.get(*old).copied()
        };
        let credits = keys.iter().map(|key| credit(key).unwrap_or(0)).collect();
        self.credits = credits;
        self.keys = keys;
    }

    /// The next one of those for which `share` gives a weight.
    pub fn next(&mut self, share: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        let mut earned = 0_i64;
        let mut best: Option<(usize, &mut i64)> = None;
        for (index, credit) in self.credits.iter_mut().enumerate() {
            let Some(weight) = share(index) else { continue };
            let weight = i64::from(weight);
            earned = earned.saturating_add(weight);
            *credit = credit.saturating_add(weight);
            if best.as_ref().is_none_or(|(_, most)| *credit > **most) {
                best = Some((index, credit));
            }
        }
        let (index, credit) = best?;
        *credit = credit.saturating_sub(earned);
        Some(index)
    }
}

fn by_key(keys: &[String]) -> HashMap<&str, usize> {
    let numbered = keys.iter().enumerate();
    numbered.map(|(index, key)| (&**key, index)).collect()
}
