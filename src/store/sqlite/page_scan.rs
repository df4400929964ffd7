//! Finds sealed values in a file that SQLite can no longer read. Each page is read on its own, and
//! the caller keeps every value that opens under the key. Nothing else in the file needs to be
//! trusted, because a sealed record contains its room and its sequence number.
//!
//! The layouts are those of the SQLite file format (sqlite.org/fileformat2.html): B-tree pages of
//! indexes, overflow pages, frames of the write-ahead log.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::OpenError;
use super::opening::{Opening, OpeningStep, StepCounter};
use super::schema::PAGE_BYTES;

const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// If a cell overflows, between [`MIN_LOCAL_BYTES`] and [`MAX_LOCAL_BYTES`] of it stay on its page
/// (for pages of [`PAGE_BYTES`]).
const MAX_LOCAL_BYTES: usize = (PAGE_BYTES - 12) * 64 / 255 - 23;
const MIN_LOCAL_BYTES: usize = (PAGE_BYTES - 12) * 32 / 255 - 23;
/// Pages between two reports of progress.
const PAGES_PER_ADVANCE: u64 = 64;
/// The longest value in a store.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Calls `visit` with every blob found in the main file and in the write-ahead log, newest pages
/// first. Fails if a file can't be opened, or if `opening` is stopped.
pub(super) fn scan_pages(
    main: &Path,
    wal: &Path,
    opening: &Opening,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), OpenError> {
    let io_error = |error| OpenError::io(main, error);
    let stopped = |error| OpenError::sqlite(main, error);
    let source = PageSource::open(main, wal).map_err(io_error)?;
    let main_pages = source.main_page_count().map_err(io_error)?;
    let pages = source.frame_count + main_pages;
    opening.begin(OpeningStep::Scan, Some(pages)).map_err(stopped)?;
    let mut counter = StepCounter::new(opening, PAGES_PER_ADVANCE);
    for frame in (0..source.frame_count).rev() {
        counter.add().map_err(stopped)?;
        if let Some(page) = source.frame(frame) {
            scan_page(&page, &source, &mut visit);
        }
    }
    for number in 1..=main_pages {
        counter.add().map_err(stopped)?;
        if let Some(page) = source.main_page(number) {
            scan_page(&page, &source, &mut visit);
        }
    }
    Ok(())
}

type PageBytes = [u8; PAGE_BYTES];

/// The pages of the main file and of the write-ahead log. Either file may be missing.
struct PageSource {
    main: Option<File>,
    wal: Option<File>,
    frame_count: u64,
    /// The newest frame of each page number.
    newest_frames: HashMap<u32, u64>,
}

impl PageSource {
    fn open(main: &Path, wal: &Path) -> io::Result<Self> {
        let (main, wal) = (open_if_exists(main)?, open_if_exists(wal)?);
        let frame_count = match &wal {
            Some(wal) => {
                wal.metadata()?.len().saturating_sub(WAL_HEADER_BYTES)
                    / (FRAME_HEADER_BYTES + PAGE_BYTES) as u64
            }
            None => 0,
        };
        let mut source = PageSource { main, wal, frame_count, newest_frames: HashMap::new() };
        for frame in 0..frame_count {
            if let Some(number) = source.page_number_of(frame) {
                source.newest_frames.insert(number, frame);
            }
        }
        Ok(source)
    }

    fn main_page_count(&self) -> io::Result<u64> {
        let length = self.main.as_ref().map_or(Ok(0), |main| main.metadata().map(|m| m.len()))?;
        Ok(length.div_ceil(PAGE_BYTES as u64))
    }

    fn main_page(&self, number: u64) -> Option<PageBytes> {
        let start = number.checked_sub(1)?.checked_mul(PAGE_BYTES as u64)?;
        let mut page = [0; PAGE_BYTES];
        // The last page may be cut off; the rest of it may still hold complete records.
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
        let start = frame_start(frame) + FRAME_HEADER_BYTES as u64;
        self.wal.as_ref()?.read_exact_at(&mut page, start).ok()?;
        Some(page)
    }

    fn page_number_of(&self, frame: u64) -> Option<u32> {
        let mut number = [0; 4];
        self.wal.as_ref()?.read_exact_at(&mut number, frame_start(frame)).ok()?;
        Some(u32::from_be_bytes(number))
    }

    fn newest_page(&self, number: u32) -> Option<PageBytes> {
        match self.newest_frames.get(&number) {
            Some(frame) => self.frame(*frame),
            None => self.main_page(number.into()),
        }
    }
}

fn open_if_exists(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn frame_start(frame: u64) -> u64 {
    WAL_HEADER_BYTES + frame * (FRAME_HEADER_BYTES + PAGE_BYTES) as u64
}

/// Visits the blobs of one page. The page header may be damaged, so its cell count is ignored, and a
/// page of unknown type is read as a leaf.
fn scan_page(page: &PageBytes, source: &PageSource, visit: &mut impl FnMut(&[u8])) {
    let (header_bytes, child_bytes) = if page[0] == 0x02 { (12, 4) } else { (8, 0) };
    for pointer in page[header_bytes..].chunks_exact(2) {
        let start = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
        if start < header_bytes || start + child_bytes >= PAGE_BYTES {
            continue;
        }
        if let Some(payload) = cell_payload(&page[start + child_bytes..], source) {
            visit_blobs(&payload, visit);
        }
    }
}

/// The payload of a cell, including its overflow pages.
fn cell_payload(cell: &[u8], source: &PageSource) -> Option<Vec<u8>> {
    let (length, rest) = varint(cell)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_PAYLOAD_BYTES)?;
    if length <= MAX_LOCAL_BYTES {
        return rest.get(..length).map(<[u8]>::to_vec);
    }
    let surplus = MIN_LOCAL_BYTES + (length - MIN_LOCAL_BYTES) % (PAGE_BYTES - 4);
    let local = if surplus <= MAX_LOCAL_BYTES { surplus } else { MIN_LOCAL_BYTES };
    let mut payload = rest.get(..local)?.to_vec();
    let mut next = u32::from_be_bytes(rest.get(local..local + 4)?.try_into().ok()?);
    while payload.len() < length {
        let page = source.newest_page(next)?;
        let (following, content) = page.split_first_chunk::<4>()?;
        payload.extend(&content[..content.len().min(length - payload.len())]);
        next = u32::from_be_bytes(*following);
    }
    Some(payload)
}

/// Visits each blob of a row. Returns `None` if the row is malformed.
fn visit_blobs(payload: &[u8], visit: &mut impl FnMut(&[u8])) -> Option<()> {
    let (header_bytes, rest) = varint(payload)?;
    let header_bytes = usize::try_from(header_bytes).ok()?;
    let mut types = payload.get(payload.len() - rest.len()..header_bytes)?;
    let mut values = payload.get(header_bytes..)?;
    while !types.is_empty() {
        let (serial_type, rest) = varint(types)?;
        types = rest;
        let length = match serial_type {
            0 | 8 | 9 => 0,
            1..=4 => serial_type as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((serial_type - 12) / 2).ok()?,
        };
        let (value, rest) = values.split_at_checked(length)?;
        values = rest;
        if serial_type >= 12 && serial_type % 2 == 0 {
            visit(value);
        }
    }
    Some(())
}

/// A number of one to nine bytes. In the first eight, the high bit means that more bytes follow; the
/// ninth holds eight bits of the value.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
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
