//! What PyServe documents of its reverse proxy works as it stands.

use std::fs;
use std::path::Path;

use asgi_relay::gateway::config::Loaded;
use asgi_relay::gateway::config::settings::Bind;

use super::{certificates, loaded};

fn example(name: &str) -> Loaded {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/pyserve");
    let text = fs::read_to_string(folder.join(name)).unwrap();
    loaded(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Each route as its path and target.
fn routes(loaded: &Loaded) -> Vec<String> {
    let routes = loaded.settings.routes.iter();
    routes
        .map(|route| format!("{} {}", route.path, route.targets[0].target))
        .collect()
}

#[test]
fn rules_become_routes_that_strip_their_prefix() {
    let found = example("rules.yaml");
    assert_eq!(
        routes(&found),
        [
            "/api http://localhost:3000",
            "/ws http://localhost:8080",
            "/socket.io https://example.com"
        ]
    );
    assert!(found.settings.routes.iter().all(|route| route.strip_prefix));
    assert!(found.notices.is_empty());
    let listener = &found.settings.server.listeners[0];
    let local = Bind::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 8000,
        nth: 0,
    };
    assert_eq!(listener.bind, local);
    assert!(listener.tls.is_none());
}

#[test]
fn the_old_websocket_key_is_accepted_with_one_notice() {
    let found = example("websocket.yaml");
    assert_eq!(
        routes(&found),
        [
            "/ws/chat http://chat.internal:8080",
            "/ws/notifications http://notifications.internal:8081"
        ]
    );
    assert_eq!(
        found.notices,
        [
            "gateway.yaml:6:18: server.reverse_proxy[0].websocket: every route carries WebSockets, \
          as in PyServe since its removal; it is ignored (and in 1 more place)"
        ]
    );
}

#[test]
fn ssl_holds_for_the_one_listener() {
    let found = example("ssl.yaml");
    let tls = found.settings.server.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates.len(), 1);
    assert_eq!(tls.certificates[0].cert, certificates("cert.pem"));
    assert_eq!(routes(&found), ["/secure https://secure.example.com"]);
    assert_eq!(found.files.len(), 2);
}

#[test]
fn a_rule_has_defaults_for_everything() {
    let found = loaded("server: {reverse_proxy: [{}]}").unwrap();
    assert_eq!(routes(&found), ["/ http://localhost"]);
    let found = loaded("server: {reverse_proxy: [{host: '::1', ssl: true, port: 8443}]}").unwrap();
    assert_eq!(routes(&found), ["/ https://[::1]:8443"]);
}

#[test]
fn a_whole_file_of_pyserves_works_but_for_what_a_gateway_is_not() {
    let found = example("whole.yaml");
    assert_eq!(routes(&found), ["/api http://localhost:3000"]);
    let said = found.notices.join("\n");
    for key in [
        "http",
        "logging",
        "server.backlog",
        "server.redirect_instructions",
    ] {
        assert!(said.contains(&format!(" {key}: ")), "{said}");
    }
    assert_eq!(found.notices.len(), 4);
    assert!(found.settings.server.listeners[0].tls.is_none());
}
