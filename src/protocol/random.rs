//! Random bytes from the kernel, in one place.

use super::hex::hex;

/// Fills `bytes`. getrandom(2) blocks until the kernel's generator is seeded, and does not fail
/// afterwards.
pub fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel provides random bytes");
}

/// Random bytes as lower-case hexadecimal digits, two per byte.
pub fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    fill_random(&mut bytes);
    hex(&bytes)
}
