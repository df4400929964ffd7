//! Another device's key package: no bytes make the checks panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::mls::device;
use secure_chat::protocol::Timestamp;

fuzz_target!(|input: &[u8]| {
    let _ = device::Newcomer::read(input, Timestamp::from_micros(1_790_000_000_000_000));
});
