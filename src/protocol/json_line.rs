//! JSON as one line that is safe to print on a terminal.

/// Appends any other frame as one line of JSON.
pub fn write_json_line(frame: &str, out: &mut Vec<u8>) {
    push_safe_json(frame, out);
    out.push(b'\n');
}

/// Appends JSON text with the same value, safe to print as one line: line ends between values become
/// spaces, and characters that could control a terminal or split a line in another program are
/// escaped.
pub fn push_safe_json(json: &str, out: &mut Vec<u8>) {
    if !json.bytes().any(may_need_escape) {
        out.extend_from_slice(json.as_bytes());
        return;
    }
    for c in json.chars() {
        match c {
            '\n' | '\r' => out.push(b' '),
            _ if is_unprintable(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The first bytes of all characters that [`push_safe_json`] changes, and of some that it does not change.
pub fn may_need_escape(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0x7f | 0xc2 | 0xd8 | 0xe2 | 0xef | 0xf3)
}

/// Whether a character changes the terminal, the order of letters or the end of a line instead of
/// showing something: controls (C0, DEL, C1), line and paragraph separators, bidirectional and
/// other invisible format characters, and language tags.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}
