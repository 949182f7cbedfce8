//! Names for requests that have none.

use data_encoding::HEXLOWER;
use http::HeaderValue;

/// A name that no other request has: 128 bits by chance, in hexadecimal digits.
#[must_use]
pub fn new() -> HeaderValue {
    let digits = digits(fastrand::u128(..));
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
}

/// Its hexadecimal digits.
fn digits(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    HEXLOWER.encode_mut(&number.to_be_bytes(), &mut digits);
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
