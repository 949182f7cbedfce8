//! The standalone gateway: a listener of its own around the engine, without Python.
//!
//! [`server::Gateway::start`] makes threads, each with its own runtime, listening sockets and
//! relays. A connection goes [`connection`] → [`service`] → the engine; what follows an upgrade
//! goes through a [`tunnel`].
#![forbid(unsafe_code)]

mod accept;
pub mod account;
pub mod admin;
pub mod answer;
pub mod bind;
pub mod client;
mod clock;
pub mod config;
pub mod connection;
pub mod forward;
pub mod gate;
mod heads;
mod host;
pub mod log;
mod lot;
pub mod metrics;
mod passage;
pub mod plan;
pub mod proxy_protocol;
pub mod rate;
pub mod registry;
mod relays;
pub mod relief;
pub mod request_id;
pub mod rewound;
pub mod routes;
mod running;
mod said;
pub mod server;
pub mod service;
mod streams;
pub mod tls;
pub mod trial;
pub mod tunnel;
pub mod upload;
pub mod watch;
mod words;
pub mod worker;

pub use server::{Gateway, Handle, run};
