//! Every kind of mistake has a file and the text that is said of it. `UPDATE_GOLDEN=1 cargo test`
//! writes these texts; read them before you commit them.

use std::fs;
use std::path::Path;

use super::mistakes;

#[test]
fn each_mistake_is_told_as_it_stands_beside_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/mistakes");
    let mut seen = 0;
    let mut differing = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&file).unwrap();
        let told = mistakes(&text) + "\n";
        assert_ne!(told, "\n", "{} has no mistake", file.display());
        let golden = file.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &told).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if told != expected {
            differing.push(format!("{}\n{told}instead of\n{expected}", file.display()));
        }
    }
    assert!(seen > 20, "{seen} files");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn no_message_holds_a_secret() {
    let secret = "hunter2";
    for text in [
        "routes: [{targets: 'http://user:hunter2@h:99999'}]",
        "routes: [{targets: 'http://user:hunter2@'}]",
        "routes: [{targets: ['http://a:hunter2@h', 'http://b:hunter2@i']}]",
        "routes: [{targets: 'hunter2 hunter2'}]",
        "routes: [{targets: {hunter: hunter2}}]",
        "routes: [{targets: http://h, extra_request_headers: {authorization: [hunter2]}}]",
        "routes: [{targets: http://h, extra_request_headers: {authorization: {hunter2: x}}}]",
        "routes: [{targets: http://h, extra_request_headers: {authorization: \"hunter2\\n\"}}]",
        "routes: [{targets: http://h, extra_request_headers: {'not a name': hunter2}}]",
        "routes: [{targets: http://h, extra_request_headers: hunter2}]",
        "routes: [{targets: http://h, extra_request_headers: {te: hunter2}}]",
        "routes: [{targets: http://h, extra_request_headers: {authorization:Bearer hunter2}}]",
        "routes: [{targets: http://h, sticky: {secret:hunter2}}]",
        "routes: [{targets: http://h, sticky: hunter2}]",
        "routes: [hunter2]",
        "routes: http://user:hunter2@h",
        "routes: [{targets: 'hunter2://h'}]",
        "routes: [{targets: http://h, sticky: {secret: [hunter2]}}]",
        "routes: [{targets: http://h, sticky: {secret: hunter2, name: ' '}}]",
        "routes: [{targets: http://h, health_check: {headers: {a: [hunter2]}}}]",
        "server: {locations: {/admin: {auth: {password: hunter2}}}}",
        "server: {port: \"${SECRET}\"}\nroutes: [{targets: http://h}]",
        "server: {host: \"${SECRET}\"}\nroutes: [{targets: http://h}]",
        "ssl: {enabled: true, cert_file: \"x/${SECRET}\", key_file: y}",
        "routes: [{targets: \"${SECRET}\"}]",
        "routes: [{targets: http://h, path: \"${SECRET}\", hosts: [\"${SECRET}\"]}]",
        "routes: [{targets: http://h, methods: [\"${SECRET}\"], balance: \"${SECRET}\"}]",
        "routes: [{targets: http://h, rate_limit: {rate: 1, key: \"${SECRET}\"}}]",
        "routes: [{targets: http://h, timeout: \"${SECRET}\", verify: \"${SECRET}\"}]",
        "routes: [{targets: http://h, rewrite_set_cookie_domain: \"${SECRET}\"}]",
        "routes: [{targets: http://h, upstream_prefix: \"${SECRET}\"}]",
        "access_log: {path: \"no/${SECRET}\"}\nroutes: [{targets: http://h}]",
        "server: {trusted_proxies: [\"${SECRET}\"]}\nroutes: [{targets: http://h}]",
    ] {
        let told = mistakes(text);
        assert!(!told.is_empty(), "{text}");
        // A key's name is no secret, and one case has it as such.
        let told = told.replace("authorization.hunter2", "");
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn mistakes_are_told_in_order_and_not_without_end() {
    let mut text = "server: {port: x}\nroutes:\n".to_owned();
    for number in 0..30 {
        text.push_str(&format!(
            "- {{targets: http://h, path: /{number}, http2: maybe}}\n"
        ));
    }
    let told = mistakes(&text);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 21);
    assert!(
        lines[0].starts_with("gateway.yaml:1:16: server.port: found"),
        "{told}"
    );
    assert!(lines[1].starts_with("gateway.yaml:3:"), "{told}");
    assert_eq!(lines[20], "gateway.yaml: and 11 more");
}
