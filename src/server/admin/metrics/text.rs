//! Writes metrics in the text format of Prometheus (version 0.0.4) or as OpenMetrics 1.0.

use std::fmt::{self, Write as _};

use super::family::{Family, Kind, Value};
use super::negotiation::Format;

/// The units that names end in (before `_total`), which OpenMetrics names in a line of their own.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// Writes the families.
pub fn write(families: &[Family], format: Format) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let written = families.iter().try_for_each(|family| family.write(&mut out, format));
    written.expect("a string takes every text");
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

impl Family {
    fn write(&self, out: &mut String, format: Format) -> fmt::Result {
        let Family { name, help, .. } = self;
        // In OpenMetrics a family has the name without the suffix of its samples.
        let (family, kind) = match (format, self.kind) {
            (Format::OpenMetrics, Kind::Counter) => (name.trim_end_matches("_total"), "counter"),
            (Format::OpenMetrics, Kind::Info) => (name.trim_end_matches("_info"), "info"),
            (_, Kind::Counter) => (*name, "counter"),
            (_, Kind::Gauge | Kind::Info) => (*name, "gauge"),
            (_, Kind::Histogram) => (*name, "histogram"),
        };
        writeln!(out, "# HELP {family} {help}")?;
        writeln!(out, "# TYPE {family} {kind}")?;
        let unit = UNITS.iter().find(|unit| family.ends_with(&format!("_{unit}")));
        if let (Format::OpenMetrics, Some(unit)) = (format, unit) {
            writeln!(out, "# UNIT {family} {unit}")?;
        }
        self.samples.iter().try_for_each(|(word, value)| self.write_sample(out, word, value))
    }

    fn write_sample(&self, out: &mut String, word: &str, value: &Value) -> fmt::Result {
        let Family { name, label, .. } = self;
        let labels = match *label {
            "" => String::new(),
            label => format!("{{{label}=\"{word}\"}}"),
        };
        match value {
            Value::Integer(value) => writeln!(out, "{name}{labels} {value}"),
            Value::Float(value) => writeln!(out, "{name}{labels} {value}"),
            Value::Histogram(histogram) => {
                for (bound, count) in &histogram.buckets {
                    writeln!(out, "{name}_bucket{{le=\"{bound:?}\"}} {count}")?;
                }
                writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", histogram.count)?;
                writeln!(out, "{name}_sum {}\n{name}_count {}", histogram.sum, histogram.count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::counters::Histogram;
    use std::time::Duration;

    fn families() -> Vec<Family> {
        let histogram = Histogram::default();
        histogram.observe_all([Duration::from_millis(1), Duration::from_secs(60)]);
        let info = vec![("1.2.3", Value::Integer(1))];
        vec![
            Family::new(Kind::Info, "x_build_info", "A version.", "version", info),
            Family::counter("x_read_bytes_total", "Bytes read.", 7_u64),
            Family::gauge("x_ready", "Whether it is ready.", true),
            Family::histogram("x_wait_seconds", "Waits.", &histogram),
        ]
    }

    #[test]
    fn the_older_format_names_families_like_their_samples() {
        let text = write(&families(), Format::Prometheus);
        let start = "# HELP x_build_info A version.\n# TYPE x_build_info gauge\n\
            x_build_info{version=\"1.2.3\"} 1\n\
            # HELP x_read_bytes_total Bytes read.\n# TYPE x_read_bytes_total counter\n\
            x_read_bytes_total 7\n\
            # HELP x_ready Whether it is ready.\n# TYPE x_ready gauge\nx_ready 1\n\
            # HELP x_wait_seconds Waits.\n# TYPE x_wait_seconds histogram\n\
            x_wait_seconds_bucket{le=\"0.0001\"} 0\n";
        assert_eq!(&text[..start.len()], start);
        let end = "x_wait_seconds_bucket{le=\"10.0\"} 1\nx_wait_seconds_bucket{le=\"+Inf\"} 2\n\
            x_wait_seconds_sum 60.001\nx_wait_seconds_count 2\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn open_metrics_has_units_and_an_end() {
        let text = write(&families(), Format::OpenMetrics);
        for part in [
            "# TYPE x_build info\nx_build_info{version=\"1.2.3\"} 1\n",
            "# TYPE x_read_bytes counter\n# UNIT x_read_bytes bytes\nx_read_bytes_total 7\n",
            "# TYPE x_ready gauge\nx_ready 1\n",
            "# UNIT x_wait_seconds seconds\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.ends_with("x_wait_seconds_count 2\n# EOF\n"), "{text}");
    }
}
