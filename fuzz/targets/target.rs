//! Where a server is: what is shown of an address is read as the same address again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::client::server_url::ServerUrl;

fuzz_target!(|text: &str| {
    let Ok(target) = ServerUrl::parse(text) else { return };
    assert!(!target.host.is_empty() && target.port > 0);
    assert!(target.path.starts_with('/'));
    let shown = target.to_string();
    assert_eq!(ServerUrl::parse(&shown).as_ref(), Ok(&target), "{text:?} is shown as {shown:?}");
});
