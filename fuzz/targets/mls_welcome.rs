//! A Welcome and a group info: no bytes make the decoders panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::mls::decode;

fuzz_target!(|input: &[u8]| {
    let _ = decode::welcome(input);
    let _ = decode::group_info(input);
});
