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
    serde_json::from_str(text).map_err(|error| {
        let detail = match error.classify() {
            serde_json::error::Category::Data => describe(&error.to_string()),
            _ => NOT_AN_OBJECT.to_owned(),
        };
        FrameError { code: ErrorCode::BadFrame, detail }
    })
}

/// serde's text names the field and the expected type, but it may quote the value: only the part
/// without the value is kept.
fn describe(error: &str) -> String {
    let problem = error.split(" at line ").next().unwrap_or_default();
    match problem.split_once(", expected ") {
        Some((_, expected)) => format!("a field has the wrong type: expected {expected}"),
        None => problem.to_owned(),
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
