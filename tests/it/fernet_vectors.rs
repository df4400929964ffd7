//! The official Fernet vectors (from the Python package `cryptography_vectors`) against the library's Fernet.

use std::process::Command;

use fernet::Fernet;
use secure_chat::crypto::fernet_token;
use serde_json::Value;

use crate::support::python::interpreter;

/// A file of vectors.
pub fn vectors(name: &str) -> Vec<Value> {
    let find = format!(
        "import cryptography_vectors, pathlib; print((pathlib.Path(cryptography_vectors.__file__).parent / 'fernet' / '{name}').read_text())"
    );
    let output = Command::new(interpreter()).args(["-c", &find]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn seconds(moment: &Value) -> u64 {
    let moment: jiff::Timestamp = moment.as_str().unwrap().parse().unwrap();
    moment.as_second().try_into().unwrap()
}

fn key(vector: &Value) -> Fernet {
    Fernet::new(vector["secret"].as_str().unwrap()).unwrap()
}

#[test]
fn generated_tokens_are_read() {
    let all = vectors("generate.json");
    assert!(!all.is_empty());
    for vector in all {
        let (plain, made) =
            fernet_token::open(&key(&vector), vector["token"].as_str().unwrap()).unwrap();
        assert_eq!(plain, vector["src"].as_str().unwrap().as_bytes());
        assert_eq!(made, seconds(&vector["now"]));
    }
}

#[test]
fn verified_tokens_are_within_their_time() {
    let all = vectors("verify.json");
    assert!(!all.is_empty());
    for vector in all {
        let (plain, made) =
            fernet_token::open(&key(&vector), vector["token"].as_str().unwrap()).unwrap();
        assert_eq!(plain, vector["src"].as_str().unwrap().as_bytes());
        let now = seconds(&vector["now"]);
        assert!(!fernet_token::is_ahead(made, now));
        assert!(made + vector["ttl_sec"].as_u64().unwrap() >= now);
    }
}

#[test]
fn invalid_tokens_are_refused() {
    let all = vectors("invalid.json");
    assert!(all.len() >= 8);
    for vector in all {
        let now = seconds(&vector["now"]);
        let ttl = vector["ttl_sec"].as_u64().unwrap();
        let opened = fernet_token::open(&key(&vector), vector["token"].as_str().unwrap());
        // A vector that is invalid only by its age: this chat sets no maximum age.
        let refused =
            opened.is_none_or(|(_, made)| fernet_token::is_ahead(made, now) || made + ttl < now);
        assert!(refused, "{}", vector["desc"]);
    }
}
