//! A request's name, from the client to the last of its upstreams, and in the logs.

use std::fmt;

use data_encoding::HEXLOWER;
use http::HeaderValue;

/// It stays what it was made from, as a header's value that is used twice is copied first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestId {
    /// One that no other request has: 128 bits by chance, in hexadecimal digits.
    Own(u128),
    /// The client's.
    Client(HeaderValue),
}

impl RequestId {
    /// One for a request that has none.
    #[must_use]
    pub fn new() -> Self {
        Self::Own(fastrand::u128(..))
    }

    /// As a header has it.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        match self {
            Self::Own(number) => {
                HeaderValue::from_bytes(&digits(*number)).unwrap_or(HeaderValue::from_static("-"))
            }
            Self::Client(value) => value.clone(),
        }
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own;
        let octets = match self {
            Self::Own(number) => {
                own = digits(*number);
                &own
            }
            Self::Client(value) => value.as_bytes(),
        };
        f.write_str(&String::from_utf8_lossy(octets))
    }
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
        let id = RequestId::Own(number);
        assert_eq!(id.value(), "0123456789abcdeffedcba9876543210");
        assert_eq!(id.to_string(), "0123456789abcdeffedcba9876543210");
        assert_eq!(RequestId::Own(0).value().as_bytes(), [b'0'; 32]);
    }
}
