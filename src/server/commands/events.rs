//! The events of the server log, by the schema of its lines.

use serde_json::Value;

/// The schema of the lines of the server log, which `docs/logging.md` describes.
const SCHEMA: &str = include_str!("../../../docs/logging.schema.json");
/// The least similarity of a name that is offered in the place of a wrong one.
const MIN_SIMILARITY: f64 = 0.8;

/// Whether the server log has an event of this name.
pub fn is_known(name: &str) -> bool {
    names().iter().any(|event| event == name)
}

/// The event whose name is most similar, if one is similar enough to be meant.
pub fn most_similar(name: &str) -> Option<String> {
    let similarity = |event: &String| strsim::jaro_winkler(event, name);
    let events = names().into_iter().filter(|event| similarity(event) >= MIN_SIMILARITY);
    events.max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
}

fn names() -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the tests read the schema");
    let events = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    events
        .iter()
        .filter_map(|event| event["properties"]["event"]["const"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_gets_the_one_that_was_meant() {
        assert!(is_known("session_opened") && !is_known("sesion_opened"));
        assert_eq!(most_similar("sesion_opened").as_deref(), Some("session_opened"));
        assert_eq!(most_similar("zzz"), None);
    }
}
