//! One call from the invite to its end: the order of messages with the focus. What is sent and received
//! meanwhile is in `media`.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::alive::Alive;
use crate::channel::{self, Dialect, FromFocus, Metadata};
use crate::encryption::MediaKeys;
use crate::media::{self, EVENTS_AT_ONCE, Media, Said};
use crate::participant::{Command, FocusAddress, Life, Wishes};
use crate::peer::{Event, Link, Peer};
use crate::publish::{Publisher, Ssrcs};
use crate::receive::{Inspection, Owner, Receiver};
use crate::report::{Kind, Latencies, Report};
use crate::sdp::{Local, Remote, RemoteMedia};
use crate::signalling::{self, Signalling};

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The participant left.
    Left,
    /// This focus is to be called instead.
    Switched(FocusAddress),
    /// The call did not come about: the focus refused or did not answer, or the transport failed; says why.
    Failed(String),
    /// The focus hung up, or the transport failed; says why.
    Ended(String),
}

/// An answer takes well under a second; a homeserver under load may take longer to carry it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Makes one call and stays in it to its end.
pub(crate) async fn run(life: &mut Life) -> End {
    let peer = match Peer::towards(life.config.homeserver_ip(), life.config.detour.clone()).await {
        Ok(peer) => peer,
        Err(error) => return End::Failed(error.to_string()),
    };
    let config = &life.config;
    let mut signalling = Signalling::new(
        &life.device,
        &config.focus,
        &config.conf_id,
        &life.session_id,
    );
    let local = local_description(life, &peer);
    let ssrcs = Ssrcs::from_rng(&mut life.rng);
    let mut times = Times::new(Instant::now());
    life.update(|report| report.invites += 1);
    let (offer, own) = (local.offer(&ssrcs), life.metadata());
    if let Err(error) = signalling.invite(&peer, &offer, &own).await {
        peer.close().await;
        return End::Failed(error);
    }
    let (answer, others) = match wait_for_answer(life, &mut signalling, &peer).await {
        Ok(answer) => answer,
        Err(end) => {
            peer.close().await;
            return end;
        }
    };
    times.latencies.answer_ms = Some(times.ms(Instant::now()));
    life.update(|report| {
        report.latencies = Latencies {
            join_ms: report.latencies.join_ms,
            ..times.latencies
        }
    });
    let mut waiting = Vec::new();
    let connected = tokio::select! {
        connected = peer.connect(&answer) => connected,
        interruption = interruption(life, &signalling, &mut waiting) => {
            peer.close().await;
            return match interruption {
                Ok(command) => hang_up_by(command, life, &mut signalling).await,
                Err(reason) => End::Failed(reason),
            };
        }
    };
    let (link, events) = match connected {
        Ok(up) => up,
        Err(error) => {
            peer.close().await;
            signalling.hang_up("ice_failed").await;
            return End::Failed(error.to_string());
        }
    };
    let mut call = Call::new(life, signalling, local, ssrcs, link, others, &answer, times);
    call.apply(&answer);
    for command in waiting {
        call.handle_command(life, command).await;
    }
    let end = call.run(life, events).await;
    call.media.link.close().await;
    call.snapshot(life, Instant::now());
    life.update(|report| report.connected = false);
    end
}

/// When the call began, and how long its steps took.
#[derive(Debug, Clone, Copy)]
struct Times {
    invited_at: Instant,
    latencies: Latencies,
}

impl Times {
    fn new(invited_at: Instant) -> Times {
        let latencies = Latencies::default();
        Times {
            invited_at,
            latencies,
        }
    }

    /// Milliseconds since the invite.
    fn ms(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.invited_at).as_secs_f64() * 1000.0
    }
}

fn local_description(life: &Life, peer: &Peer) -> Local {
    let publish = life.config.publish;
    peer.describe(
        life.stream_id.clone(),
        publish.audio.then(|| life.audio_track.clone()),
        publish.video.map(|_| life.video_track.clone()),
        media::terms(life.config.checks, life.rids()),
    )
}

fn publisher(life: &mut Life, answer: &Remote, ssrcs: Ssrcs) -> Publisher {
    let (clips, publish) = (life.config.clips.clone(), life.config.publish);
    let mut publisher = media::publisher(&mut life.rng, clips, publish, answer, ssrcs);
    if let Some(keys) = &life.keys {
        publisher.encrypt_with(keys.clone());
    }
    if publish.video.is_some() || publish.audio {
        publisher.announce(life.device.user_id(), life.device.device_id());
    }
    for kind in [Kind::Audio, Kind::Video] {
        if life.wishes.muted(kind) {
            publisher.set_muted(kind, true);
        }
    }
    publisher
}

/// Waits for the answer; candidates that come before it are taken at once.
async fn wait_for_answer(
    life: &mut Life,
    signalling: &mut Signalling,
    peer: &Peer,
) -> Result<(Remote, Metadata), End> {
    let deadline = tokio::time::sleep(ANSWER_WITHIN);
    tokio::pin!(deadline);
    loop {
        let message = tokio::select! {
            message = life.to_device.recv() => message.ok_or_else(|| End::Failed("the sync ended".into()))?,
            () = &mut deadline => {
                signalling.hang_up("invite_timeout").await;
                return Err(End::Failed("no answer".into()));
            }
            command = life.commands.recv() => match command {
                Some(command) if !command.ends_a_call() => {
                    life.wishes.handle(&command);
                    continue;
                }
                command => return Err(hang_up_by(command, life, signalling).await),
            }
        };
        if let Some(answered) = signalling.handle_unanswered(&message, peer).await {
            return answered.map_err(End::Failed);
        }
    }
}

/// What ends the call while its transport is set up: a command of the owner's, or somebody else for a reason. Commands that can
/// wait until it is up are put aside. Nothing is lost when it is dropped.
async fn interruption(
    life: &mut Life,
    signalling: &Signalling,
    waiting: &mut Vec<Command>,
) -> Result<Option<Command>, String> {
    loop {
        tokio::select! {
            message = life.to_device.recv() => {
                let message = message.ok_or("the sync ended")?;
                let ended = signalling.is_ours(&message).then(|| signalling::ended(&message));
                if let Some(reason) = ended.flatten() {
                    return Err(reason);
                }
            }
            command = life.commands.recv() => match command {
                Some(command) if !command.ends_a_call() => waiting.push(command),
                command => return Ok(command),
            }
        }
    }
}

/// Ends the call as its owner wants.
async fn hang_up_by(command: Option<Command>, life: &mut Life, signalling: &mut Signalling) -> End {
    signalling.hang_up("user_hangup").await;
    match command {
        Some(Command::Use(focus)) => End::Switched(focus),
        command => life.leaving(command),
    }
}

/// A call whose transport is up.
struct Call {
    signalling: Signalling,
    local: Local,
    dialect: Dialect,
    alive: Alive,
    media: Media,
    others: Metadata,
    /// The latest request for tracks, so that the same is not said twice.
    subscribed: Vec<String>,
    report: Report,
    times: Times,
}

impl Call {
    #[allow(clippy::too_many_arguments)]
    fn new(
        life: &mut Life,
        signalling: Signalling,
        local: Local,
        ssrcs: Ssrcs,
        link: Link,
        others: Metadata,
        answer: &Remote,
        mut times: Times,
    ) -> Call {
        let (up, config) = (link.up(), &life.config);
        let inspection = Inspection {
            decode: config.checks.decode(),
            feedback: config.transport_feedback,
        };
        let (decoder, clips) = (life.decoder.clone(), config.clips.clone());
        let receiver = Receiver::new(decoder, clips, ssrcs.audio, Instant::now());
        let (checks, tamper) = (config.checks, config.tamper.clone());
        let receiver = receiver
            .inspecting(inspection)
            .decrypting(life.keys.clone());
        let phase = media::phase(&mut life.rng);
        let publisher = publisher(life, answer, ssrcs);
        let media = Media::new(link, publisher, receiver, checks, phase).tampering(tamper);
        times.latencies = Latencies {
            join_ms: life.report().latencies.join_ms,
            ice_ms: Some(times.ms(up.ice_at)),
            connected_ms: Some(times.ms(up.dtls_at)),
            channel_ms: up.channel_at.map(|at| times.ms(at)),
            ..times.latencies
        };
        let report = Report {
            connected_after_ms: times.latencies.connected_ms.map(|ms| ms as u64),
            latencies: times.latencies,
            ..life.report()
        };
        Call {
            signalling,
            local,
            dialect: life.config.dialect,
            alive: Alive::new(life.config.dialect, Instant::now()),
            media,
            others,
            subscribed: Vec::new(),
            report,
            times,
        }
    }

    async fn run(&mut self, life: &mut Life, mut events: mpsc::Receiver<Event>) -> End {
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        self.subscribe(&life.wishes).await;
        loop {
            let now = Instant::now();
            let expected = || expected(&self.others, &life.wishes);
            self.media.handle_timeout(expected, now).await;
            if self.media.poll_snapshot(now) {
                self.snapshot(life, now);
            }
            if self.alive.take_due(now) {
                self.media.link.send_text(&self.dialect.pong()).await;
            }
            if self.alive.is_silent(now) {
                self.signalling.hang_up("keep_alive_timeout").await;
                return End::Ended("the focus is silent".into());
            }
            let media_due = self.media.poll_timeout();
            let next = self
                .alive
                .poll_timeout()
                .map_or(media_due, |due| due.min(media_due));
            tokio::select! {
                count = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    if let Some(reason) = self.handle_events(life, count, &mut batch).await {
                        self.signalling.hang_up("ice_failed").await;
                        return End::Ended(reason);
                    }
                }
                message = life.to_device.recv() => match message {
                    None => return End::Ended("the sync ended".into()),
                    Some(message) if self.signalling.is_ours(&message) => {
                        if let Some(reason) = signalling::ended(&message) {
                            return End::Ended(reason);
                        }
                    }
                    Some(_) => {}
                },
                command = life.commands.recv() => match command {
                    Some(command) if !command.ends_a_call() => {
                        self.handle_command(life, command).await;
                    }
                    command => return hang_up_by(command, life, &mut self.signalling).await,
                },
                () = Media::wait(next) => {}
            }
        }
    }

    /// Gives a reason when the transport is gone.
    async fn handle_events(
        &mut self,
        life: &Life,
        count: usize,
        batch: &mut Vec<Event>,
    ) -> Option<String> {
        if count == 0 {
            return Some("the transport ended".into());
        }
        self.media.wake();
        for event in batch.drain(..) {
            match self.media.handle(event) {
                Some(Said::Text(text)) => self.handle_text(life, &text).await,
                Some(Said::Closed(reason)) => return Some(reason),
                None => {}
            }
        }
        None
    }

    async fn handle_text(&mut self, life: &Life, text: &str) {
        match self.dialect.parse(text) {
            Some(FromFocus::Ping) => {
                self.report.pings += 1;
                self.alive.handle_ping(Instant::now());
                if self.dialect == Dialect::Late {
                    self.media.link.send_text(&self.dialect.pong()).await;
                }
            }
            Some(FromFocus::Metadata(others)) => {
                self.others = others;
                self.set_owners();
                self.subscribe(&life.wishes).await;
            }
            Some(FromFocus::Negotiate(kind, sdp, others)) => {
                if let Some(others) = others {
                    self.others = others;
                }
                let Some(remote) = Remote::parse(&sdp) else {
                    return;
                };
                self.apply(&remote);
                if kind == "offer" {
                    self.report.negotiations += 1;
                    let answer = self.local.answer(&remote);
                    let answer = self.dialect.negotiate("answer", &answer, &life.metadata());
                    self.media.link.send_text(&answer).await;
                }
            }
            Some(FromFocus::ActiveSpeaker(speakers)) => {
                let user_ids = speakers.into_iter().map(|speaker| speaker.user_id);
                self.report.speakers = user_ids.collect();
            }
            Some(FromFocus::Error(error)) => self.report.errors.push(error.to_string()),
            Some(FromFocus::Pong) => {}
            Some(FromFocus::Other(_, content)) => {
                let estimate = content["estimate_bps"].as_u64();
                self.report.estimate_bps = estimate.or(self.report.estimate_bps);
            }
            None => {}
        }
    }

    async fn handle_command(&mut self, life: &mut Life, command: Command) {
        life.wishes.handle(&command);
        match command {
            Command::Wanted(..) | Command::WantedOf(..) => self.subscribe(&life.wishes).await,
            Command::Mute(kind, muted) => {
                self.media.publisher.set_muted(kind, muted);
                let changed = self.dialect.metadata_changed(&life.metadata());
                self.media.link.send_text(&changed).await;
            }
            Command::Text(text) => self.media.link.send_text(&text).await,
            Command::Use(..) | Command::Leave(..) => {}
        }
    }

    async fn subscribe(&mut self, wishes: &Wishes) {
        if self.others.is_empty() {
            return;
        }
        let wanted = |user_id: &str| wishes.wanted_of(user_id);
        let texts = self.dialect.track_subscription(&self.others, wanted);
        if texts != self.subscribed {
            for text in &texts {
                self.media.link.send_text(text).await;
            }
            self.subscribed = texts;
        }
    }

    fn set_owners(&mut self) {
        self.media.set_owners(owner_in(&self.others));
    }

    fn apply(&mut self, remote: &Remote) {
        self.media.apply(remote, owner_in(&self.others));
        let ids = |media: &RemoteMedia| (media.rids_received.len(), media.mid.clone());
        // An m-line with simulcast in the answer must have it in every later offer (or browsers pause layers).
        let own = self.local.terms.rids.len();
        let simulcast = self.local.video_track.is_some() && own > 1;
        let lost = remote
            .media
            .iter()
            .map(ids)
            .find(|(rids, mid)| mid == "1" && *rids != own && simulcast);
        if let Some((rids, _)) = lost {
            self.report.errors.push(format!(
                "a description with {rids} instead of {own} rids for the simulcast m-line"
            ));
        }
    }

    fn snapshot(&mut self, life: &Life, now: Instant) {
        let since = self.times.invited_at;
        self.media.fill(&mut self.report, since, now);
        self.report.encryption = life.keys.as_ref().map(MediaKeys::report);
        life.publish(&self.report);
    }
}

/// How many streams were asked for.
fn expected(others: &Metadata, wishes: &Wishes) -> usize {
    let asked_for = |stream: &channel::Stream| {
        let video = wishes.wanted_of(&stream.user_id).is_some();
        let tracks = stream.tracks.values();
        tracks
            .filter(|track| video || track.kind != "video")
            .count()
    };
    others.values().map(asked_for).sum()
}

/// Whose track it is: as the metadata says.
fn owner_in(others: &Metadata) -> impl Fn(&str, &str) -> Option<Owner> {
    |stream_id, track_id| {
        let stream = others.get(stream_id)?;
        let muted = match stream.tracks.get(track_id)?.kind.as_str() {
            "video" => stream.video_muted,
            _ => stream.audio_muted,
        };
        Some(Owner {
            user_id: stream.user_id.clone(),
            device_id: stream.device_id.clone(),
            purpose: stream.purpose.clone(),
            muted,
        })
    }
}
