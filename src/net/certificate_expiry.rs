//! When a certificate expires: `notAfter` of an X.509 certificate (RFC 5280, section 4.1.2.5).
//!
//! rustls reads the field only when it verifies a peer, and a server does not verify itself.

use crate::protocol::Timestamp;

/// The moment after which the certificate (DER) is not valid; `None` if it can't be read.
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
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
