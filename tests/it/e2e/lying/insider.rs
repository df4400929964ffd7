//! Members and strangers made from the library, whose programs ask no rules and speak to the server by themselves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secure_chat::crypto::secret_key::{DeviceSecret, UserSecret};
use secure_chat::mls::device::{Device, Newcomer, OwnKeyPackage};
use secure_chat::mls::room::{self, Position};
use secure_chat::mls::unruly::{self, Misdeed};
use secure_chat::mls::{RoomError, State, StateError, Step};
use secure_chat::protocol::device::{DeviceId, UserKey};
use secure_chat::protocol::room_terms::RoomTerms;
use secure_chat::protocol::{MessageId, RoomName, Seq, Timestamp};
use serde_json::{Value, json};

use crate::e2e::device::{Device as Wired, opaque, sha256};
use crate::e2e::member::Member;
use crate::support::server::Server;

pub fn now() -> Timestamp {
    Timestamp::from_micros(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64)
}

fn ops() -> RoomName {
    RoomName::parse(super::ROOM).unwrap()
}

fn new_id() -> MessageId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    MessageId::parse(&format!("misdeed-{number}")).unwrap()
}

/// A device with its state, of a member whose clients do not run meanwhile, or of a stranger.
pub struct Insider {
    name: String,
    state: State,
    _folder: Option<tempfile::TempDir>,
}

impl Insider {
    /// The device of a member.
    pub fn of(member: &Member) -> Self {
        let state = State::open(&member.home, None).unwrap();
        Insider { name: member.name.clone(), state, _folder: None }
    }

    /// A user whom nobody knows.
    pub fn stranger(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let mut state = State::open(folder.path(), None).unwrap();
        let (user, secret) = (UserSecret::fresh(), DeviceSecret::fresh());
        let seconds = now().micros() as u64 / 1_000_000;
        let period = (seconds - 86_400, seconds + 86_400);
        let certificate = user.certify(name, secret.public(), period).unwrap();
        state.step(|step| Device::store(step, &secret, &certificate)).unwrap();
        Insider { name: name.to_owned(), state, _folder: Some(folder) }
    }

    fn step<T>(
        &mut self,
        work: impl FnOnce(&Step<'_>, &Device) -> Result<T, RoomError>,
    ) -> Result<T, RoomError> {
        self.state.step(|step| {
            let device = Device::load(step)?.ok_or(StateError::Damaged("no device"))?;
            work(step, &device)
        })
    }

    pub fn device_id(&mut self) -> DeviceId {
        self.step(|_, device| Ok(device.id())).unwrap()
    }

    pub fn user_key(&mut self) -> UserKey {
        self.step(|_, device| Ok(device.certificate.user_key)).unwrap()
    }

    pub fn certificate(&mut self) -> Vec<u8> {
        self.step(|_, device| Ok(device.certificate_bytes().to_vec())).unwrap()
    }

    /// This device, to be added by a commit.
    pub fn newcomer(&mut self) -> Newcomer {
        let package = self.step(|step, device| Ok(device.make_key_package(step, false, now())?));
        Newcomer::read(&package.unwrap().content, now()).unwrap()
    }

    /// A key package that this device made so long ago.
    pub fn key_package_made(&mut self, ago: std::time::Duration) -> Vec<u8> {
        let then = Timestamp::from_micros(now().micros() - ago.as_micros() as i64);
        self.step(|step, device| Ok(device.make_key_package(step, false, then)?)).unwrap().content
    }

    /// A key package with this device's keys under another device's certificate.
    pub fn key_package_under(&mut self, certificate: &[u8]) -> OwnKeyPackage {
        let made = self
            .step(|step, device| Ok(unruly::key_package_under(step, device, certificate, now())?));
        made.unwrap()
    }

    /// Appends a commit in the group of this device, a member, that is checked by no rule. Gives its number.
    pub fn misbehave(member: &Member, server: &Server, misdeed: impl Fn() -> Misdeed) -> u64 {
        for _ in 0..5 {
            // The member's program reads the log to its end.
            member.send(super::ROOM, "good morning");
            let mut insider = Insider::of(member);
            let id = new_id();
            let made = insider
                .step(|step, device| unruly::commit(step, device, &ops(), &id, misdeed(), now()))
                .unwrap();
            let device = insider.device_id().to_string();
            let entry = ("commit", &made.content[..], Some(made.base.0));
            if let Some(seq) = append(server, (&member.name, &device), entry) {
                return seq;
            }
        }
        panic!("other commits came first five times");
    }

    /// The first commit of a group of this device's own, which is well formed and signed.
    pub fn commit_of_another_group(&mut self) -> Vec<u8> {
        let terms = RoomTerms {
            room: ops(),
            host: "127.0.0.1".into(),
            generation: 1,
            admins: [self.user_key()].into(),
            removed: [].into(),
        };
        let at = Position { applied: Seq(0), base: Seq(0) };
        let id = new_id();
        let made = self.step(|step, device| room::create(step, device, &terms, &id, at, now()));
        made.unwrap().content
    }

    /// Appends an entry to the room's log, as the server lets any device do, and gives its number.
    pub fn append(&mut self, server: &Server, kind: &str, content: &[u8]) -> u64 {
        let (name, device) = (self.name.clone(), self.device_id().to_string());
        append(server, (&name, &device), (kind, content, None)).unwrap()
    }
}

/// Appends an entry to the room's log, and gives its number. It names this commit as the newest one, or whichever is.
/// `None`: that is another one.
pub fn append(
    server: &Server,
    (user, device): (&str, &str),
    (kind, content, base): (&str, &[u8], Option<u64>),
) -> Option<u64> {
    let register = json!({"type": "register", "protocol": 1, "username": user,
        "rooms": [super::ROOM], "presence": false, "e2e": {"v": 1, "device": device}});
    let mut frame = json!({"type": "chat_message", "room": super::ROOM, "id": new_id().as_str(),
        "base": base.unwrap_or(0), "kind": kind, "content": STANDARD.encode(content)});
    if kind == "commit" {
        frame["info"] = opaque("info").into();
        frame["tree"] = sha256("a tree").into();
        frame["welcomes"] = json!([]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut wired = Wired::register(server, register).await;
        wired.upload(super::ROOM, "a tree").await;
        loop {
            wired.wire.send(frame.clone()).await;
            match wired.answer().await {
                Ok(seq) => return Some(seq),
                Err((code, Some(newest))) if code == "stale_base" => match base {
                    Some(_) => return None,
                    None => frame["base"] = newest.into(),
                },
                Err(other) => panic!("{other:?}"),
            }
        }
    })
}

/// What the server hands out for a user: the value of `users` in `e2e_keys`.
pub fn keys_of(server: &Server, user: &str) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut wired = Wired::enter(server, "spy", super::ROOM).await;
        let frame = json!({"type": "e2e_keys_get", "room": super::ROOM, "users": [user]});
        wired.wire.send(frame).await;
        wired.wire.next_of("e2e_keys").await["users"].clone()
    })
}

/// What the server describes of the room, and its tree, to a device that wants to come in by itself.
pub fn description(server: &Server) -> [Value; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut wired = Wired::enter(server, "spy", super::ROOM).await;
        wired.wire.send(json!({"type": "e2e_info", "room": super::ROOM})).await;
        let info = wired.wire.next_of("e2e_info").await;
        let frame = json!({"type": "e2e_blob_get", "room": super::ROOM, "sha256": info["tree"]});
        wired.wire.send(frame).await;
        [info, wired.wire.next_of("e2e_blob").await]
    })
}
