//! Frames that a server sends to the client, one per line, in any order: none causes a panic, and
//! each printed line has no line break and no control character.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::client::conversation::{Conversation, Now, ConnectOptions};
use secure_chat::conversation::client::event::{Event, write_json_line, is_unprintable};
use secure_chat::conversation::client::read_positions::ReadPositions;
use secure_chat::protocol::Timestamp;
use secure_chat::protocol::frame::frame_type;

fuzz_target!(|text: &str| {
    let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(1_790_000_000_000_000) };
    let options = ConnectOptions {
        username: "ana".into(),
        access_token: None,
        rooms: vec!["ops".into()],
        echo: true,
        presence: true,
        since: None,
    };
    let mut conversation = Conversation::new(options, ReadPositions::default());
    let _ = conversation.register();
    for frame in text.split('\n') {
        let mut line = Vec::new();
        match conversation.receive(frame, now) {
            Event::Message(message) => message.write_json_line(&mut line),
            Event::Page(page) => page.iter().for_each(|message| {
                line.clear();
                message.write_json_line(&mut line);
            }),
            _ if frame_type(frame).is_some() => write_json_line(frame, &mut line),
            _ => {}
        }
        let line = String::from_utf8(line).unwrap();
        assert!(!line.trim_end_matches('\n').chars().any(is_unprintable), "{line:?}");
        while conversation.next_frame(now).is_some() {}
    }
});
