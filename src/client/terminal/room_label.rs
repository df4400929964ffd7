//! How a room is named on the terminal: an end-to-end room differs from others by its first character.

use crate::client::display::one_line;
use crate::protocol::RoomName;

/// A room as it is shown: `#room`, or `+room` for an end-to-end room.
pub fn label(room: &str) -> String {
    let shown = one_line(room);
    if is_end_to_end(room) { shown } else { format!("#{shown}") }
}

/// Whether a room's name is that of an end-to-end room.
pub fn is_end_to_end(room: &str) -> bool {
    RoomName::parse(room).is_some_and(|room| room.is_end_to_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_to_end_room_is_marked_by_its_name() {
        assert_eq!((label("ops").as_str(), label("+ops").as_str()), ("#ops", "+ops"));
        assert_eq!(label("+\u{1b}"), "#+\\u{1b}", "what is no name of a room is none of these");
    }
}
