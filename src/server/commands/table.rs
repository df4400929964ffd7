//! Tables for people: aligned columns with a header, whatever the names look like.

use serde_json::Value;

use super::units;

/// A column of a table.
pub struct Column {
    /// The key of the column's values in the JSON answer.
    key: &'static str,
    /// The name in the header, with the unit.
    header: &'static str,
    kind: Kind,
}

/// What the values of a column are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Count,
    Bytes,
    Seconds,
}

impl Column {
    /// A column of words; an array is one word per element.
    pub const fn text(key: &'static str, header: &'static str) -> Self {
        Column { key, header, kind: Kind::Text }
    }

    /// A column of numbers.
    pub const fn count(key: &'static str, header: &'static str) -> Self {
        Column { key, header, kind: Kind::Count }
    }

    /// A column of sizes.
    pub const fn bytes(key: &'static str, header: &'static str) -> Self {
        Column { key, header, kind: Kind::Bytes }
    }

    /// A column of time spans, which the answer gives in seconds.
    pub const fn seconds(key: &'static str, header: &'static str) -> Self {
        Column { key, header, kind: Kind::Seconds }
    }

    fn cell(&self, row: &Value) -> String {
        let value = &row[self.key];
        match (self.kind, value.as_u64()) {
            (Kind::Count, Some(number)) => units::count(number),
            (Kind::Bytes, Some(bytes)) => units::bytes(bytes),
            (Kind::Seconds, Some(seconds)) => units::span(std::time::Duration::from_secs(seconds)),
            _ => cell(value),
        }
    }
}

/// Formats rows of an answer: words on the left, numbers on the right of their columns. Fields of the
/// rows that are no column are not shown.
pub fn format(rows: &[Value], columns: &[Column]) -> String {
    if rows.is_empty() {
        return "none\n".into();
    }
    let header = columns.iter().map(|column| column.header.to_owned()).collect();
    let cells = |row: &Value| columns.iter().map(|column| column.cell(row)).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(cells)).collect();
    let is_left: Vec<bool> = columns.iter().map(|column| column.kind == Kind::Text).collect();
    align(&lines, &is_left)
}

/// The rows of an answer whose columns are not known: all keys of the rows.
pub fn format_any(rows: &[Value]) -> String {
    let mut names: Vec<&String> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.is_empty() {
        return "none\n".into();
    }
    let header = names.iter().map(|name| printable(name)).collect();
    let cells = |row: &Value| names.iter().map(|name| cell(&row[*name])).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(cells)).collect();
    align(&lines, &vec![true; names.len()])
}

fn align(lines: &[Vec<String>], is_left: &[bool]) -> String {
    let widths: Vec<usize> = (0..is_left.len())
        .map(|column| lines.iter().map(|line| width(&line[column])).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for ((cell, column_width), is_left) in line.iter().zip(&widths).zip(is_left) {
            let blanks = " ".repeat(column_width - width(cell));
            let padded = if *is_left { [cell, &blanks[..]] } else { [&blanks[..], cell] };
            text.push_str(&padded.concat());
            text.push_str("  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// The columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// A value as a word of a table or a line.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => printable(text),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        other => printable(&other.to_string()),
    }
}

/// The text without characters that could control a terminal or turn the order of the text around.
pub fn printable(text: &str) -> String {
    crate::sys::log_line::without_control(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("user", "user"),
        Column::count("messages", "messages"),
        Column::bytes("bytes", "bytes"),
        Column::seconds("seconds", "since"),
    ];

    #[test]
    fn words_stand_on_the_left_and_numbers_on_the_right() {
        let rows = [
            json!({"user": "ana", "messages": 1204, "bytes": 2048, "seconds": 61, "new": "field"}),
            json!({"user": "日本語", "messages": 7, "bytes": 12, "seconds": null}),
        ];
        let expected = "user    messages    bytes      since\n\
                        ana        1,204  2.0 KiB  1 min 1 s\n\
                        日本語         7     12 B          -\n";
        assert_eq!(format(&rows, &COLUMNS), expected);
        assert_eq!(format(&[], &COLUMNS), "none\n");
    }

    #[test]
    fn no_cell_controls_the_terminal() {
        let rows = [json!({"user": "a\u{1b}[2Jb\r\n\u{202e}c\u{9b}", "messages": "\u{7}"})];
        for text in [format(&rows, &COLUMNS), format_any(&rows)] {
            assert_eq!(text.lines().count(), 2, "{text:?}");
            let is_plain = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
            assert!(text.chars().all(is_plain), "{text:?}");
            assert!(text.contains("a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}"), "{text:?}");
        }
    }

    #[test]
    fn rows_of_an_unknown_kind_show_every_field() {
        let rows = [json!({"room": "ops", "seq": 7}), json!({"room": "ñandú", "new": [1, 2]})];
        assert_eq!(format_any(&rows), "room   seq  new\nops    7    -\nñandú  -    1,2\n");
        assert_eq!(format_any(&[]), "none\n");
    }
}
