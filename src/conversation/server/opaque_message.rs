//! The message of an end-to-end room, as far as the server looks at it: base64 of a bounded length, the commit that
//! its sender has seen last, and what a commit brings along.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{CommitParts, EntryKind, Welcome};
use crate::protocol::frame::{ErrorFrame, Invitation, KIND_COMMIT, KIND_MESSAGE, NewMessage};
use crate::protocol::hex::hex;
use crate::protocol::{ErrorCode, Seq, UserName};

/// Characters of base64 in one field, at most.
pub const MAX_CONTENT: usize = 44 * 1024;
/// Devices that one commit may send a Welcome to.
const MAX_INVITED: usize = 256;
/// Welcomes in one commit.
const MAX_WELCOMES: usize = 16;

/// What a message of an end-to-end room has besides its content.
#[derive(Debug, PartialEq, Eq)]
pub struct Opaque {
    /// The newest commit that the sender has read.
    pub base: Seq,
    /// What it brings along, if it is a commit. The tree is not in it.
    pub commit: Option<CommitParts>,
}

impl Opaque {
    /// What the message is.
    pub fn kind(&self) -> EntryKind {
        if self.commit.is_some() { EntryKind::Commit } else { EntryKind::Message }
    }
}

/// Checks a message for an end-to-end room.
pub fn read(message: &NewMessage<'_>) -> Result<Opaque, Box<ErrorFrame>> {
    let Some(base) = message.base else { return Err(missing("base")) };
    if message.id.is_none() {
        return Err(missing("id"));
    }
    check_base64("content", &message.content)?;
    let commit = match message.kind.as_deref().unwrap_or(KIND_MESSAGE) {
        KIND_MESSAGE => None,
        KIND_COMMIT => Some(commit(message)?),
        _ => return Err(bad(r#""kind" must be "message" or "commit""#)),
    };
    Ok(Opaque { base, commit })
}

fn commit(message: &NewMessage<'_>) -> Result<CommitParts, Box<ErrorFrame>> {
    let info = message.info.as_deref().ok_or_else(|| missing("info"))?;
    let tree = message.tree.as_deref().ok_or_else(|| missing("tree"))?;
    check_base64("info", info)?;
    let invited: usize = message.welcomes.iter().map(|welcome| welcome.to.len()).sum();
    if message.welcomes.len() > MAX_WELCOMES || invited > MAX_INVITED {
        return Err(bad(format!(
            "a commit may have {MAX_WELCOMES} welcomes for {MAX_INVITED} devices in all, at most"
        )));
    }
    Ok(CommitParts {
        welcomes: message.welcomes.iter().map(welcome).collect::<Result<_, _>>()?,
        info: info.into(),
        tree_hash: read_sha256("tree", tree)?,
        tree: None,
    })
}

fn welcome(invitation: &Invitation<'_>) -> Result<Welcome, Box<ErrorFrame>> {
    check_base64("welcomes", &invitation.content)?;
    let device = |(user, device): &(Cow<'_, str>, Cow<'_, str>)| {
        let device = read_device(device)?;
        Ok((UserName::clean(user), device))
    };
    let to = invitation.to.iter().map(device).collect::<Result<_, Box<ErrorFrame>>>()?;
    Ok(Welcome { to, content: (&*invitation.content).into() })
}

/// Reads the id of a device.
pub fn read_device(text: &str) -> Result<DeviceId, Box<ErrorFrame>> {
    DeviceId::parse(text).ok_or_else(|| bad(DeviceId::RULE))
}

/// Reads a SHA-256, in lower-case hexadecimal digits.
pub fn read_sha256(field: &str, text: &str) -> Result<[u8; 32], Box<ErrorFrame>> {
    let digit = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits: Option<Vec<u8>> = text.as_bytes().iter().map(digit).collect();
    let bytes = digits.filter(|digits| digits.len() == 64).map(|digits| {
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        hash
    });
    bytes.ok_or_else(|| {
        bad(format!("{field:?} must be a SHA-256: 64 lower-case hexadecimal digits"))
    })
}

/// The text of a SHA-256.
pub fn sha256_text(hash: &[u8; 32]) -> String {
    hex(hash)
}

/// Checks that a field holds base64 (RFC 4648, section 4) of at least one byte, and not too much of it.
pub fn check_base64(field: &str, text: &str) -> Result<Vec<u8>, Box<ErrorFrame>> {
    if text.is_empty() {
        return Err(error(ErrorCode::EmptyMessage, format!("{field:?} is empty")));
    }
    if text.len() > MAX_CONTENT {
        return Err(error(
            ErrorCode::MessageTooLong,
            format!("{field:?} has more than {MAX_CONTENT} characters"),
        ));
    }
    STANDARD.decode(text).map_err(|_| bad(format!("{field:?} is not base64")))
}

fn missing(field: &str) -> Box<ErrorFrame> {
    bad(format!("a message for an end-to-end room lacks {field:?}"))
}

fn bad(message: impl Into<Cow<'static, str>>) -> Box<ErrorFrame> {
    error(ErrorCode::BadFrame, message)
}

fn error(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Box<ErrorFrame> {
    Box::new(ErrorFrame::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::ClientFrame;

    fn read_text(fields: &str) -> Result<Opaque, &'static str> {
        let text = format!(r#"{{"type":"chat_message","room":"+ops",{fields}}}"#);
        let Ok(ClientFrame::ChatMessage(message)) = ClientFrame::parse(&text) else {
            panic!("{text}")
        };
        let code = |error: Box<ErrorFrame>| {
            let code = ErrorCode::ALL.iter().find(|code| code.as_str() == error.code);
            code.expect("a known code").as_str()
        };
        read(&message).map_err(code)
    }

    #[test]
    fn a_message_needs_base_id_and_base64() {
        let message = read_text(r#""id":"a","base":7,"content":"AAEC""#).unwrap();
        assert_eq!((message.base, message.commit), (Seq(7), None));
        for (fields, code) in [
            (r#""id":"a","content":"AAEC""#, "bad_frame"),
            (r#""base":7,"content":"AAEC""#, "bad_frame"),
            (r#""id":"a","base":7,"content":"""#, "empty_message"),
            (r#""id":"a","base":7,"content":"AAE""#, "bad_frame"),
            (r#""id":"a","base":7,"content":"AA-_""#, "bad_frame"),
            (r#""id":"a","base":7,"content":"AAEC","kind":"proposal""#, "bad_frame"),
            (r#""id":"a","base":7,"content":"AAEC","kind":"commit""#, "bad_frame"),
        ] {
            assert_eq!(read_text(fields), Err(code), "{fields}");
        }
        let content = |length| format!(r#""id":"a","base":7,"content":"{}""#, "A".repeat(length));
        assert!(read_text(&content(MAX_CONTENT)).is_ok());
        assert_eq!(read_text(&content(MAX_CONTENT + 4)), Err("message_too_long"));
    }

    #[test]
    fn a_commit_needs_info_and_tree_and_names_devices() {
        let hash = "0f".repeat(32);
        let device = DeviceId([7; 10]);
        let commit = |welcomes: &str, tree: &str| {
            read_text(&format!(
                r#""id":"a","base":0,"content":"AAEC","kind":"commit","info":"AAEC","tree":"{tree}","welcomes":[{welcomes}]"#
            ))
        };
        let welcome = format!(r#"{{"to":[["bob","{device}"]],"content":"AAEC"}}"#);
        let parts = commit(&welcome, &hash).unwrap().commit.unwrap();
        assert_eq!(parts.tree_hash, [15; 32]);
        assert_eq!(sha256_text(&parts.tree_hash), hash);
        assert_eq!(parts.welcomes[0].to, [(UserName::clean("bob"), device)]);
        let bad_device = r#"{"to":[["bob","k7"]],"content":"AAEC"}"#;
        let many = vec![welcome.as_str(); MAX_WELCOMES + 1].join(",");
        for (welcomes, tree) in
            [(bad_device, &*hash), (&many, &hash), ("", "0f"), ("", &"0F".repeat(32))]
        {
            assert_eq!(commit(welcomes, tree), Err("bad_frame"), "{welcomes} {tree}");
        }
    }
}
