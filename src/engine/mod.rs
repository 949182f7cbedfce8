//! The engine: everything between a client's request and an upstream's answer, without Python.
//!
//! Data flows one way: request policy → [`exchange`] (retries) → [`balance`] → [`upstream`] →
//! response policy → [`mailbox`]. Whoever owns the listener (the ASGI bridge, a native server) calls
//! [`relay::Relay::prepare`] and [`relay::Relay::exchange`].
#![forbid(unsafe_code)]

mod attempt;
pub mod balance;
pub mod body;
pub mod config;
pub mod deliver;
pub mod doorbell;
pub mod error;
pub mod exchange;
pub mod io;
pub mod lines;
pub mod mailbox;
pub mod packed;
pub mod patience;
pub mod pieces;
pub mod pipe;
pub mod policy;
pub mod pull;
pub mod relay;
pub mod replay;
pub mod report;
pub mod runtime;
pub mod slots;
pub mod target;
pub mod timer;
mod turning;
pub mod upload;
pub mod upstream;
pub mod websocket;
