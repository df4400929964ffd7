//! The provider against the vectors of the MLS working group (mlswg/mls-implementations), and refusals.

use openmls::prelude::{
    KeyPackage, KeyPackageIn, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn,
    ProcessedMessageContent, RatchetTreeIn, StagedWelcome,
};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::{
    AeadType, Ciphersuite, HashType, HpkeAeadType, HpkeCiphertext, HpkeConfig, HpkeKdfType,
    HpkeKemType, HpkePrivateKey, SignatureScheme,
};
use serde_json::{Value, json};
use tls_codec::{Deserialize as _, Serialize as _, VLBytes};

use super::*;
use crate::mls::crypto::{Crypto, SUITE};

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The structures of RFC 9420 with a label and one more value (sections 5.1.2, 5.1.3, 5.2 and 8).
fn labeled(label: &str, value: &[u8]) -> Vec<u8> {
    let label = VLBytes::from(label.as_bytes().to_vec()).tls_serialize_detached().unwrap();
    [label, VLBytes::from(value.to_vec()).tls_serialize_detached().unwrap()].concat()
}

fn config() -> HpkeConfig {
    HpkeConfig(HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::AesGcm128)
}

fn expand_with_label(secret: &[u8], label: &str, context: &[u8], length: u16) -> Vec<u8> {
    let info = [length.to_be_bytes().to_vec(), labeled(&format!("MLS 1.0 {label}"), context)];
    let expanded = Crypto.hkdf_expand(HashType::Sha2_256, secret, &info.concat(), length.into());
    expanded.unwrap().as_slice().to_vec()
}

#[test]
fn the_basic_functions_give_what_the_working_group_has() {
    let all: Value = serde_json::from_str(include_str!("vectors/crypto-basics.json")).unwrap();
    let label = |of: &Value| of["label"].as_str().unwrap().to_owned();

    let of = &all["ref_hash"];
    let hash = Crypto.hash(HashType::Sha2_256, &labeled(&label(of), &hex(&of["value"])));
    assert_eq!(hash.unwrap(), hex(&of["out"]));

    let of = &all["expand_with_label"];
    let length = of["length"].as_u64().unwrap() as u16;
    let out = expand_with_label(&hex(&of["secret"]), &label(of), &hex(&of["context"]), length);
    assert_eq!(out, hex(&of["out"]));

    let of = &all["derive_secret"];
    let out = expand_with_label(&hex(&of["secret"]), &label(of), b"", 32);
    assert_eq!(out, hex(&of["out"]));

    let of = &all["sign_with_label"];
    let content = labeled(&format!("MLS 1.0 {}", label(of)), &hex(&of["content"]));
    let signed = Crypto.sign(SignatureScheme::ED25519, &content, &hex(&of["priv"])).unwrap();
    assert_eq!(signed, hex(&of["signature"]));
    let verify = |signature: &[u8]| {
        Crypto.verify_signature(SignatureScheme::ED25519, &content, &hex(&of["pub"]), signature)
    };
    assert!(verify(&signed).is_ok());
    assert!(verify(&signed[1..]).is_err());

    let of = &all["encrypt_with_label"];
    let info = labeled(&format!("MLS 1.0 {}", label(of)), &hex(&of["context"]));
    let sealed = HpkeCiphertext {
        kem_output: hex(&of["kem_output"]).into(),
        ciphertext: hex(&of["ciphertext"]).into(),
    };
    let open = |sealed| Crypto.hpke_open(config(), sealed, &hex(&of["priv"]), &info, b"");
    assert_eq!(open(&sealed).unwrap(), hex(&of["plaintext"]));
    let again = Crypto.hpke_seal(config(), &hex(&of["pub"]), &info, b"", &hex(&of["plaintext"]));
    assert_eq!(open(&again.unwrap()).unwrap(), hex(&of["plaintext"]));
}

/// Joins by the vector's Welcome, with its key package in the store, and applies its commit if there is one.
fn follow(vector: &str) {
    let of: Value = serde_json::from_str(vector).unwrap();
    let user = User::new("ana");
    let mut member = Member::new(&user);
    let message =
        |name: &str| MlsMessageIn::tls_deserialize_exact(hex(&of[name])).unwrap().extract();
    let MlsMessageBodyIn::KeyPackage(package) = message("key_package") else { panic!() };
    let package: KeyPackageIn = package;
    // Not `validate`: its time is over.
    let package: KeyPackage =
        serde_json::from_value(serde_json::to_value(&package).unwrap()).unwrap();
    let reference = package.hash_ref(&Crypto).unwrap();
    let private = |name: &str| HpkePrivateKey::from(hex(&of[name]));
    let bundle = json!({
        "key_package": package,
        "private_init_key": private("init_priv"),
        "private_encryption_key": { "key": private("encryption_priv") },
    });
    let bundle: openmls::prelude::KeyPackageBundle = serde_json::from_value(bundle).unwrap();
    let MlsMessageBodyIn::Welcome(welcome) = message("welcome") else { panic!() };
    let tree = (!of["ratchet_tree"].is_null())
        .then(|| RatchetTreeIn::tls_deserialize_exact(hex(&of["ratchet_tree"])).unwrap());
    member
        .step(|step, _| {
            use openmls_traits::storage::StorageProvider as _;
            let provider = step.provider();
            provider.storage().write_key_package(&reference, &bundle).unwrap();
            let config = MlsGroupJoinConfig::builder()
                .wire_format_policy(openmls::prelude::MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
                .build();
            let builder = StagedWelcome::build_from_welcome(provider, &config, welcome).unwrap();
            let builder = builder.skip_lifetime_validation();
            let builder = match tree {
                Some(tree) => builder.with_ratchet_tree(tree),
                None => builder,
            };
            let mut group = builder.build().unwrap().into_group(provider).unwrap();
            assert_eq!(
                group.epoch_authenticator().as_slice(),
                hex(&of["initial_epoch_authenticator"])
            );
            if !of["commit"].is_null() {
                let commit = MlsMessageIn::tls_deserialize_exact(hex(&of["commit"])).unwrap();
                let commit = commit.try_into_protocol_message().unwrap();
                let processed = group.process_message(provider, commit).unwrap();
                let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content()
                else {
                    panic!()
                };
                group.merge_staged_commit(provider, *staged).unwrap();
                assert_eq!(group.epoch_authenticator().as_slice(), hex(&of["epoch_authenticator"]));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_member_of_the_working_groups_rooms_gets_the_same_secrets() {
    follow(include_str!("vectors/passive-client-welcome.json"));
    follow(include_str!("vectors/passive-client.json"));
}

#[test]
fn other_suites_are_refused() {
    for number in 2..=7 {
        let suite = Ciphersuite::try_from(number).unwrap();
        assert!(Crypto.supports(suite).is_err(), "{suite}");
    }
    assert!(Crypto.supports(SUITE).is_ok());
    assert_eq!(Crypto.supported_ciphersuites(), [SUITE]);
    for hash in [HashType::Sha2_384, HashType::Sha2_512] {
        assert!(Crypto.hash(hash, b"").is_err());
        assert!(Crypto.hmac(hash, b"", b"").is_err());
        assert!(Crypto.hkdf_extract(hash, b"", b"").is_err());
        assert!(Crypto.hkdf_expand(hash, &[0; 32], b"", 32).is_err());
    }
    for aead in [AeadType::Aes256Gcm, AeadType::ChaCha20Poly1305] {
        assert!(Crypto.aead_encrypt(aead, &[0; 32], b"", &[0; 12], b"").is_err());
        assert!(Crypto.aead_decrypt(aead, &[0; 32], &[0; 16], &[0; 12], b"").is_err());
    }
    let scheme = SignatureScheme::ECDSA_SECP256R1_SHA256;
    assert!(Crypto.signature_key_gen(scheme).is_err());
    assert!(Crypto.sign(scheme, b"", &[0; 32]).is_err());
    assert!(Crypto.verify_signature(scheme, b"", &[0; 32], &[0; 64]).is_err());
    let other =
        HpkeConfig(HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::AesGcm256);
    assert!(Crypto.derive_hpke_keypair(other, &[0; 32]).is_err());
    assert!(Crypto.hkdf_expand(HashType::Sha2_256, &[0; 32], b"", usize::MAX).is_err());
    for length in [0, 31, 33] {
        assert!(Crypto.sign(SignatureScheme::ED25519, b"", &vec![1; length]).is_err());
    }
}
