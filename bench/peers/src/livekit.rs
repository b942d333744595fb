//! LiveKit: the server as a child process, and its signalling. Who publishes offers and listens to nothing; who listens answers the
//! server's offers, which may come again when tracks are added.

mod messages;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weir_client::attendance::{Attendance, Guest, Invited};
use weir_client::sdp::Remote;
use weir_loadtest::child::{Folder, ServerChild};

use crate::server::{Setup, listener, publisher};
use crate::socket::{ANSWER_WITHIN, Socket};
use messages::{
    AddTrack, Leave, Ping, Request, Response, SessionDescription, SignalRequest, SignalResponse,
    Trickle, candidate_of,
};
use token::{Grant, token};

/// In a network of its own every port is free; elsewhere somebody may be there, which the server says.
const PORT: u16 = 17_880;
const MEDIA_PORT: u16 = 17_882;
const ROOM: &str = "peers";
const KEY: &str = "peers";
/// Nobody but this process and its child ever sees it.
const SECRET_LETTERS: usize = 40;
/// A run is over long before.
const TOKEN_SECONDS: u64 = 24 * 3600;
/// The server gives up who does not ping within 15 s by default, and says in its join how often it wants to be pinged.
const PING_EVERY_MAX: Duration = Duration::from_secs(10);
/// `SignalTarget` of the protocol.
const PUBLISHING: i32 = 0;
const SUBSCRIBING: i32 = 1;

/// A running LiveKit.
pub(crate) struct LiveKit {
    child: ServerChild,
    address: SocketAddr,
    secret: String,
}

impl LiveKit {
    pub(crate) async fn start(binary: &Path, setup: &Setup) -> Result<LiveKit> {
        let folder = Folder::new()?;
        let secret = weir_client::random_id(SECRET_LETTERS);
        let config = configuration(setup.server_ip, &secret);
        let path = folder.write("livekit.yaml", &config)?;
        let mut command = Command::new(binary);
        command.arg("--config").arg(path);
        let mut child = ServerChild::start(folder, command, &setup.place)?;
        let address = SocketAddr::from((setup.server_ip, PORT));
        let ready = || async move { tokio::net::TcpStream::connect(address).await.is_ok() };
        child.wait_until_ready(ready).await?;
        Ok(LiveKit {
            child,
            address,
            secret,
        })
    }

    pub(crate) fn child(&mut self) -> &mut ServerChild {
        &mut self.child
    }

    pub(crate) async fn publish(&self, setup: &Setup) -> Result<Call> {
        let invited = Invited::new(publisher(setup), setup.server_ip).await?;
        let mut signal = self.connect(&invited, "publisher", Grant::Publish).await?;
        let answer = signal.publish(&invited).await?;
        let attendance = signal.while_reading(invited.attend(&answer)).await??;
        Ok(Call::hold(signal, attendance))
    }

    pub(crate) async fn subscribe(&self, setup: &Setup, index: usize) -> Result<Call> {
        let guest: Guest = listener(index);
        let name = guest.name.clone();
        let invited = Invited::new(guest, setup.server_ip).await?;
        let mut signal = self.connect(&invited, &name, Grant::Subscribe).await?;
        let offer = signal.offered().await?;
        signal.answer(&invited.answer(&offer.1), offer.0).await?;
        signal.trickle(&invited, SUBSCRIBING).await?;
        let attending = invited.attend_answering(&offer.1);
        let attendance = signal.while_reading(attending).await??;
        Ok(Call::hold(signal, attendance))
    }

    pub(crate) async fn stop(self) {
        self.child.stop().await;
    }

    async fn connect(&self, invited: &Invited, name: &str, grant: Grant) -> Result<Signal> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let token = token(KEY, &self.secret, ROOM, name, grant, now + TOKEN_SECONDS);
        let subscribes = u8::from(grant == Grant::Subscribe);
        // Protocol 9 is the oldest that says all that is needed here: offers with media at once, and updates that can be ignored.
        let url = format!(
            "ws://{}/rtc?access_token={token}&auto_subscribe={subscribes}&protocol=9&sdk=rust&version=1",
            self.address
        );
        let mut signal = Signal {
            socket: Socket::connect(&url, None).await?,
            peer: invited.peer(),
            target: if subscribes == 1 {
                SUBSCRIBING
            } else {
                PUBLISHING
            },
            ping_every: PING_EVERY_MAX,
            offer: None,
        };
        let join = signal.wait(|response| match response {
            Response::Join(join) => Some(join),
            _ => None,
        });
        let join = join.await.context("no welcome")?;
        tracing::debug!(version = join.server_version, "LiveKit");
        let wanted = u64::try_from(join.ping_interval).unwrap_or(0);
        if wanted > 0 {
            signal.ping_every = Duration::from_secs(wanted).min(PING_EVERY_MAX);
        }
        Ok(signal)
    }
}

/// The configuration: everything that is not about addresses is as it comes.
fn configuration(address: IpAddr, secret: &str) -> String {
    format!(
        "port: {PORT}\n\
         bind_addresses: [\"{address}\"]\n\
         rtc:\n  udp_port: {MEDIA_PORT}\n  use_external_ip: false\n  node_ip: \"{address}\"\n\
         keys:\n  {KEY}: {secret}\n\
         limit:\n  num_tracks: -1\n\
         logging:\n  level: warn\n"
    )
}

/// One participant's connection to the server.
struct Signal {
    socket: Socket,
    /// Takes the server's candidates.
    peer: weir_client::peer::Peer,
    target: i32,
    ping_every: Duration,
    /// An offer that came while something else was waited for.
    offer: Option<(u32, Remote)>,
}

impl Signal {
    async fn say(&mut self, request: Request) -> Result<()> {
        let bytes = SignalRequest::from(request).encode_to_vec();
        self.socket.send_binary(bytes).await
    }

    /// The next message that is not about candidates. Can be dropped and called again.
    async fn receive(&mut self) -> Result<Response> {
        loop {
            let bytes = self.socket.receive().await?;
            let response = SignalResponse::decode(&bytes[..]).context("not LiveKit's protocol")?;
            match response.message {
                Some(Response::Trickle(trickle)) if trickle.target == self.target => {
                    if let Some(candidate) = candidate_of(&trickle) {
                        self.peer.add_candidate(&candidate);
                    }
                }
                Some(Response::Leave(leave)) => {
                    bail!("the server ended the call (reason {})", leave.reason)
                }
                Some(response) => return Ok(response),
                None => {}
            }
        }
    }

    async fn wait<T>(&mut self, wanted: impl Fn(Response) -> Option<T>) -> Result<T> {
        let found = async {
            loop {
                let response = self.receive().await?;
                if let Some(found) = wanted(response) {
                    return Ok(found);
                }
            }
        };
        let found = tokio::time::timeout(ANSWER_WITHIN, found).await;
        found.context("the server says nothing")?
    }

    /// The server's next offer.
    async fn offered(&mut self) -> Result<(u32, Remote)> {
        if let Some(offer) = self.offer.take() {
            return Ok(offer);
        }
        let offer = self.wait(|response| match response {
            Response::Offer(offer) => Some(offer),
            _ => None,
        });
        read(&offer.await.context("no offer")?)
    }

    /// Goes on taking candidates while a transport connects; an offer that comes meanwhile is kept.
    async fn while_reading<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                response = self.receive() => if let Response::Offer(offer) = response? {
                    self.offer = Some(read(&offer)?);
                }
            }
        }
    }

    async fn publish(&mut self, invited: &Invited) -> Result<Remote> {
        let (audio, video) = invited.tracks();
        let tracks = [(audio, 0, 2, (0, 0)), (video, 1, 1, (1280, 720))];
        for (cid, kind, source, (width, height)) in tracks {
            let Some(cid) = cid else { continue };
            let track = AddTrack {
                cid: cid.to_owned(),
                kind,
                width,
                height,
                source,
            };
            self.say(Request::AddTrack(track)).await?;
            let published = |response| match response {
                Response::TrackPublished(track) if track.cid == cid => Some(()),
                _ => None,
            };
            self.wait(published).await.context("adding a track")?;
        }
        let offer = description("offer", invited.offer(), 0);
        self.say(Request::Offer(offer)).await?;
        self.trickle(invited, PUBLISHING).await?;
        let answer = self.wait(|response| match response {
            Response::Answer(answer) => Some(answer),
            _ => None,
        });
        Ok(read(&answer.await.context("no answer")?)?.1)
    }

    async fn answer(&mut self, sdp: &str, id: u32) -> Result<()> {
        let answer = description("answer", sdp.to_owned(), id);
        self.say(Request::Answer(answer)).await
    }

    async fn trickle(&mut self, invited: &Invited, target: i32) -> Result<()> {
        for candidate in invited.candidates() {
            let init =
                serde_json::json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0});
            let trickle = Trickle {
                candidate_init: init.to_string(),
                target,
            };
            self.say(Request::Trickle(trickle)).await?;
        }
        Ok(())
    }

    /// Pings, answers further offers, until told to stop or the server ends it.
    async fn run(
        mut self,
        attendance: Arc<Attendance>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<()> {
        let mut ping = tokio::time::interval(self.ping_every);
        if let Some(offer) = self.offer.take() {
            self.renegotiate(&attendance, offer).await?;
        }
        loop {
            tokio::select! {
                _ = &mut stop => break,
                _ = ping.tick() => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
                    let timestamp = now.try_into().unwrap_or(i64::MAX);
                    self.say(Request::Ping(Ping { timestamp })).await?;
                }
                response = self.receive() => if let Response::Offer(offer) = response? {
                    self.renegotiate(&attendance, read(&offer)?).await?;
                }
            }
        }
        self.say(Request::Leave(Leave::default())).await?;
        self.socket.close().await;
        Ok(())
    }

    /// Offers are for the transport that the client listens on; who publishes has none.
    async fn renegotiate(
        &mut self,
        attendance: &Attendance,
        (id, offer): (u32, Remote),
    ) -> Result<()> {
        if self.target == PUBLISHING {
            return Ok(());
        }
        let answer = attendance.renegotiate(offer);
        self.answer(&answer, id).await
    }
}

fn description(kind: &str, sdp: String, id: u32) -> SessionDescription {
    SessionDescription {
        kind: kind.to_owned(),
        sdp,
        id,
    }
}

fn read(description: &SessionDescription) -> Result<(u32, Remote)> {
    let remote = Remote::parse(&description.sdp).context("a description that cannot be read")?;
    Ok((description.id, remote))
}

/// A participant that is there, with its signalling on a task of its own.
pub(crate) struct Call {
    attendance: Arc<Attendance>,
    stop: oneshot::Sender<()>,
    signalling: JoinHandle<Result<()>>,
}

impl Call {
    fn hold(signal: Signal, attendance: Attendance) -> Call {
        let attendance = Arc::new(attendance);
        let (stop, stopped) = oneshot::channel();
        Call {
            signalling: tokio::spawn(signal.run(Arc::clone(&attendance), stopped)),
            attendance,
            stop,
        }
    }

    pub(crate) fn attendance(&self) -> &Attendance {
        &self.attendance
    }

    pub(crate) async fn leave(self) {
        // A call that the server has ended has nobody to be told.
        let _ = self.stop.send(());
        if let Ok(Err(error)) = self.signalling.await {
            tracing::warn!(error = format!("{error:#}"), "LiveKit's signalling");
        }
        if let Some(attendance) = Arc::into_inner(self.attendance) {
            attendance.leave().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_address_and_the_key() {
        let text = configuration([10, 87, 0, 1].into(), "s3cret");
        for line in [
            "bind_addresses: [\"10.87.0.1\"]",
            "  node_ip: \"10.87.0.1\"",
            "  peers: s3cret",
        ] {
            assert!(text.lines().any(|of| of == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_description_without_credentials_is_refused() {
        assert!(read(&description("offer", "v=0\r\n".into(), 1)).is_err());
        let sdp = "v=0\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\n".to_owned();
        let (id, remote) = read(&description("offer", sdp, 4)).expect("readable");
        assert_eq!((id, remote.ufrag.as_str()), (4, "x"));
    }
}
