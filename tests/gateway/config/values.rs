//! What a file says is what the settings hold; what it does not say is what Relay has by default.

use std::sync::Arc;
use std::time::Duration;

use asgi_relay::engine::config::{Limits, Timeouts, WebSockets};
use asgi_relay::engine::error::Kind;
use asgi_relay::engine::upstream::tls::{Identity, Trust};
use asgi_relay::gateway::config::settings::{
    AccessLog, Admin, Balance, Bind, CookieDomain, HashKey, HostPattern, Http2, LogFormat,
    PassiveHealth, RateKey, RateLimit, SameSite, ServerLimits,
};
use asgi_relay::gateway::config::{Overrides, from_target, from_text};
use http::Method;

use super::{certificates, folder, route, settings, variable};

const fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn the_defaults_of_a_server() {
    let found = settings("routes: [{targets: 'http://h'}]");
    let server = &found.server;
    assert_eq!(server.workers, None);
    assert_eq!(server.shutdown_grace, Duration::from_secs(30));
    assert!(server.trusted_proxies.is_empty());
    let limits = ServerLimits {
        header_timeout: seconds(10),
        body_timeout: seconds(30),
        keepalive_timeout: seconds(75),
        max_header_size: 65_536,
        max_headers: 100,
        max_body_size: None,
        max_connections: Some(20_000),
    };
    assert_eq!(server.limits, limits);
    assert!(found.admin.is_none() && found.access_log.is_none());
    assert!(!server.listeners[0].proxy_protocol);
}

#[test]
fn the_defaults_of_a_route_are_those_of_a_relay() {
    let route = route("");
    assert_eq!(
        (route.line, route.path.as_str(), route.strip_prefix),
        (2, "/", true)
    );
    let timeouts = Timeouts {
        connect: seconds(5),
        read: seconds(10),
        write: seconds(10),
        pool: seconds(10),
    };
    assert_eq!(route.timeouts, timeouts);
    let limits = Limits {
        max_connections: Some(100),
        max_keepalive_connections: Some(20),
        keepalive_expiry: seconds(5),
    };
    assert_eq!(route.limits, limits);
    let web_sockets = WebSockets {
        ping_interval: seconds(20),
        ping_timeout: seconds(20),
        idle_timeout: None,
        max_message_size: None,
    };
    assert_eq!(route.web_sockets, web_sockets);
    assert_eq!(route.retry.max_retries, 0);
    assert!((route.retry.backoff_factor - 0.2).abs() < 1e-9);
    assert_eq!(route.retry.statuses, [502, 503, 504]);
    assert_eq!(
        route.retry.kinds,
        [Kind::Connect, Kind::Resolve, Kind::Tls, Kind::ReadTimeout]
    );
    assert!(!route.retry.non_idempotent && !route.follow_redirects);
    assert_eq!(route.retry_budget, Some(0.2));
    assert_eq!(route.credentials.trust(), &Trust::Platform);
    assert_eq!(route.credentials.identity(), None);
    assert_eq!((route.http2, route.balance), (Http2::Auto, Balance::P2c));
    assert_eq!(route.cookie_domain, CookieDomain::Keep);
    assert!(route.headers.extra_request.is_empty() && !route.headers.preserve_host);
    assert!(route.headers.allow_request.is_none());
    let passive = PassiveHealth {
        consecutive_failures: Some(5),
        failure_rate: Some(0.5),
        eject_time: Duration::from_secs(10),
        max_ejected: 0.5,
    };
    assert_eq!(route.passive_health, Some(passive));
    assert!(route.sticky.is_none() && route.rate_limit.is_none());
    assert_eq!(route.queue_timeout, Duration::from_secs(1));
    let target = &route.targets[0];
    assert_eq!((target.weight, target.max_in_flight), (1, None));
    assert!(target.health_check.is_none());
}

#[test]
fn listeners_take_the_place_of_host_and_port() {
    let found = settings(
        "server:\n  listeners:\n  - {port: 80, redirect_https: true}\n  - {unix: relay.sock}\n  \
         - host: '::'\n    port: 443\n    proxy_protocol: true\n    ssl:\n      client_ca_file: ssl/cert.pem\n      \
         certificates:\n      - {cert_file: ssl/cert.pem, key_file: ssl/key.pem}\n\
         admin:\n  port: 0\naccess_log:\n  format: json\n  path: access.log\n\
         routes: [{targets: http://h}]\n",
    );
    let [redirect, unix, secure] = found.server.listeners.as_slice() else {
        panic!("not three listeners");
    };
    assert_eq!(redirect.redirect_https, Some(443));
    assert_eq!(unix.bind, Bind::Unix(folder().join("relay.sock")));
    let all = Bind::Tcp {
        host: "::".to_owned(),
        port: 443,
        nth: 0,
    };
    assert_eq!(secure.bind, all);
    assert!(secure.proxy_protocol);
    let tls = secure.tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].cert, certificates("cert.pem"));
    assert_eq!(tls.client_authorities.as_ref().unwrap().len(), 1);
    let admin = Admin {
        host: "127.0.0.1".to_owned(),
        port: 0,
    };
    assert_eq!(found.admin, Some(admin));
    let log = AccessLog {
        format: LogFormat::Json,
        path: Some(folder().join("access.log")),
    };
    assert_eq!(found.access_log, Some(log));
}

#[test]
fn a_route_says_which_requests_it_is_for() {
    let route = route(
        "path: /caf%C3%A9/\nhosts: [API.Example.org., '*.example.org', '[::1]']\nmethods: [GET, PURGE]\n\
         max_body_size: 10\nrate_limit: {rate: 2.5}\nstrip_prefix: false",
    );
    assert_eq!(route.path, "/café");
    let hosts = [
        HostPattern::Exact("api.example.org".to_owned()),
        HostPattern::Below("example.org".to_owned()),
        HostPattern::Exact("[::1]".to_owned()),
    ];
    assert_eq!(route.hosts, hosts);
    assert_eq!(
        route.methods,
        [Method::GET, Method::from_bytes(b"PURGE").unwrap()]
    );
    assert_eq!(route.max_body_size, Some(10));
    let rate_limit = RateLimit {
        rate: 2.5,
        burst: 3,
        key: RateKey::ClientAddress,
    };
    assert_eq!(route.rate_limit, Some(rate_limit));
    assert!(!route.strip_prefix);
}

#[test]
fn the_servers_body_limit_holds_where_a_route_has_none() {
    let found = settings(
        "server: {limits: {max_body_size: 5}}\nroutes:\n- {targets: http://h}\n\
         - {targets: http://h, path: /a, max_body_size: 9}\n- {targets: http://h, path: /b, max_body_size: null}",
    );
    let limits: Vec<_> = found
        .routes
        .iter()
        .map(|route| route.max_body_size)
        .collect();
    assert_eq!(limits, [Some(5), Some(9), None]);
}

#[test]
fn targets_stand_in_several_forms() {
    let targets = |keys| {
        let route = route(keys);
        let targets = route.targets.iter().map(|target| target.target.to_string());
        targets.collect::<Vec<_>>()
    };
    assert_eq!(targets("targets: https://h/base/"), ["https://h/base"]);
    assert_eq!(
        targets("targets: [http://a, {url: 'http://b:81'}]"),
        ["http://a", "http://b:81"]
    );
    assert_eq!(
        targets("targets: http://a\nupstream_prefix: v2"),
        ["http://a/v2"]
    );
    let socket = targets("unix: app.sock").remove(0);
    assert!(
        socket.starts_with("http+unix://%2F") && socket.ends_with("folder%2Fapp.sock"),
        "{socket}"
    );
    assert_eq!(
        targets("targets: [{unix: /run/a.sock}]"),
        ["http+unix://%2Frun%2Fa.sock"]
    );
    let alias = settings("routes: [{target_base_url: http://h}]");
    assert_eq!(alias.routes[0].targets.len(), 1);
}

#[test]
fn a_target_has_what_the_route_says_unless_it_says_otherwise() {
    let route = route(
        "targets:\n- http://a\n- {url: http://b, weight: 3, max_in_flight: 7, health_check: {path: /up}}\n\
         - {url: http://c, max_in_flight: null, health_check: null}\nmax_in_flight: 5\n\
         health_check: {expected_statuses: [200, 300-302], headers: {a: b}}",
    );
    let [a, b, c] = route.targets.as_slice() else {
        panic!("not three targets");
    };
    assert_eq!((a.weight, b.weight), (1, 3));
    assert_eq!(
        (a.max_in_flight, b.max_in_flight, c.max_in_flight),
        (Some(5), Some(7), None)
    );
    let check = a.health_check.as_ref().unwrap();
    assert_eq!(check.expected_statuses, [200..=200, 300..=302]);
    assert_eq!((check.path.as_str(), check.method.as_str()), ("/", "HEAD"));
    assert_eq!(b.health_check.as_ref().unwrap().path, "/up");
    assert!(c.health_check.is_none());
}

#[test]
fn user_information_becomes_a_header() {
    let user = route("targets: http://us%40er:pass@h\nhealth_check: {}");
    let check = user.targets[0].health_check.as_ref().unwrap();
    assert_eq!(check.headers["authorization"], "Basic dXNAZXI6cGFzcw==");
    assert_eq!(user.targets[0].target.to_string(), "http://h");
    // us@er:pass
    assert_eq!(
        user.headers.extra_request["authorization"],
        "Basic dXNAZXI6cGFzcw=="
    );
    let own = route("targets: http://u:p@h\nextra_request_headers: {authorization: mine}");
    assert_eq!(own.headers.extra_request["authorization"], "mine");
    assert!(!format!("{user:?}{own:?}").contains("mine"));
    assert!(!format!("{user:?}").contains("dXNA"));
}

#[test]
fn timeouts_are_one_number_or_four() {
    let one = route("timeout: 3").timeouts;
    assert_eq!((one.connect, one.pool), (seconds(3), seconds(3)));
    let never = route("timeout: null").timeouts;
    assert_eq!((never.connect, never.read), (None, None));
    let some = route("timeout: {read: null, write: 60}").timeouts;
    assert_eq!(
        (some.connect, some.read, some.write),
        (seconds(5), None, seconds(60))
    );
}

#[test]
fn balancing_and_stickiness() {
    let balance = |keys| route(keys).balance;
    assert_eq!(balance("balance: least_latency"), Balance::LeastLatency);
    let hash = balance("balance: {consistent_hash: {header: X-User}}");
    assert_eq!(
        hash,
        Balance::ConsistentHash(HashKey::Header("x-user".parse().unwrap()))
    );
    let sticky = route("sticky: {secret: s, same_site: strict, max_age: 60}")
        .sticky
        .unwrap();
    assert_eq!((sticky.name.as_str(), sticky.max_age), ("relay", Some(60)));
    assert_eq!((sticky.same_site, sticky.secure), (SameSite::Strict, None));
    assert_eq!(format!("{:?}", sticky.secret), "Some(Secret(***))");
    assert!(route("passive_health: null").passive_health.is_none());
    let key = route("rate_limit: {rate: 1, key: 'header:X-Key'}")
        .rate_limit
        .unwrap()
        .key;
    assert_eq!(key, RateKey::Header("x-key".parse().unwrap()));
}

#[test]
fn cookies_headers_and_tls() {
    let domain = |keys| route(keys).cookie_domain;
    assert_eq!(domain("rewrite_set_cookie_domain: ''"), CookieDomain::Drop);
    let set = CookieDomain::Set("example.org".to_owned());
    assert_eq!(domain("rewrite_set_cookie_domain: example.org"), set);
    let headers = route("allow_request_headers: []\ndrop_response_headers: [Server]").headers;
    assert_eq!(headers.allow_request, Some(Vec::new()));
    assert_eq!(headers.drop_response, ["server"]);
    let trust = |keys: &str| route(keys).credentials.trust().clone();
    assert_eq!(trust("verify: false"), Trust::Anyone);
    let own = Trust::File(folder().join("ssl/cert.pem"));
    assert_eq!(trust("verify: ssl/cert.pem"), own);
    let tls = route(
        "tls: {ca_file: ssl/cert.pem, cert_file: ssl/both.pem, server_name: Api.Example.org}",
    );
    assert_eq!(tls.credentials.trust(), &own);
    assert_eq!(tls.server_name.as_deref(), Some("api.example.org"));
    let identity = tls.credentials.identity().unwrap();
    assert_eq!(identity.key, identity.certificate);
    let pair = route("cert: [ssl/cert.pem, ssl/key.pem]").credentials;
    assert_eq!(pair.identity().unwrap().key, folder().join("ssl/key.pem"));
}

#[test]
fn routes_that_name_the_same_files_share_what_is_read_of_them() {
    let found = settings(
        "routes:\n- {targets: https://h}\n- {path: /a, targets: http://h}\n\
         - {path: /b, targets: https://h, tls: {ca_file: ssl/cert.pem}}\n\
         - {path: /c, targets: https://i, verify: ssl/cert.pem}\n",
    );
    let same = |one: usize, other: usize| {
        let [one, other] = [one, other].map(|index| &found.routes[index].credentials);
        Arc::ptr_eq(one, other)
    };
    assert!(same(0, 1) && same(2, 3) && !same(0, 2));
}

#[test]
fn names_of_several_failures_cover_them() {
    let kinds = |name: &str| {
        route(&format!("retry_exceptions: [{name}]"))
            .retry
            .kinds
            .len()
    };
    assert_eq!(kinds("TLSError"), 1);
    assert_eq!(kinds("TimeoutException"), 4);
    assert_eq!(kinds("TimeoutException, ReadTimeout"), 4);
    assert_eq!(kinds("TransportError"), 11);
}

#[test]
fn aliases_mean_what_they_mean_in_yaml() {
    let found = settings(
        "routes:\n- targets: http://h\n  timeout: &slow {read: 60}\n\
         - targets: http://i\n  path: /i\n  timeout: *slow\n",
    );
    assert_eq!(found.routes[1].timeouts, found.routes[0].timeouts);
}

#[test]
fn the_command_line_wins() {
    let overrides = Overrides {
        host: Some("0.0.0.0".to_owned()),
        port: Some(81),
        target: Some("http://h:9000".to_owned()),
        workers: Some(2),
        certificate: Some(Identity {
            certificate: folder().join("ssl/cert.pem"),
            key: folder().join("ssl/key.pem"),
        }),
    };
    let alone = from_target(&overrides).unwrap().settings;
    let tls = alone.server.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].cert, certificates("cert.pem"));
    let bind = Bind::Tcp {
        host: "0.0.0.0".to_owned(),
        port: 81,
        nth: 0,
    };
    assert_eq!(
        (&alone.server.listeners[0].bind, alone.server.workers),
        (&bind, Some(2))
    );
    let text = "server: {port: 80, reverse_proxy: [{path: /x}]}";
    let both = from_text(text, "f", &folder(), &variable, &overrides)
        .unwrap()
        .settings;
    assert_eq!(both.server.listeners[0].bind, bind);
    assert_eq!(both.routes.len(), 1);
    assert_eq!(
        both.routes[0].targets[0].target.to_string(),
        "http://h:9000"
    );
}

#[test]
fn a_mistake_on_the_command_line_is_told_with_its_option() {
    let missing = |name: &str| folder().join("missing").join(name);
    let wrong = Overrides {
        host: Some("http://h".to_owned()),
        target: Some("$HOME".to_owned()),
        certificate: Some(Identity {
            certificate: missing("cert.pem"),
            key: missing("key.pem"),
        }),
        ..Overrides::default()
    };
    let told = from_target(&wrong).unwrap_err().to_string();
    let options: Vec<_> = told
        .lines()
        .map(|line| line.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(options, ["--host", "--cert", "--key", "--to"], "{told}");
    assert!(!told.contains("HOME"), "{told}");
}
