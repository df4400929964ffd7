//! The names that a certificate is valid for: its `subjectAltName` (RFC 5280, section 4.2.1.6).

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;

/// The host names of the certificate (DER) in their order, then its IP addresses. Names with a wildcard
/// are left out, because they are no address.
pub fn host_names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let (mut hosts, mut addresses) = (Vec::new(), Vec::new());
    for name in &names.value.general_names {
        match name {
            GeneralName::DNSName(name) if is_host_name(name) => hosts.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    hosts.extend(addresses);
    hosts
}

fn is_host_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()?;
    Some(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_addresses_and_wildcards_are_left_out() {
        let names = ["127.0.0.1", "*.chat.example", "chat.example", "2001:db8::1", "b.example"];
        let parameters = rcgen::CertificateParams::new(names.map(str::to_owned)).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        assert_eq!(host_names(&der), ["chat.example", "b.example", "127.0.0.1", "2001:db8::1"]);
        for length in 0..der.len() {
            assert_eq!(host_names(&der[..length]), [""; 0], "{length}");
        }
    }
}
