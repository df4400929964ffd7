//! Holds lines of the server log against docs/logging.schema.json. It knows as much of JSON Schema as that file uses,
//! and `logging::` compares its verdicts with those of a complete implementation.

use std::sync::LazyLock;

use serde_json::Value;

/// The schema of a line.
pub static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logging.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).expect("docs/logging.schema.json")
});

/// The schema of an event.
pub fn event_schema(event: &str) -> Option<&'static Value> {
    let mut events = SCHEMA["oneOf"].as_array().unwrap().iter();
    events.find(|schema| schema["properties"]["event"]["const"] == event)
}

/// What is wrong with the first of these lines that does not fit the schema. Lines of other forms are left out, and so
/// is a last line that a killed server did not finish.
pub fn violation(lines: &[String]) -> Option<String> {
    lines.iter().enumerate().find_map(|(index, line)| {
        // The priority that a line for the journal begins with.
        let line = match line.as_bytes() {
            [b'<', b'0'..=b'7', b'>', ..] => &line[3..],
            _ => line,
        };
        if !line.starts_with('{') {
            return None;
        }
        let error = match serde_json::from_str(line) {
            Ok(value) => check_line(&value).err()?,
            Err(_) if index + 1 == lines.len() => return None,
            Err(error) => error.to_string(),
        };
        Some(format!("docs/logging.schema.json: {error}: {line}"))
    })
}

/// Checks one line.
pub fn check_line(line: &Value) -> Result<(), String> {
    let event = line["event"].as_str().ok_or("no event")?;
    let own = event_schema(event).ok_or_else(|| format!("the event {event} is not listed"))?;
    for (name, value) in line.as_object().unwrap() {
        let schemas = [&SCHEMA["properties"][name], &own["properties"][name]];
        let mut schemas = schemas.into_iter().filter(|schema| !schema.is_null()).peekable();
        schemas.peek().ok_or_else(|| format!("the field {name} of {event} is not listed"))?;
        for schema in schemas {
            check(schema, value).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    let required = [&SCHEMA["required"], &own["required"]].into_iter().filter_map(Value::as_array);
    match required.flatten().find(|name| line.get(name.as_str().unwrap()).is_none()) {
        Some(name) => Err(format!("{event} lacks {name}")),
        None => Ok(()),
    }
}

fn check(schema: &Value, value: &Value) -> Result<(), String> {
    for (keyword, wanted) in schema.as_object().unwrap() {
        let length = || value.as_str().map_or(0, |text| text.chars().count()) as u64;
        let fits = match keyword.as_str() {
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                return check(&SCHEMA["$defs"][name], value);
            }
            "description" => true,
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => match wanted.as_str().unwrap() {
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                other => panic!("the type {other}"),
            },
            "minimum" => value.as_i64().is_none_or(|number| number >= wanted.as_i64().unwrap()),
            "minLength" => length() >= wanted.as_u64().unwrap(),
            "maxLength" => length() <= wanted.as_u64().unwrap(),
            "pattern" => fits_pattern(wanted.as_str().unwrap(), value.as_str().unwrap_or_default()),
            other => panic!("the keyword {other}"),
        };
        if !fits {
            return Err(format!("{value} does not fit {keyword} {wanted}"));
        }
    }
    Ok(())
}

/// The patterns of the schema.
fn fits_pattern(pattern: &str, text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match pattern {
        "^[a-z0-9_]+$" => !text.is_empty() && text.chars().all(word),
        "^[0-9a-f]{16}$" => text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit()),
        _ => {
            assert!(pattern.starts_with("^[0-9]{4}-[0-9]{2}-[0-9]{2}T"), "{pattern}");
            let form: String =
                text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            form == "0000-00-00T00:00:00.000000Z"
        }
    }
}
