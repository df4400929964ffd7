//! Draws a QR code (ISO/IEC 18004) for a terminal: two modules per character, with half blocks.

use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the code, which readers need (ISO/IEC 18004, section 9.1).
const QUIET_ZONE: i32 = 4;
/// Black on white of the 256 colours, whatever the colours of the terminal are.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const NO_COLOUR: &str = "\x1b[0m";

/// A QR code.
pub struct Drawing(QrCode);

impl Drawing {
    /// The code of a text; `None` if the text is too long for one.
    pub fn of(text: &str) -> Option<Self> {
        QrCode::encode_text(text, QrCodeEcc::Low).ok().map(Drawing)
    }

    /// The columns that the drawing takes.
    pub fn columns(&self) -> usize {
        (self.0.size() + 2 * QUIET_ZONE) as usize
    }

    /// The lines of the drawing. With `colours` it is black on white. Without them it is made of light
    /// characters, for a dark terminal.
    pub fn lines(&self, colours: bool) -> String {
        let last = self.0.size() + QUIET_ZONE;
        let mut out = String::new();
        for y in (-QUIET_ZONE..last).step_by(2) {
            out.push_str(if colours { BLACK_ON_WHITE } else { "" });
            for x in -QUIET_ZONE..last {
                // Outside of the code every module is light. The last row may be half a character.
                let upper = self.0.get_module(x, y) == colours;
                let lower = self.0.get_module(x, y + 1) == colours;
                out.push(match (upper, lower) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            out.push_str(if colours { NO_COLOUR } else { "" });
            out.push('\n');
        }
        out
    }
}

/// Whether the locale's characters are UTF-8 (locale(7)).
pub fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "https://abcd-203-0-113-7.ngrok-free.app/#sct_w7_0x8-9RtI4jtRR7o8Th8_eQsKImvJapLeSbXpwF4A";

    /// The modules of a drawing, without the colours; `true` is a drawn half block.
    fn halves(lines: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in lines.lines() {
            let line = line.replace(BLACK_ON_WHITE, "").replace(NO_COLOUR, "");
            rows.push(line.chars().map(|c| matches!(c, '█' | '▀')).collect());
            rows.push(line.chars().map(|c| matches!(c, '█' | '▄')).collect());
        }
        rows
    }

    #[test]
    fn an_invitation_fits_a_usual_terminal_with_a_quiet_zone_around_it() {
        let drawing = Drawing::of(TEXT).unwrap();
        let lines = drawing.lines(true);
        assert!(drawing.columns() <= 49 && lines.lines().count() <= 25);
        let rows = halves(&lines);
        assert!(rows.iter().all(|row| row.len() == drawing.columns()));
        let dark = |x: usize, y: usize| rows[y][x];
        // The corner of the first finder pattern, and the quiet zone before it.
        assert!((0..7).all(|at| dark(4 + at, 4) && dark(4, 4 + at)) && !dark(5, 5));
        for at in 0..drawing.columns() {
            assert!((0..4).all(|edge| !dark(at, edge) && !dark(edge, at)), "{at}");
        }
    }

    #[test]
    fn without_colours_the_light_modules_are_drawn() {
        let drawing = Drawing::of(TEXT).unwrap();
        let (dark, light) = (halves(&drawing.lines(true)), halves(&drawing.lines(false)));
        for (dark, light) in dark.iter().flatten().zip(light.iter().flatten()) {
            assert_ne!(dark, light);
        }
        assert!(!drawing.lines(false).contains('\x1b'));
    }

    #[test]
    fn a_text_that_is_too_long_has_no_code() {
        assert!(Drawing::of(&"x".repeat(3000)).is_none());
    }

    #[test]
    fn the_first_locale_variable_that_is_set_counts() {
        let locale = |set: &'static [(&str, &str)]| {
            is_utf8(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(locale(&[("LANG", "es_ES.UTF-8")]) && locale(&[("LC_CTYPE", "C.utf8")]));
        assert!(!locale(&[]) && !locale(&[("LANG", "C")]));
        assert!(!locale(&[("LC_ALL", "POSIX"), ("LANG", "C.UTF-8")]));
    }
}
