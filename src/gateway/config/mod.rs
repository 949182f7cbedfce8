//! The gateway's configuration: a file in YAML, checked as a whole before anything starts.
//!
//! A file goes through these steps, each of which tells all that is wrong before the next begins:
//! `yaml` makes a tree of it, `check` holds the tree against the `tables` of keys and fills in
//! variables and defaults, `read` makes [`settings`] of what came out.

mod check;
mod environment;
mod keys;
mod load;
mod mistake;
pub mod network;
mod read;
mod reference;
mod scalar;
mod schema;
mod section;
pub mod settings;
mod tables;
mod vault;
mod yaml;

pub use environment::Environment;
pub use load::{Loaded, Overrides, from_target, from_text, load};
pub use mistake::{ConfigError, Place};
pub use reference::reference;
pub use schema::schema;
