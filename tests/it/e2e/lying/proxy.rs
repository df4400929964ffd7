//! A WebSocket proxy that stands between the clients of one member and the real server, and lies to either side.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::server::Server;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// What a lie makes of one frame: the frames that go out instead of it, in their order.
pub type Frames = Vec<(Way, Value)>;

type Lie = Box<dyn FnMut(Way, Value) -> Frames + Send>;

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    target: Mutex<Endpoint>,
    /// Changes when every connection is to be cut.
    cuts: watch::Sender<u64>,
    lie: Mutex<Lie>,
    captured: Mutex<Vec<(Way, Value)>>,
    /// The newest connection, for frames that answer nothing.
    newest: Mutex<Option<mpsc::UnboundedSender<(Way, Message)>>>,
}

impl Proxy {
    /// An honest proxy, until [`Self::lie`] is called.
    pub fn before(server: &Server) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            target: Mutex::new(server.endpoint()),
            cuts: watch::Sender::new(0),
            lie: Mutex::new(Box::new(|way, frame| vec![(way, frame)])),
            captured: Mutex::default(),
            newest: Mutex::default(),
        });
        let serving = shared.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(client));
            }
        });
        Proxy { address, shared, _runtime: runtime }
    }

    /// `ws://127.0.0.1:4321`
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// From now on each frame of each connection becomes what `lie` makes of it.
    pub fn lie(&self, lie: impl FnMut(Way, Value) -> Frames + Send + 'static) {
        *self.shared.lie.lock().unwrap() = Box::new(lie);
    }

    /// From now on each frame for the client becomes what `lie` makes of it.
    pub fn lie_to_client(&self, mut lie: impl FnMut(Value) -> Vec<Value> + Send + 'static) {
        self.lie(move |way, frame| match way {
            Way::ToServer => vec![(way, frame)],
            Way::ToClient => lie(frame).into_iter().map(|frame| (way, frame)).collect(),
        });
    }

    /// Sends the client of the newest connection a text that nobody asked for.
    pub fn insert(&self, text: &str) {
        let newest = self.shared.newest.lock().unwrap();
        let _ = newest.as_ref().expect("a connection").send((Way::ToClient, Message::text(text)));
    }

    /// From now on connections go to this server. Those that there are stay where they are.
    pub fn redirect(&self, server: &Server) {
        *self.shared.target.lock().unwrap() = server.endpoint();
    }

    /// Cuts every connection, without a word to either side.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Every frame that came from the clients, as they sent it.
    pub fn client_frames(&self) -> Vec<Value> {
        self.captured(Way::ToServer)
    }

    /// Every frame that came from the server, before any lie.
    pub fn server_frames(&self) -> Vec<Value> {
        self.captured(Way::ToClient)
    }

    fn captured(&self, wanted: Way) -> Vec<Value> {
        let captured = self.shared.captured.lock().unwrap();
        captured.iter().filter(|(way, _)| *way == wanted).map(|(_, frame)| frame.clone()).collect()
    }

    /// Waits for a frame of the clients for which `is_it` holds.
    pub fn wait_for_client(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, is_it, || self.client_frames())
    }

    /// Waits for a frame of the server for which `is_it` holds.
    pub fn wait_for_server(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, is_it, || self.server_frames())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("frames through the proxy at {}, before any lie:", self.address);
            for (way, frame) in self.shared.captured.lock().unwrap().iter() {
                let frame: String = frame.to_string().chars().take(300).collect();
                eprintln!("  {way:?} {frame}");
            }
        }
    }
}

fn wait_for(what: &str, is_it: impl Fn(&Value) -> bool, frames: impl Fn() -> Vec<Value>) -> Value {
    let mut found = None;
    eventually(what, || {
        found = frames().into_iter().find(|frame| is_it(frame));
        found.is_some()
    });
    found.unwrap()
}

impl Shared {
    async fn serve(self: Arc<Self>, client: TcpStream) {
        let Ok(client) = tokio_tungstenite::accept_async(client).await else { return };
        let mut cuts = self.cuts.subscribe();
        let target = self.target.lock().unwrap().clone();
        let Ok(server) = target.open().await else { return };
        let (mut to_client, mut from_client) = client.split();
        let (mut to_server, mut from_server) = server.split();
        let (newest, mut inserted) = mpsc::unbounded_channel();
        *self.newest.lock().unwrap() = Some(newest);
        loop {
            let frames = tokio::select! {
                _ = cuts.changed() => return,
                message = from_client.next() => self.told(Way::ToServer, message),
                message = from_server.next() => self.told(Way::ToClient, message),
                // A newer connection takes this one's place, which goes on without insertions.
                Some(frame) = inserted.recv() => vec![frame],
            };
            for (way, message) in frames {
                let is_end = message.is_close();
                let sent = match way {
                    Way::ToServer => to_server.send(message).await,
                    Way::ToClient => to_client.send(message).await,
                };
                if is_end || sent.is_err() {
                    return;
                }
            }
        }
    }

    fn told(
        &self,
        way: Way,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Vec<(Way, Message)> {
        match message {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON from either program");
                self.captured.lock().unwrap().push((way, frame.clone()));
                let told = (self.lie.lock().unwrap())(way, frame);
                told.into_iter()
                    .map(|(way, frame)| (way, Message::text(frame.to_string())))
                    .collect()
            }
            Some(Ok(message @ Message::Close(_))) => vec![(way, message)],
            Some(Ok(_)) => Vec::new(),
            Some(Err(_)) | None => vec![(way, Message::Close(None))],
        }
    }
}

/// Tells one member of a room's log what `tell` makes of each live entry. The entries that it is told have consecutive
/// numbers, as those of an honest server, and their bases are the numbers that the member was told for these commits.
pub fn retold(
    room: &'static str,
    mut tell: impl FnMut(Value) -> Vec<Value> + Send + 'static,
) -> impl FnMut(Value) -> Vec<Value> + Send + 'static {
    let mut next = None;
    let mut commits = BTreeMap::new();
    move |frame| {
        if frame["type"] != "chat_message" || frame["room"] != room {
            return vec![frame];
        }
        let seq = frame["seq"].as_u64().unwrap();
        let next = next.get_or_insert(seq);
        let mut told = tell(frame);
        for entry in &mut told {
            let was = entry["seq"].as_u64().unwrap();
            let base = entry["base"].as_u64().unwrap();
            entry["base"] = commits.get(&base).copied().unwrap_or(base).into();
            if entry["kind"] == "commit" {
                commits.insert(was, *next);
            }
            entry["seq"] = (*next).into();
            *next += 1;
        }
        told
    }
}
