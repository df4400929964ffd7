//! Server URLs: a URL that is displayed and parsed again does not change.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::client::server_url::ServerUrl;

fuzz_target!(|text: &str| {
    let Ok(url) = ServerUrl::parse(text) else { return };
    assert!(!url.host.is_empty() && url.port > 0);
    assert!(url.path.starts_with('/'));
    let shown = url.to_string();
    assert_eq!(ServerUrl::parse(&shown).as_ref(), Ok(&url), "{text:?} is shown as {shown:?}");
});
