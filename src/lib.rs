//! The engine of asgi-relay: a reverse proxy for Python's web world.
//!
//! The crate has two halves that import one way, `bridge → engine`:
//!
//! * [`engine`] is plain Rust: policy, retries, connection pool, bodies. It never names Python.
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
#![deny(unsafe_code)]

#[cfg(feature = "python")]
mod bridge;
pub mod engine;
pub mod gateway;

#[cfg(feature = "python")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
