//! Text inside a frame that is read in place.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The text in a JSON value, if that is a string.
pub fn json_text(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get().strip_prefix('"')?.strip_suffix('"')?;
    match raw.contains('\\') {
        false => Some(Cow::Borrowed(raw)),
        true => serde_json::from_str(value.get()).ok().map(Cow::Owned),
    }
}
