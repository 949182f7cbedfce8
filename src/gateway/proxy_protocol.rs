//! The PROXY protocol, versions 1 and 2: the client's address, told by a proxy in front before the
//! first octet of what the client says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How a header of version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Octets of a version 1 header at most, line end included.
const MAX_LINE: usize = 107;

/// Octets that a version 2 header may announce behind its first 16: addresses and extras.
const MAX_EXTRAS: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The client's address.
    Client(IpAddr),
    /// The proxy speaks for itself, or of no address: the peer is who it is.
    Local,
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

/// Reads a header, and not an octet more.
///
/// # Errors
/// Where there is none, or the connection ends.
pub async fn read<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Header> {
    let mut start = [0; 12];
    // The shortest line of version 1 is "PROXY UNKNOWN\r\n", longer than this.
    io.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(io).await;
    }
    let mut line = start.to_vec();
    if !line.starts_with(b"PROXY ") || line.contains(&b'\n') {
        return Err(malformed());
    }
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(malformed());
        }
        line.push(io.read_u8().await?);
    }
    parse_line(&line).ok_or_else(malformed)
}

fn parse_line(line: &[u8]) -> Option<Header> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ').skip(1);
    match words.next()? {
        "UNKNOWN" => Some(Header::Local),
        "TCP4" => addresses::<Ipv4Addr>(words),
        "TCP6" => addresses::<Ipv6Addr>(words),
        _ => None,
    }
}

/// The client's address, where both are of one family, and two ports and nothing else follow.
fn addresses<'a, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Option<Header> {
    let client: A = words.next()?.parse().ok()?;
    let _server: A = words.next()?.parse().ok()?;
    for port in [words.next()?, words.next()?] {
        // Rust would read a sign, too.
        let digits = port.bytes().all(|octet| octet.is_ascii_digit());
        let _: u16 = digits.then(|| port.parse().ok())??;
    }
    words
        .next()
        .is_none()
        .then_some(Header::Client(client.into()))
}

async fn read_binary<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Header> {
    let version_and_command = io.read_u8().await?;
    let family = io.read_u8().await?;
    let length = usize::from(io.read_u16().await?);
    if version_and_command >> 4 != 2 || length > MAX_EXTRAS {
        return Err(malformed());
    }
    let mut rest = vec![0; length];
    io.read_exact(&mut rest).await?;
    match version_and_command & 0xF {
        0 => return Ok(Header::Local),
        1 => {}
        _ => return Err(malformed()),
    }
    let first = |count: usize| rest.get(..count).ok_or_else(malformed);
    Ok(match family >> 4 {
        1 => {
            let octets = first(12)?.first_chunk::<4>().copied();
            Header::Client(Ipv4Addr::from(octets.unwrap_or_default()).into())
        }
        2 => {
            let octets = first(36)?.first_chunk::<16>().copied();
            Header::Client(Ipv6Addr::from(octets.unwrap_or_default()).into())
        }
        _ => Header::Local,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn header(octets: &[u8]) -> Option<(Header, usize)> {
        let mut left = octets;
        let header = read(&mut left).await.ok()?;
        Some((header, left.len()))
    }

    #[tokio::test]
    async fn lines_are_read_to_their_end_and_no_further() {
        let client = Header::Client(Ipv4Addr::new(192, 0, 2, 1).into());
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nGET";
        assert_eq!(header(line).await, Some((client, 3)));
        let client = Header::Client(Ipv6Addr::LOCALHOST.into());
        let line = b"PROXY TCP6 ::1 2001:db8::2 5000 80\r\n";
        assert_eq!(header(line).await, Some((client, 0)));
        assert_eq!(header(b"PROXY UNKNOWN\r\n").await, Some((Header::Local, 0)));
        for wrong in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +5000 80\r\n",
            b"PROXY TCP4 2001:db8::1 192.0.2.2 5000 80\r\n",
            b"PROXY TCP4 192.0.2.1 2001:db8::2 5000 80\r\n",
            b"PROXY TCP6 192.0.2.1 2001:db8::2 5000 80\r\n",
            b"PROXY TCP4 example 192.0.2.2 5000 80\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 5000 80\r\n",
            b"PROXY TCP4 192.0.2.1",
            &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
        ] {
            assert_eq!(header(wrong).await, None);
        }
    }

    #[tokio::test]
    async fn binary_headers_are_read_with_their_extras() {
        let build = |command: u8, family: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap_or_default();
            [
                &SIGNATURE[..],
                &[0x20 | command, family],
                &length.to_be_bytes(),
                body,
                b"rest",
            ]
            .concat()
        };
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 0, 80, 3, 0, 0];
        let client = Header::Client(Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(header(&build(1, 0x11, &addresses)).await, Some((client, 4)));
        assert_eq!(
            header(&build(0, 0x11, &addresses)).await,
            Some((Header::Local, 4))
        );
        let six = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat();
        let six = [&six[..], &[0; 4]].concat();
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        assert_eq!(
            header(&build(1, 0x21, &six)).await,
            Some((Header::Client(client.into()), 4))
        );
        assert_eq!(
            header(&build(1, 0x11, addresses.get(..8).unwrap_or_default())).await,
            None
        );
        assert_eq!(header(&build(7, 0x11, &addresses)).await, None);
    }
}
