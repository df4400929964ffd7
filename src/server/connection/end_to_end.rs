//! What a session asks about end-to-end rooms besides messages: key packages, welcomes, ratchet trees.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::oneshot;

use super::session::Session;
use super::submit::too_many;
use crate::conversation::server::e2e_request::E2eFrame;
use crate::conversation::server::opaque_message::sha256_text;
use crate::net::server_connection::ServerConnection;
use crate::net::writer::Writer;
use crate::protocol::device::DeviceId;
use crate::protocol::frame::{self, Blob, ErrorFrame, Info, Keys, ServerFrame, WelcomeToRoom};
use crate::protocol::{ErrorCode, RoomName, UserName};
use crate::server::rooms::deposits::DepositRequest;
use crate::server::tree_uploads::{MAX_PART_BYTES, Part};
use crate::store::{DeviceKeys, E2eFound, E2eQuery, E2eReply, E2eRequest, Invited, StoreError};

/// How long a session waits for the log writer.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

impl Session {
    /// Acts on a request whose right is checked.
    pub(super) async fn end_to_end(
        &mut self,
        connection: &mut ServerConnection,
        request: E2eFrame,
    ) {
        let Some(device) = self.peer().device else {
            return self.refuse(ErrorFrame::new(
                ErrorCode::E2eOnly,
                "say in register that the client can take part in end-to-end rooms",
            ));
        };
        let room = request.room().cloned();
        let done = self.answer_end_to_end(&mut connection.writer(), device, request).await;
        if let Err(mut error) = done {
            error.room = error.room.or(room.map(|room| room.to_string()));
            self.refuse(*error);
        }
    }

    async fn answer_end_to_end(
        &mut self,
        writer: &mut Writer<'_>,
        own: DeviceId,
        request: E2eFrame,
    ) -> Result<(), Box<ErrorFrame>> {
        let user = self.peer().user.clone();
        match request {
            E2eFrame::PutKeys { device, .. } if device != own => Err(error(
                ErrorCode::BadFrame,
                "\"device\" is not the one of this session's register",
            )),
            E2eFrame::PutKeys { device, cert, key_packages, last_resort } => {
                let put = E2eRequest::PutKeys { user, device, cert, key_packages, last_resort };
                match self.change(writer, put).await? {
                    E2eReply::Left(left) => {
                        self.peer().send(&ServerFrame::E2eKeys(Keys {
                            left: Some(left),
                            ..Keys::default()
                        }));
                        Ok(())
                    }
                    _ => Err(error(
                        ErrorCode::StorageFull,
                        "the server keeps no key packages of further devices",
                    )),
                }
            }
            E2eFrame::TakeKeys(room, users) => self.take_keys(writer, &room, users).await,
            E2eFrame::Blob { hash, part, parts, bytes, .. } => {
                let part = Part { hash, part, parts, bytes: &bytes };
                let added = self.context().tree_uploads.add(&user, part);
                added.map_err(|bad| error(ErrorCode::BadFrame, bad.to_string()))
            }
            E2eFrame::GetBlob(room, hash) => self.send_tree(writer, &room, hash).await,
            E2eFrame::WelcomeDone(room, seq) => {
                self.change(writer, E2eRequest::WelcomeDone { user, device: own, room, seq })
                    .await?;
                Ok(())
            }
            E2eFrame::GetInfo(room) => {
                let found = self.find(writer, E2eQuery::GroupInfo(room.clone())).await?;
                let E2eFound::GroupInfo(Some(found)) = found else {
                    return Err(error(ErrorCode::NoTree, "the room has no commit"));
                };
                let tree = sha256_text(&found.tree_hash);
                self.peer().send(&ServerFrame::E2eInfo(Info {
                    room: room.as_str().into(),
                    seq: found.seq,
                    info: (&*found.info).into(),
                    tree: tree.into(),
                }));
                Ok(())
            }
        }
    }

    async fn take_keys(
        &mut self,
        writer: &mut Writer<'_>,
        room: &RoomName,
        users: Vec<UserName>,
    ) -> Result<(), Box<ErrorFrame>> {
        let (count, now) = (users.len() as u64, self.context().started.elapsed());
        let user = &self.peer().user;
        self.context()
            .key_meters
            .take(user, count, now)
            .map_err(|wait| too_many("key packages", wait))?;
        match self.change(writer, E2eRequest::TakeKeys { users }).await? {
            E2eReply::Keys(keys) => {
                let users = keys.iter().map(|(user, devices)| {
                    (user.as_str().into(), devices.iter().map(device_keys).collect())
                });
                let users: BTreeMap<_, _> = users.collect();
                let room = room.as_str().into();
                self.peer().send(&ServerFrame::E2eKeys(Keys { left: None, room, users }));
                self.wait_for_queue(writer).await;
                Ok(())
            }
            E2eReply::NoKeyPackage(user) => Err(error(
                ErrorCode::NoKeyPackage,
                format!(
                    "{user} has no key package here; no device of that user has ever connected, or not for long"
                ),
            )),
            _ => Err(failed()),
        }
    }

    async fn send_tree(
        &mut self,
        writer: &mut Writer<'_>,
        room: &RoomName,
        hash: [u8; 32],
    ) -> Result<(), Box<ErrorFrame>> {
        let E2eFound::Tree(Some(tree)) =
            self.find(writer, E2eQuery::Tree(room.clone(), hash)).await?
        else {
            return Err(error(
                ErrorCode::NoTree,
                "the server does not have this ratchet tree any more",
            ));
        };
        let (sha256, parts) = (sha256_text(&hash), tree.chunks(MAX_PART_BYTES));
        let count = parts.len() as u32;
        self.answer_bytes += tree.len() as u64;
        for (part, bytes) in (0..).zip(parts) {
            self.peer().send(&ServerFrame::E2eBlob(Blob {
                room: room.as_str().into(),
                sha256: sha256.as_str().into(),
                part,
                parts: count,
                content: STANDARD.encode(bytes).into(),
            }));
            self.wait_for_queue(writer).await;
        }
        Ok(())
    }

    /// Sends a device that has just registered the welcomes that it has not handled.
    pub(super) async fn send_welcomes(&mut self, writer: &mut Writer<'_>) {
        let (user, Some(device)) = (self.peer().user.clone(), self.peer().device) else { return };
        let found = self.find(writer, E2eQuery::Welcomes(user, device)).await;
        let Ok(E2eFound::Welcomes(invited)) = found else { return };
        for Invited { room, seq, content, tree_hash } in invited {
            if !self.peer().may_enter(&room) {
                continue;
            }
            self.peer().send(&ServerFrame::E2eWelcome(WelcomeToRoom {
                room: room.as_str().into(),
                seq,
                content: content.as_ref().into(),
                tree: sha256_text(&tree_hash).into(),
            }));
            self.wait_for_queue(writer).await;
        }
    }

    /// Changes deposits; answered when that is durable.
    async fn change(
        &self,
        writer: &mut Writer<'_>,
        request: E2eRequest,
    ) -> Result<E2eReply, Box<ErrorFrame>> {
        let (answer, answered) = oneshot::channel();
        // Deposits are not in a log; the writer of the first one keeps them.
        self.context().log_writers.first().change_deposits(DepositRequest { request, answer });
        let answered = tokio::time::timeout(STORE_TIMEOUT, answered);
        match writer.flush_during(answered).await {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(error))) => Err(store_error(&error)),
            Ok(Err(_)) | Err(_) => Err(failed()),
        }
    }

    async fn find(
        &self,
        writer: &mut Writer<'_>,
        query: E2eQuery,
    ) -> Result<E2eFound, Box<ErrorFrame>> {
        let reader = self.context().reader.clone();
        self.read(writer, move || reader.e2e(query)).await.map_err(|error| store_error(&error))
    }
}

fn device_keys(keys: &DeviceKeys) -> frame::DeviceKeys<'_> {
    frame::DeviceKeys {
        device: keys.device.to_string().into(),
        cert: (&*keys.cert).into(),
        key_package: (&*keys.key_package).into(),
        last_resort: keys.last_resort,
    }
}

fn store_error(reason: &StoreError) -> Box<ErrorFrame> {
    match reason {
        StoreError::Full(_) => {
            error(ErrorCode::StorageFull, "there is no space left for the history; try again later")
        }
        StoreError::Failed(_) => failed(),
    }
}

fn failed() -> Box<ErrorFrame> {
    error(ErrorCode::StorageFailed, "the server can't read or write its history; try again later")
}

fn error(code: ErrorCode, message: impl Into<std::borrow::Cow<'static, str>>) -> Box<ErrorFrame> {
    Box::new(ErrorFrame::new(code, message))
}
