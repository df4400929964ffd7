//! A ratchet tree: no bytes make the decoder panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::mls::decode;

fuzz_target!(|input: &[u8]| {
    let _ = decode::tree(input);
});
