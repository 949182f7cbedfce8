//! Sets and drops the Domain of any Set-Cookie line.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/engine/invariants.rs"]
mod invariants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (line, domain) = input;
    invariants::cookie_rewrite(line, domain);
});
