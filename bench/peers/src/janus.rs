//! Janus: the server as a child process with its videoroom plugin, and its signalling over a WebSocket. One session for everybody, a
//! handle for each participant.

mod messages;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use weir_client::attendance::{Attendance, Invited};
use weir_loadtest::child::{Folder, ServerChild};

use crate::server::{Setup, listener, publisher};
use crate::socket::{ANSWER_WITHIN, Socket};
use messages::Said;

/// In a network of its own every port is free; elsewhere somebody may be there, which the server says.
const PORT: u16 = 18_188;
const ROOM: u32 = 1;
const PLUGIN: &str = "janus.plugin.videoroom";
/// The subprotocol of its WebSockets.
const PROTOCOL: &str = "janus-protocol";
/// Requests that wait to be sent: each participant has one at a time.
const REQUESTS_MAX: usize = 64;

/// What of Debian's package is not needed, and would only be loaded.
const PLUGINS_LEFT_OUT: &[&str] = &[
    "audiobridge",
    "duktape",
    "echotest",
    "lua",
    "nosip",
    "recordplay",
    "sip",
    "streaming",
    "textroom",
    "videocall",
    "voicemail",
];
const TRANSPORTS_LEFT_OUT: &[&str] = &["http", "mqtt", "nanomsg", "pfunix", "rabbitmq"];

/// A running Janus.
pub(crate) struct Janus {
    child: ServerChild,
    connection: Connection,
    session: u64,
    /// Who publishes, once somebody does.
    feed: Mutex<Option<u64>>,
}

impl Janus {
    pub(crate) async fn start(binary: &Path, setup: &Setup) -> Result<Janus> {
        let folder = Folder::new()?;
        for (name, text) in configuration(setup.server_ip) {
            folder.write(name, &text)?;
        }
        let mut command = Command::new(binary);
        command.arg("--configs-folder").arg(folder.path());
        let main = folder.path().join("janus.jcfg");
        command.arg("--config").arg(main);
        let mut child = ServerChild::start(folder, command, &setup.place)?;
        let address = SocketAddr::from((setup.server_ip, PORT));
        let ready = || async move { tokio::net::TcpStream::connect(address).await.is_ok() };
        child.wait_until_ready(ready).await?;
        let url = format!("ws://{address}");
        let connection = Connection::open(Socket::connect(&url, Some(PROTOCOL)).await?);
        let created = connection.ask(json!({"janus": "create"})).await?;
        Ok(Janus {
            child,
            session: messages::id(&created)?,
            connection,
            feed: Mutex::new(None),
        })
    }

    pub(crate) fn child(&mut self) -> &mut ServerChild {
        &mut self.child
    }

    pub(crate) async fn publish(&self, setup: &Setup) -> Result<Call> {
        let invited = Invited::new(publisher(setup), setup.server_ip).await?;
        let handle = self.attach().await?;
        let join = json!({"request": "join", "ptype": "publisher", "room": ROOM});
        let joined = handle.ask(join, None).await?;
        let feed = messages::feed(&joined)?;
        let offer = json!({"type": "offer", "sdp": invited.offer()});
        let answer = handle
            .ask(json!({"request": "publish"}), Some(offer))
            .await?;
        handle.trickle(&invited).await?;
        let attendance = invited.attend(&messages::description(&answer)?).await?;
        *self.feed.lock().unwrap_or_else(PoisonError::into_inner) = Some(feed);
        Ok(Call { handle, attendance })
    }

    pub(crate) async fn subscribe(&self, setup: &Setup, index: usize) -> Result<Call> {
        let feed = *self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = feed.context("nobody publishes")?;
        let invited = Invited::new(listener(index), setup.server_ip).await?;
        let handle = self.attach().await?;
        let join = json!({"request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{"feed": feed}]});
        let attached = handle.ask(join, None).await?;
        let offer = messages::description(&attached)?;
        let answer = json!({"type": "answer", "sdp": invited.answer(&offer)});
        handle
            .ask(json!({"request": "start"}), Some(answer))
            .await?;
        handle.trickle(&invited).await?;
        let attendance = invited.attend_answering(&offer).await?;
        Ok(Call { handle, attendance })
    }

    pub(crate) async fn stop(self) {
        self.connection.close().await;
        self.child.stop().await;
    }

    async fn attach(&self) -> Result<Handle> {
        let attach = json!({"janus": "attach", "session_id": self.session, "plugin": PLUGIN});
        let attached = self.connection.ask(attach).await?;
        Ok(Handle {
            asking: self.connection.asking.clone(),
            session: self.session,
            id: messages::id(&attached)?,
        })
    }
}

/// Files and their contents: everything that is not about addresses, or about what is left out, is as it comes.
fn configuration(address: IpAddr) -> [(&'static str, String); 3] {
    let left_out = |names: &[&str]| {
        let files = names.iter().map(|name| format!("libjanus_{name}.so"));
        files.collect::<Vec<_>>().join(",")
    };
    let main = format!(
        "general: {{\n\tdebug_level = 3\n\tdebug_colors = false\n\tsession_timeout = 0\n}}\n\
         nat: {{\n\tice_enforce_list = \"{address}\"\n}}\n\
         plugins: {{\n\tdisable = \"{}\"\n}}\n\
         transports: {{\n\tdisable = \"{}\"\n}}\n\
         events: {{\n\tbroadcast = false\n}}\n",
        left_out(PLUGINS_LEFT_OUT),
        left_out(TRANSPORTS_LEFT_OUT),
    );
    let sockets = format!(
        "general: {{\n\tjson = \"compact\"\n\tws = true\n\tws_port = {PORT}\n\tws_ip = \"{address}\"\n\twss = false\n}}\n\
         admin: {{\n\tadmin_ws = false\n\tadmin_wss = false\n}}\n"
    );
    // Without a limit of the bit rate, and without asking for keyframes that nobody needs.
    let room = format!(
        "room-{ROOM}: {{\n\tdescription = \"peers\"\n\tpublishers = 1\n\tbitrate = 0\n\tfir_freq = 0\n\taudiocodec = \"opus\"\n\
         \tvideocodec = \"vp8\"\n\trecord = false\n}}\n"
    );
    [
        ("janus.jcfg", main),
        ("janus.transport.websockets.jcfg", sockets),
        ("janus.plugin.videoroom.jcfg", room),
    ]
}

/// A request, and who waits for the answer; nobody, if it is only to be sent.
type Asked = (Value, Option<oneshot::Sender<Value>>);

/// The WebSocket, on a task of its own.
struct Connection {
    asking: mpsc::Sender<Asked>,
    task: JoinHandle<()>,
}

impl Connection {
    fn open(socket: Socket) -> Connection {
        let (asking, asked) = mpsc::channel(REQUESTS_MAX);
        let task = tokio::spawn(async move {
            if let Err(error) = serve(socket, asked).await {
                tracing::warn!(error = format!("{error:#}"), "Janus's signalling");
            }
        });
        Connection { asking, task }
    }

    async fn ask(&self, request: Value) -> Result<Value> {
        ask(&self.asking, request).await
    }

    async fn close(self) {
        drop(self.asking);
        // Handles that are still there keep it open; the server ends it then.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), self.task).await;
    }
}

/// Sends requests and hands answers to who waits for them, until nobody can ask any more or the server hangs up.
async fn serve(mut socket: Socket, mut asked: mpsc::Receiver<Asked>) -> Result<()> {
    let mut waiting: HashMap<String, oneshot::Sender<Value>> = HashMap::new();
    loop {
        tokio::select! {
            request = asked.recv() => {
                let Some((mut request, waits)) = request else {
                    socket.close().await;
                    return Ok(());
                };
                // Who has given up waiting needs no place.
                waiting.retain(|_, waits| !waits.is_closed());
                let transaction = weir_client::random_id(12);
                request["transaction"] = transaction.as_str().into();
                waiting.extend(waits.map(|waits| (transaction, waits)));
                socket.send_text(request.to_string()).await?;
            }
            bytes = socket.receive() => {
                if let Said::Answer { transaction, message } = messages::parse(&bytes?)?
                    && let Some(waits) = waiting.remove(&transaction)
                {
                    let _ = waits.send(message);
                }
            }
        }
    }
}

async fn ask(asking: &mpsc::Sender<Asked>, request: Value) -> Result<Value> {
    let (waits, answer) = oneshot::channel();
    let gone = "the connection to Janus has ended";
    asking.send((request, Some(waits))).await.context(gone)?;
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
    messages::granted(answer.context("Janus does not answer")?.context(gone)?)
}

/// One participant at the plugin.
struct Handle {
    asking: mpsc::Sender<Asked>,
    session: u64,
    id: u64,
}

impl Handle {
    /// Says something to the plugin; gives what comes of it.
    async fn ask(&self, body: Value, description: Option<Value>) -> Result<Value> {
        let mut request = self.request("message");
        request["body"] = body;
        if let Some(description) = description {
            request["jsep"] = description;
        }
        ask(&self.asking, request).await
    }

    /// Sends own candidates, and that there are no more.
    async fn trickle(&self, invited: &Invited) -> Result<()> {
        let candidates = invited.candidates();
        let candidates = candidates
            .map(|candidate| json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0}))
            .chain([json!({"completed": true})]);
        for candidate in candidates {
            let mut request = self.request("trickle");
            request["candidate"] = candidate;
            // It is only taken, and that says nothing.
            let sent = self.asking.send((request, None)).await;
            sent.context("the connection to Janus has ended")?;
        }
        Ok(())
    }

    fn request(&self, kind: &str) -> Value {
        json!({"janus": kind, "session_id": self.session, "handle_id": self.id})
    }
}

/// A participant that is there.
pub(crate) struct Call {
    handle: Handle,
    attendance: Attendance,
}

impl Call {
    pub(crate) fn attendance(&self) -> &Attendance {
        &self.attendance
    }

    pub(crate) async fn leave(self) {
        let detach = self.handle.request("detach");
        // A server that has gone needs not be told.
        let _ = ask(&self.handle.asking, detach).await;
        self.attendance.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_address_and_leaves_out_what_is_not_needed() {
        let files = configuration([10, 87, 0, 1].into());
        assert!(files[0].1.contains("ice_enforce_list = \"10.87.0.1\""));
        assert!(files[0].1.contains("libjanus_http.so,libjanus_mqtt.so"));
        assert!(!files[0].1.contains("videoroom") && !files[0].1.contains("websockets"));
        assert!(files[1].1.contains("ws_ip = \"10.87.0.1\""));
        assert!(files[2].1.starts_with("room-1: {"));
    }
}
