//! Which route a request finds.

use asgi_relay::gateway::routes::{Found, Routes};
use http::Method;

use crate::config::settings;

/// Routes, each as keys in braces; targets make no difference here.
fn routes(each: &[&str]) -> Routes {
    let mut text = "routes:\n".to_owned();
    for keys in each {
        text.push_str(&format!("- {{targets: 'http://h', {keys}}}\n"));
    }
    Routes::new(&settings(&text).routes)
}

/// The index of the route that is found and what is left of the path, or what else there is to say.
fn found(routes: &Routes, host: &str, path: &str) -> String {
    match routes.find(host.as_bytes(), &Method::GET, path) {
        Found::Route { index, below } => format!("{index} {}", path.get(below..).unwrap_or("?")),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_longest_prefix_wins_on_segment_boundaries() {
    let routes = routes(&["path: /api", "path: /api/v2", "path: /caf%C3%A9"]);
    for (path, expected) in [
        ("/api", "0 "),
        ("/api/", "0 /"),
        ("/api/users", "0 /users"),
        ("/api/v1", "0 /v1"),
        ("/api/v2", "1 "),
        ("/api/v2/users?", "1 /users?"),
        ("/api/v22", "0 /v22"),
        ("/apifoo", "NotFound"),
        ("/Api", "NotFound"),
        ("/", "NotFound"),
        ("", "NotFound"),
        ("*", "NotFound"),
        ("/%61pi/x", "0 /x"),
        ("/caf%c3%a9/x", "2 /x"),
        ("/api//x", "0 //x"),
        ("/api/./x", "0 /./x"),
        ("/api/a/../x", "0 /a/../x"),
        ("/api/.well-known", "0 /.well-known"),
    ] {
        assert_eq!(found(&routes, "h", path), expected, "{path}");
    }
}

#[test]
fn a_path_with_two_readings_is_refused_where_they_lead_to_two_routes() {
    let routes = routes(&["path: /", "path: /api", "path: /api/admin"]);
    for path in [
        "/x/../api/users",
        "/x/%2e%2e/api",
        "/api/x/../admin",
        "/api/x/..%2fadmin",
        "/api/x/..;a=b/admin",
        "//api",
        "/api%2fx/../admin",
        "/api%5Cadmin",
        "/api\\admin",
        "/api;a=b/admin",
        "/./api",
    ] {
        assert_eq!(found(&routes, "h", path), "BadPath", "{path}");
    }
    for path in [
        "/api/../x",
        "/api/%2e%2e/x",
        "/api/admin/../users",
        "/..",
        "/../etc",
        "/api/../../x",
    ] {
        assert_eq!(found(&routes, "h", path), "PathEscape", "{path}");
    }
    for (path, expected) in [
        ("/x/../y", "0 /x/../y"),
        ("/a%2Fb", "0 /a%2Fb"),
        ("/x;a=b", "0 /x;a=b"),
        ("/api/a%2Fb", "1 /a%2Fb"),
        ("/api%2Fadmin", "2 "),
        ("/api/admin/x/..", "2 /x/.."),
        ("/%252e%252e/api", "0 /%252e%252e/api"),
    ] {
        assert_eq!(found(&routes, "h", path), expected, "{path}");
    }
}

#[test]
fn the_most_exact_host_wins_over_the_longest_prefix() {
    let routes = routes(&[
        "path: /deep/path",
        "path: /, hosts: [api.example.org, '[::1]']",
        "path: /, hosts: ['*.example.org']",
        "path: /x, hosts: ['*.eu.example.org']",
    ]);
    for (host, path, expected) in [
        ("api.example.org", "/deep/path", "1 /deep/path"),
        ("API.example.org.:8443", "/", "1 /"),
        ("[0::1]:80", "/", "1 /"),
        ("www.example.org", "/deep/path", "2 /deep/path"),
        ("a.b.example.org", "/", "2 /"),
        ("a.eu.example.org", "/x", "3 "),
        ("a.eu.example.org", "/y", "2 /y"),
        ("example.org", "/deep/path", "0 "),
        ("example.org", "/", "NotFound"),
        ("badexample.org", "/", "NotFound"),
        ("", "/deep/path", "0 "),
        ("[bad", "/deep/path", "0 "),
    ] {
        assert_eq!(found(&routes, host, path), expected, "{host}{path}");
    }
    assert_eq!(found(&routes, &".".repeat(100_000), "/deep/path"), "0 ");
}

#[test]
fn methods_are_looked_at_last() {
    let routes = routes(&[
        "path: /api",
        "path: /api, methods: [POST, PURGE]",
        "path: /api/read, methods: [GET]",
        "path: /api/write, methods: [PUT]",
    ]);
    let find = |method: &[u8], path| routes.find(b"h", &Method::from_bytes(method).unwrap(), path);
    let route = |index, below| Found::Route { index, below };
    assert_eq!(find(b"GET", "/api/x"), route(0, 4));
    assert_eq!(find(b"POST", "/api/x"), route(1, 4));
    assert_eq!(find(b"PURGE", "/api/x"), route(1, 4));
    assert_eq!(find(b"HEAD", "/api/read"), route(2, 9));
    let read = Found::MethodNotAllowed(vec![Method::GET, Method::HEAD]);
    assert_eq!(find(b"POST", "/api/read"), read);
    assert_eq!(
        find(b"GET", "/api/write"),
        Found::MethodNotAllowed(vec![Method::PUT])
    );
    assert_eq!(
        find(b"put", "/api/write"),
        Found::MethodNotAllowed(vec![Method::PUT])
    );
}
