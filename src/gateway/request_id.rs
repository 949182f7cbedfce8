//! Names for requests that have none.

use bytes::Bytes;
use http::HeaderValue;

const DIGITS: [u8; 16] = *b"0123456789abcdef";

/// A name that no other request has: 128 bits by chance, in hexadecimal digits.
#[must_use]
pub fn new() -> HeaderValue {
    let mut text = Vec::with_capacity(32);
    for octet in fastrand::u128(..).to_be_bytes() {
        for digit in [octet >> 4, octet & 0xF] {
            text.push(DIGITS.get(usize::from(digit)).copied().unwrap_or(b'-'));
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("-"))
}
