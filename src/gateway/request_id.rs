//! Names for requests that have none.

use http::HeaderValue;

/// A name that no other request has: 128 bits by chance, in hexadecimal digits.
#[must_use]
pub fn new() -> HeaderValue {
    let digits = digits(fastrand::u128(..));
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
}

/// Its hexadecimal digits, by arithmetic that the compiler does for all of them at once.
fn digits(number: u128) -> [u8; 32] {
    let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
    let mut digits = [0; 32];
    for (pair, octet) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&[digit(octet >> 4), digit(octet & 15)]);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_hexadecimal_and_all_there() {
        let number = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
        assert_eq!(&digits(number), b"0123456789abcdeffedcba9876543210");
        assert_eq!(digits(0), [b'0'; 32]);
    }
}
