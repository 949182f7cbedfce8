//! Things by numbers: a map without hashing. Places are given again once they are free, numbers
//! are not, so that one that is out of date finds nothing.

/// Bits of a number that say which place; those above say how often it had been given before.
const PLACE_BITS: u32 = usize::BITS / 8 * 5;
const PLACE: usize = (1 << PLACE_BITS) - 1;

/// The things, by their numbers.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Slot<T> {
    number: usize,
    thing: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Puts something in; returns its number.
    pub fn insert(&mut self, thing: T) -> usize {
        if let Some(place) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(place)
        {
            slot.number = slot.number.wrapping_add(PLACE + 1);
            slot.thing = Some(thing);
            return slot.number;
        }
        let number = self.slots.len();
        let thing = Some(thing);
        self.slots.push(Slot { number, thing });
        number
    }

    /// Takes out what has this number, if there is something.
    pub fn remove(&mut self, number: usize) -> Option<T> {
        let place = number & PLACE;
        let slot = self.slots.get_mut(place)?;
        let thing = slot.thing.take_if(|_| slot.number == number)?;
        self.free.push(place);
        Some(thing)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// All that is in it.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.thing.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_again_and_numbers_are_not() {
        let mut slots = Slots::default();
        let (a, b) = (slots.insert("a"), slots.insert("b"));
        assert_ne!(a, b);
        assert_eq!((slots.remove(a), slots.remove(a)), (Some("a"), None));
        assert!(!slots.is_empty());
        let c = slots.insert("c");
        assert_eq!(slots.slots.len(), 2);
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [&"c", &"b"]);
        assert_eq!((slots.remove(c), slots.remove(b)), (Some("c"), Some("b")));
        assert!(slots.is_empty());
        assert_eq!(slots.remove(7), None);
    }

    #[test]
    fn numbers_may_run_out_and_begin_anew() {
        let mut slots = Slots::default();
        let first = slots.insert(0);
        slots
            .slots
            .iter_mut()
            .for_each(|slot| slot.number |= !PLACE);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.remove(first | !PLACE), Some(0));
        assert_eq!(slots.insert(1), first);
    }
}
