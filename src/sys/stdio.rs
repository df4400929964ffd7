//! Standard input, output and error by system call, with every error looked at by name.
//!
//! A descriptor may be non-blocking although this process never made it so, because other processes
//! share it. That is never changed here: EAGAIN waits in poll(2) and tries again.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

/// Bytes written at once to anything but a regular file. A pipe that polls as writable has room for
/// one page, so such a write does not block.
const MAX_WRITE_BYTES: usize = 4096;
/// How long a line for standard error may wait for its reader.
const STDERR_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether standard input and standard output were closed when the process started. Before `main`,
/// Rust's runtime opens /dev/null in their place, where input ends and output vanishes without an error.
static STDIN_WAS_CLOSED: AtomicBool = AtomicBool::new(false);
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

ctor::declarative::ctor! {
    /// Runs before Rust's runtime. It calls nothing but fcntl(2).
    #[ctor(unsafe)]
    fn note_closed_descriptors() {
        let is_closed = |file| matches!(rustix::io::fcntl_getfd(file), Err(Errno::BADF));
        STDIN_WAS_CLOSED.store(is_closed(rustix::stdio::stdin()), Ordering::Relaxed);
        STDOUT_WAS_CLOSED.store(is_closed(rustix::stdio::stdout()), Ordering::Relaxed);
    }
}

/// Why standard output takes nothing more.
#[derive(Debug)]
pub enum OutputError {
    /// EPIPE: the reader has gone, as after `| head -1`.
    Closed,
    /// Anything else.
    Failed(io::Error),
}

/// The result of one attempt to write.
#[derive(Debug)]
pub enum Written {
    /// So many bytes were written.
    Bytes(usize),
    /// Nothing was written: wait by [`wait_until_writable`].
    WouldBlock,
}

/// Reads from standard input. Only 0 means its end.
pub fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    if STDIN_WAS_CLOSED.load(Ordering::Relaxed) {
        return Err(Errno::BADF.into());
    }
    let stdin = io::stdin();
    loop {
        match rustix::io::read(&stdin, &mut *buffer) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&stdin, PollFlags::IN, None)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes to standard output as much as it takes without blocking. A regular file takes everything.
pub fn try_write_stdout(bytes: &[u8], regular: bool) -> Result<Written, OutputError> {
    if STDOUT_WAS_CLOSED.load(Ordering::Relaxed) {
        return Err(OutputError::Failed(Errno::BADF.into()));
    }
    let stdout = io::stdout();
    if !regular && !is_writable(&stdout) {
        return Ok(Written::WouldBlock);
    }
    let bytes = if regular { bytes } else { &bytes[..bytes.len().min(MAX_WRITE_BYTES)] };
    loop {
        return match rustix::io::write(&stdout, bytes) {
            Ok(0) if !bytes.is_empty() => Err(OutputError::Failed(io::ErrorKind::WriteZero.into())),
            Ok(count) => Ok(Written::Bytes(count)),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(Written::WouldBlock),
            Err(Errno::PIPE) => Err(OutputError::Closed),
            Err(error) => Err(OutputError::Failed(error.into())),
        };
    }
}

/// Waits until standard output takes bytes, or would answer with an error.
pub fn wait_until_writable() {
    // The write that follows returns the error.
    let _ = wait(io::stdout(), PollFlags::OUT, None);
}

/// Writes all of `bytes` to standard output, and waits where that is needed.
pub fn write_stdout(mut bytes: &[u8]) -> Result<(), OutputError> {
    let regular = is_regular_file(io::stdout());
    while !bytes.is_empty() {
        match try_write_stdout(bytes, regular)? {
            Written::Bytes(count) => bytes = &bytes[count..],
            Written::WouldBlock => wait_until_writable(),
        }
    }
    Ok(())
}

/// Writes to standard error. Nothing can be said about an error there; a reader that takes nothing
/// for some seconds misses the text.
pub fn write_stderr(mut bytes: &[u8]) {
    let stderr = io::stderr();
    let regular = is_regular_file(&stderr);
    while !bytes.is_empty() {
        if !regular {
            let _ = wait(&stderr, PollFlags::OUT, Some(STDERR_TIMEOUT));
            if !is_writable(&stderr) {
                return;
            }
        }
        let end = if regular { bytes.len() } else { bytes.len().min(MAX_WRITE_BYTES) };
        match rustix::io::write(&stderr, &bytes[..end]) {
            Ok(0) => return,
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

/// Whether standard output is a regular file.
pub fn stdout_is_regular_file() -> bool {
    is_regular_file(io::stdout())
}

/// Waits until what was written to standard output is on the disk.
pub fn sync_stdout() -> io::Result<()> {
    Ok(rustix::fs::fdatasync(io::stdout())?)
}

/// Whether standard output is a file whose last line has no end, as a full disk leaves it. Only the
/// end of a file that is appended to is looked at.
pub fn stdout_is_within_a_line() -> bool {
    let stdout = io::stdout();
    let append = rustix::fs::fcntl_getfl(&stdout).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    let Ok(size) = rustix::fs::fstat(&stdout).map(|file| file.st_size as u64) else { return false };
    if !append || size == 0 || !is_regular_file(&stdout) {
        return false;
    }
    // The descriptor itself is open for writing only.
    let Ok(file) = std::fs::File::open("/proc/self/fd/1") else { return false };
    let mut last = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, size - 1).is_ok() && last != *b"\n"
}

/// Removes the last `bytes` bytes that were written to standard output, if that is a regular file and
/// nothing was written after them.
pub fn take_back_from_stdout(bytes: u64) {
    let stdout = io::stdout();
    let position = rustix::fs::tell(&stdout).unwrap_or(0);
    let size = rustix::fs::fstat(&stdout).map_or(0, |file| file.st_size as u64);
    if is_regular_file(&stdout) && position == size && bytes <= size {
        let end = size - bytes;
        // If this fails too, the file ends within a line.
        if rustix::fs::ftruncate(&stdout, end).is_ok() {
            let _ = rustix::fs::seek(&stdout, rustix::fs::SeekFrom::Start(end));
        }
    }
}

fn is_regular_file(file: impl AsFd) -> bool {
    rustix::fs::fstat(file)
        .is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::RegularFile)
}

fn is_writable(file: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&file, PollFlags::OUT)];
    // Where poll(2) fails, the write says why.
    poll(&mut polled, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
}

fn wait(file: impl AsFd, until: PollFlags, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    loop {
        match poll(&mut [PollFd::new(&file, until)], timeout.as_ref()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
