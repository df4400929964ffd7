//! When a certificate expires: `notAfter` of an X.509 certificate in DER (RFC 5280, section 4.1).
//!
//! rustls reads the field only when it verifies a peer, and a server does not verify itself.

use crate::protocol::Timestamp;

/// DER tags (X.690).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The moment after which the certificate is not valid; `None` if it can't be read.
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        // The serial number, the signature algorithm, the issuer.
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, after_first) = time(validity)?;
    time(after_first)?.0
}

/// A time at the start of `input`, and what follows it.
fn time(input: &[u8]) -> Option<(Option<Timestamp>, &[u8])> {
    if let Some((text, rest)) = element(input, UTC_TIME) {
        // Two digits of the year: 50 to 99 are in the last century (RFC 5280, section 4.1.2.5.1).
        let century = if *text.first()? >= b'5' { "19" } else { "20" };
        return Some((parse(century, text), rest));
    }
    let (text, rest) = element(input, GENERALIZED_TIME)?;
    Some((parse("", text), rest))
}

/// Parses `YYYYMMDDHHMMSSZ`, of which `century` may be the first two digits.
fn parse(century: &str, text: &[u8]) -> Option<Timestamp> {
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    if text.len() != 15 || !text.is_ascii() {
        return None;
    }
    let part = |range: std::ops::Range<usize>| &text[range];
    let (date, clock) =
        ((part(0..4), part(4..6), part(6..8)), (part(8..10), part(10..12), part(12..14)));
    Timestamp::parse(&format!(
        "{}-{}-{}T{}:{}:{}.000Z",
        date.0, date.1, date.2, clock.0, clock.1, clock.2
    ))
}

/// The content of the element at the start of `input`, if it has this tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    // Up to 127 the length is one byte; above, the byte says how many bytes the length has.
    let (length, rest) = match first {
        0..=127 => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["chat.example".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_the_validity_is_read() {
        for (year, expected) in [
            (2027, "2027-03-04T00:00:00.000Z"),
            (2049, "2049-03-04T00:00:00.000Z"),
            (2077, "2077-03-04T00:00:00.000Z"),
        ] {
            assert_eq!(not_after(&certificate(year)), Timestamp::parse(expected), "{year}");
        }
    }

    #[test]
    fn a_truncated_certificate_gives_nothing_and_does_not_panic() {
        let whole = certificate(2027);
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
        for position in 0..200.min(whole.len()) {
            let mut broken = whole.clone();
            broken[position] ^= 0xff;
            let _ = not_after(&broken);
        }
    }
}
