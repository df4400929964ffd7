//! Fernet tokens: no input makes the fernet crate overflow, a valid token decrypts whatever its
//! timestamp, and a modified token never decrypts to another text or timestamp.
#![no_main]

use std::sync::LazyLock;

use fernet::Fernet;
use libfuzzer_sys::fuzz_target;
use secure_chat::crypto::fernet_token::{is_ahead, made_at, open};

static KEY: LazyLock<Fernet> = LazyLock::new(|| {
    Fernet::new(&"A".repeat(43).chars().chain(['=']).collect::<String>()).unwrap()
});

fuzz_target!(|input: (u64, u16, u8, &str)| {
    let (created, position, change, text) = input;
    let forged = open(&KEY, text);
    assert!(forged.is_none() || made_at(text).is_some());
    let _ = is_ahead(made_at(text).unwrap_or(created), created);

    let token = KEY.encrypt_at_time(text.as_bytes(), created);
    assert_eq!(made_at(&token), Some(created));
    assert_eq!(open(&KEY, &token), Some((text.as_bytes().to_vec(), created)));

    let mut changed = token.into_bytes();
    let position = usize::from(position) % changed.len();
    changed[position] = change & 0x7f;
    let changed = String::from_utf8(changed).unwrap();
    if let Some((plain, timestamp)) = open(&KEY, &changed) {
        assert_eq!((plain.as_slice(), timestamp), (text.as_bytes(), created), "{changed}");
    }
});
