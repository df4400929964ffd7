//! The access token that an HTTP request carries in its `Authorization` header (RFC 9110,
//! section 11.6.2).

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::header::{self, HeaderMap};
use zeroize::Zeroizing;

/// Clients differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The token of `Bearer TOKEN` (RFC 6750), or the password of `Basic` (RFC 7617) with any user name.
/// `None` without the header, with another scheme, and if the header is repeated or broken: a proxy
/// may use it for a purpose of its own, so such a header is no error.
pub fn access_token(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.trim().split_once(' ')?;
    let credentials = credentials.trim_start();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        Zeroizing::new(credentials.to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = Zeroizing::new(BASE64.decode(credentials).ok()?);
        let (_, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Zeroizing::new(password.to_owned())
    } else {
        return None;
    };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use hyper::header::HeaderValue;

    use super::*;

    fn token(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        access_token(&headers).map(|token| token.to_string())
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn a_token_is_read_from_bearer_and_from_basic() {
        for value in ["Bearer sct_x", "bearer   sct_x ", &basic("any:sct_x"), &basic(":sct_x")] {
            assert_eq!(token(&[value]).as_deref(), Some("sct_x"), "{value}");
        }
        assert_eq!(token(&[&basic("a:b:c")]).as_deref(), Some("b:c"));
        assert_eq!(token(&[basic("x:sct_x").trim_end_matches('=')]).as_deref(), Some("sct_x"));
    }

    #[test]
    fn every_other_header_carries_none() {
        let not_utf8 = format!("Basic {}", STANDARD.encode(b"a:\xff"));
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic",
            "Basic !",
            "Digest username=x",
            &basic("no colon"),
            &basic("a:"),
            &not_utf8,
        ] {
            assert_eq!(token(&[value]), None, "{value}");
        }
        assert_eq!(token(&[]), None);
        assert_eq!(token(&["Bearer a", "Bearer b"]), None);
    }
}
