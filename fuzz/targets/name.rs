//! User names and room names: cleaning a clean name changes nothing, and a clean name has no control
//! character.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::client::event::is_unprintable;
use secure_chat::protocol::{RoomName, UserName};

fuzz_target!(|text: &str| {
    let name = UserName::clean(text);
    assert_eq!(UserName::clean(name.as_str()), name);
    assert!((1..=UserName::MAX_CHARS).contains(&name.as_str().chars().count()));
    assert!(!name.as_str().chars().any(is_unprintable));
    assert_eq!(name.as_str().trim(), name.as_str());
    if let Some(room) = RoomName::parse(text) {
        assert_eq!(room.as_str(), text);
        assert!(text.is_ascii() && (1..=64).contains(&text.len()));
    }
});
