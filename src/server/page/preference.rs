//! What a client accepts, by its `Accept` and `Accept-Encoding` headers (RFC 9110, section 12.5).

use hyper::header::{self, HeaderMap, HeaderName};

/// Whether the client asks for HTML by its name, as browsers do. `*/*` is no such wish: programs that ask for
/// anything get the answer for programs.
pub fn wants_html(headers: &HeaderMap) -> bool {
    quality(headers, &header::ACCEPT, "text/html").is_some_and(|quality| quality > 0.0)
}

/// Whether the client can unpack gzip. A client that says nothing gets the content as it is.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let named = |coding| quality(headers, &header::ACCEPT_ENCODING, coding);
    let gzip = named("gzip").or_else(|| named("x-gzip")).or_else(|| named("*"));
    gzip.is_some_and(|quality| quality > 0.0)
}

/// The weight of an element of a header with weights; `None` if the header does not name it.
fn quality(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> Option<f32> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let elements = values.flat_map(|value| value.split(','));
    let weights = elements.filter_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let is_wanted = parts.next()?.eq_ignore_ascii_case(wanted);
        is_wanted.then(|| parts.find_map(weight).unwrap_or(1.0))
    });
    weights.reduce(f32::max)
}

/// The value of the parameter `q`. One that is no weight counts as zero.
fn weight(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    let value = || value.trim().parse().ok().filter(|weight| (0.0..=1.0).contains(weight));
    name.trim().eq_ignore_ascii_case("q").then(|| value().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_str(value).unwrap());
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn only_a_client_that_names_html_gets_the_page() {
        for (accept, wants) in [
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"][..], true),
            (&["TEXT/HTML ; charset=utf-8"], true),
            (&["application/json", "text/html;q=0.1"], true),
            (&["text/html;q=0"], false),
            (&["text/html;q=0.000, */*"], false),
            (&["text/html;q=x"], false),
            (&["text/html;q=2"], false),
            (&["text/html; q=0, text/html"], true),
            (&["*/*"], false),
            (&["text/*"], false),
            (&["text/htmlx"], false),
            (&[""], false),
            (&[], false),
        ] {
            assert_eq!(wants_html(&headers(header::ACCEPT, accept)), wants, "{accept:?}");
        }
    }

    #[test]
    fn gzip_is_sent_to_clients_that_take_it() {
        for (accepted, takes) in [
            (&["gzip, deflate, br, zstd"][..], true),
            (&["br;q=1.0, GZIP;q=0.2"], true),
            (&["x-gzip"], true),
            (&["*"], true),
            (&["*;q=0.5, gzip;q=0"], false),
            (&["gzip;q=0"], false),
            (&["identity"], false),
            (&["*;q=0"], false),
            (&[""], false),
            (&[], false),
        ] {
            let headers = headers(header::ACCEPT_ENCODING, accepted);
            assert_eq!(takes_gzip(&headers), takes, "{accepted:?}");
        }
    }
}
