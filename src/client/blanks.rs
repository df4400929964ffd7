//! Sentences with blanks: `{}` stands for a name, a number or another text.

/// A text with its blanks filled, in order.
pub fn fill(sentence: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let mut out = String::new();
    let mut pieces = sentence.split("{}");
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        out.push_str(values.next().unwrap_or(&""));
        out.push_str(piece);
    }
    out
}

/// The texts in place of the blanks of `pattern`, if the text fits it.
pub fn match_blanks<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut pieces = pattern.split("{}");
    let mut rest = text.strip_prefix(pieces.next()?)?;
    let mut values = Vec::new();
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let end = match pieces.peek() {
            None => rest.len().checked_sub(piece.len()).filter(|_| rest.ends_with(piece))?,
            Some(_) => rest.find(piece)?,
        };
        values.push(&rest[..end]);
        rest = &rest[end + piece.len()..];
    }
    rest.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_filled_in_order() {
        assert_eq!(fill("{} and {}", &["a", "b"]), "a and b");
        assert_eq!(fill("{}", &[]), "");
        assert_eq!(fill("none", &["x"]), "none");
    }

    #[test]
    fn blanks_are_found_where_the_rest_fits() {
        assert_eq!(match_blanks("{} is {}; go", "x is y; go"), Some(vec!["x", "y"]));
        assert_eq!(match_blanks("a {}", "a "), Some(vec![""]));
        assert_eq!(match_blanks("same", "same"), Some(vec![]));
        assert_eq!(match_blanks("{} is {}; go", "x is y"), None);
        assert_eq!(match_blanks("same", "other"), None);
    }
}
