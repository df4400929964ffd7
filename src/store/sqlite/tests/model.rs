//! Any sequence of operations has the same results on disk as in memory.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::Epoch;
use crate::store::{Head, open_memory};

const RETENTION: Retention =
    Retention { messages: 12, age: Duration::from_secs(48 * 3600), max_bytes: None };
const ROOMS: [&str; 3] = ["lobby", "ops", "a.b"];

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(usize, bool, Option<u8>, u8)>),
    Wait(i64),
    Prune,
    Retention(u64),
    Reopen(bool),
    ReadPage(usize, u8, u64, usize, usize),
    Since(usize, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let draft = (0..3usize, any::<bool>(), proptest::option::of(0..12u8), 0..3u8);
    prop_oneof![
        8 => proptest::collection::vec(draft, 0..12).prop_map(Step::Append),
        3 => (-3600..80_000i64).prop_map(Step::Wait),
        3 => Just(Step::Prune),
        1 => (1..20u64).prop_map(Step::Retention),
        1 => any::<bool>().prop_map(Step::Reopen),
        6 => (0..3usize, 0..3u8, 0..60u64, 0..10usize, 0..40usize)
            .prop_map(|(room, kind, seq, limit, bytes)| Step::ReadPage(room, kind, seq, limit, bytes)),
        3 => (0..3usize, -200_000..1000i64).prop_map(|(room, ago)| Step::Since(room, ago)),
    ]
}

fn drafts(specs: &[(usize, bool, Option<u8>, u8)]) -> Vec<Draft> {
    specs
        .iter()
        .map(|(room, verified, id, text)| Draft {
            user: UserName::clean(if *verified { "Alice" } else { "Bob" }),
            verified: *verified,
            id: id.and_then(|id| MessageId::parse(&id.to_string())),
            ..draft(ROOMS[*room], "0", &"text ".repeat(usize::from(*text) + 1))
        })
        .collect()
}

fn prune(opened: &mut OpenedStore, now: Timestamp) -> (u64, u64) {
    let mut total = (0, 0);
    loop {
        let result = opened.log().prune(now, LONG);
        assert_eq!(result.error, None);
        total = (total.0 + result.messages, total.1 + result.ids);
        if !result.more {
            return total;
        }
    }
}

fn heads(opened: &OpenedStore, epoch: &Epoch) -> Vec<(RoomName, Head)> {
    let mut rooms = opened.reader.rooms().unwrap();
    rooms.iter_mut().for_each(|(_, head)| head.epoch = epoch.clone());
    rooms
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn disk_and_memory_agree(steps in proptest::collection::vec(step(), 1..40)) {
        let home = Home::new();
        let open = || open_disk(home.folder.path(), &home.key, RETENTION, at(0)).unwrap();
        let (mut disk, mut memory) = (open(), open_memory(RETENTION));
        let mut epoch = disk.reader.head(&RoomName::lobby()).unwrap().epoch;
        let mut now = at(0);
        let mut retention = RETENTION;
        for step in steps {
            match step {
                Step::Append(specs) => prop_assert_eq!(
                    disk.log().append(drafts(&specs), now),
                    memory.log().append(drafts(&specs), now)
                ),
                Step::Wait(seconds) => {
                    now = Timestamp::from_micros(now.micros() + seconds * 1_000_000);
                }
                Step::Prune => prop_assert_eq!(prune(&mut disk, now), prune(&mut memory, now)),
                Step::Retention(messages) => {
                    retention.messages = messages;
                    disk.log().set_retention(retention);
                    memory.log().set_retention(retention);
                }
                Step::Reopen(cleanly) => {
                    if cleanly {
                        prop_assert_eq!(disk.log().close(), Ok(()));
                    }
                    drop(disk);
                    disk = open();
                    disk.log().set_retention(retention);
                    epoch = disk.reader.head(&RoomName::lobby()).unwrap().epoch;
                    prop_assert_eq!(&disk.findings, &vec![]);
                }
                Step::ReadPage(room, kind, seq, limit, bytes) => {
                    let room = RoomName::parse(ROOMS[room]).unwrap();
                    let range = [PageRange::After(Seq(seq)), PageRange::Before(Seq(seq)), PageRange::Newest]
                        [usize::from(kind)];
                    let page = disk.reader.page(&room, range, limit, bytes).unwrap();
                    prop_assert_eq!(&page.head.epoch, &epoch);
                    let mut other = memory.reader.page(&room, range, limit, bytes).unwrap();
                    other.head.epoch = epoch.clone();
                    prop_assert_eq!(page, other);
                }
                Step::Since(room, ago) => {
                    let room = RoomName::parse(ROOMS[room]).unwrap();
                    let time = Timestamp::from_micros(now.micros() + ago * 1_000_000);
                    prop_assert_eq!(
                        disk.reader.since(&room, time), memory.reader.since(&room, time)
                    );
                }
            }
            prop_assert_eq!(heads(&disk, &epoch), heads(&memory, &epoch));
        }
    }
}
