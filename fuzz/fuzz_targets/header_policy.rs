//! Passes any header lines through the request and the response policy.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/engine/invariants.rs"]
mod invariants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(Vec<u8>, Vec<u8>)>, u16, bool)| {
    let (lines, status, multiplexed) = input;
    invariants::header_policy(&lines, multiplexed);
    invariants::response_policy(status, &lines);
});
