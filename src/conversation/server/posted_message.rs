//! A message as the body of an HTTP request: plain text, or JSON in the shapes that webhooks send.

use serde_json::{Map, Value};

use super::request::{RequestError, validate_text};
use crate::protocol::frame::ErrorFrame;
use crate::protocol::{ErrorCode, MessageId};

/// The fields of a JSON body that hold the text, the first that is there: our own, that of Slack's
/// incoming webhooks, that of Grafana's.
const TEXT_FIELDS: [&str; 3] = ["content", "text", "message"];

/// A message to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostedMessage {
    /// The text: 1 to `limits.message_chars` characters.
    pub text: Box<str>,
    /// The id, if the sender gave one.
    pub id: Option<MessageId>,
}

/// The media types that a body may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyType {
    /// The whole body is one message.
    Text,
    /// The body is a JSON object.
    Json,
}

/// Reads a body. `content_type` and `idempotency_key` are the values of the request's headers.
pub fn read(
    content_type: Option<&str>,
    idempotency_key: Option<&str>,
    body: &[u8],
    max_chars: usize,
) -> Result<PostedMessage, RequestError> {
    let key = idempotency_key.map(message_id).transpose()?;
    let (text, id) = match body_type(content_type)? {
        BodyType::Text => (without_line_end(body).to_vec(), None),
        BodyType::Json => read_json(body)?,
    };
    Ok(PostedMessage { text: validate_text(text, max_chars)?, id: id.or(key) })
}

/// Without a type, the body is text. `application/x-www-form-urlencoded` is text too: `curl -d` names
/// it, and sends the text as it is.
fn body_type(content_type: Option<&str>) -> Result<BodyType, RequestError> {
    let value = content_type.unwrap_or("text/plain");
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_utf8 = parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, charset)| {
        let charset = charset.trim().trim_matches('"').to_ascii_lowercase();
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "utf8", "us-ascii"].contains(&charset.as_str())
    });
    match essence.as_str() {
        "text/plain" | "application/x-www-form-urlencoded" if is_utf8 => Ok(BodyType::Text),
        "application/json" if is_utf8 => Ok(BodyType::Json),
        _ => Err(error(
            ErrorCode::UnsupportedType,
            "the body must be text/plain or application/json, in UTF-8",
        )),
    }
}

/// Without the line end that a shell or an editor puts at the end of a file.
fn without_line_end(body: &[u8]) -> &[u8] {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    body.strip_suffix(b"\r").unwrap_or(body)
}

fn read_json(body: &[u8]) -> Result<(Vec<u8>, Option<MessageId>), RequestError> {
    if std::str::from_utf8(body).is_err() {
        return Err(error(ErrorCode::NotUtf8, "the body is not UTF-8"));
    }
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(|reason| {
        let place = (reason.line(), reason.column());
        match reason.is_data() {
            true => error(ErrorCode::BadJson, "the body is not a JSON object"),
            false => error(
                ErrorCode::BadJson,
                format!("the body is not JSON (line {}, column {})", place.0, place.1),
            ),
        }
    })?;
    let Some(field) = TEXT_FIELDS.into_iter().find(|field| object.contains_key(*field)) else {
        return Err(error(
            ErrorCode::BadFrame,
            "the object has no text: put it into content (or text, or message)",
        ));
    };
    // A webhook sends many other fields. In our own shape, one is a mistake.
    if field == "content"
        && let Some(unknown) = object.keys().find(|key| *key != "content" && *key != "id")
    {
        let shown: String = unknown.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(error(
            ErrorCode::BadFrame,
            format!("unknown field {shown:?}; beside content there may be id"),
        ));
    }
    let Some(Value::String(text)) = object.get(field) else {
        return Err(error(ErrorCode::BadFrame, format!("{field} must be a string")));
    };
    let id = match object.get("id").filter(|_| field == "content") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(message_id(id)?),
        Some(_) => return Err(error(ErrorCode::BadId, MessageId::RULE)),
    };
    Ok((text.clone().into_bytes(), id))
}

/// The id in `Idempotency-Key`, which some clients put into quotes, or in the body.
fn message_id(text: &str) -> Result<MessageId, RequestError> {
    let text = text.trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    MessageId::parse(bare).ok_or_else(|| error(ErrorCode::BadId, MessageId::RULE))
}

fn error(code: ErrorCode, message: impl Into<std::borrow::Cow<'static, str>>) -> RequestError {
    Box::new(ErrorFrame::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn post(content_type: &str, body: &str) -> Result<(String, Option<String>), String> {
        read(Some(content_type), Some("\"key\""), body.as_bytes(), 10)
            .map(|posted| (posted.text.into(), posted.id.map(|id| id.to_string())))
            .map_err(|error| error.code.into_owned())
    }

    #[test]
    fn a_text_is_one_message_without_its_last_line_end() {
        let stored = |text: &str| Ok((text.to_owned(), Some("key".to_owned())));
        for content_type in
            ["text/plain", "Text/Plain; charset=UTF-8", "application/x-www-form-urlencoded"]
        {
            assert_eq!(post(content_type, "a+b\nc%20\r\n"), stored("a+b\nc%20"));
        }
        assert_eq!(post("text/plain", "\n\n"), stored("\n"));
        let without = read(None, None, b"hola", 10).unwrap();
        assert_eq!((&*without.text, without.id), ("hola", None));
    }

    #[test]
    fn json_is_read_in_three_shapes() {
        let json = |body: &str| post("application/json", body);
        for (body, text, id) in [
            (r#"{"content":"hola","id":"7"}"#, "hola", "7"),
            (r#"{"content":"hola","id":null}"#, "hola", "key"),
            (r##"{"channel":"#ops","text":"hola","id":7}"##, "hola", "key"),
            (r#"{"status":"firing","message":"hola\n","alerts":[]}"#, "hola\n", "key"),
        ] {
            assert_eq!(json(body), Ok((text.to_owned(), Some(id.to_owned()))), "{body}");
        }
        for (body, code) in [
            ("", "bad_json"),
            ("{", "bad_json"),
            ("[]", "bad_json"),
            ("\"hola\"", "bad_json"),
            ("{}", "bad_frame"),
            (r#"{"content":7}"#, "bad_frame"),
            (r#"{"content":"x","contents":"y"}"#, "bad_frame"),
            (r#"{"content":""}"#, "empty_message"),
            (r#"{"content":"12345678901"}"#, "message_too_long"),
            (r#"{"content":"x","id":""}"#, "bad_id"),
            (r#"{"content":"x","id":7}"#, "bad_id"),
        ] {
            assert_eq!(json(body), Err(code.to_owned()), "{body}");
        }
    }

    #[test]
    fn other_bodies_are_refused() {
        for content_type in ["", "image/png", "multipart/form-data", "text/plain; charset=latin1"] {
            assert_eq!(post(content_type, "x"), Err("unsupported_type".into()), "{content_type}");
        }
        let code = |body: &[u8], key| read(None, key, body, 10).unwrap_err().code;
        assert_eq!(code(b"\xff", None), "not_utf8");
        assert_eq!(code(b"", None), "empty_message");
        assert_eq!(code(b"\n", None), "empty_message");
        assert_eq!(code(b"x", Some("")), "bad_id");
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>, content_type: String, key: String) {
            let _ = read(Some(&content_type), Some(&key), &body, 100);
            let _ = read(Some("application/json"), None, &body, 100);
        }
    }
}
