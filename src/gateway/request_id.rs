//! Names for requests that have none.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use http::HeaderValue;

/// A name for a request that nobody can guess.
#[must_use]
pub fn new() -> HeaderValue {
    thread_local! {
        static RANDOM: (RandomState, RandomState) = (RandomState::new(), RandomState::new());
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get().wrapping_add(1);
    COUNT.set(count);
    let (high, low) = RANDOM.with(|(a, b)| (a.hash_one(count), b.hash_one(count)));
    let mut text = Vec::with_capacity(32);
    for octet in high.to_be_bytes().into_iter().chain(low.to_be_bytes()) {
        for digit in [octet >> 4, octet & 0xF] {
            text.push(if digit < 10 {
                b'0' + digit
            } else {
                b'a' - 10 + digit
            });
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("-"))
}
