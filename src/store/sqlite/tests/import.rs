//! Histories that go into another store.

use super::*;
use crate::protocol::SeqRange;
use crate::store::transfer::{ExportFile, export, import};
use crate::store::{PageItem, RoomLogReader, read_disk};

fn exported(reader: &dyn RoomLogReader, folder: &Path, name: &str) -> ExportFile {
    let path = folder.join(name);
    let target = std::fs::File::create(&path).unwrap();
    export(reader, (name, target), None, (at(0), "chat-server/test")).unwrap();
    ExportFile::check(&path, None).unwrap()
}

fn told(reader: &dyn RoomLogReader, room: &str) -> Vec<String> {
    let room = RoomName::parse(room).unwrap();
    let page = reader.page(&room, PageRange::After(Seq(0)), 1000, 1 << 20).unwrap();
    let items = page.items();
    let told = items.iter().map(|item| match item {
        PageItem::Message(one) => format!("{} {} {:?} {}", one.at, one.user, one.id, one.text),
        PageItem::Redacted(one) => format!("{} deleted", one.at),
        PageItem::Gap(gap) => format!("{gap:?}"),
    });
    told.collect()
}

#[test]
fn a_history_is_read_beside_its_server_and_imported_once_into_an_empty_one() {
    let (home, target) = (Home::new(), Home::new());
    let mut opened = home.open();
    for number in 0..1200 {
        // An id that comes again after a day is another message.
        let id = format!("id{}", number % 600);
        let now = at(number * 400 - 600_000);
        if number % 100 == 0 {
            while opened.log().prune(now, LONG).more {}
        }
        opened.log().append(vec![draft("ops", &id, &number.to_string())], now);
    }
    let range: SeqRange = "7-8".parse().unwrap();
    opened.log().delete(&RoomName::parse("ops").unwrap(), &[range]).unwrap();
    opened.log().append(vec![draft("lobby", "one", "in the lobby")], at(-10));
    let reader = read_disk(home.folder.path(), &home.key).unwrap();
    let file = exported(reader.as_ref(), home.folder.path(), "export");
    assert_eq!(file.messages, 1201);
    assert!(read_disk(home.folder.path(), &AtRestKey::fresh()).is_err(), "another key");
    let mut new = target.open();
    for (messages, already) in [(1201, 0), (0, 1201)] {
        let done = import(&mut new, &file, RETENTION.age, at(0), &mut |_| {}).unwrap();
        assert_eq!((done.messages, done.already), (messages, already));
    }
    new.log().close().unwrap();
    drop(new);
    let mut new = target.open();
    for room in ["ops", "lobby"] {
        assert_eq!(told(new.reader.as_ref(), room), told(opened.reader.as_ref(), room), "{room}");
    }
    let again = new.log().append(vec![draft("lobby", "one", "in the lobby")], at(0)).remove(0);
    assert!(matches!(again, AppendOutcome::Duplicate { .. }), "{again:?}");
    let since = |seconds| new.reader.since(&RoomName::parse("ops").unwrap(), at(seconds)).unwrap();
    assert_eq!((since(-600_000), since(0)), (Seq(0), Seq(1200)));
    assert_eq!(since(-599_600), Seq(1));
}
