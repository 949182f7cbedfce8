//! A key without a value is one that is not there, whatever it would be; `null` is written.

use asgi_relay::gateway::config::schema;
use serde_json::Value;

use super::{loaded, mistakes, settings};

/// A file with `more` in one of its mappings.
fn file(table: &str, more: &str) -> String {
    let more = |name: &str| if name == table { more } else { "" };
    format!(
        "{}server:\n  port: 80\n{}  limits:\n    max_headers: 50\n{}routes:\n- targets: http://h\n{}  \
         timeout:\n    read: 5\n{}",
        more(""),
        more("server"),
        more("server_limits"),
        more("route"),
        more("timeout"),
    )
}

#[test]
fn every_key_without_a_value_is_as_if_it_were_not_there() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut seen = 0;
    for (table, indent) in [
        ("", 0),
        ("server", 2),
        ("server_limits", 4),
        ("route", 2),
        ("timeout", 4),
    ] {
        let plain = format!("{:?}", settings(&file(table, "# nothing\n")));
        let keys = match table {
            "" => &schema["properties"],
            table => &schema["$defs"][table]["properties"],
        };
        for key in keys.as_object().unwrap().keys() {
            let text = file(table, &format!("{}{key}:\n", " ".repeat(indent)));
            // Those that the file has already.
            if !mistakes(&text).contains("stands here again") {
                seen += 1;
                let found = loaded(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
                assert_eq!(format!("{:?}", found.settings), plain, "{text}");
                assert!(found.notices.is_empty(), "{:?}", found.notices);
            }
        }
    }
    assert!(seen > 60, "{seen} keys");
}

#[test]
fn a_route_s_empty_limit_is_the_server_s_and_null_is_none() {
    let limit = |written: &str| {
        let text = format!(
            "server: {{limits: {{max_body_size: 10}}}}\nroutes:\n- targets: http://h\n  max_body_size:{written}\n"
        );
        settings(&text).routes[0].max_body_size
    };
    assert_eq!(limit(""), Some(10));
    assert_eq!(limit(" # 20"), Some(10));
    assert_eq!((limit(" null"), limit(" ~")), (None, None));
    assert_eq!(limit(" 5"), Some(5));
}

#[test]
fn nothing_is_no_item_no_header_and_no_value_of_a_variable() {
    for (text, told) in [
        (
            "routes: [{targets: http://h, methods: [GET, ]}]\nserver: {port: '${EMPTY}'}",
            "server.port: found the value of ${EMPTY}; allowed is a whole number",
        ),
        (
            "routes: [{targets: http://h, max_body_size: '${EMPTY}'}]",
            "max_body_size: found the value of ${EMPTY}; allowed is null, or a whole number",
        ),
        (
            "routes:\n- targets: http://h\n  methods:\n  - GET\n  -\n",
            "methods[1]: found nothing; allowed is a method",
        ),
        (
            "routes:\n- targets: http://h\n  extra_request_headers:\n    x-key:\n",
            "extra_request_headers.x-key: found nothing; allowed is text",
        ),
        (
            "routes:\n- targets: http://h\n  preserve_host: null\n",
            "preserve_host: found null; allowed is true or false",
        ),
        (
            "routes:\n- targets:\n",
            "routes[0]: has no target; name it in targets or unix",
        ),
        (
            "routes:\n- targets: http://h\n  path:\n  path: /a\n",
            "path: stands here again; first on line 3",
        ),
    ] {
        let found = mistakes(text);
        assert!(found.contains(told), "{found}");
    }
}
