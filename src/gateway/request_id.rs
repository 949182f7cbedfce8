//! Names for requests that have none.

use data_encoding::HEXLOWER;
use http::HeaderValue;

/// A name that no other request has: 128 bits by chance, in hexadecimal digits.
#[must_use]
pub fn new() -> HeaderValue {
    let mut digits = [0; 32];
    HEXLOWER.encode_mut(&fastrand::u128(..).to_be_bytes(), &mut digits);
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
}
