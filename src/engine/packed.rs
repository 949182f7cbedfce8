//! A client's request on its way to the engine's thread, in one block of memory: there it is read, and
//! what comes of it is taken and given back by one thread.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::lines::LINE;
use super::pieces::{Pieces, pieces};
use super::policy::request::{BadRequest, Connection, Line};
use super::relay::Inbound;

/// Octets that all but the header lines mostly have room in.
const USUAL: usize = 256;

/// A client's request.
#[derive(Debug)]
pub struct Packed {
    /// The method, the path, the query, the client's address, and of each line name and value.
    pieces: Pieces,
    lines: usize,
    given: usize,
    has_client: bool,
    secure: bool,
    multiplexed: bool,
}

impl Packed {
    /// One without header lines, with room for about so many; see [`Inbound`]. Where the connection
    /// has an `origin`, that is lost.
    #[must_use]
    pub fn new(
        method: &str,
        path: &[u8],
        query: &[u8],
        connection: &Connection<'_>,
        lines: usize,
    ) -> Self {
        let mut pieces = Pieces::with_capacity(USUAL + lines * LINE);
        pieces.push(method.as_bytes());
        pieces.push(path);
        pieces.push(query);
        pieces.push(connection.client.unwrap_or_default().as_bytes());
        Self {
            pieces,
            lines: 0,
            given: 0,
            has_client: connection.client.is_some(),
            secure: connection.secure,
            multiplexed: connection.multiplexed,
        }
    }

    /// Adds a header line.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.pieces.push(name);
        self.pieces.push(value);
        self.lines += 1;
    }

    /// Adds a header line that is not the client's; behind all that are.
    pub fn give(&mut self, name: &[u8], value: &[u8]) {
        self.pieces.push(name);
        self.pieces.push(value);
        self.given += 1;
    }

    /// Has it read as what it was made of.
    pub fn read<R>(self, read: impl FnOnce(&Inbound<'_, PackedLine<'_>>) -> R) -> R {
        let block = Bytes::from(self.pieces.into_block());
        let mut pieces = pieces(&block);
        let mut next = || pieces.next().unwrap_or_default();
        let (method, path, query, client) = (next(), next(), next(), next());
        let lines: Vec<_> = (0..self.lines + self.given)
            .map(|_| PackedLine {
                name: next(),
                value: next(),
                block: &block,
            })
            .collect();
        let (headers, given) = lines.split_at(self.lines);
        // Both were text.
        let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
        read(&Inbound {
            method: text(method),
            path,
            query,
            headers,
            given,
            connection: Connection {
                client: self.has_client.then(|| text(client)),
                secure: self.secure,
                multiplexed: self.multiplexed,
                origin: None,
            },
        })
    }
}

/// A header line in a block, which its value goes on keeping.
#[derive(Debug)]
pub struct PackedLine<'a> {
    name: &'a [u8],
    value: &'a [u8],
    block: &'a Bytes,
}

impl Line for PackedLine<'_> {
    fn octets(&self) -> &[u8] {
        self.value
    }

    fn is_named(&self, name: &HeaderName) -> bool {
        (self.name, self.value).is_named(name)
    }

    fn name(&self) -> Result<HeaderName, BadRequest> {
        (self.name, self.value).name()
    }

    fn value(&self) -> Result<HeaderValue, BadRequest> {
        let value = self.block.slice_ref(self.value);
        HeaderValue::from_maybe_shared(value).map_err(|_| BadRequest::Header)
    }
}
