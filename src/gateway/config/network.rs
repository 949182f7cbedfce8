//! Whose word is taken: networks in CIDR notation (`10.0.0.0/8`, `2001:db8::/32`, or a single
//! address), and Unix sockets.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address and how many of its leading bits count; the others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Peers whose word about their clients is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Where they are.
    pub networks: Vec<Network>,
    /// Those on Unix sockets, too.
    pub unix: bool,
}

impl Trusted {
    /// What one of them may be in a file, where it needs the quotes.
    pub const ITEM: &str = "an address, a network such as 10.0.0.0/8, or \"unix:\"";

    /// Whether there can be any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether a peer at this address is one; one on a Unix socket has none.
    #[must_use]
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        match address {
            None => self.unix,
            Some(address) => self
                .networks
                .iter()
                .any(|network| network.contains(address)),
        }
    }
}

/// Not an address, or not one of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No address in front of the slash, or no number behind it.
    #[error("is no address or network")]
    Malformed,
    /// Bits behind the prefix are set: probably another network is meant.
    #[error("has bits set behind its prefix")]
    HostBits,
}

impl Network {
    /// Whether `address` lies in it. An IPv4 address that is mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && (number(address) ^ number(self.address)) & !host_mask(address, self.bits) == 0
    }
}

/// The address's bits, at the lower end.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The bits behind the prefix.
fn host_mask(address: IpAddr, bits: u8) -> u128 {
    let free = u32::from(width(address).saturating_sub(bits));
    1_u128.checked_shl(free).map_or(u128::MAX, |bit| bit - 1)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
        let bits = match bits {
            None => width(address),
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|&bits| bits <= width(address) && !text.contains('+'))
                .ok_or(NetworkError::Malformed)?,
        };
        if number(address) & host_mask(address, bits) != 0 {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network: Network = network.parse().unwrap_or_else(|_| unreachable!());
        network.contains(address.parse().unwrap_or_else(|_| unreachable!()))
    }

    #[test]
    fn prefixes_are_compared() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
        assert!(!contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "::1"));
    }

    #[test]
    fn the_families_are_kept_apart_but_for_mapped_addresses() {
        assert!(!contains("::/0", "192.0.2.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.1/8",
            "::1/127",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
