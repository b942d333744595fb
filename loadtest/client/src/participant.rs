//! The participant as a whole: from a Matrix login to a leave. What the parts do is in their modules; this one owns their
//! order and the task that runs them.

mod choosing;
mod config;

pub use config::{
    Camera, Checks, Choosing, Decode, DecodedFrames, Detour, Encryption, FocusAddress, JoinConfig,
    LayerRate, Publish, SAMPLE_ONE_IN, Size, Tamper, TransportFeedback,
};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::call::{self, End};
use crate::channel::{self, Metadata};
use crate::encryption::{self, MediaKeys};
use crate::health::Counted;
use crate::matrix::{Device, Foci, MatrixError, News, ToDevice};
use crate::pictures::DecodeThread;
use crate::report::{Kind, Latencies, Latest, Report};
use choosing::{Chooser, Told};

/// Why a participant could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The homeserver refused or could not be reached.
    #[error("homeserver: {0}")]
    Homeserver(#[from] MatrixError),
    /// A focus was to be chosen, and there is none that answers.
    #[error("no focus is known that answers")]
    NoFocus,
}

/// One user's device in one call, running on its own tasks until it leaves or every handle is dropped.
#[derive(Debug, Clone)]
pub struct Participant {
    commands: mpsc::UnboundedSender<Command>,
    report: Latest,
}

/// What the owner of a participant wants of its task.
#[derive(Debug)]
pub(crate) enum Command {
    Wanted(Option<Size>),
    WantedOf(String, Option<Size>),
    Mute(Kind, bool),
    Text(String),
    /// Another focus than before.
    Use(FocusAddress),
    Leave(oneshot::Sender<()>),
}

impl Command {
    /// Whether the call that is on is over with it.
    pub(crate) fn ends_a_call(&self) -> bool {
        matches!(self, Command::Use(..) | Command::Leave(..))
    }
}

impl Participant {
    /// Logs in, joins the room and publishes the member event; the call itself is made, and made again if it ends, by the
    /// participant's own task. How it goes is in the [`report`](Self::report).
    pub async fn join(mut config: JoinConfig) -> Result<Participant, JoinError> {
        let began = Instant::now();
        let device = Device::login(&config.homeserver, &config.user, &config.password).await?;
        device.join_room(&config.room_id).await?;
        let (mut to_device, keys, mut news) = listen(&device, &config).await?;
        let session_id = crate::random_id(10);
        let mut foci = Foci {
            active: vec![config.focus.clone()],
            preferred: Vec::new(),
        };
        let mut chooser = None;
        if let Some(choosing) = &config.choosing {
            let heard = (&mut to_device, &mut news);
            let started = Chooser::start(choosing, &config, &device, &session_id, heard);
            let (started, decision) = started.await?;
            foci = Foci::of(&decision);
            config.focus = foci.active[0].clone();
            chooser = Some(started);
        }
        let (room_id, conf_id) = (&config.room_id, &config.conf_id);
        device
            .put_member(room_id, conf_id, &session_id, Some(&foci))
            .await?;
        let report = Latest::new(Report {
            user_id: device.user_id().to_owned(),
            device_id: device.device_id().to_owned(),
            checks: config.checks.how(),
            latencies: Latencies {
                join_ms: Some(began.elapsed().as_secs_f64() * 1000.0),
                ..Latencies::default()
            },
            ..Report::default()
        });
        let (commands, receiver) = mpsc::unbounded_channel();
        let (listed, foci) = watch::channel(foci);
        let (failed, failures) = mpsc::channel(FAILURES_MAX);
        let told = Told {
            listed,
            commands: commands.downgrade(),
        };
        let choosing = chooser.map(|chooser| chooser.follow(news, failures, told));
        let life = Life {
            wishes: Wishes {
                wanted: config.wanted,
                ..Wishes::default()
            },
            rng: StdRng::seed_from_u64(config.seed.unwrap_or_else(rand::random)),
            config,
            device,
            session_id,
            stream_id: crate::random_id(36),
            audio_track: crate::random_id(36),
            video_track: crate::random_id(36),
            to_device,
            commands: receiver,
            report: report.clone(),
            decoder: DecodeThread::shared(),
            keys,
            foci,
            failed,
            choosing,
            left: None,
            _counted: Counted::new(),
        };
        tokio::spawn(life.run());
        Ok(Participant { commands, report })
    }

    /// A snapshot of everything counted so far, at most a fifth of a second old, one second for light participants.
    pub fn report(&self) -> Report {
        Report::clone(&self.snapshot())
    }

    /// The same without a copy: cheap enough to ask thousands once a second.
    pub fn snapshot(&self) -> Arc<Report> {
        self.report.get()
    }

    /// Changes the size that is asked for of every video; `None` unsubscribes from all video.
    pub fn set_wanted(&self, wanted: Option<Size>) {
        let _ = self.commands.send(Command::Wanted(wanted));
    }

    /// Changes the size that is asked for of one user's videos, whatever [`set_wanted`](Self::set_wanted) says.
    pub fn set_wanted_of(&self, user_id: &str, wanted: Option<Size>) {
        let _ = self
            .commands
            .send(Command::WantedOf(user_id.to_owned(), wanted));
    }

    /// Stops or restarts sending and tells the focus.
    pub fn set_muted(&self, kind: Kind, muted: bool) {
        let _ = self.commands.send(Command::Mute(kind, muted));
    }

    /// Sends any text frame on the data channel, for tests of bad input.
    pub fn send_text(&self, text: impl Into<String>) {
        let _ = self.commands.send(Command::Text(text.into()));
    }

    /// Hangs up, takes the device out of the member event, logs it out and stops.
    pub async fn leave(self) {
        let (done, wait) = oneshot::channel();
        let _ = self.commands.send(Command::Leave(done));
        let _ = wait.await;
    }
}

/// A focus fails once, and is not called again before it is chosen again.
const FAILURES_MAX: usize = 8;
/// State that waits for who chooses.
const NEWS_MAX: usize = 256;

/// Starts to sync, and if media is encrypted, to exchange keys. The state of the room is for who chooses a focus.
async fn listen(
    device: &Device,
    config: &JoinConfig,
) -> Result<
    (
        mpsc::Receiver<ToDevice>,
        Option<MediaKeys>,
        mpsc::Receiver<News>,
    ),
    MatrixError,
> {
    let (for_choosing, of_room) = mpsc::channel(NEWS_MAX);
    if config.choosing.is_none() && config.encryption == Encryption::None {
        return Ok((device.start_sync().await?, None, of_room));
    }
    let types = &encryption::EVENT_TYPES;
    let (to_device, news) = device.start_sync_watching(&config.room_id, types).await?;
    match config.encryption {
        Encryption::None => Ok((to_device, None, news)),
        Encryption::Sframe => {
            let conference = weir_sframe::Conference {
                room_id: config.room_id.clone(),
                call_id: config.conf_id.clone(),
            };
            let news = match config.choosing {
                Some(_) => both(news, for_choosing),
                None => news,
            };
            let keys = encryption::start(device, conference, news).await?;
            Ok((to_device, Some(keys), of_room))
        }
    }
}

/// Lets a second one hear the same. A second one that does not listen, or not fast enough, does not hold the first one up.
fn both(mut news: mpsc::Receiver<News>, second: mpsc::Sender<News>) -> mpsc::Receiver<News> {
    let (first, receiver) = mpsc::channel(NEWS_MAX);
    tokio::spawn(async move {
        while let Some(event) = news.recv().await {
            let _ = second.try_send(event.clone());
            if first.send(event).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// What the participant wants, over all its calls.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    wanted: Option<Size>,
    wanted_of: BTreeMap<String, Option<Size>>,
    audio_muted: bool,
    video_muted: bool,
}

impl Wishes {
    pub(crate) fn handle(&mut self, command: &Command) {
        match command {
            Command::Wanted(wanted) => self.wanted = *wanted,
            Command::WantedOf(user_id, wanted) => {
                let _ = self.wanted_of.insert(user_id.clone(), *wanted);
            }
            Command::Mute(Kind::Audio, muted) => self.audio_muted = *muted,
            Command::Mute(Kind::Video, muted) => self.video_muted = *muted,
            Command::Text(_) | Command::Use(_) | Command::Leave(_) => {}
        }
    }

    pub(crate) fn wanted_of(&self, user_id: &str) -> Option<Size> {
        self.wanted_of.get(user_id).copied().unwrap_or(self.wanted)
    }

    pub(crate) fn muted(&self, kind: Kind) -> bool {
        match kind {
            Kind::Audio => self.audio_muted,
            Kind::Video => self.video_muted,
        }
    }
}

/// What outlives a call: the device, the names, the wishes.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) config: JoinConfig,
    pub(crate) device: Device,
    pub(crate) session_id: String,
    pub(crate) stream_id: String,
    pub(crate) audio_track: String,
    pub(crate) video_track: String,
    pub(crate) to_device: mpsc::Receiver<ToDevice>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) wishes: Wishes,
    pub(crate) decoder: DecodeThread,
    pub(crate) rng: StdRng,
    /// If media is encrypted.
    pub(crate) keys: Option<MediaKeys>,
    /// What the member event lists.
    foci: watch::Receiver<Foci>,
    /// Where a focus that does not take the call is told.
    failed: mpsc::Sender<FocusAddress>,
    /// Follows the choice, where there is one.
    choosing: Option<JoinHandle<()>>,
    report: Latest,
    left: Option<oneshot::Sender<()>>,
    _counted: Counted,
}

/// A member event names the device for an hour, and the published client renews it so often.
const RENEW_EVERY: Duration = Duration::from_secs(45 * 60);

/// Puts the member event anew when it lists other foci, and before it expires, until it is aborted: whoever is not named any more
/// gets no keys.
async fn renew_member(
    device: Device,
    config: JoinConfig,
    session_id: String,
    mut foci: watch::Receiver<Foci>,
) {
    let (room_id, conf_id) = (&config.room_id, &config.conf_id);
    loop {
        tokio::select! {
            // Where nobody chooses nothing ever changes.
            Ok(()) = foci.changed() => {}
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        let listed = foci.borrow_and_update().clone();
        let renewed = device.put_member(room_id, conf_id, &session_id, Some(&listed));
        if let Err(error) = renewed.await {
            tracing::warn!(%error, "the member event could not be renewed");
        }
    }
}

/// The published client calls again within five seconds of a hang-up.
const CALL_AGAIN: Duration = Duration::from_secs(1);
const CALL_AGAIN_MAX: Duration = Duration::from_secs(5);

impl Life {
    async fn run(mut self) {
        let (device, config) = (self.device.clone(), self.config.clone());
        let renewal = renew_member(device, config, self.session_id.clone(), self.foci.clone());
        let renewal = tokio::spawn(renewal);
        let mut pause = CALL_AGAIN;
        loop {
            match call::run(&mut self).await {
                End::Left => break,
                End::Switched(focus) => {
                    self.config.focus = focus;
                    continue;
                }
                End::Failed(reason) => {
                    // Nobody listens where there is nothing to choose from.
                    let _ = self.failed.try_send(self.config.focus.clone());
                    self.note_end(reason);
                }
                End::Ended(reason) => self.note_end(reason),
            }
            let connected = self.report().connected_after_ms.is_some();
            pause = if connected {
                CALL_AGAIN
            } else {
                (pause * 2).min(CALL_AGAIN_MAX)
            };
            if self.pause(pause).await {
                break;
            }
        }
        renewal.abort();
        if let Some(choosing) = self.choosing.take() {
            choosing.abort();
        }
        let member = self.device.put_member(
            &self.config.room_id,
            &self.config.conf_id,
            &self.session_id,
            None,
        );
        if let Err(error) = member.await {
            tracing::warn!(%error, "the member event could not be taken back");
        }
        if let Err(error) = self.device.log_out().await {
            tracing::warn!(%error, "the device could not be logged out");
        }
        if let Some(left) = self.left.take() {
            let _ = left.send(());
        }
    }

    fn note_end(&self, reason: String) {
        tracing::info!(reason, "the call ended");
        self.update(|report| report.ends.push(reason));
    }

    /// Waits before the next call; true if the participant leaves meanwhile.
    async fn pause(&mut self, pause: Duration) -> bool {
        let deadline = tokio::time::sleep(pause);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = &mut deadline => return false,
                // Messages of the call that ended.
                Some(_) = self.to_device.recv() => {}
                command = self.commands.recv() => match command {
                    None | Some(Command::Leave(_)) => {
                        self.leaving(command);
                        return true;
                    }
                    Some(Command::Use(focus)) => self.config.focus = focus,
                    Some(command) => self.wishes.handle(&command),
                }
            }
        }
    }

    /// Remembers whom to tell when all is done.
    pub(crate) fn leaving(&mut self, command: Option<Command>) -> End {
        if let Some(Command::Leave(done)) = command {
            self.left = Some(done);
        }
        End::Left
    }

    /// Own streams.
    pub(crate) fn metadata(&self) -> Metadata {
        let publish = self.config.publish;
        let mut stream = channel::Stream {
            user_id: self.device.user_id().to_owned(),
            device_id: self.device.device_id().to_owned(),
            purpose: "m.usermedia".to_owned(),
            audio_muted: self.wishes.audio_muted || !publish.audio,
            video_muted: self.wishes.video_muted || publish.video.is_none(),
            ..channel::Stream::default()
        };
        let mut add = |kind, id: &str, size: Option<(u16, u16)>| {
            let (width, height) = (
                size.map(|size| size.0.into()),
                size.map(|size| size.1.into()),
            );
            let kind = channel::kind_name(kind).to_owned();
            stream.tracks.insert(
                id.to_owned(),
                channel::Track {
                    kind,
                    width,
                    height,
                },
            );
        };
        if publish.audio {
            add(Kind::Audio, &self.audio_track, None);
        }
        if let Some(layer) = publish
            .video
            .and_then(|camera| self.config.clips.largest(&camera))
        {
            add(
                Kind::Video,
                &self.video_track,
                Some((layer.width, layer.height)),
            );
        }
        Metadata::from([(self.stream_id.clone(), stream)])
    }

    /// The rids of what is sent.
    pub(crate) fn rids(&self) -> Vec<String> {
        let camera = self
            .config
            .publish
            .video
            .map_or([None; 3], |camera| camera.layers);
        let layers = self.config.clips.layers.iter().zip(camera);
        layers
            .filter_map(|(layer, rate)| rate.map(|_| layer.rid.to_owned()))
            .collect()
    }

    pub(crate) fn report(&self) -> Report {
        Report::clone(&self.report.get())
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Report)) {
        let mut report = self.report();
        change(&mut report);
        self.publish(&report);
    }

    /// Makes a report the latest one.
    pub(crate) fn publish(&self, report: &Report) {
        self.report.set(report);
    }
}
