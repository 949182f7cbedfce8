//! Joins any path and query to any base, and looks for any mount in any scope.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/engine/invariants.rs"]
mod invariants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8], &[u8])| {
    let (base, prefix, path, query) = input;
    invariants::base_url(base);
    invariants::target_join(base, prefix, path, query);
    invariants::target_join("http://h/base", prefix, path, query);
    invariants::mounts(base, path, prefix);
});
