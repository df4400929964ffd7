//! Finding records in a file that SQLite no longer reads: every page is taken by itself, and every
//! value in it that opens under our key is one of ours. Nothing else needs to be trusted, because
//! a sealed record says itself what it is.
//!
//! The shapes are of the SQLite file format (sqlite.org/fileformat2.html): B-tree pages of
//! indexes, overflow pages, frames of the write-ahead log.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::schema::PAGE_BYTES;

const LOG_HEAD: u64 = 32;
const FRAME_HEAD: usize = 24;
/// Where the local part of a long cell ends, for pages of our size.
const MOST_LOCAL: usize = (PAGE_BYTES - 12) * 64 / 255 - 23;
const LEAST_LOCAL: usize = (PAGE_BYTES - 12) * 32 / 255 - 23;
/// No value of ours is longer.
const LONGEST: usize = 1 << 20;

/// Gives every value that looks like a sealed one to `take`, newest pages first.
pub(super) fn scan_pages(main: &Path, log: &Path, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let pages = Pages { main: optional(main)?, log: optional(log)?, newest: HashMap::new() };
    let frames = pages.log.as_ref().map_or(Ok(0), |log| -> io::Result<u64> {
        Ok(log.metadata()?.len().saturating_sub(LOG_HEAD) / (FRAME_HEAD + PAGE_BYTES) as u64)
    })?;
    let mut pages = pages;
    for frame in 0..frames {
        if let Some(number) = pages.frame_number(frame) {
            pages.newest.insert(number, frame);
        }
    }
    for frame in (0..frames).rev() {
        if let Some(page) = pages.frame(frame) {
            values(&page, &pages, &mut take);
        }
    }
    let length =
        pages.main.as_ref().map_or(Ok(0), |main| main.metadata().map(|data| data.len()))?;
    for number in 1..=length.div_ceil(PAGE_BYTES as u64) {
        if let Some(page) = pages.of_main(number) {
            values(&page, &pages, &mut take);
        }
    }
    Ok(())
}

fn optional(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

type PageBytes = [u8; PAGE_BYTES];

/// The main file and the log of commits as pages.
struct Pages {
    main: Option<File>,
    log: Option<File>,
    newest: HashMap<u32, u64>,
}

impl Pages {
    fn of_main(&self, number: u64) -> Option<PageBytes> {
        let start = number.checked_sub(1)?.checked_mul(PAGE_BYTES as u64)?;
        let mut page = [0; PAGE_BYTES];
        // The last page may be cut; what is there of it may still hold whole records.
        let mut filled = 0;
        while filled < PAGE_BYTES {
            match self.main.as_ref()?.read_at(&mut page[filled..], start + filled as u64) {
                Ok(0) | Err(_) => break,
                Ok(read) => filled += read,
            }
        }
        (filled > 0).then_some(page)
    }

    fn frame(&self, frame: u64) -> Option<PageBytes> {
        let mut page = [0; PAGE_BYTES];
        let start = frame_start(frame) + FRAME_HEAD as u64;
        self.log.as_ref()?.read_exact_at(&mut page, start).ok()?;
        Some(page)
    }

    fn frame_number(&self, frame: u64) -> Option<u32> {
        let mut number = [0; 4];
        self.log.as_ref()?.read_exact_at(&mut number, frame_start(frame)).ok()?;
        Some(u32::from_be_bytes(number))
    }

    fn newest(&self, number: u32) -> Option<PageBytes> {
        match self.newest.get(&number) {
            Some(frame) => self.frame(*frame),
            None => self.of_main(number.into()),
        }
    }
}

fn frame_start(frame: u64) -> u64 {
    LOG_HEAD + frame * (FRAME_HEAD + PAGE_BYTES) as u64
}

/// All values of one page that may be sealed ones. What the page says of itself may be damaged:
/// so its count of cells is not believed, and a page of unknown kind is tried as a leaf.
fn values(page: &PageBytes, pages: &Pages, take: &mut impl FnMut(&[u8])) {
    let (pointers, child) = if page[0] == 0x02 { (12, 4) } else { (8, 0) };
    for pointer in page[pointers..].chunks_exact(2) {
        let start = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
        if start < pointers || start + child >= PAGE_BYTES {
            continue;
        }
        if let Some(payload) = payload(&page[start + child..], pages) {
            columns(&payload, take);
        }
    }
}

/// What a cell holds, its overflow pages included.
fn payload(cell: &[u8], pages: &Pages) -> Option<Vec<u8>> {
    let (length, rest) = number(cell)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST)?;
    if length <= MOST_LOCAL {
        return rest.get(..length).map(<[u8]>::to_vec);
    }
    let surplus = LEAST_LOCAL + (length - LEAST_LOCAL) % (PAGE_BYTES - 4);
    let local = if surplus <= MOST_LOCAL { surplus } else { LEAST_LOCAL };
    let mut payload = rest.get(..local)?.to_vec();
    let mut next = u32::from_be_bytes(rest.get(local..local + 4)?.try_into().ok()?);
    while payload.len() < length {
        let page = pages.newest(next)?;
        let (follows, content) = page.split_first_chunk::<4>()?;
        payload.extend(&content[..content.len().min(length - payload.len())]);
        next = u32::from_be_bytes(*follows);
    }
    Some(payload)
}

/// Gives each blob of a row to `take`.
fn columns(payload: &[u8], take: &mut impl FnMut(&[u8])) -> Option<()> {
    let (head, _) = number(payload)?;
    let head = usize::try_from(head).ok()?;
    let mut kinds = payload.get(payload.len() - number(payload)?.1.len()..head)?;
    let mut values = payload.get(head..)?;
    while !kinds.is_empty() {
        let (kind, rest) = number(kinds)?;
        kinds = rest;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            kind => usize::try_from((kind - 12) / 2).ok()?,
        };
        let (value, rest) = values.split_at_checked(length)?;
        values = rest;
        if kind >= 12 && kind % 2 == 0 {
            take(value);
        }
    }
    Some(())
}

/// A number of one to nine bytes, the high bit of each but the ninth saying that it goes on.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        if index == 8 {
            return Some((value << 8 | u64::from(*byte), &bytes[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}
