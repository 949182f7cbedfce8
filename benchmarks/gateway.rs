//! Starts the gateway in front of an upstream, so that a load generator can be pointed at it.

fn main() {}
