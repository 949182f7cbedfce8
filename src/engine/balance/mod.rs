//! Several upstreams: which of them gets a request, and which are fit to get one. Pure: time is
//! passed in, and nothing here waits or connects.

pub mod draws;
pub mod ejection;
pub mod latency;
pub mod policy;
pub mod probing;
pub mod ring;
pub mod turns;
