//! Starts the gateway in front of an upstream, so that a load generator can be pointed at it:
//! `cargo bench --bench gateway -- gateway.yaml`, and it serves until its standard input ends.
#![allow(missing_docs)]

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use asgi_relay::gateway::Gateway;
use asgi_relay::gateway::config::{Overrides, load};

#[cfg(not(feature = "python"))]
#[path = "../src/bridge/allocator.rs"]
mod allocator;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    // `cargo bench` adds arguments of its own, and runs this without a file.
    let Some(path) = arguments.find(|argument| !argument.starts_with('-')) else {
        return Ok(());
    };
    #[cfg(not(feature = "python"))]
    asgi_relay::gateway::relief::give_back_with(allocator::give_back);
    let loaded = load(Path::new(&path), &Overrides::default())?;
    let gateway = Gateway::start(loaded.settings)?;
    println!("{}", gateway.addresses().join(" "));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    gateway.drain(Duration::from_secs(1));
    Ok(())
}
