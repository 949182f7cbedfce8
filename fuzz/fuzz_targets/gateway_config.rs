//! Reads any text as a gateway's configuration; what is read makes a table of routes.
#![no_main]

use std::env::VarError;
use std::path::Path;

use asgi_relay::gateway::config::{Overrides, from_text};
use asgi_relay::gateway::routes::Routes;
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str)| {
    let (text, host, path) = input;
    // Nothing of the real one, so that a finding is one everywhere.
    let environment = |name: &str| match name {
        "A" => Ok("${B}: [".to_owned()),
        _ => Err(VarError::NotPresent),
    };
    let folder = Path::new("/nonexistent");
    match from_text(text, "f", folder, &environment, &Overrides::default()) {
        Ok(loaded) => {
            let routes = Routes::new(&loaded.settings.routes);
            let _ = routes.find(host.as_bytes(), &Method::GET, path);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
