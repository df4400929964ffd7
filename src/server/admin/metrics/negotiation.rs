//! Which format a client wants, by its `Accept` header (RFC 9110, section 12.5.1).

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// OpenMetrics if the client accepts it at least as much as plain text. A client that says nothing gets
    /// the older format, which every program reads.
    pub fn accepted_by(accept: &str) -> Self {
        let quality = |wanted: fn(&Range<'_>) -> bool| {
            let ranges = accept.split(',').filter_map(Range::parse);
            ranges.filter(wanted).map(|range| range.quality).fold(0.0, f64::max)
        };
        let open_metrics = quality(|range| range.is_open_metrics());
        match open_metrics > 0.0 && open_metrics >= quality(|range| range.is_plain_text()) {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// The content type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// One element of the header.
struct Range<'a> {
    media_type: String,
    version: Option<&'a str>,
    quality: f64,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next()?.to_ascii_lowercase();
        let mut range = Range { media_type, version: None, quality: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => range.version = Some(value),
                "q" => range.quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
                _ => {}
            }
        }
        Some(range)
    }

    fn is_open_metrics(&self) -> bool {
        self.media_type == "application/openmetrics-text"
            && self.version.is_none_or(|version| version == "1.0.0")
    }

    fn is_plain_text(&self) -> bool {
        self.media_type == "text/plain"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_client_prefers() {
        use Format::{OpenMetrics, Prometheus};
        for (accept, format) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/plain", Prometheus),
            ("text/html, */*;q=0.1", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text;version=\"1.0.0\"", OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Prometheus),
            ("application/openmetrics-text;q=0, text/plain", Prometheus),
            ("application/openmetrics-text;q=x", Prometheus),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.5", Prometheus),
            // Prometheus 2.42 and 3.0, as they ask.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                 escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            (",;=,;q=;;", Prometheus),
        ] {
            assert_eq!(Format::accepted_by(accept), format, "{accept}");
        }
    }
}
