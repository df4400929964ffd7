//! HPKE against the vectors of RFC 9180.

use crate::mls::hpke::*;
use proptest::prelude::*;

/// Bytes from hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn key(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

// RFC 9180, appendix A.1.1.
const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const SENDER_MATERIAL: &str = "7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234";
const SENDER: &str = "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736";
const ENCAPSULATED: &str = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431";
const RECEIVER_MATERIAL: &str = "6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037";
const RECEIVER: &str = "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8";
const RECEIVER_PUBLIC: &str = "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d";
const SHARED: &str = "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc";
const KEY: &str = "4531685d41d65f03dc48f6b8302c05b0";
const NONCE: &str = "56d890e5accaaf011cff4b7d";
const EXPORTER: &str = "45ff1c2e220db587171952c0592d5f5ebe103f1561a2614e38f2ffd47e99e3f8";
const PLAIN: &str = "4265617574792069732074727574682c20747275746820626561757479";
const SEALED: &str =
    "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a";

#[test]
fn key_pairs_follow_from_their_material() {
    for (material, private, public) in
        [(SENDER_MATERIAL, SENDER, ENCAPSULATED), (RECEIVER_MATERIAL, RECEIVER, RECEIVER_PUBLIC)]
    {
        let derived = derive_key_pair(&hex(material)).unwrap();
        assert_eq!((*derived.0, derived.1), (key(private), key(public)));
    }
}

#[test]
fn a_message_has_the_bytes_of_rfc_9180() {
    let (info, aad) = (hex(INFO), b"Count-0");
    let (encapsulated, sender) =
        setup_sender_with(&key(SENDER), &hex(RECEIVER_PUBLIC), &info).unwrap();
    assert_eq!(encapsulated, key(ENCAPSULATED));
    let shared =
        encapsulate(&hex(SENDER), &hex(RECEIVER_PUBLIC), &encapsulated, &hex(RECEIVER_PUBLIC));
    assert_eq!(*shared.unwrap(), key(SHARED));
    assert_eq!(sender.key.to_vec(), hex(KEY));
    assert_eq!(sender.nonce.to_vec(), hex(NONCE));
    assert_eq!(*sender.exporter, key(EXPORTER));
    for (context, exported) in [
        (&b""[..], "3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee"),
        (b"\0", "2e8f0b54673c7029649d4eb9d5e33bf1872cf76d623ff164ac185da9e88c21a5"),
        (b"TestContext", "e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931"),
    ] {
        assert_eq!(sender.export(context, 32).unwrap(), hex(exported));
    }
    assert_eq!(sender.seal(aad, &hex(PLAIN)).unwrap(), hex(SEALED));
    let open = |encapsulated: &[u8], aad: &[u8]| {
        setup_receiver(encapsulated, &hex(RECEIVER), &info)?.open(aad, &hex(SEALED))
    };
    assert_eq!(open(&hex(ENCAPSULATED), aad).unwrap(), hex(PLAIN));
    assert_eq!(open(&hex(ENCAPSULATED), b"Count-1"), Err(HpkeError));
    assert_eq!(open(&hex(RECEIVER_PUBLIC), aad), Err(HpkeError));
}

/// Public keys whose shared secret is zero for every private key (RFC 7748, section 6.1). Most have no order at all on
/// the curve, and some are not reduced.
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn public_keys_of_low_order_are_refused() {
    for public in LOW_ORDER {
        assert!(setup_sender(&hex(public), b"").is_err(), "{public}");
        assert!(setup_receiver(&hex(public), &hex(RECEIVER), b"").is_err(), "{public}");
    }
}

#[test]
fn what_has_a_wrong_length_is_refused() {
    for length in [0, 1, 31, 33, 64] {
        let bytes = vec![9; length];
        assert!(setup_sender(&bytes, b"").is_err(), "{length}");
        assert!(setup_receiver(&bytes, &hex(RECEIVER), b"").is_err(), "{length}");
        assert!(setup_receiver(&hex(ENCAPSULATED), &bytes, b"").is_err(), "{length}");
        assert!(seal(&bytes, &[0; 12], b"", b"").is_err(), "{length}");
        assert!(open(&[0; 16], &bytes, b"", &[0; 32]).is_err(), "{length}");
        assert!(open(&[0; 16], &[0; 12], b"", &bytes).is_err(), "{length}");
    }
    assert!(expand(&[1; 32], b"", &mut vec![0; 255 * 32]).is_ok());
    assert!(expand(&[1; 32], b"", &mut vec![0; 255 * 32 + 1]).is_err());
}

proptest! {
    #[test]
    fn a_message_opens_as_it_was_and_not_when_it_was_changed(
        material: [u8; 32], info in any::<Vec<u8>>(), aad in any::<Vec<u8>>(), plain in any::<Vec<u8>>(),
        at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let (private, public) = derive_key_pair(&material).unwrap();
        let (encapsulated, sender) = setup_sender(&public, &info).unwrap();
        let mut sealed = sender.seal(&aad, &plain).unwrap();
        let open = |sealed: &[u8]| {
            setup_receiver(&encapsulated, &*private, &info).unwrap().open(&aad, sealed)
        };
        prop_assert_eq!(open(&sealed), Ok(plain));
        let at = at.index(sealed.len());
        sealed[at] ^= flip;
        prop_assert_eq!(open(&sealed), Err(HpkeError));
    }
}
