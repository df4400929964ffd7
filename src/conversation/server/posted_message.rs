//! A message as the body of an HTTP request: plain text, or JSON in the shapes that webhooks send.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::request::{RequestError, validate_text};
use super::webhook;
use crate::protocol::frame::ErrorFrame;
use crate::protocol::{ErrorCode, MessageId};

/// The fields that Discord's webhook has beside `content`; they are ignored.
const DISCORD_FIELDS: [&str; 11] = [
    "allowed_mentions",
    "applied_tags",
    "attachments",
    "avatar_url",
    "components",
    "embeds",
    "flags",
    "poll",
    "thread_name",
    "tts",
    "username",
];

/// A message to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostedMessage {
    /// The text: 1 to `limits.message_chars` characters.
    pub text: Box<str>,
    /// The id, if the sender gave one.
    pub id: Option<MessageId>,
    /// Whether the sender speaks Slack's form. Such a sender takes an answer without `"ok":true` for a failure.
    pub is_slack: bool,
}

/// The headers that decide how a body is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyHeaders<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'a str>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<&'a str>,
    /// `X-GitHub-Event`: the body is an event of GitHub, or of Forgejo or Gitea.
    pub github_event: Option<&'a str>,
    /// `X-GitHub-Delivery`: the id of the event, the same when it is delivered again.
    pub github_delivery: Option<&'a str>,
}

/// The media types that a body may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyType {
    /// The whole body is one message.
    Text,
    /// The same, as HTML forms and `curl -d` name it.
    Form,
    /// The body is a JSON object.
    Json,
}

/// What an object says.
struct Said {
    text: String,
    id: Option<MessageId>,
    /// Whether the text was made of several fields. It is cut where it is too long.
    is_made: bool,
    is_slack: bool,
}

impl Said {
    fn made(text: String) -> Said {
        Said { text, id: None, is_made: true, is_slack: false }
    }
}

/// Whether a body with these headers may be as large as what webhooks send around a text.
pub fn is_webhook(headers: BodyHeaders) -> bool {
    headers.github_event.is_some() || body_type(headers.content_type) == Ok(BodyType::Json)
}

/// Reads a body.
pub fn read(
    headers: BodyHeaders,
    body: &[u8],
    max_chars: usize,
) -> Result<PostedMessage, RequestError> {
    let BodyHeaders {
        content_type,
        content_encoding,
        idempotency_key,
        github_event,
        github_delivery,
    } = headers;
    if content_encoding.is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity")) {
        return Err(error(
            ErrorCode::UnsupportedType,
            "the body must be sent without Content-Encoding, not compressed",
        ));
    }
    let key = idempotency_key.or(github_delivery.filter(|_| github_event.is_some()));
    let key = key.map(message_id).transpose()?;
    let body_type = body_type(content_type)?;
    let body = without_mark(body)?;
    let said = match (github_event, body_type) {
        (Some(event), BodyType::Json) => Said::made(webhook::github(event, &object(body)?)),
        (Some(event), BodyType::Form) => {
            Said::made(webhook::github(event, &object(&payload(body)?)?))
        }
        (_, BodyType::Text | BodyType::Form) => {
            let text = validate_text(without_line_end(body).to_vec(), max_chars)?;
            return Ok(PostedMessage { text, id: key, is_slack: false });
        }
        (None, BodyType::Json) => said(&object(body)?)?,
    };
    let Said { text, id, is_made, is_slack } = said;
    let text = if is_made { webhook::cut(text, max_chars) } else { text };
    let text = validate_text(text.into_bytes(), max_chars)?;
    Ok(PostedMessage { text, id: id.or(key), is_slack })
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
        "text/plain" if is_utf8 => Ok(BodyType::Text),
        "application/x-www-form-urlencoded" if is_utf8 => Ok(BodyType::Form),
        "application/json" if is_utf8 => Ok(BodyType::Json),
        _ => Err(error(
            ErrorCode::UnsupportedType,
            "the body must be text/plain or application/json, in UTF-8",
        )),
    }
}

/// Without the byte order mark that some editors put at the start of a file.
fn without_mark(body: &[u8]) -> Result<&[u8], RequestError> {
    match body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff") {
        true => Err(error(
            ErrorCode::NotUtf8,
            "the body is UTF-16; convert it to UTF-8, as by iconv -f UTF-16 -t UTF-8",
        )),
        false => Ok(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)),
    }
}

/// Without the line end that a shell or an editor puts at the end of a file.
fn without_line_end(body: &[u8]) -> &[u8] {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    body.strip_suffix(b"\r").unwrap_or(body)
}

/// The JSON in the field `payload` of a form, which is how GitHub sends an event unless its webhook is set
/// to JSON.
fn payload(body: &[u8]) -> Result<Cow<'_, [u8]>, RequestError> {
    let fields = body.split(|byte| *byte == b'&');
    let value =
        fields.filter_map(|field| field.strip_prefix(b"payload=")).next().ok_or_else(|| {
            error(
                ErrorCode::BadFrame,
                "the form has no payload; set the webhook to application/json",
            )
        })?;
    let spaced: Vec<u8> =
        value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Ok(percent_decode(&spaced).collect::<Vec<u8>>().into())
}

fn object(body: &[u8]) -> Result<Map<String, Value>, RequestError> {
    if std::str::from_utf8(body).is_err() {
        return Err(error(ErrorCode::NotUtf8, "the body is not UTF-8"));
    }
    serde_json::from_slice(body).map_err(|reason| {
        let place = (reason.line(), reason.column());
        match reason.is_data() {
            true => error(ErrorCode::BadJson, "the body is not a JSON object"),
            false => error(
                ErrorCode::BadJson,
                format!("the body is not JSON (line {}, column {})", place.0, place.1),
            ),
        }
    })
}

/// Reads an object: our own shape, Discord's, Slack's, Grafana's or Alertmanager's.
fn said(object: &Map<String, Value>) -> Result<Said, RequestError> {
    if let Some(text) = webhook::discord(object) {
        return Ok(Said::made(text));
    }
    if object.contains_key("content") {
        return own(object);
    }
    if let Some(text) = webhook::slack(object) {
        return Ok(Said { is_slack: true, ..Said::made(text) });
    }
    if let Some(text) = object.get("text") {
        let text = string("text", text)?;
        return Ok(Said { text, id: None, is_made: false, is_slack: true });
    }
    if let Some(text) = object.get("message") {
        // Grafana makes the text of all alerts that it lists beside it.
        let is_made = object.get("alerts").is_some_and(Value::is_array);
        return Ok(Said { is_made, ..Said::made(string("message", text)?) });
    }
    webhook::alertmanager(object).map(Said::made).ok_or_else(|| {
        error(
            ErrorCode::BadFrame,
            "the object has no text: put it into content (or text, or message)",
        )
    })
}

/// Our own shape. A webhook sends many other fields; here one is a mistake.
fn own(object: &Map<String, Value>) -> Result<Said, RequestError> {
    let known = |key: &str| ["content", "id"].contains(&key) || DISCORD_FIELDS.contains(&key);
    if let Some(unknown) = object.keys().find(|key| !known(key)) {
        let shown: String = unknown.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(error(
            ErrorCode::BadFrame,
            format!("unknown field {shown:?}; beside content there may be id"),
        ));
    }
    let text = string("content", &object["content"])?;
    let id = match object.get("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(message_id(id)?),
        Some(_) => return Err(error(ErrorCode::BadId, MessageId::RULE)),
    };
    Ok(Said { text, id, is_made: false, is_slack: false })
}

fn string(field: &str, value: &Value) -> Result<String, RequestError> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| error(ErrorCode::BadFrame, format!("{field} must be a string")))
}

/// The id in `Idempotency-Key`, which some clients put into quotes, or in the body.
fn message_id(text: &str) -> Result<MessageId, RequestError> {
    let text = text.trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    MessageId::parse(bare).ok_or_else(|| error(ErrorCode::BadId, MessageId::RULE))
}

fn error(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> RequestError {
    Box::new(ErrorFrame::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn headers<'a>(content_type: &'a str, key: Option<&'a str>) -> BodyHeaders<'a> {
        let content_type = Some(content_type);
        BodyHeaders { content_type, idempotency_key: key, ..BodyHeaders::default() }
    }

    fn post(content_type: &str, body: &str) -> Result<(String, Option<String>), String> {
        read(headers(content_type, Some("\"key\"")), body.as_bytes(), 10)
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
        let without = read(BodyHeaders::default(), b"hola", 10).unwrap();
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
    fn what_webhooks_send_is_cut_and_what_a_program_says_is_refused() {
        let json = |body: Value, max| {
            let body = body.to_string();
            read(headers("application/json", None), body.as_bytes(), max)
        };
        let alerts = |count| {
            let alert = json!({"status": "firing", "labels": {"alertname": "Down"}});
            json!({"version": "4", "status": "firing", "alerts": vec![alert; count]})
        };
        assert_eq!(&*json(alerts(2), 100).unwrap().text, "[firing] Down\n[firing] Down");
        let long = json(alerts(100), 100).unwrap().text;
        assert!(long.starts_with("[firing] Down\n") && long.contains("\n[cut: "), "{long}");
        let text = "x".repeat(101);
        let grafana = json!({"version": "1", "alerts": [], "message": &text});
        assert!(json(grafana, 100).unwrap().text.len() <= 100);
        assert!(json(json!({"attachments": [{"text": &text}]}), 100).unwrap().is_slack);
        for own in ["content", "text", "message"] {
            let refused = json(json!({own: &text}), 100).unwrap_err();
            assert_eq!(refused.code, "message_too_long", "{own}");
        }
        let discord =
            json(json!({"content": "hola", "username": "bot", "tts": false}), 100).unwrap();
        assert_eq!((&*discord.text, discord.is_slack), ("hola", false));
        assert!(json(json!({"text": "hola"}), 100).unwrap().is_slack);
        let empty = json(json!({"attachments": [{}]}), 100).unwrap_err();
        assert_eq!(empty.code, "empty_message");
    }

    #[test]
    fn an_event_of_github_is_read_in_both_its_types() {
        let event = BodyHeaders {
            content_type: Some("application/json"),
            github_event: Some("issues"),
            github_delivery: Some("72d3162e-cc78-11e3-81ab-4c9367dc0958"),
            ..BodyHeaders::default()
        };
        let body = r#"{"action":"opened","issue":{"number":7,"title":"a+b & c","html_url":"u"}}"#;
        let posted = read(event, body.as_bytes(), 100).unwrap();
        assert_eq!(&*posted.text, "GitHub: somebody opened issue #7 (a+b & c): u");
        assert_eq!(posted.id.as_ref().map(MessageId::as_str), event.github_delivery);
        let encoded = body.replace('+', "%2B").replace('&', "%26").replace(' ', "+");
        let form = BodyHeaders { content_type: Some("application/x-www-form-urlencoded"), ..event };
        let as_form = read(form, format!("payload={encoded}").as_bytes(), 100);
        assert_eq!(as_form, Ok(posted));
        for (headers, body, code) in [
            (form, "hola", "bad_frame"),
            (form, "payload=%ff", "not_utf8"),
            (form, "payload=", "bad_json"),
            (event, "[]", "bad_json"),
            (BodyHeaders { github_delivery: Some(""), ..event }, "{}", "bad_id"),
        ] {
            assert_eq!(read(headers, body.as_bytes(), 100).unwrap_err().code, code, "{body}");
        }
    }

    #[test]
    fn other_bodies_are_refused() {
        for content_type in ["", "image/png", "multipart/form-data", "text/plain; charset=latin1"] {
            assert_eq!(post(content_type, "x"), Err("unsupported_type".into()), "{content_type}");
        }
        let code = |body: &[u8], key| read(headers("text/plain", key), body, 10).unwrap_err().code;
        assert_eq!(code(b"\xff", None), "not_utf8");
        assert_eq!(code(b"", None), "empty_message");
        assert_eq!(code(b"\n", None), "empty_message");
        assert_eq!(code(b"x", Some("")), "bad_id");
        let encoded = BodyHeaders { content_encoding: Some("gzip"), ..BodyHeaders::default() };
        assert_eq!(read(encoded, b"x", 10).unwrap_err().code, "unsupported_type");
        let utf16 = read(BodyHeaders::default(), b"\xff\xfeh\0", 10).unwrap_err();
        assert!(utf16.code == "not_utf8" && utf16.message.contains("UTF-16"), "{utf16:?}");
        assert_eq!(post("text/plain", "\u{feff}a").unwrap().0, "a");
        assert_eq!(post("application/json", "\u{feff}{\"text\":\"a\"}").unwrap().0, "a");
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>, content_type: String, key: String) {
            let _ = read(headers(&content_type, Some(&key)), &body, 100);
            let json = headers("application/json", None);
            let _ = read(json, &body, 100);
            let event = BodyHeaders { github_event: Some(&key), ..json };
            let _ = read(event, &body, 100);
            let form = headers("application/x-www-form-urlencoded", None);
            let _ = read(BodyHeaders { content_type: form.content_type, ..event }, &body, 100);
        }
    }
}
