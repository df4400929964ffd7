//! Long texts in lines that fit a terminal.

use super::table::width;

/// Breaks a text between words into at most `max_lines` lines of `room` columns. A text that is too
/// long ends with `…`.
pub fn wrap(value: &str, room: usize, max_lines: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in value.split(' ') {
        let line = lines.last_mut().expect("there is one");
        let needed = width(line) + usize::from(!line.is_empty()) + width(word);
        if needed <= room {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            continue;
        }
        if lines.len() == max_lines {
            cut(lines.last_mut().expect("there is one"), room);
            return lines;
        }
        lines.push(word.to_owned());
        if width(word) > room {
            cut(lines.last_mut().expect("there is one"), room);
        }
    }
    lines.retain(|line| !line.is_empty());
    if lines.is_empty() { vec![String::new()] } else { lines }
}

/// Shortens a line until `…` fits at its end.
fn cut(line: &mut String, room: usize) {
    while width(line) + 2 > room {
        line.pop();
    }
    line.push_str(" …");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_wrapped_between_words_and_cut() {
        let room = 65;
        let wrapped = wrap(&"word ".repeat(100), 65, 3);
        assert_eq!(wrapped.len(), 3);
        assert!(wrapped.iter().all(|line| width(line) <= room), "{wrapped:?}");
        assert!(wrapped.last().unwrap().ends_with(" …"));
        assert!(width(&wrap(&"語".repeat(100), 65, 3).concat()) <= 2 * room);
        assert_eq!(wrap("one two", 65, 1), ["one two"]);
        assert_eq!(wrap("", 65, 1), [""]);
    }
}
