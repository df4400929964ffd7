//! Histories that come from another store.

use super::fake_engine::Delivery;
use super::*;
use crate::protocol::SeqRange;
use crate::store::transfer::{ExportFile, Imported, TransferError, export, import};
use crate::store::{RoomLogReader, open_sparse_memory};

const DAY: i64 = 24 * HOUR;
const KEEP_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A history of 40 days in the room "a", one message a day, of which the 39th was deleted, and two messages of the last
/// hours in "b". The numbers of the source have holes.
fn source() -> OpenedStore {
    let retention = Retention { messages: 1000, age: 2 * KEEP_FOR, max_bytes: None };
    let mut source = open_sparse_memory(retention);
    for day in 1..=40 {
        let mut draft = draft("a", "Ana", Some(&format!("id{day}")), &day.to_string());
        draft.verified = day % 2 == 0;
        let at = now(START - (41 - day) * DAY);
        let outcome = source.log().append(vec![draft], at).remove(0);
        if let (39, AppendOutcome::Appended(entry)) = (day, outcome) {
            source.log().delete(&name("a"), &[SeqRange::from(entry.seq)]).unwrap();
        }
    }
    for (hours, text) in [(2, "early"), (1, "late")] {
        let draft = draft("b", "Bob", Some(text), text);
        source.log().append(vec![draft], now(START - hours * HOUR));
    }
    source
}

fn exported(source: &OpenedStore) -> (tempfile::TempDir, ExportFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export");
    let target = std::fs::File::create(&path).unwrap();
    let program = (now(START), "chat-server/test");
    let (done, _) = export(source.reader.as_ref(), ("export", target), None, program).unwrap();
    assert_eq!((done.rooms, done.messages, done.damaged), (2, 42, 0));
    let file = ExportFile::check(&path, None).unwrap();
    (folder, file)
}

fn run(node: &mut Node, file: &ExportFile) -> Result<Imported, TransferError> {
    import(&mut node.store, file, KEEP_FOR, now(START), &mut |_| {})
}

/// What a reader is told of a room, without the numbers.
fn told(reader: &dyn RoomLogReader, room: &str) -> Vec<String> {
    let page = reader.page(&name(room), PageRange::After(Seq(0)), 1000, 1 << 20).unwrap();
    let told = page.items();
    let told = told.iter().map(|item| match item {
        PageItem::Message(one) => {
            let id = one.id.as_ref().map(MessageId::as_str);
            format!("{} {} {} {id:?} {}", one.at, one.user, one.verified, one.text)
        }
        PageItem::Redacted(one) => format!("{} deleted", one.at),
        PageItem::Gap(gap) => format!("{gap:?}"),
    });
    told.collect()
}

#[test]
fn an_imported_history_reads_as_the_original_and_is_imported_once() {
    let (engine, source) = (engine(1), source());
    let (_folder, file) = exported(&source);
    let mut importer = node(&engine, &options(1));
    let first = run(&mut importer, &file).unwrap();
    assert_eq!(first, Imported { rooms: 2, messages: 32, already: 0, expired: 10 });
    let again = run(&mut importer, &file).unwrap();
    assert_eq!((again.messages, again.already), (0, 32));
    // On another server, after it has started.
    let mut node = node(&engine, &options(1));
    for (room, left_out) in [("a", 10), ("b", 0)] {
        let original = told(source.reader.as_ref(), room);
        assert_eq!(told(node.store.reader.as_ref(), room), original[left_out..], "{room}");
    }
    let rooms: Vec<_> = node.store.reader.rooms().unwrap().into_iter().map(|one| one.0).collect();
    assert_eq!(rooms, [name("a"), name("b")]);
    // Newer messages do not stand in the way of the same import.
    node.say("a", "new");
    let again = run(&mut node, &file).unwrap();
    assert_eq!((again.messages, again.already), (0, 32));
    assert_eq!(node.texts("a").last().unwrap(), "new");
}

#[test]
fn readers_since_a_time_get_what_was_said_since_then_and_not_what_was_imported_since_then() {
    let (engine, source) = (engine(1), source());
    let (_folder, file) = exported(&source);
    let mut node = node(&engine, &options(1));
    run(&mut node, &file).unwrap();
    engine.set_now(START + HOUR);
    node.say("a", "new");
    let since = |at: i64| {
        let from = node.store.reader.since(&name("a"), now(at)).unwrap();
        let page = node.page("a", PageRange::After(from), 1000);
        page.entries.iter().map(|entry| entry.text.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(since(START), ["new"]);
    assert_eq!(since(START - DAY), ["40", "new"]);
    assert_eq!(since(START - 5 * DAY), ["36", "37", "38", "40", "new"]);
    assert_eq!(since(START - 5 * DAY + 1), ["37", "38", "40", "new"]);
    assert_eq!(since(START - 365 * DAY).len(), 30);
    assert_eq!(since(START + 2 * HOUR), [""; 0]);
}

#[test]
fn an_id_of_the_last_day_is_still_known_after_the_import() {
    let (engine, source) = (engine(1), source());
    let (_folder, file) = exported(&source);
    let mut node = node(&engine, &options(1));
    run(&mut node, &file).unwrap();
    let outcomes = node.append(vec![
        draft("b", "Bob", Some("late"), "late"),
        draft("b", "Bob", Some("early"), "another text"),
        draft("a", "Ana", Some("id12"), "its id was forgotten long ago"),
    ]);
    match &outcomes[..] {
        [
            AppendOutcome::Duplicate { at, .. },
            AppendOutcome::Conflict { .. },
            AppendOutcome::Accepted { .. },
        ] => assert_eq!(*at, now(START - HOUR)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_interrupted_import_goes_on_where_it_stopped() {
    let (engine, source) = (engine(1), source());
    let (_folder, file) = exported(&source);
    let mut importer = node(&engine, &options(1));
    // The first room is stored, and the answer is lost; then the engine is away.
    engine.deliver([Delivery::AnswerLost; 1000]);
    let error = run(&mut importer, &file).unwrap_err();
    assert!(error.to_string().contains("run the same import again"), "{error}");
    engine.clear_deliveries();
    let before = stored(&engine);
    let mut importer = node(&engine, &options(1));
    let done = run(&mut importer, &file).unwrap();
    assert_eq!((done.messages + done.already, done.already), (32, before as u64));
    assert_eq!(stored(&engine), 32);
    let original = told(source.reader.as_ref(), "a");
    assert_eq!(told(importer.store.reader.as_ref(), "a"), original[10..]);
}

#[test]
fn a_room_with_other_messages_is_refused_until_it_is_deleted() {
    let (engine, source) = (engine(1), source());
    let (_folder, file) = exported(&source);
    let mut node = node(&engine, &options(1));
    node.say("b", "somebody was here");
    let error = run(&mut node, &file).unwrap_err();
    assert!(matches!(&error, TransferError::OtherMessages { room, .. } if *room == name("b")));
    assert!(error.to_string().contains("ctl room delete b"), "{error}");
    assert_eq!(node.texts("b"), ["somebody was here"]);
    node.store.log().delete_room(&name("b"), now(START)).unwrap();
    let done = run(&mut node, &file).unwrap();
    assert_eq!((done.messages, done.already), (2, 30));
    assert_eq!(node.texts("b"), ["early", "late"]);
    // The same once more: the engine still knows the ids of what was deleted.
    node.store.log().delete_room(&name("b"), now(START)).unwrap();
    assert_eq!(run(&mut node, &file).unwrap().messages, 2);
    assert_eq!(node.texts("b"), ["early", "late"]);
}

#[test]
fn what_an_import_stores_comes_by_the_tails_with_its_own_time_and_can_be_deleted() {
    let (engine, source) = (engine(1), source());
    let (_folder, file) = exported(&source);
    let mut other = node(&engine, &options(1));
    let mut importer = node(&engine, &options(1));
    run(&mut importer, &file).unwrap();
    let came = other.tail();
    assert_eq!(came.len(), 31, "all but the deleted one");
    let last = came.last().unwrap();
    assert_eq!((&*last.entry.text, last.entry.at, last.draft), ("late", now(START - HOUR), None));
    let deleted = other.store.log().delete(&name("b"), &[SeqRange::from(last.entry.seq)]).unwrap();
    assert_eq!(deleted.redactions[0].at, now(START - HOUR));
    // The deleted text does not come back.
    let mut importer = node(&engine, &options(1));
    assert_eq!(run(&mut importer, &file).unwrap().messages, 0);
    assert_eq!(other.texts("b"), ["early"]);
}
