//! Sockets, whichever side they connect: whole or as two halves, and when what is written to them
//! leaves.

pub mod outlet;
pub mod round;
pub mod stream;
