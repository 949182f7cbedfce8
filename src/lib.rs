//! The engine of asgi-relay: a reverse proxy for Python's web world.
//!
//! The crate has three rooms that import one way, `bridge → gateway → engine`:
//!
//! * [`engine`] is plain Rust: policy, retries, connection pool, bodies. It never names Python.
//! * [`gateway`] is a server around the engine, plain Rust too: listeners, routes, limits, reloads.
//! * `bridge` (feature `python`) is all the PyO3: it reads ASGI scopes, hands mailboxes to the
//!   event loop and makes Python objects. It holds no policy.
//!
//! One exchange goes through these phases, left to right; a retry goes back to *target*:
//!
//! ```text
//!  event loop's thread       │ engine thread (tokio)                                  │ event loop's thread
//!  scope ─▶ request ─▶ submit ─▶ target ─▶ pool ─▶ connect ─▶ send ─▶ head ─▶ response   │
//!           policy            │   ▲                                    │      policy ──▶ │ mailbox ─▶ pump ─▶ send()
//!           (path, headers,   │   └────────────── retry ◀──────────────┘        body ──▶ │
//!            framing)         │
//! ```
//!
//! A request without a body is submitted as it came: the engine's thread begins with its policy.
//!
//! Through the gateway it is one thread's from end to end, with the same middle:
//!
//! ```text
//!  accept ─▶ TLS ─▶ HTTP ─▶ route ─▶ request ─▶ target ─▶ pool ─▶ … ─▶ head ─▶ response ─▶ write
//!                           limits   policy                                    policy, body
//! ```
#![deny(unsafe_code)]

#[cfg(feature = "python")]
mod bridge;
pub mod engine;
pub mod gateway;
