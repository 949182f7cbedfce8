//! The schema and the reference say what the parser does.

use std::fs;
use std::path::Path;

use asgi_relay::gateway::config::{reference, schema};
use serde_json::Value;

use super::{loaded, settings};

fn document() -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gateway-configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

const BEGIN: &str = "<!-- the tables below are made from the parser's: UPDATE_GOLDEN=1 cargo test --test gateway -->\n\n";

#[test]
fn the_reference_in_the_documents_is_up_to_date() {
    let (path, text) = document();
    let (before, found) = text.split_once(BEGIN).expect("the place for the reference");
    let expected = reference().trim_end().to_owned() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, format!("{before}{BEGIN}{expected}")).unwrap();
        return;
    }
    assert!(
        found == expected,
        "run UPDATE_GOLDEN=1 cargo test --test gateway reference"
    );
}

#[test]
fn links_of_the_reference_lead_somewhere() {
    let text = reference();
    let anchor = |heading: &str| {
        let letters = heading.to_lowercase().replace(' ', "-");
        letters
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
            .collect::<String>()
    };
    let anchors: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(anchor)
        .collect();
    for link in text
        .split("](#")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        assert!(
            anchors.iter().any(|anchor| anchor == link),
            "{link} in {anchors:?}"
        );
    }
}

#[test]
fn the_examples_in_the_documents_have_no_mistake() {
    let (_, text) = document();
    let examples: Vec<_> = text.split("```yaml\n").skip(1).collect();
    assert!(examples.len() > 2);
    for example in examples {
        let (example, _) = example.split_once("```").unwrap();
        let loaded = loaded(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    }
}

/// What `$ref` leads to, or the schema itself.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let name = reference.strip_prefix("#/$defs/").unwrap();
            root["$defs"]
                .get(name)
                .unwrap_or_else(|| panic!("no {name}"))
        }
        None => schema,
    }
}

/// Whether `schema` lets `value` through, for the keywords that these schemas use.
fn lets_through(root: &Value, schema: &Value, value: &Value) -> bool {
    let schema = match schema {
        Value::Bool(all) => return *all,
        schema => resolved(root, schema),
    };
    schema
        .as_object()
        .unwrap()
        .iter()
        .all(|(keyword, wanted)| match keyword.as_str() {
            "anyOf" => wanted
                .as_array()
                .unwrap()
                .iter()
                .any(|one| lets_through(root, one, value)),
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64(),
                    "number" => value.is_number(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("type {other}"),
                };
                wanted
                    .as_array()
                    .map_or_else(|| is(wanted), |types| types.iter().any(is))
            }
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "exclusiveMinimum" => value
                .as_f64()
                .is_none_or(|number| number > wanted.as_f64().unwrap()),
            "items" => {
                let items = value.as_array();
                items.is_none_or(|items| items.iter().all(|item| lets_through(root, wanted, item)))
            }
            "properties" => value.as_object().is_none_or(|object| {
                object.iter().all(|(key, value)| {
                    wanted
                        .get(key)
                        .is_none_or(|schema| lets_through(root, schema, value))
                })
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let known = schema.get("properties").and_then(Value::as_object);
                object.iter().all(|(key, value)| {
                    known.is_some_and(|known| known.contains_key(key))
                        || lets_through(root, wanted, value)
                })
            }),
            "pattern" => value.as_str().is_none_or(|text| text.contains("${")),
            "description" | "default" | "deprecated" | "$schema" | "$defs" | "title" => true,
            other => panic!("keyword {other}"),
        })
}

#[test]
fn the_schema_agrees_with_the_parser() {
    let root: Value = serde_json::from_str(&schema()).unwrap();
    assert_eq!(
        root["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    for text in [
        r#"{"routes": [{"targets": "http://h"}]}"#,
        r#"{"routes": [{"targets": "http://h", "tiemout": 1}]}"#,
        r#"{"routes": [{"targets": "http://h", "timeout": 1}]}"#,
        r#"{"routes": [{"targets": "http://h", "timeout": null}]}"#,
        r#"{"routes": [{"targets": "http://h", "timeout": {"read": 1, "pool": null}}]}"#,
        r#"{"routes": [{"targets": "http://h", "timeout": {"reed": 1}}]}"#,
        r#"{"routes": [{"targets": "http://h", "timeout": -1}]}"#,
        r#"{"routes": [{"targets": "http://h", "timeout": "1"}]}"#,
        r#"{"routes": [{"targets": "http://h", "timeout": "${T:-1}"}]}"#,
        r#"{"routes": [{"targets": ["http://h", {"url": "http://i", "weight": 3}]}]}"#,
        r#"{"routes": [{"targets": ["http://h", {"url": "http://i", "weight": -3}]}]}"#,
        r#"{"routes": [{"targets": [5]}]}"#,
        r#"{"routes": [{"targets": "http://h", "balance": "random"}]}"#,
        r#"{"routes": [{"targets": "http://h", "balance": "chance"}]}"#,
        r#"{"routes": [{"targets": "http://h", "balance": {"consistent_hash": {"header": "a"}}}]}"#,
        r#"{"routes": [{"targets": "http://h", "transport": "x"}]}"#,
        r#"{"routes": [{"targets": "http://h", "extra_request_headers": {"a": "b"}}]}"#,
        r#"{"routes": [{"targets": "http://h", "extra_request_headers": {"a": 1}}]}"#,
        r#"{"routes": [{"targets": "http://h", "preserve_host": "yes"}]}"#,
        r#"{"routes": [{"targets": "http://h", "preserve_host": true}]}"#,
        r#"{"routes": [{"targets": "http://h", "retry_statuses": [500, 600]}]}"#,
        r#"{"server": {"reverse_proxy": [{"host": "h", "websocket": true}]}}"#,
        r#"{"server": {"reverse_proxy": [{"host": "h", "port": 0}]}}"#,
        r#"{"server": {"reverse_proxy": null}, "routes": [{"targets": "http://h"}], "http": {"a": 1}}"#,
        r#"{"server": {"locations": {}}, "routes": [{"targets": "http://h"}]}"#,
        r#"{"routes": [{"targets": "http://h"}], "admin": null, "access_log": {"format": "json"}}"#,
        r#"{"routes": [{"targets": "http://h"}], "access_log": {"format": "xml"}}"#,
    ] {
        // JSON is YAML, too.
        let value = serde_json::from_str(text).unwrap();
        let parsed = loaded(text);
        assert_eq!(
            lets_through(&root, &root, &value),
            parsed.is_ok(),
            "{text}\n{parsed:?}"
        );
    }
}

#[test]
fn every_default_in_the_schema_may_stand_in_a_file() {
    let root: Value = serde_json::from_str(&schema()).unwrap();
    let tables = root["$defs"].as_object().unwrap().values().chain([&root]);
    let mut seen = 0;
    for table in tables {
        for (name, property) in table
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if let Some(default) = property.get("default") {
                seen += 1;
                assert!(lets_through(&root, property, default), "{name}: {default}");
            }
        }
    }
    assert!(seen > 50, "{seen} defaults");
}

#[test]
fn every_key_of_a_route_may_be_written_with_its_default() {
    let root: Value = serde_json::from_str(&schema()).unwrap();
    let mut text = "routes:\n- targets: http://h\n".to_owned();
    for (name, property) in root["$defs"]["route"]["properties"].as_object().unwrap() {
        // One of these two beside `tls`, which says the same.
        if let Some(default) = property.get("default") {
            text.push_str(&format!("  {name}: {default}\n"));
        }
    }
    let written = format!("{:?}", settings(&text).routes[0]);
    let plain = format!("{:?}", settings("routes:\n- targets: http://h\n").routes[0]);
    assert_eq!(written, plain);
}
