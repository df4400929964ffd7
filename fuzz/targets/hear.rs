//! What a stranger's server says to our client: frames, one a line, in any order; none is a panic,
//! and every line that is printed is one line which steers no terminal.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::client::conversation::{Conversation, Now, Wish};
use secure_chat::conversation::client::event::{Heard, print_line, steers};
use secure_chat::conversation::client::read_positions::Places;
use secure_chat::protocol::Timestamp;
use secure_chat::protocol::frame::kind_of;

fuzz_target!(|text: &str| {
    let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(1_790_000_000_000_000) };
    let wish = Wish {
        username: "ana".into(),
        access_token: None,
        rooms: vec!["ops".into()],
        echo: true,
        presence: true,
        since: None,
    };
    let mut conversation = Conversation::new(wish, Places::default());
    let _ = conversation.register();
    for frame in text.split('\n') {
        let mut line = Vec::new();
        match conversation.hear(frame, now) {
            Heard::Message(message) => message.print(&mut line),
            Heard::Page(page) => page.iter().for_each(|message| {
                line.clear();
                message.print(&mut line);
            }),
            _ if kind_of(frame).is_some() => print_line(frame, &mut line),
            _ => {}
        }
        let line = String::from_utf8(line).unwrap();
        assert!(!line.trim_end_matches('\n').chars().any(steers), "{line:?}");
        while conversation.next_frame(now).is_some() {}
    }
});
