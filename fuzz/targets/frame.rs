//! What a stranger sends to the server: it is read or refused by name, and what was read is
//! written and read again without a change.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::protocol::Code;
use secure_chat::protocol::frame::{BasicUtterance, ClientFrame};

fuzz_target!(|text: &str| {
    match ClientFrame::parse(text) {
        Ok(frame) => {
            let written = frame.to_json();
            assert_eq!(ClientFrame::parse(&written).as_ref(), Ok(&frame), "{written}");
        }
        Err(fault) => {
            let named = [Code::BadJson, Code::BadFrame, Code::UnknownType];
            assert!(named.contains(&fault.code));
            assert!(!fault.detail.chars().any(char::is_control), "{:?}", fault.detail);
        }
    }
    let _ = BasicUtterance::parse(text);
});
