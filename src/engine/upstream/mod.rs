//! The way to an upstream: connecting, keeping connections, sending one request over one.

pub mod connect;
pub mod dial;
pub mod failure;
mod hold;
pub mod idle;
pub mod lease;
pub mod memory;
pub mod multiplex;
pub mod pem;
pub mod pool;
pub mod rest;
pub mod sender;
pub mod socket;
pub mod tls;
