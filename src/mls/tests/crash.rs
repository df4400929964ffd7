//! A device that is stopped anywhere: statements that fail, processes that are killed, and two processes at once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::protocol::random::fill_random;

/// Lets the statement at which SQLite has done `after` units of work fail.
fn fail_after(member: &mut Member, after: Option<u32>) {
    let db = member.state.connection_mut();
    let handler = after.map(|after| {
        let left = AtomicU32::new(after);
        move || left.fetch_sub(1, Ordering::Relaxed) == 0
    });
    db.progress_handler(4, handler).unwrap();
}

fn dump(member: &Member) -> Vec<String> {
    let db = member.state.connection();
    let mut all = Vec::new();
    for table in ["kv", "own", "key_packages", "rooms", "outbox", "archive"] {
        let mut statement = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> =
                (0..columns).map(|n| format!("{:?}", row.get_ref(n).unwrap())).collect();
            all.push(format!("{table} {}", values.join(" ")));
        }
    }
    all
}

/// Lets `work` fail at every point, and at last succeed. A failure leaves the state as it was.
fn at_every_point<T>(
    member: &mut Member,
    mut work: impl FnMut(&mut Member) -> Result<T, RoomError>,
) -> (T, u32) {
    let before = dump(member);
    for after in 0.. {
        fail_after(member, Some(after));
        let result = work(member);
        fail_after(member, None);
        if !member.state.connection().is_autocommit() {
            assert!(result.is_err());
            continue;
        }
        match result {
            Ok(value) => return (value, after),
            Err(error) => {
                assert!(matches!(error, RoomError::State(_)), "at {after}: {error:?}");
                assert!(dump(member) == before, "something of a failed step is stored, at {after}");
            }
        }
        assert!(after < 20_000, "it never succeeds");
    }
    unreachable!()
}

#[test]
fn a_step_that_fails_anywhere_leaves_nothing() {
    let (ana, bob, eve) = (User::new("ana"), User::new("bob"), User::new("eve"));
    let (mut a, mut b, mut e) = (Member::new(&ana), Member::new(&bob), Member::new(&eve));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let (said, points) = at_every_point(&mut a, |a| a.say("1", "hola"));
    assert!(points > 20, "{points}");
    log.append(0, &said).unwrap();
    let entry = log.entry(log.base().next()).clone();
    let (read, points) = at_every_point(&mut b, |b| b.apply(&entry));
    assert!(matches!(read, Applied::Message(_)) && points > 20, "{read:?}, {points}");
    assert_eq!(b.texts(), ["hola"]);
    a.read(&log);
    let newcomer = e.newcomer();
    let (added, points) = at_every_point(&mut a, |a| {
        a.change("eve", Change { adds: vec![newcomer.clone()], ..Change::default() })
    });
    assert!(points > 20, "{points}");
    let seq = log.append(0, &added).unwrap();
    let entry = log.entry(seq).clone();
    for member in [&mut a, &mut b] {
        let (applied, points) = at_every_point(member, |member| member.apply(&entry));
        assert!(matches!(applied, Applied::Commit(_)) && points > 20, "{points}");
    }
    let ((), points) = at_every_point(&mut e, |e| e.join(&log, seq).map(|_| ()));
    assert!(points > 20, "{points}");
    assert_eq!(a.authenticator(), e.authenticator());
    let stale = b.say("2", "adiós").unwrap();
    log.append(0, &a.change("renew", Change::default()).unwrap()).unwrap();
    b.read(&log);
    let (owed, _) =
        at_every_point(&mut b, |b| b.step(|step, device| room::owed(step, device, &ops())));
    assert_ne!(owed[0].content, stale.content);
}

const FOLDER: &str = "SECURE_CHAT_TEST_STATE";
const CHILD: &str = "mls::tests::crash::child";
const MESSAGES: usize = 60;
/// So many that processes which are killed soon do not say them all.
const MANY: usize = 600;

/// The child of the tests below, in a process of its own: says the messages one after the other, and writes what it
/// would send. Without its variable it is no test.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let prefix = std::env::var("SECURE_CHAT_TEST_PREFIX").unwrap();
    let mut state = State::open(folder, None).unwrap();
    let mut wire = std::fs::OpenOptions::new().append(true).open(folder.join("wire")).unwrap();
    let messages = std::env::var("SECURE_CHAT_TEST_MESSAGES").unwrap().parse().unwrap();
    for number in 0..messages {
        let name = format!("{prefix}{number}");
        let outgoing: Result<Outgoing, RoomError> = state.step(|step| {
            let device = Device::load(step)?.unwrap();
            room::say(step, &device, &ops(), (&id(&name), &name), at(1))
        });
        let line: String =
            outgoing.unwrap().content.iter().map(|byte| format!("{byte:02x}")).collect();
        // One write, so that a killed process leaves at most one line cut.
        wire.write_all(format!("{name} {line}\n").as_bytes()).unwrap();
    }
}

fn start(folder: &Path, prefix: &str, messages: usize) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--test-threads", "1"])
        .env(FOLDER, folder)
        .env("SECURE_CHAT_TEST_PREFIX", prefix)
        .env("SECURE_CHAT_TEST_MESSAGES", messages.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(child: &mut std::process::Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What was on the wire: one content for each name, however often it was said.
fn wire(folder: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder.join("wire")).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        // A line that a killed process has cut is followed by the next process's first one.
        let Some((name, content)) = line.split_once(' ') else { continue };
        let before = found.insert(name.to_owned(), content.to_owned());
        assert!(before.is_none_or(|before| before == content), "{name} has two contents");
    }
    found
}

/// Another member reads everything, in the order of the numbers; each message once, and none is refused.
fn read_by(reader: &mut Member, first: Seq, contents: Vec<(String, String)>) {
    let mut texts = Vec::new();
    for (place, (name, content)) in contents.into_iter().enumerate() {
        let content = (0..content.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&content[at..at + 2], 16).unwrap())
            .collect();
        let seq = Seq(first.0 + place as u64);
        let entry = Entry { seq, id: id(&name), author: 0, is_commit: false, content };
        let applied = reader.apply(&entry).unwrap();
        let Applied::Message(received) = applied else { panic!("{name}: {applied:?}") };
        assert_eq!(received.envelope.text, name);
        texts.push(received.envelope.number);
    }
    texts.sort_unstable();
    let expected: Vec<u64> = (1..=texts.len() as u64).collect();
    assert_eq!(texts, expected, "each number once");
}

#[test]
fn a_process_that_is_killed_anywhere_uses_no_key_twice_and_loses_nothing() {
    let (ana, bob) = (User::new("ana"), User::new("bob"));
    let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
    room_of(&ana, &mut a, &mut [&mut b]);
    let folder = a.folder.path().to_owned();
    std::fs::write(folder.join("wire"), "").unwrap();
    let mut killed = 0;
    for _ in 0..40 {
        let mut child = start(&folder, "m", MANY);
        let mut delay = [0; 2];
        fill_random(&mut delay);
        // From before the file is open until some are said.
        let delay = Duration::from_micros(u64::from(u16::from_be_bytes(delay)) / 2);
        if wait_for(&mut child, delay).is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            // As the server would, forget a line that was cut.
            let text = std::fs::read_to_string(folder.join("wire")).unwrap();
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            std::fs::write(folder.join("wire"), &text[..whole]).unwrap();
        }
    }
    assert!(killed > 5, "{killed} killed");
    println!("{killed} killed after {} messages", wire(&folder).len());
    let mut last = start(&folder, "m", MANY);
    assert!(wait_for(&mut last, Duration::from_secs(60)).unwrap().success());
    let contents = wire(&folder);
    assert_eq!(contents.len(), MANY);
    let first = b.room().applied.next();
    let mut contents: Vec<_> = contents.into_iter().collect();
    contents.sort_by_key(|(name, _)| name[1..].parse::<usize>().unwrap());
    read_by(&mut b, first, contents);
}

#[test]
fn two_processes_of_one_device_use_no_key_twice() {
    let (ana, bob) = (User::new("ana"), User::new("bob"));
    let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
    room_of(&ana, &mut a, &mut [&mut b]);
    let folder = a.folder.path().to_owned();
    std::fs::write(folder.join("wire"), "").unwrap();
    let mut children = [start(&folder, "x", MESSAGES), start(&folder, "y", MESSAGES)];
    for child in &mut children {
        assert!(wait_for(child, Duration::from_secs(60)).unwrap().success());
    }
    let contents = wire(&folder);
    assert_eq!(contents.len(), 2 * MESSAGES);
    // All of one process first, which is as far from their order as can be.
    read_by(&mut b, Seq(3), contents.into_iter().collect());
}

#[test]
fn who_reads_an_entry_second_finds_it_read() {
    let (ana, bob) = (User::new("ana"), User::new("bob"));
    let (mut a, mut b) = (Member::new(&ana), Member::new(&bob));
    let mut log = room_of(&ana, &mut a, &mut [&mut b]);
    let mut second = State::open(b.folder.path(), None).unwrap();
    log.append(0, &a.say("1", "hola").unwrap()).unwrap();
    let entry = log.entry(Seq(3)).clone();
    assert!(matches!(b.apply(&entry).unwrap(), Applied::Message(_)));
    let again = second.step(|step| {
        let device = Device::load(step)?.unwrap();
        let known = apply(step, &device, &ops(), entry.as_log())?;
        assert_eq!(Archived::after(step, &ops(), Seq(2), 1)?[0].text, "hola");
        Ok::<_, RoomError>(known)
    });
    assert_eq!(again.unwrap(), Applied::Known);
}
