//! What the operating system says, in words.

use std::io;

/// The text of an error, without the number that stands for it.
#[must_use]
pub(super) fn words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        return "the address is in use".to_owned();
    }
    let text = error.to_string();
    let number = error.raw_os_error();
    let number = number.map(|number| format!(" (os error {number})"));
    let plain = number.and_then(|number| text.strip_suffix(&number));
    plain.unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(words(&missing), "No such file or directory");
        let own = io::Error::other("the host has no address");
        assert_eq!(words(&own), "the host has no address");
    }
}
