//! Reading a text frame: its `type`, its body, and the errors of both.

use std::borrow::Cow;

use serde::Deserialize;

use crate::protocol::code::ErrorCode;

/// Why a text is not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// [`ErrorCode::BadJson`], [`ErrorCode::BadFrame`] or [`ErrorCode::UnknownType`].
    pub code: ErrorCode,
    /// The reason in words, without any part of the content.
    pub detail: String,
}

const NOT_AN_OBJECT: &str = "the frame is not one JSON object";

/// The `type` of a text frame, if the frame is an object with a readable `type`.
pub fn frame_type(text: &str) -> Option<Cow<'_, str>> {
    type_of(text).ok()
}

/// The `type` of a text frame.
pub(super) fn type_of(text: &str) -> Result<Cow<'_, str>, FrameError> {
    if !is_object(text) {
        return Err(FrameError::new(ErrorCode::BadJson, NOT_AN_OBJECT));
    }
    match serde_json::from_str::<TypeField<'_>>(text) {
        Ok(TypeField { frame_type: Some(frame_type) }) => Ok(frame_type),
        Ok(TypeField { frame_type: None }) => {
            Err(FrameError::new(ErrorCode::BadFrame, "the object has no \"type\""))
        }
        Err(error) if error.is_data() => {
            Err(FrameError::new(ErrorCode::BadFrame, "\"type\" is not one string"))
        }
        Err(_) => Err(FrameError::new(ErrorCode::BadJson, NOT_AN_OBJECT)),
    }
}

/// Whether the text begins like an object. serde also reads a struct from an array; the wire has
/// objects only.
pub(super) fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The fields of a frame whose type is known.
pub(super) fn body<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, FrameError> {
    // Nearly every frame is right. A wrong one is read again, to name the field.
    serde_json::from_str(text).map_err(|error| {
        let detail = match error.classify() {
            serde_json::error::Category::Data => {
                let reader = &mut serde_json::Deserializer::from_str(text);
                let read = serde_path_to_error::deserialize::<_, T>(reader);
                let field = read.err().and_then(|error| field_of(error.path()));
                describe(&error.to_string(), field.as_deref())
            }
            _ => NOT_AN_OBJECT.to_owned(),
        };
        FrameError { code: ErrorCode::BadFrame, detail }
    })
}

/// The field of the frame that a path leads to. What follows may contain names that the sender chose.
fn field_of(path: &serde_path_to_error::Path) -> Option<String> {
    match path.iter().next()? {
        serde_path_to_error::Segment::Map { key } => Some(key.clone()),
        _ => None,
    }
}

/// serde's text names the expected type of this program, and it may quote the value. People get the
/// field and the type of JSON, without the value.
fn describe(error: &str, field: Option<&str>) -> String {
    let problem = error.split(" at line ").next().unwrap_or_default();
    let field = field.map_or("a field".to_owned(), |field| format!("{field:?}"));
    if let Some(missing) = problem.strip_prefix("missing field ") {
        let missing = missing.trim_matches('`');
        let inside = field != "a field" && field != format!("{missing:?}");
        return if inside {
            format!("{field} has no {missing:?}")
        } else {
            format!("the field {missing:?} is missing")
        };
    }
    if let Some(twice) = problem.strip_prefix("duplicate field ") {
        return format!("{:?} is there twice", twice.trim_matches('`'));
    }
    match problem.split_once(", expected ") {
        Some((_, expected)) => {
            format!("{field} has the wrong type: expected {}", in_json(expected))
        }
        None => format!("{field} is not valid"),
    }
}

/// An expected type, in the words of JSON.
fn in_json(expected: &str) -> &'static str {
    let expected = expected.trim_start_matches("a ").trim_start_matches("an ");
    match expected.split(' ').next().unwrap_or_default() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "boolean" => "true or false",
        "struct" | "map" => "an object",
        "sequence" | "tuple" => "an array",
        _ => "a string",
    }
}

impl FrameError {
    fn new(code: ErrorCode, detail: &str) -> Self {
        FrameError { code, detail: detail.to_owned() }
    }

    /// The error for a `type` that this program does not know.
    pub(super) fn unknown_type() -> Self {
        FrameError::new(ErrorCode::UnknownType, "this server does not know that type")
    }
}

/// Only the `type` of an object; every other field is skipped.
#[derive(Deserialize)]
struct TypeField<'a> {
    #[serde(rename = "type", borrow, default)]
    frame_type: Option<Cow<'a, str>>,
}
