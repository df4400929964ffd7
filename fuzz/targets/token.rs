//! A stranger's Fernet token: nothing in it makes the library overflow, a token of ours opens
//! whatever its time, and a changed one never says something else.
#![no_main]

use std::sync::LazyLock;

use fernet::Fernet;
use libfuzzer_sys::fuzz_target;
use secure_chat::crypto::fernet_token::{is_ahead, made_at, open};

static KEY: LazyLock<Fernet> = LazyLock::new(|| {
    Fernet::new(&"A".repeat(43).chars().chain(['=']).collect::<String>()).unwrap()
});

fuzz_target!(|input: (u64, u16, u8, &str)| {
    let (made, place, change, text) = input;
    let forged = open(&KEY, text);
    assert!(forged.is_none() || made_at(text).is_some());
    let _ = is_ahead(made_at(text).unwrap_or(made), made);

    let token = KEY.encrypt_at_time(text.as_bytes(), made);
    assert_eq!(made_at(&token), Some(made));
    assert_eq!(open(&KEY, &token), Some((text.as_bytes().to_vec(), made)));

    let mut changed = token.into_bytes();
    let place = usize::from(place) % changed.len();
    changed[place] = change & 0x7f;
    let changed = String::from_utf8(changed).unwrap();
    if let Some((said, when)) = open(&KEY, &changed) {
        assert_eq!((said.as_slice(), when), (text.as_bytes(), made), "{changed}");
    }
});
