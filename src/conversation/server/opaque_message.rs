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
/// Bytes of all uploads that one commit names besides its tree.
const MAX_UPLOADED_BYTES: usize = 128 * 1024;
/// Welcomes in one commit.
const MAX_WELCOMES: usize = 16;

/// What a message of an end-to-end room has besides its content.
#[derive(Debug, PartialEq, Eq)]
pub struct Opaque {
    /// The newest commit that the sender has read.
    pub base: Seq,
    /// What it brings along, if it is a commit. The tree is not in it.
    pub commit: Option<CommitParts>,
    /// The parts of the commit that were uploaded before, like trees: their SHA-256, and where they belong.
    pub uploads: Vec<(UploadedPart, [u8; 32])>,
}

/// A part of a commit that may be uploaded before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadedPart {
    /// The MLS GroupInfo.
    Info,
    /// The content of the welcome with this place in the frame.
    Welcome(usize),
}

impl Opaque {
    /// Puts the uploads into the commit; `find` gives the bytes of one. One that is not there is noted, and the store
    /// refuses the commit if it has not stored it before.
    pub fn fill<B: AsRef<[u8]>>(
        &mut self,
        find: impl Fn(&[u8; 32]) -> Option<B>,
    ) -> Result<(), Box<ErrorFrame>> {
        let Some(commit) = &mut self.commit else { return Ok(()) };
        let mut total = 0;
        for (part, hash) in std::mem::take(&mut self.uploads) {
            let Some(bytes) = find(&hash) else {
                commit.lacks_upload = true;
                continue;
            };
            total += bytes.as_ref().len();
            if total > MAX_UPLOADED_BYTES {
                return Err(error(
                    ErrorCode::MessageTooLong,
                    format!(
                        "a commit names uploads of more than {MAX_UPLOADED_BYTES} bytes besides its tree"
                    ),
                ));
            }
            let text = STANDARD.encode(bytes).into();
            match part {
                UploadedPart::Info => commit.info = text,
                UploadedPart::Welcome(index) => {
                    if let Some(welcome) = commit.welcomes.get_mut(index) {
                        welcome.content = text;
                    }
                }
            }
        }
        Ok(())
    }

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
    let mut uploads = Vec::new();
    let commit = match message.kind.as_deref().unwrap_or(KIND_MESSAGE) {
        KIND_MESSAGE => None,
        KIND_COMMIT => Some(commit(message, &mut uploads)?),
        _ => return Err(bad(r#""kind" must be "message" or "commit""#)),
    };
    Ok(Opaque { base, commit, uploads })
}

fn commit(
    message: &NewMessage<'_>,
    uploads: &mut Vec<(UploadedPart, [u8; 32])>,
) -> Result<CommitParts, Box<ErrorFrame>> {
    let (info, sha256) = (message.info.as_deref(), message.info_sha256.as_deref());
    let (info, hash) = inline_or_uploaded(("info", info), ("info_sha256", sha256))?;
    uploads.extend(hash.map(|hash| (UploadedPart::Info, hash)));
    let tree = message.tree.as_deref().ok_or_else(|| missing("tree"))?;
    let invited: usize = message.welcomes.iter().map(|welcome| welcome.to.len()).sum();
    if message.welcomes.len() > MAX_WELCOMES || invited > MAX_INVITED {
        return Err(bad(format!(
            "a commit may have {MAX_WELCOMES} welcomes for {MAX_INVITED} devices in all, at most"
        )));
    }
    let mut welcomes = Vec::with_capacity(message.welcomes.len());
    for (index, invitation) in message.welcomes.iter().enumerate() {
        let (welcome, hash) = welcome(invitation)?;
        uploads.extend(hash.map(|hash| (UploadedPart::Welcome(index), hash)));
        welcomes.push(welcome);
    }
    let tree_hash = read_sha256("tree", tree)?;
    Ok(CommitParts { welcomes, info, tree_hash, tree: None, lacks_upload: false, over_limit: None })
}

/// The text of a field, or none and the SHA-256 of what was uploaded instead.
type InlineOrUploaded = (Box<str>, Option<[u8; 32]>);

/// Reads a field that is in the frame, or the SHA-256 of what was uploaded instead. It is empty until the upload is put
/// in.
fn inline_or_uploaded(
    (field, text): (&str, Option<&str>),
    (hash_field, hash): (&str, Option<&str>),
) -> Result<InlineOrUploaded, Box<ErrorFrame>> {
    match (text, hash) {
        (Some(text), None) => {
            check_base64(field, text)?;
            Ok((text.into(), None))
        }
        (None, Some(hash)) => Ok(("".into(), Some(read_sha256(hash_field, hash)?))),
        (None, None) => Err(missing(field)),
        (Some(_), Some(_)) => {
            Err(bad(format!("a commit has {field:?} or {hash_field:?}, not both")))
        }
    }
}

fn welcome(invitation: &Invitation<'_>) -> Result<(Welcome, Option<[u8; 32]>), Box<ErrorFrame>> {
    let (content, sha256) = (invitation.content.as_deref(), invitation.sha256.as_deref());
    let (content, hash) = inline_or_uploaded(("content", content), ("sha256", sha256))?;
    let device = |(user, device): &(Cow<'_, str>, Cow<'_, str>)| {
        let device = read_device(device)?;
        Ok((UserName::clean(user), device))
    };
    let to = invitation.to.iter().map(device).collect::<Result<_, Box<ErrorFrame>>>()?;
    Ok((Welcome { to, content }, hash))
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
