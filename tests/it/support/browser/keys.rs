//! Keys of a keyboard.

use serde_json::{Value, json};

/// The two events of a key, such as `Enter`, `Shift+Tab` or `x`.
pub fn events(key: &str) -> [Value; 2] {
    let (modifiers, name) = match key.rsplit_once('+') {
        Some((held, name)) if !held.is_empty() => (modifiers(held), name),
        _ => (0, key),
    };
    let (code, number, text) = match name {
        "Enter" => ("Enter".into(), 13, "\r".into()),
        "Tab" => ("Tab".into(), 9, String::new()),
        "Escape" => ("Escape".into(), 27, String::new()),
        "Backspace" => ("Backspace".into(), 8, String::new()),
        "ArrowUp" => ("ArrowUp".into(), 38, String::new()),
        "ArrowDown" => ("ArrowDown".into(), 40, String::new()),
        "Home" => ("Home".into(), 36, String::new()),
        "End" => ("End".into(), 35, String::new()),
        "PageUp" => ("PageUp".into(), 33, String::new()),
        "PageDown" => ("PageDown".into(), 34, String::new()),
        " " => ("Space".into(), 32, " ".into()),
        other => {
            let first = other.chars().next().expect("a key");
            let number = first.to_ascii_uppercase() as u32;
            (format!("Key{}", first.to_ascii_uppercase()), number, other.to_owned())
        }
    };
    let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
    let event = |kind: &str| {
        json!({"type": kind, "key": name, "code": code, "text": text, "unmodifiedText": text,
            "windowsVirtualKeyCode": number, "modifiers": modifiers})
    };
    [event(down), event("keyUp")]
}

fn modifiers(held: &str) -> u8 {
    let bit = |name: &str| match name {
        "Alt" => 1,
        "Control" => 2,
        "Shift" => 8,
        other => panic!("no such key: {other}"),
    };
    held.split('+').map(bit).sum()
}
