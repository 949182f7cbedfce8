//! The engine's tests, without Python: one binary.
//!
//! `properties` states what holds for any input, with `invariants`, which the fuzz targets share;
//! the other modules drive one part of the engine each, over real sockets where it has any.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod balance_health;
mod balance_latency;
mod balance_policies;
mod balance_properties;
mod balance_ring;
mod balance_simulation;
mod delivery;
mod dial;
mod drain;
mod ejections;
mod errors;
mod exchange;
mod hosts;
mod invariants;
mod mailbox;
mod memory;
mod names;
mod packed;
mod pool;
mod properties;
mod pull;
mod rest;
mod retry;
mod retry_budget;
mod runtime;
mod support;
mod target;
mod targets;
mod tls;
mod upload;
