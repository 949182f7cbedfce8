//! Things by numbers: a map without hashing. Places are given again once they are free, numbers
//! are not, so that one that is out of date finds nothing.

/// Bits of a number that say which place; those above say how often it had been given before.
const PLACE_BITS: u32 = usize::BITS / 8 * 5;
const PLACE: usize = (1 << PLACE_BITS) - 1;

/// The things, by their numbers.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The place that became free last; `PLACE`: there is none.
    free: usize,
    count: usize,
}

#[derive(Debug)]
struct Slot<T> {
    /// Of what is in it. While it is free, it has the place that had been free before in place of
    /// its own.
    number: usize,
    thing: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T> Slots<T> {
    /// None, with room for so many: they move when there are more.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            slots: Vec::with_capacity(capacity),
            free: PLACE,
            count: 0,
        }
    }

    /// Puts something in; returns its number.
    pub fn insert(&mut self, thing: T) -> usize {
        self.count += 1;
        let place = self.free;
        if let Some(slot) = self.slots.get_mut(place) {
            self.free = slot.number & PLACE;
            slot.number = (slot.number | PLACE).wrapping_add(1) | place;
            slot.thing = Some(thing);
            return slot.number;
        }
        let number = self.slots.len();
        let thing = Some(thing);
        self.slots.push(Slot { number, thing });
        number
    }

    /// What has this number, if there is something.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&T> {
        let slot = self.slots.get(number & PLACE)?;
        slot.thing.as_ref().filter(|_| slot.number == number)
    }

    /// Takes out what has this number, if there is something.
    pub fn remove(&mut self, number: usize) -> Option<T> {
        let place = number & PLACE;
        let slot = self.slots.get_mut(place)?;
        let thing = slot.thing.take_if(|_| slot.number == number)?;
        slot.number = number & !PLACE | self.free;
        self.free = place;
        self.count -= 1;
        Some(thing)
    }

    /// How many things are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that is in it.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.numbered().map(|(_, thing)| thing)
    }

    /// All that is in it, with its numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.slots.iter();
        slots.filter_map(|slot| Some((slot.number, slot.thing.as_ref()?)))
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
        assert_eq!(slots.len(), 2);
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

    #[test]
    fn what_became_free_last_is_given_first() {
        let mut slots = Slots::with_capacity(4);
        let numbers: Vec<usize> = (0..4).map(|thing| slots.insert(thing)).collect();
        for (thing, number) in numbers.iter().enumerate() {
            assert_eq!(slots.remove(*number), Some(thing));
        }
        let again: Vec<usize> = (0..5).map(|thing| slots.insert(thing)).collect();
        let places: Vec<usize> = again.iter().map(|number| number & PLACE).collect();
        assert_eq!(places, [3, 2, 1, 0, 4]);
        assert_eq!(slots.len(), 5);
        assert!(numbers.iter().all(|number| slots.remove(*number).is_none()));
    }
}
