//! Bodies, headers and queries of HTTP requests: none causes a panic, and what is accepted is within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::server::posted_message::{BodyHeaders, is_webhook, read};
use secure_chat::conversation::server::room_query;

const MAX_CHARS: usize = 200;
const TYPES: [&str; 4] =
    ["text/plain", "application/json", "application/x-www-form-urlencoded", "application/json; charset=utf-8"];
const EVENTS: [&str; 7] = ["push", "pull_request", "issues", "workflow_run", "release", "ping", "other"];

fuzz_target!(|input: (u8, Option<u8>, &str, &str, &str, &[u8])| {
    let (kind, event, content_type, key, query, body) = input;
    let headers = BodyHeaders {
        content_type: Some(TYPES.get(usize::from(kind)).copied().unwrap_or(content_type)),
        content_encoding: None,
        idempotency_key: Some(key).filter(|key| !key.is_empty()),
        github_event: event.map(|event| EVENTS[usize::from(event) % EVENTS.len()]),
        github_delivery: Some(key),
    };
    let _ = is_webhook(headers);
    if let Ok(posted) = read(headers, body, MAX_CHARS) {
        assert!((1..=MAX_CHARS).contains(&posted.text.chars().count()));
        let is_made = headers.github_event.is_some() && headers.content_type != Some("text/plain");
        assert!(!is_made || posted.text.lines().count() <= 2, "a line, and a note: {:?}", posted.text);
        let again = read(headers, body, MAX_CHARS).unwrap();
        assert_eq!(again.text, posted.text, "the same body is the same message");
    }
    let _ = room_query::read_user(query);
    if let Ok(mut read) = room_query::read(query) {
        let _ = read.follow();
        assert!(read.limit.is_none_or(|limit| limit > 0));
        let _ = read.resume(key);
        assert!(read.resume("e/7").is_ok() && read.follow().is_ok(), "an event's id is a place to go on");
    }
});
