//! The gateway's configuration: a file in YAML, checked as a whole before anything starts.

pub mod network;
pub mod settings;
