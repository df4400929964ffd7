//! A search for a text where it must not be: in frames, in the server's files, and in its memory. A plain room's text is
//! the control: the same search must find it.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::proxy::Proxy;
use super::{Member, ROOM, open_room};
use crate::support::server::Server;

/// Read from memory at a time.
const PIECE: usize = 1 << 20;

/// A text in the forms in which it could be found: as it is, and in base64 at each of the three places of a group.
pub struct Encoded(Vec<Vec<u8>>);

impl Encoded {
    pub fn of(text: &str) -> Self {
        let mut forms = vec![text.as_bytes().to_vec()];
        for shift in 0..3 {
            let padded = [&vec![0; shift][..], text.as_bytes()].concat();
            for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                // The first and the last characters depend on what is around the text.
                forms.push(encoded.as_bytes()[4..encoded.len() - 3].to_vec());
            }
        }
        Encoded(forms)
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    }
}

/// The first of the frames that holds the text.
pub fn in_frames<'a>(frames: &'a [Value], text: &Encoded) -> Option<&'a Value> {
    frames.iter().find(|frame| text.is_in(frame.to_string().as_bytes()))
}

/// Whether a file in this folder holds the text.
fn in_folder(folder: &Path, text: &Encoded) -> bool {
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).any(|entry| {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => in_folder(&entry.path(), text),
            kind if kind.is_file() => text.is_in(&std::fs::read(entry.path()).unwrap()),
            _ => false,
        }
    })
}

/// Which of these texts the memory of a process holds.
fn in_memory(pid: u32, texts: [&Encoded; 2]) -> [bool; 2] {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = [false; 2];
    let mut piece = vec![0; PIECE];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [mut at, end] = [start, end].map(|one| u64::from_str_radix(one, 16).unwrap());
        while at < end {
            let length = PIECE.min((end - at) as usize);
            let Ok(count) = memory.read_at(&mut piece[..length], at) else { break };
            for (found, text) in found.iter_mut().zip(texts) {
                *found |= text.0.iter().any(|form| contains(&piece[..count], form));
            }
            // Pieces overlap, so that no text is cut.
            at += if count > 256 && at + (count as u64) < end {
                count as u64 - 256
            } else {
                count.max(1) as u64
            };
        }
    }
    found
}

/// Whether `form` is in the bytes, found by its first byte.
fn contains(bytes: &[u8], form: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == form[0]) {
        if rest[at..].starts_with(form) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[test]
fn a_text_of_an_end_to_end_room_is_in_no_frame_no_file_and_no_memory_of_the_server() {
    let server = Server::start();
    let proxies = [Proxy::before(&server), Proxy::before(&server)];
    let ana = Member::new(&server, "ana").through(&proxies[0].url());
    let bob = Member::new(&server, "bob").through(&proxies[1].url());
    let listener = open_room(ROOM, &ana, &[&bob]).remove(0);
    let secret: String =
        (0..40).map(|number| format!("secret-{number:02}-of-the-plus-room ")).collect();
    let (secret_part, open_part) = ("secret-21-of-the-plus-room", "open-21-of-the-plain-room");
    ana.send(ROOM, secret.trim_end());
    let sent = proxies[0].client_frames();
    assert_eq!(in_frames(&sent, &Encoded::of(secret_part)), None);
    listener.wait_for_text(secret.trim_end());
    let open: String =
        (0..40).map(|number| format!("open-{number:02}-of-the-plain-room ")).collect();
    ana.send("lobby", open.trim_end());
    let (secret, open) = (Encoded::of(secret_part), Encoded::of(open_part));
    for proxy in &proxies {
        for frames in [proxy.client_frames(), proxy.server_frames()] {
            assert!(!frames.is_empty());
            assert_eq!(in_frames(&frames, &secret), None);
        }
    }
    // The control in the capture: a name, which is in the clear.
    assert!(in_frames(&proxies[0].client_frames(), &Encoded::of("chat_message")).is_some());
    // The server seals what it keeps, so the control in its files is something else that is in the clear.
    assert!(in_folder(&server.state(), &Encoded::of("SQLite format 3")));
    assert!(!in_folder(&server.state(), &secret));
    let [has_secret, has_open] = in_memory(server.pid(), [&secret, &open]);
    assert!(has_open, "the search finds the plain room's text in the server's memory");
    assert!(!has_secret, "the server's memory holds the text of the end-to-end room");
}
