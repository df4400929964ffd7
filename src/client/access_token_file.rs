//! The file of `--access-token-file`: a regular file, or a pipe as a shell makes it (`<(pass show chat)`).

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::exit_code::{ExitCode, Refusal, print_error};

/// Largest file with an access token, in bytes.
const MAX_BYTES: u64 = 4096;
/// How long a pipe may take to bring the access token.
const PIPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads an access token. An error names the file, what is wrong, and the next step.
pub fn read_access_token(file: &Path) -> Result<String, Refusal> {
    let wrong =
        |why: String| (ExitCode::Usage, format!("--access-token-file {}: {why}", file.display()));
    let unreadable = |error: io::Error| wrong(format!("can't be read: {error}"));
    // Opening a socket or a device can fail or act, so it is not tried.
    let found = std::fs::metadata(file).map_err(unreadable)?;
    if let Some(kind) = unfit(found.file_type()) {
        return Err(wrong(format!("is a {kind}; name a file with an access token")));
    }
    // Without the flag, opening a FIFO waits for a writer (fifo(7)).
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(file)
        .map_err(unreadable)?;
    warn_if_readable(file, &found);
    let bytes = match found.is_file() {
        true => read_file(opened),
        false => read_pipe(opened),
    };
    let bytes = bytes.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => {
            let time = humantime::format_duration(PIPE_TIMEOUT);
            wrong(format!("no access token came through this pipe within {time}"))
        }
        _ => unreadable(error),
    })?;
    read_token(&bytes).map_err(|why| wrong(why.into()))
}

/// The kind of a file that holds no access token.
fn unfit(kind: FileType) -> Option<&'static str> {
    if kind.is_dir() {
        Some("directory")
    } else if kind.is_socket() {
        Some("socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("device")
    } else {
        None
    }
}

/// Warns of a file with an access token that other users can read.
pub fn warn_if_readable(file: &Path, found: &Metadata) {
    let mode = found.permissions().mode() & 0o7777;
    if found.is_file() && mode & 0o077 != 0 {
        let file = file.display();
        print_error(&format!(
            "{file}: other users can read the access token (mode {mode:04o}); run: chmod 600 {file}"
        ));
    }
}

fn read_file(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a pipe to its end. A writer that opens it later is waited for.
fn read_pipe(mut pipe: File) -> io::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 512]);
    let deadline = Instant::now() + PIPE_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        // A FIFO that no writer has opened yet is not at its end for poll(2), but is for read(2).
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN | Errno::INTR) => {}
                _ => return Err(error),
            },
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Ok(bytes);
        }
    }
}

/// The access token in the bytes of a file.
fn read_token(bytes: &[u8]) -> Result<String, &'static str> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err("is too large for an access token");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8, so it is no access token")?;
    let token = text.trim_start_matches('\u{feff}').trim();
    if token.is_empty() {
        return Err("contains no access token");
    }
    match token.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Err("contains more than an access token; leave one line with the access token"),
        false => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_an_access_token() {
        for (bytes, token) in [
            (&b"sct_x\n"[..], Ok("sct_x")),
            (b"\xef\xbb\xbfsct_x\r\n", Ok("sct_x")),
            (b" \n", Err("contains no")),
            (b"", Err("contains no")),
            (b"sct_x\nsct_y\n", Err("more than")),
            (b"\xff\xfes\0", Err("not UTF-8")),
            (&[b'x'; 5000], Err("too large")),
        ] {
            match (read_token(bytes), token) {
                (Ok(read), Ok(token)) => assert_eq!(read, token),
                (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
                (read, _) => panic!("{read:?}, not {token:?}"),
            }
        }
    }
}
