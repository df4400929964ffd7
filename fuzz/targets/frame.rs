//! Frames that a client sends to the server: each is parsed or refused with an error code, and a
//! parsed frame does not change when it is serialised and parsed again.
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
