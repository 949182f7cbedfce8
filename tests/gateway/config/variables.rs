//! `${NAME}` in values: text, whatever stands in it.

use std::time::Duration;

use asgi_relay::gateway::config::settings::{Bind, CookieDomain};

use super::{mistakes, route, settings};

#[test]
fn a_variable_is_of_the_kind_that_its_key_wants() {
    let found = settings(
        "server: {port: \"${PORT}\", workers: \"${NULL}\"}\n\
         routes:\n- targets: ${BACKEND}/base\n  preserve_host: ${FLAG}\n  timeout: ${SECONDS:-1.5}\n",
    );
    let Bind::Tcp { port, .. } = found.server.listeners[0].bind else {
        panic!("no TCP");
    };
    assert_eq!((port, found.server.workers), (8443, None));
    let route = &found.routes[0];
    assert_eq!(
        route.targets[0].target.to_string(),
        "http://backend.example:8000/base"
    );
    assert!(route.headers.preserve_host);
    assert_eq!(route.timeouts.read, Some(Duration::from_millis(1500)));
}

#[test]
fn a_value_is_data_and_never_yaml() {
    let keys = "extra_request_headers: {a: 'x ${FLAG}', b: '${PORT}', c: '$${PORT} $5', d: '${EMPTY}'}\n\
                rewrite_set_cookie_domain: '${NULL}'\nsticky: {secret: '${NULL}'}";
    let route = route(keys);
    let value = |name: &str| route.headers.extra_request[name].to_str().unwrap();
    assert_eq!(value("a"), "x true");
    assert_eq!(value("b"), "8443");
    assert_eq!(value("c"), "${PORT} $5");
    assert_eq!(value("d"), "");
    assert_eq!(route.cookie_domain, CookieDomain::Set("null".to_owned()));
    assert_eq!(route.sticky.unwrap().secret.unwrap().0, "null");
    let told = mistakes("routes: [{targets: http://h, hosts: '${YAML}'}]");
    assert!(
        told.contains("routes[0].hosts: found the value of ${YAML}; allowed is a list"),
        "{told}"
    );
}

#[test]
fn a_missing_variable_is_named() {
    let told = mistakes("server: {port: '${GATEWAY_PORT}'}\nroutes: [{targets: http://h}]");
    assert_eq!(
        told,
        "gateway.yaml:1:16: server.port: the environment variable GATEWAY_PORT is not set; \
         ${GATEWAY_PORT:-default} would give it a default"
    );
}
