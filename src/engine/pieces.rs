//! Pieces of octets in one block of memory: what goes from one thread to another as one, and is given
//! back as one.

/// Octets of a length.
const LENGTH: usize = size_of::<usize>();

/// Pieces, each behind its length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces(Vec<u8>);

impl Pieces {
    /// None yet, with room for so many octets, lengths included.
    #[must_use]
    pub fn with_capacity(octets: usize) -> Self {
        Self(Vec::with_capacity(octets))
    }

    /// Adds one.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(&piece.len().to_ne_bytes());
        self.0.extend_from_slice(piece);
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        pieces(&self.0)
    }

    /// The block, to be read with [`pieces`].
    #[must_use]
    pub fn into_block(self) -> Vec<u8> {
        self.0
    }
}

/// The pieces of a block, in order.
pub fn pieces(mut block: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = block.split_first_chunk::<LENGTH>()?;
        let (piece, rest) = rest.split_at_checked(usize::from_ne_bytes(*length))?;
        block = rest;
        Some(piece)
    })
}
