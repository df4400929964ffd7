//! Reading the configuration file as TOML.

use std::io::Read as _;
use std::path::Path;

use super::error::Problem;

/// Largest configuration file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a file of at most 1 MiB of UTF-8 as TOML.
pub(super) fn read(path: &Path) -> Result<toml::Table, Problem> {
    let unreadable =
        |reason: String| Problem::Unreadable { file: path.display().to_string(), reason };
    let file = std::fs::File::open(path).map_err(|error| {
        unreadable(format!("can't be opened ({error}); name another file with --config"))
    })?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unreadable("is a directory; name a file with --config".into()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(format!("can't be read ({error})")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable("is larger than 1 MiB, the limit for a configuration file".into()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    })?;
    text.parse::<toml::Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let before = &text.as_bytes()[..start];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Problem::Syntax {
            file: path.display().to_string(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
            reason: error.message().replace('\n', "; "),
        }
    })
}
