//! Makes a text safe to show: hides what looks like a secret, and cuts a text that is too long.
//!
//! Error texts and log fields quote texts from elsewhere: an argument, a URL, an answer of a server, a
//! line of a file. [`secrets`] must be applied to such a text before it is shown. It recognises secrets by
//! their form alone, and in doubt hides a part.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The prefix of every access token, by which people and secret scanners recognise one.
pub const ACCESS_TOKEN_PREFIX: &str = "sct_";
/// The longest text that [`secrets`] gives, in bytes.
pub const MAX_SHOWN_BYTES: usize = 4096;

/// Replaces each hidden part.
const HIDDEN: &str = "***";
/// The shortest rest of an access token, after its prefix, that is hidden. A whole one has 43.
const MIN_TOKEN_REST: usize = 8;
/// The first characters of every Fernet token: the version byte and the first zeros of its time.
const FERNET_TOKEN_PREFIX: &str = "gAAAA";
/// The shortest rest of a Fernet token that is hidden.
const MIN_FERNET_REST: usize = 12;
/// The characters of 32 bytes as base64, without the padding: a Fernet key, the at-rest key.
const KEY_CHARS: usize = 43;
/// Names whose value is hidden where `=` or `":` follows.
const SECRET_NAMES: [&str; 7] =
    ["access_token", "access-token", "authtoken", "password", "passwd", "?token", "&token"];

/// The text without secrets, and cut to [`MAX_SHOWN_BYTES`] with a mark that names its full length.
///
/// It hides the user name and password of a URL, the value of `access_token=` and its like,
/// credentials after `Bearer` and `Basic`, access tokens, Fernet tokens, and keys in base64.
pub fn secrets(text: &str) -> Cow<'_, str> {
    let hide_all: [fn(&str) -> Vec<Span>; 5] =
        [url_credentials, named_values, authorization_values, prefixed_tokens, keys];
    let mut masked = Cow::Borrowed(text);
    for find in hide_all {
        let spans = find(&masked);
        if !spans.is_empty() {
            masked = Cow::Owned(hide(&masked, &spans));
        }
    }
    cut(masked)
}

/// Whether the text is an access token, or contains one.
pub fn contains_access_token(text: &str) -> bool {
    !tokens_with_prefix(text, ACCESS_TOKEN_PREFIX, MIN_TOKEN_REST).is_empty()
}

/// A part of a text, in bytes: start and end.
type Span = (usize, usize);

/// Replaces the parts, which are in order. Parts that overlap are one.
fn hide(text: &str, spans: &[Span]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shown_to = 0;
    for &(start, end) in spans {
        if start >= shown_to {
            out.push_str(&text[shown_to..start]);
            out.push_str(HIDDEN);
        }
        shown_to = shown_to.max(end);
    }
    out.push_str(&text[shown_to..]);
    out
}

fn cut(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= MAX_SHOWN_BYTES {
        return text;
    }
    let mark = format!("… [cut: {} bytes]", text.len());
    let mut end = MAX_SHOWN_BYTES - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}{mark}", &text[..end]))
}

/// The parts of the text that have no character for which `is_end` is true.
fn runs(text: &str, is_end: impl Fn(char) -> bool) -> impl Iterator<Item = Span> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let start = position + text[position..].find(|c| !is_end(c))?;
        let end = text[start..].find(&is_end).map_or(text.len(), |length| start + length);
        position = end;
        Some((start, end))
    })
}

/// The user names and passwords of URLs, with a scheme (`wss://bob:secret@host`) and without one.
fn url_credentials(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for (start, end) in runs(text, char::is_whitespace) {
        // Without a scheme, up to the first one.
        let first = text[start..end].find("://").map_or(end, |at| start + at);
        for (from, to) in runs(&text[start..first], |c| "\"'`<>".contains(c)) {
            spans.extend(credentials_without_scheme(&text[start + from..start + to], start + from));
        }
        let last_at = text[start..end].rfind('@').map(|at| start + at);
        let mut position = first;
        while let Some(at) = text[position..end].find("://") {
            position += at + "://".len();
            let Some(at) = user_info_end(text, (position, end), last_at, true) else { continue };
            spans.push((position, at));
            position = at;
        }
    }
    spans
}

fn credentials_without_scheme(run: &str, offset: usize) -> Option<Span> {
    let colon = run.find(':')?;
    let start = run[..colon].rfind(['=', '(', ',', ';', '&', '?']).map_or(0, |at| at + 1);
    let end = user_info_end(run, (start, run.len()), run.rfind('@'), false)?;
    Some((offset + start, offset + end))
}

/// The position of the `@` behind the user name and password with which an address begins.
/// `last_at` is the position of the last `@` in the address.
fn user_info_end(
    text: &str,
    (start, end): Span,
    last_at: Option<usize>,
    has_scheme: bool,
) -> Option<usize> {
    let last_at = last_at.filter(|at| *at >= start)?;
    let address = &text[start..end];
    let authority = &address[..address.find(['/', '?', '#']).unwrap_or(address.len())];
    if let Some(at) = authority.rfind('@') {
        let password = authority[..at].split_once(':').map(|(_, password)| password);
        let has_password = password.is_some_and(|password| !password.is_empty());
        return (has_scheme || has_password).then_some(start + at);
    }
    // A slash begins the path, unless it is in a password that was not percent-encoded. In that case, no
    // port follows the colon.
    let (_, after_colon) = authority.split_once(':')?;
    let is_port = after_colon.bytes().all(|byte| byte.is_ascii_digit());
    (!is_port && !authority.starts_with('[')).then_some(last_at)
}

/// The values behind the names of [`SECRET_NAMES`], as in a query, an environment and JSON.
fn named_values(text: &str) -> Vec<Span> {
    // ASCII letters alone change, so positions stay the same.
    let lower = text.to_ascii_lowercase();
    let mut starts = Vec::new();
    for name in SECRET_NAMES {
        for (at, _) in lower.match_indices(name) {
            let rest = &text[at + name.len()..];
            let value = match rest.strip_prefix('=') {
                Some(value) => Some(value.strip_prefix(['"', '\'']).unwrap_or(value)),
                None => {
                    rest.strip_prefix("\":").and_then(|rest| rest.trim_start().strip_prefix('"'))
                }
            };
            starts.extend(value.map(|value| text.len() - value.len()));
        }
    }
    values_at(text, starts, '&')
}

/// The credentials of an `Authorization` header.
fn authorization_values(text: &str) -> Vec<Span> {
    let lower = text.to_ascii_lowercase();
    let starts_after = |scheme: &str| {
        let after = |(at, _)| {
            let rest = &text[at + scheme.len()..];
            let value = rest.trim_start();
            (value.len() < rest.len()).then(|| text.len() - value.len())
        };
        values_at(text, lower.match_indices(scheme).filter_map(after).collect(), ',')
    };
    let mut spans = starts_after("bearer");
    // "Basic" is a word of sentences as well.
    spans.extend(starts_after("basic").into_iter().filter(|(start, end)| {
        STANDARD.decode(&text[*start..*end]).is_ok_and(|decoded| decoded.contains(&b':'))
    }));
    spans.sort_unstable();
    spans
}

/// The values that start at these positions, without those that are empty, or hidden already.
fn values_at(text: &str, mut starts: Vec<usize>, separator: char) -> Vec<Span> {
    starts.sort_unstable();
    let is_end = |c: char| c.is_whitespace() || "\"'`<>".contains(c) || c == separator;
    let mut spans: Vec<Span> = Vec::new();
    let mut searched_to = 0;
    for start in starts.into_iter().filter(|start| *start < text.len()) {
        if start < searched_to {
            continue;
        }
        let end = text[start..].find(is_end).map_or(text.len(), |length| start + length);
        searched_to = end;
        if start < end && &text[start..end] != HIDDEN {
            spans.push((start, end));
        }
    }
    spans
}

fn prefixed_tokens(text: &str) -> Vec<Span> {
    let mut spans = tokens_with_prefix(text, ACCESS_TOKEN_PREFIX, MIN_TOKEN_REST);
    spans.extend(tokens_with_prefix(text, FERNET_TOKEN_PREFIX, MIN_FERNET_REST));
    spans.sort_unstable();
    spans
}

fn tokens_with_prefix(text: &str, prefix: &str, min_rest: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut position = 0;
    while let Some(at) = text[position..].find(prefix) {
        let start = position + at;
        let rest = start + prefix.len();
        let length = text[rest..].find(|c| !is_base64(c)).unwrap_or(text.len() - rest);
        position = rest + length;
        if length >= min_rest {
            let padding = text[position..].bytes().take_while(|byte| *byte == b'=').count();
            spans.push((start, position + padding));
        }
    }
    spans
}

/// Base64 of at least 32 bytes that ends with `=`: Fernet keys, keys on the wire, the at-rest key.
fn keys(text: &str) -> Vec<Span> {
    runs(text, |c| !is_base64(c))
        .filter(|(start, end)| end - start >= KEY_CHARS && text[*end..].starts_with('='))
        // In `NAME=value` the equals sign is not padding.
        .filter(|(_, end)| !text[end + 1..].starts_with(is_base64))
        .map(|(start, end)| (start, end + 1))
        .collect()
}

/// Whether it is a character of base64 in either alphabet.
fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/-_".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "sct_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
    const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const FERNET: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    #[test]
    fn secrets_are_hidden_and_the_rest_stays() {
        for (text, shown) in [
            ("", ""),
            ("error: the port is 8765", "error: the port is 8765"),
            ("ws://bob:s3cr3t@host:8765/x", "ws://***@host:8765/x"),
            ("wss://s3cr3t@host is it", "wss://***@host is it"),
            ("'ws://bob:a/b@c@host'", "'ws://***@host'"),
            ("--url=bob:s3=cr3t@host:1", "--url=***@host:1"),
            ("bob:s3/cr3t@host", "***@host"),
            ("http://a:b@c,http://d:e@f", "http://***@c,http://***@f"),
            ("http://host:80/rooms/@ana", "http://host:80/rooms/@ana"),
            ("http://[::1]/rooms/@ana", "http://[::1]/rooms/@ana"),
            ("host:80/rooms/@ana", "host:80/rooms/@ana"),
            ("chat-bot@echo.service: ana@x.org", "chat-bot@echo.service: ana@x.org"),
            ("room:@ana", "room:@ana"),
            ("wss://h/?access_token=s3cr3t&x=1", "wss://h/?access_token=***&x=1"),
            ("wss://h/?token=s3cr3t&token=b", "wss://h/?token=***&token=***"),
            ("CHAT_ACCESS_TOKEN=s3cr3t", "CHAT_ACCESS_TOKEN=***"),
            (r#"{"access_token": "s3cr3t"}"#, r#"{"access_token": "***"}"#),
            ("--access-token-file=/x", "--access-token-file=/x"),
            ("Authorization: Bearer s3cr3t", "Authorization: Bearer ***"),
            ("Authorization: Basic Ym9iOnMzY3IzdA==", "Authorization: Basic ***"),
            ("a basic client", "a basic client"),
            ("sct_ is the prefix", "sct_ is the prefix"),
            (
                "/var/lib/chat-server/history/history.key",
                "/var/lib/chat-server/history/history.key",
            ),
            // Certificate pins and session ids are no secrets.
            (
                "sha256 fp 5b0f2c7e5d1f0a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3",
                "sha256 fp 5b0f2c7e5d1f0a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3",
            ),
            ("0199c0de-7a3b-7c4d-8e5f-0123456789ab", "0199c0de-7a3b-7c4d-8e5f-0123456789ab"),
        ] {
            assert_eq!(secrets(text), shown, "{text}");
        }
        for secret in
            [TOKEN, KEY, FERNET, "Y3dfMHg2ODlScEktanRSUjdvRThoX2VRc0tJbXZKYXBMZVNiWHB3RjRlND0="]
        {
            let text = format!("unexpected argument '{secret}' found");
            assert_eq!(secrets(&text), "unexpected argument '***' found");
        }
        assert!(contains_access_token(TOKEN) && !contains_access_token("1a2b3c4d"));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_and_marked() {
        for text in ["é".repeat(500_000), format!("x{}", "é".repeat(5_000)), "a, ".repeat(999_999)]
        {
            let shown = secrets(&text);
            assert!(shown.len() <= MAX_SHOWN_BYTES && shown.len() > MAX_SHOWN_BYTES - 60);
            assert!(shown.ends_with(" bytes]"), "{shown}");
        }
        let just_fits = "x".repeat(MAX_SHOWN_BYTES);
        assert_eq!(secrets(&just_fits), just_fits);
    }

    #[test]
    fn a_text_of_many_megabytes_takes_linear_time() {
        // Each of these would take minutes if its parts were searched again and again.
        for part in ["sct_a", "://", "a:", "@", "access_token=", "Bearer ", "gAAAA", "A", "=", "'"]
        {
            let _ = secrets(&part.repeat(200_000 / part.len()));
        }
    }

    proptest! {
        #[test]
        fn no_secret_shows_in_any_surroundings(
            before in "\\PC{0,20}", after in "\\PC{0,20}", password in "[a-zA-Z][a-zA-Z0-9!$%^&*/:@'-]{6,20}",
        ) {
            for secret in [TOKEN, FERNET] {
                let shown = secrets(&format!("{before}{secret}{after}")).into_owned();
                prop_assert!(!shown.contains(&secret[8..30]), "{}", shown);
            }
            let shown = secrets(&format!("{before} {KEY} {after}")).into_owned();
            prop_assert!(!shown.contains(&KEY[..20]), "{}", shown);
            // "Bearer" in front of it may hide the whole URL.
            let shown = secrets(&format!("{before}ws://bob:{password}@host {after}")).into_owned();
            prop_assert!(!shown.contains(&format!("{password}@")), "{}", shown);
            let shown = secrets(&format!("{before} Bearer {KEY} {after}")).into_owned();
            prop_assert!(!shown.contains(&KEY[..20]), "{}", shown);
        }

        #[test]
        fn any_text_is_masked_within_the_bound(
            text in "([a-z:@/=?'\" ]|://|sct_|token=|access_token=|Bearer |gAAAA|0123456789){0,40}|.{0,5000}",
        ) {
            prop_assert!(secrets(&text).len() <= MAX_SHOWN_BYTES);
        }
    }
}
