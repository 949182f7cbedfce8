//! The tables of keys as a JSON Schema (draft 2020-12), with which editors complete and check a
//! configuration as it is written.

use serde_json::{Map, Value, json};

use super::keys::{Default, Key, Kind, LONGEST, Table};
use super::tables;

/// The schema, indented.
#[must_use]
pub fn schema() -> String {
    let mut tables = tables::all().into_iter();
    let mut root = Map::new();
    let draft = "https://json-schema.org/draft/2020-12/schema";
    root.insert("$schema".to_owned(), json!(draft));
    root.insert("title".to_owned(), json!("asgi-relay gateway"));
    if let Some((gateway, _)) = tables.next()
        && let Value::Object(gateway) = table(gateway)
    {
        root.extend(gateway);
    }
    let mut definitions = Map::new();
    // What the gateway fills in may stand for any value that is not text.
    definitions.insert(
        "variable".to_owned(),
        json!({
            "type": "string",
            "description": "filled in from the environment",
            "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
        }),
    );
    for (inner, _) in tables {
        definitions.insert(inner.name.to_owned(), table(inner));
    }
    root.insert("$defs".to_owned(), Value::Object(definitions));
    format!("{:#}\n", Value::Object(root))
}

fn table(table: &'static Table) -> Value {
    let mut properties = Map::new();
    for key in table.keys() {
        properties.insert(key.name.to_owned(), property(key));
    }
    json!({
        "description": table.about,
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let about = json!(key.about);
    let mut property = Map::new();
    match key.kind {
        Kind::Refused(_) => return json!(false),
        Kind::Ignored(why) => {
            property.insert("description".to_owned(), json!(format!("ignored: {why}")));
            property.insert("deprecated".to_owned(), json!(true));
            return Value::Object(property);
        }
        _ => {}
    }
    property.insert("description".to_owned(), about);
    match kind(&key.kind) {
        Value::Object(kind) => property.extend(kind),
        other => {
            property.insert("anyOf".to_owned(), json!([other]));
        }
    }
    if let Some(default) = default(&key.default) {
        property.insert("default".to_owned(), default);
    }
    Value::Object(property)
}

fn kind(of: &Kind) -> Value {
    let or_variable = |value: Value| json!({"anyOf": [value, {"$ref": "#/$defs/variable"}]});
    match of {
        Kind::Null => json!({"type": "null"}),
        Kind::Flag => or_variable(json!({"type": "boolean"})),
        Kind::Text(_) | Kind::Secret(_) | Kind::Path(_) => json!({"type": "string"}),
        Kind::Choice(words) => or_variable(json!({"enum": words})),
        Kind::Whole(least, u64::MAX) => or_variable(json!({"type": "integer", "minimum": least})),
        Kind::Whole(least, most) => {
            or_variable(json!({"type": "integer", "minimum": least, "maximum": most}))
        }
        Kind::Number(least, most) => {
            or_variable(json!({"type": "number", "minimum": least, "maximum": most}))
        }
        Kind::Seconds => kind(&Kind::Number(0.0, LONGEST)),
        Kind::SomeSeconds => kind(&Kind::Positive(LONGEST)),
        Kind::Positive(most) => {
            or_variable(json!({"type": "number", "exclusiveMinimum": 0, "maximum": most}))
        }
        Kind::List(each) => json!({"type": ["array", "null"], "items": kind(each)}),
        Kind::Table(table) => json!({"$ref": format!("#/$defs/{}", table.name)}),
        Kind::Headers => json!({
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
        }),
        Kind::Any(kinds) => json!({"anyOf": kinds.iter().map(kind).collect::<Vec<_>>()}),
        Kind::Ignored(_) => json!(true),
        Kind::Refused(_) => json!(false),
    }
}

/// The default, where it is one value.
pub(super) fn default(default: &Default) -> Option<Value> {
    match default {
        Default::Absent | Default::Empty => None,
        Default::Null => Some(Value::Null),
        Default::Flag(flag) => Some(json!(flag)),
        Default::Whole(number) => Some(json!(number)),
        // Whole seconds without a point, as people write them.
        Default::Number(number) if number.fract() == 0.0 => Some(json!(
            std::time::Duration::try_from_secs_f64(*number)
                .ok()?
                .as_secs()
        )),
        Default::Number(number) => Some(json!(number)),
        Default::Text(text) => Some(json!(text)),
        Default::Texts(texts) => Some(json!(texts)),
        Default::Wholes(numbers) => Some(json!(numbers)),
    }
}
