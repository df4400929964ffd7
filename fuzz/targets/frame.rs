//! What a stranger sends to the server: it is read or refused by name, and what was read is
//! written and read again without a change.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::protocol::ErrorCode;
use secure_chat::protocol::frame::{BasicNewMessage, ClientFrame};

fuzz_target!(|text: &str| {
    match ClientFrame::parse(text) {
        Ok(frame) => {
            let written = frame.to_json();
            assert_eq!(ClientFrame::parse(&written).as_ref(), Ok(&frame), "{written}");
        }
        Err(error) => {
            let named = [ErrorCode::BadJson, ErrorCode::BadFrame, ErrorCode::UnknownType];
            assert!(named.contains(&error.code));
            assert!(!error.detail.chars().any(char::is_control), "{:?}", error.detail);
        }
    }
    let _ = BasicNewMessage::parse(text);
});
