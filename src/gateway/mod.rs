//! The standalone gateway: a listener of its own around the engine, without Python.
#![forbid(unsafe_code)]

pub mod config;
