//! The page's Fernet against the server's: the official vectors, and tokens that are wrong in one place.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use fernet::Fernet;
use secure_chat::crypto::fernet_token;
use serde_json::{Value, json};

use crate::fernet_vectors::vectors;
use crate::support::browser::{Browser, Window};
use crate::support::server::Server;

/// Texts of all lengths around a block, and of all widths.
const TEXTS: [&str; 6] =
    ["a", "fifteen letters", "sixteen letters.", "seventeen letters", "¡Olé! 👩‍🚀", "\u{feff}mark"];

/// Reads tokens in the page: the text, or null.
const READ: &str = "(pairs => import('/page/fernet.js').then(({Fernet}) => Promise.all(pairs.map(
    async ([secret, token]) => {
        const fernet = await Fernet.of(btoa(secret));
        return fernet.decrypt(token).catch(() => null);
    }))))";

/// The token with one character or byte changed, cut or more.
fn wrong_in_one_place(token: &str) -> Vec<String> {
    let mut all: Vec<String> = vec![String::new(), format!("{token}A"), format!("{token}====")];
    all.extend((0..token.len()).map(|end| token[..end].to_owned()));
    all.extend([" ", "\n", "=", "+", "/", "\u{e9}"].map(|more| format!("{more}{token}")));
    all.extend([" ", "\n", "="].map(|more| format!("{token}{more}")));
    let bytes = URL_SAFE.decode(token).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        all.push(URL_SAFE.encode(changed));
    }
    all.push(token.replace('_', "/").replace('-', "+"));
    all.push(token.trim_end_matches('=').to_owned());
    all
}

#[test]
fn the_page_takes_the_tokens_that_the_server_takes() {
    let mut pairs = Vec::new();
    for file in ["generate.json", "verify.json", "invalid.json"] {
        for vector in vectors(file) {
            pairs.push((
                vector["secret"].as_str().unwrap().to_owned(),
                vector["token"].as_str().unwrap().to_owned(),
            ));
        }
    }
    let secret = Fernet::generate_key();
    for text in TEXTS {
        pairs.push((secret.clone(), Fernet::new(&secret).unwrap().encrypt(text.as_bytes())));
    }
    for token in wrong_in_one_place(&pairs.last().unwrap().1) {
        pairs.push((secret.clone(), token));
    }
    let expected: Vec<Value> = pairs
        .iter()
        .map(|(secret, token)| {
            let opened = fernet_token::open(&Fernet::new(secret).unwrap(), token);
            opened.map_or(Value::Null, |(text, _)| String::from_utf8(text).unwrap().into())
        })
        .collect();
    assert!(expected.iter().filter(|one| one.is_string()).count() >= TEXTS.len() + 2);

    let (server, browser) = (Server::start(), Browser::start());
    let tab = browser.open(&server, &Window::DESKTOP);
    let read = tab.evaluate(&format!("{READ}({})", json!(pairs)));
    for ((expected, read), (_, token)) in expected.iter().zip(read.as_array().unwrap()).zip(&pairs)
    {
        // The server's decoder is lenient about padding, as that of Python is. The page need not be.
        let is_lenient = read.is_null() && URL_SAFE.decode(token).is_err();
        assert!(read == expected || is_lenient, "{token}: {read}, not {expected}");
    }
    // And the other way round.
    let written = tab.evaluate(&format!(
        "import('/page/fernet.js').then(async ({{Fernet}}) => {{
            const fernet = await Fernet.of(btoa({secret:?}));
            return Promise.all({}.map(text => fernet.encrypt(text, 1_700_000_000_999)));
        }})",
        json!(TEXTS)
    ));
    for (text, token) in TEXTS.iter().zip(written.as_array().unwrap()) {
        let fernet = Fernet::new(&secret).unwrap();
        let (read, made) = fernet_token::open(&fernet, token.as_str().unwrap()).unwrap();
        assert_eq!((read.as_slice(), made), (text.as_bytes(), 1_700_000_000));
    }
    let names = tab.evaluate(&format!(
        "import('/page/fernet.js').then(async ({{Fernet}}) =>
            Reflect.ownKeys(await Fernet.of(btoa({secret:?}))))"
    ));
    assert_eq!(names, json!([]), "no script can take a key out");
}
