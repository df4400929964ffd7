//! Numbers, sizes and times as people read them.

use std::time::Duration;

/// A number with a comma after every three digits: `1,204,331`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things: `1 message`, `1,204 messages`.
pub fn things(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

/// A number per second: `0.03`, `0.5`, `12.4`, `1,204`.
pub fn rate(per_second: f64) -> String {
    // The maximum is 0 also if the value is no number.
    match per_second.max(0.0) {
        0.0 => "0".into(),
        rate if rate < 0.005 => "<0.01".into(),
        rate if rate < 0.095 => format!("{rate:.2}"),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    }
}

/// A number of bytes in binary units: `310 B`, `1.2 KiB`, `18 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // A value that would be rounded to 1024 is one of the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value {
        value if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        value => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A time span in its two largest units: `12 s`, `5 min`, `3 h 12 min`, `4 d 2 h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{} {unit}", count(large)),
        _ => format!("{} {unit} {small} {small_unit}", count(large)),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => two(minutes, "min", seconds % 60, "s"),
        600..3600 => format!("{minutes} min"),
        3600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rates_have_few_digits() {
        assert_eq!([0, 999, 1_000, 1_204_331].map(count), ["0", "999", "1,000", "1,204,331"]);
        assert_eq!([0, 1, 1_000].map(|n| things(n, "key")), ["0 keys", "1 key", "1,000 keys"]);
        let rates =
            [0.0, -1.0, f64::NAN, 0.001, 0.005, 0.0949, 0.1, 0.25, 12.44, 99.94, 99.96, 1e4];
        let shown =
            ["0", "0", "0", "<0.01", "0.01", "0.09", "0.1", "0.2", "12.4", "99.9", "100", "10,000"];
        assert_eq!(rates.map(rate), shown);
    }

    #[test]
    fn sizes_have_two_or_three_digits_and_a_unit() {
        let sizes = [0, 1023, 1024, 1_300, 10_240, 18 << 20, (1 << 20) - 1, 3 << 30, u64::MAX];
        let shown = [
            "0 B", "1023 B", "1.0 KiB", "1.3 KiB", "10 KiB", "18 MiB", "1.0 MiB", "3.0 GiB",
            "16 EiB",
        ];
        assert_eq!(sizes.map(bytes), shown);
    }

    #[test]
    fn times_have_at_most_two_units() {
        let seconds = [0, 59, 60, 61, 599, 600, 3_599, 3_600, 11_520, 86_399, 86_400, 352_800];
        let shown = [
            "0 s",
            "59 s",
            "1 min",
            "1 min 1 s",
            "9 min 59 s",
            "10 min",
            "59 min",
            "1 h",
            "3 h 12 min",
            "23 h 59 min",
            "1 d",
            "4 d 2 h",
        ];
        assert_eq!(seconds.map(|seconds| span(Duration::from_secs(seconds))), shown);
    }
}
