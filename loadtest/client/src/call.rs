//! One call from the invite to its end: the order of messages with the focus, and the loop that sends and receives.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::alive::Alive;
use crate::channel::{self, Dialect, FromFocus, Metadata};
use crate::encryption::Media;
use crate::health::{HEALTH, Late};
use crate::matrix::ToDevice;
use crate::participant::{Checks, Command, Life, SAMPLE_ONE_IN, Wishes};
use crate::peer::{Event, Link, Peer};
use crate::publish::{Publisher, SendParameters, Ssrcs};
use crate::receive::{Inspection, Owner, Receiver};
use crate::report::{Kind, Latencies, Report};
use crate::sdp::{Local, Remote, RemoteMedia, Terms};

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The participant left.
    Left,
    /// The focus refused or hung up, or the transport failed; says why.
    Ended(String),
}

/// An answer takes well under a second; a homeserver under load may take longer to carry it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// NACKs and picture loss indications are looked at this often by who sees all packets.
const FEEDBACK_EVERY: Duration = Duration::from_millis(20);
/// How often a light participant that is sampled, or one that receives nothing, wakes up at all.
const IDLE_EVERY: Duration = Duration::from_secs(1);
/// Reports to the owner are refreshed this often; those of light participants every [`IDLE_EVERY`].
const SNAPSHOT_EVERY: Duration = Duration::from_millis(200);
const SENDER_REPORT_EVERY: Duration = Duration::from_secs(1);
/// Events that are handled before anything else is looked at.
const EVENTS_AT_ONCE: usize = 64;
/// A light participant looks at everything this long at most, until it has seen what starts.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// A call's names in its messages.
struct Names {
    call_id: String,
    sequence: u32,
}

/// Makes one call and stays in it to its end.
pub(crate) async fn run(life: &mut Life) -> End {
    let peer = match Peer::towards(life.homeserver_ip(), life.config.detour.clone()).await {
        Ok(peer) => peer,
        Err(error) => return End::Ended(error.to_string()),
    };
    let mut names = Names {
        call_id: crate::random_id(16),
        sequence: 0,
    };
    let local = local_description(life, &peer);
    let ssrcs = Ssrcs::from_rng(&mut life.rng);
    let mut times = Times::new(Instant::now());
    if let Err(error) = invite(life, &mut names, &peer, &local, ssrcs).await {
        peer.close().await;
        return End::Ended(error);
    }
    let (answer, others) = match wait_for_answer(life, &mut names, &peer).await {
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
    let (link, events) = match peer.connect(&answer).await {
        Ok(up) => up,
        Err(error) => {
            peer.close().await;
            hang_up(life, &mut names, "ice_failed").await;
            return End::Ended(error.to_string());
        }
    };
    let mut call = Call::new(life, names, local, ssrcs, link, others, &answer, times);
    call.apply(&answer);
    let end = call.run(life, events).await;
    call.link.close().await;
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
    let (ufrag, pwd) = peer.credentials();
    let publish = life.config.publish;
    Local {
        ufrag: ufrag.to_owned(),
        pwd: pwd.to_owned(),
        fingerprint: peer.fingerprint(),
        session_id: u64::from(rand::random::<u32>()),
        stream_id: life.stream_id.clone(),
        audio_track: publish.audio.then(|| life.audio_track.clone()),
        video_track: publish.video.map(|_| life.video_track.clone()),
        terms: Terms {
            rids: life.rids(),
            transport_cc: life.config.checks != Checks::Light,
            rtx: true,
        },
    }
}

fn publisher(life: &mut Life, answer: &Remote, ssrcs: Ssrcs, now: Instant) -> Publisher {
    let parameters = |mid: &str, codec: &str| {
        let media = answer
            .media
            .iter()
            .find(|media| media.mid == mid && media.receives())?;
        let extensions = media.extension_ids();
        Some(SendParameters {
            mid: mid.to_owned(),
            payload_type: media.payload_type(codec)?,
            extensions,
        })
    };
    let publish = life.config.publish;
    let video = parameters("1", "VP8").zip(publish.video);
    let audio = parameters("0", "opus").filter(|_| publish.audio);
    let clips = life.config.clips.clone();
    let mut publisher = Publisher::from_rng(&mut life.rng, clips, ssrcs, video, audio, now);
    if let Some(media) = &life.media {
        publisher.encrypt_with(media.clone());
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

async fn invite(
    life: &Life,
    names: &mut Names,
    peer: &Peer,
    local: &Local,
    ssrcs: Ssrcs,
) -> Result<(), String> {
    life.update(|report| report.invites += 1);
    let offer = json!({
        "offer": {"type": "offer", "sdp": local.offer(&ssrcs)},
        "lifetime": 60_000,
        "invitee": life.config.focus.user_id,
        "capabilities": {"m.call.transferee": false, "m.call.dtmf": false},
        "org.matrix.msc3077.sdp_stream_metadata": life.metadata(),
    });
    send(life, names, "m.call.invite", offer).await?;
    let candidate = |candidate: &String| {
        let (ufrag, _) = peer.credentials();
        json!({"candidate": format!("candidate:{candidate}"), "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": ufrag})
    };
    let candidates: Vec<_> = peer.candidates().iter().map(candidate).collect();
    send(
        life,
        names,
        "m.call.candidates",
        json!({"candidates": candidates}),
    )
    .await
}

/// Waits for the answer; candidates that come before it are taken at once.
async fn wait_for_answer(
    life: &mut Life,
    names: &mut Names,
    peer: &Peer,
) -> Result<(Remote, Metadata), End> {
    let deadline = tokio::time::sleep(ANSWER_WITHIN);
    tokio::pin!(deadline);
    loop {
        let message = tokio::select! {
            message = life.to_device.recv() => message.ok_or_else(|| End::Ended("the sync ended".into()))?,
            () = &mut deadline => {
                hang_up(life, names, "invite_timeout").await;
                return Err(End::Ended("no answer".into()));
            }
            command = life.commands.recv() => match command {
                None | Some(Command::Leave(..)) => {
                    hang_up(life, names, "user_hangup").await;
                    return Err(life.leaving(command));
                }
                Some(command) => {
                    life.wishes.handle(&command);
                    continue;
                }
            }
        };
        if !is_ours(life, names, &message) {
            continue;
        }
        let content = &message.content;
        match message.event_type.as_str() {
            "m.call.candidates" => {
                candidates(content).for_each(|candidate| peer.add_candidate(candidate))
            }
            "m.call.answer" => {
                let sdp = content["answer"]["sdp"].as_str().unwrap_or_default();
                let answer = Remote::parse(sdp)
                    .ok_or_else(|| End::Ended("an answer that cannot be read".into()))?;
                let selected = json!({"selected_party_id": content["party_id"]});
                let _ = send(life, names, "m.call.select_answer", selected).await;
                return Ok((answer, channel::metadata(content).unwrap_or_default()));
            }
            "m.call.reject" | "m.call.hangup" => return Err(End::Ended(reason(&message))),
            _ => {}
        }
    }
}

fn candidates(content: &Value) -> impl Iterator<Item = &str> {
    let list = content["candidates"].as_array().into_iter().flatten();
    list.filter_map(|candidate| candidate["candidate"].as_str())
        .filter(|candidate| !candidate.is_empty())
}

fn is_ours(life: &Life, names: &Names, message: &ToDevice) -> bool {
    let content = &message.content;
    message.sender == life.config.focus.user_id
        && content["conf_id"] == life.config.conf_id.as_str()
        && content["call_id"] == names.call_id.as_str()
        && content["dest_session_id"] == life.session_id.as_str()
}

fn reason(message: &ToDevice) -> String {
    format!(
        "{}: {}",
        message.event_type,
        message.content["reason"].as_str().unwrap_or("no reason")
    )
}

async fn hang_up(life: &Life, names: &mut Names, reason: &str) {
    let _ = send(life, names, "m.call.hangup", json!({"reason": reason})).await;
}

/// Adds what every message to a focus has, and sends it.
async fn send(
    life: &Life,
    names: &mut Names,
    kind: &str,
    mut content: Value,
) -> Result<(), String> {
    let device_id = life.device.device_id();
    let common = json!({
        "version": "1",
        "call_id": names.call_id,
        "party_id": device_id,
        "conf_id": life.config.conf_id,
        "device_id": device_id,
        "sender_session_id": life.session_id,
        "dest_session_id": "sfu",
        "seq": names.sequence,
        "org.matrix.msgid": crate::random_id(32),
    });
    names.sequence += 1;
    if let (Value::Object(content), Value::Object(common)) = (&mut content, common) {
        content.extend(common);
    }
    let focus = (
        life.config.focus.user_id.as_str(),
        life.config.focus.device_id.as_str(),
    );
    life.device
        .send_to_device(focus, kind, &content)
        .await
        .map_err(|error| error.to_string())
}

/// A call whose transport is up.
struct Call {
    names: Names,
    local: Local,
    publisher: Publisher,
    receiver: Receiver,
    link: Link,
    dialect: Dialect,
    alive: Alive,
    others: Metadata,
    /// The latest request for tracks, so that the same is not said twice.
    subscribed: Vec<String>,
    report: Report,
    times: Times,
    /// Media is looked at in full: always, or until a light participant has seen what starts.
    in_full: bool,
    look_until: Instant,
    due: Due,
}

/// When something is to be done next. One timer serves a participant.
#[derive(Debug, Clone, Copy)]
struct Due {
    feedback: Instant,
    snapshot: Instant,
    sender_reports: Instant,
}

impl Due {
    fn next(&self) -> Instant {
        self.feedback.min(self.snapshot).min(self.sender_reports)
    }
}

impl Call {
    #[allow(clippy::too_many_arguments)]
    fn new(
        life: &mut Life,
        names: Names,
        local: Local,
        ssrcs: Ssrcs,
        link: Link,
        others: Metadata,
        answer: &Remote,
        mut times: Times,
    ) -> Call {
        let (up, now) = (link.up(), Instant::now());
        times.latencies = Latencies {
            join_ms: life.report().latencies.join_ms,
            ice_ms: Some(times.ms(up.ice_at)),
            connected_ms: Some(times.ms(up.dtls_at)),
            channel_ms: up.channel_at.map(|at| times.ms(at)),
            ..times.latencies
        };
        // Thousands of participants that join together should not all wake up together ever after.
        let phase = Duration::from_millis(rand::Rng::random_range(&mut life.rng, 0..1000));
        let checks = Inspection {
            decode: life.config.checks.decode(),
            feedback: life.config.transport_feedback,
        };
        let receiver = Receiver::new(
            life.decoder.clone(),
            life.config.clips.clone(),
            ssrcs.audio,
            now,
        )
        .inspecting(checks)
        .decrypting(life.media.clone());
        Call {
            names,
            local,
            publisher: publisher(life, answer, ssrcs, now),
            receiver,
            link,
            dialect: life.config.dialect,
            alive: Alive::new(life.config.dialect, now),
            others,
            subscribed: Vec::new(),
            report: Report {
                connected_after_ms: times.latencies.connected_ms.map(|ms| ms as u64),
                ..life.report()
            },
            times,
            in_full: true,
            look_until: now + LOOK_MAX,
            due: Due {
                feedback: now + FEEDBACK_EVERY,
                snapshot: now,
                sender_reports: now + phase,
            },
        }
    }

    async fn run(&mut self, life: &mut Life, mut events: mpsc::Receiver<Event>) -> End {
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        self.subscribe(&life.wishes).await;
        loop {
            let now = Instant::now();
            while let Some(packet) = self.publisher.poll_packet(now) {
                self.link.send_rtp(&packet).await;
            }
            self.handle_timeout(life, now).await;
            if self.alive.is_silent(now) {
                hang_up(life, &mut self.names, "keep_alive_timeout").await;
                return End::Ended("the focus is silent".into());
            }
            let next = self.next_due();
            tokio::select! {
                count = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    if let Some(reason) = self.handle_events(life, count, &mut batch).await {
                        hang_up(life, &mut self.names, "ice_failed").await;
                        return End::Ended(reason);
                    }
                }
                message = life.to_device.recv() => match message {
                    None => return End::Ended("the sync ended".into()),
                    Some(message) if is_ours(life, &self.names, &message) => {
                        if matches!(message.event_type.as_str(), "m.call.hangup" | "m.call.reject") {
                            return End::Ended(reason(&message));
                        }
                    }
                    Some(_) => {}
                },
                command = life.commands.recv() => match command {
                    None | Some(Command::Leave(..)) => {
                        hang_up(life, &mut self.names, "user_hangup").await;
                        return life.leaving(command);
                    }
                    Some(command) => self.handle_command(life, command).await,
                },
                () = tokio::time::sleep_until(next.into()) => {
                    HEALTH.late(Late::Timer, next.elapsed());
                }
            }
        }
    }

    fn next_due(&self) -> Instant {
        let others = [self.publisher.poll_timeout(), self.alive.poll_timeout()];
        let next = |next: Instant, due: Instant| next.min(due);
        others.into_iter().flatten().fold(self.due.next(), next)
    }

    /// Does what is due.
    async fn handle_timeout(&mut self, life: &mut Life, now: Instant) {
        if self.alive.take_due(now) {
            self.link.send_text(&self.dialect.pong()).await;
        }
        if self.due.feedback <= now {
            let packets = self.receiver.poll_feedback(now);
            self.link.send_rtcp(&packets).await;
            let every = if self.in_full && self.receiver.is_receiving() {
                FEEDBACK_EVERY
            } else {
                IDLE_EVERY
            };
            self.due.feedback = now + every;
        }
        if self.due.sender_reports <= now {
            for report in self.publisher.sender_reports(now) {
                self.link.send_rtcp(&[Box::new(report)]).await;
            }
            self.due.sender_reports = now + SENDER_REPORT_EVERY;
        }
        if self.due.snapshot <= now {
            self.snapshot(life, now);
            let light = life.config.checks == Checks::Light;
            self.due.snapshot = now + if light { IDLE_EVERY } else { SNAPSHOT_EVERY };
        }
        let light = life.config.checks == Checks::Light && self.in_full;
        if light && (now >= self.look_until || self.has_started(&life.wishes)) {
            self.sample();
        }
    }

    /// Whether all that was asked for has begun.
    fn has_started(&self, wishes: &Wishes) -> bool {
        let asked_for = |stream: &channel::Stream| {
            let video = wishes.wanted_of(&stream.user_id).is_some();
            let tracks = stream.tracks.values();
            tracks
                .filter(|track| video || track.kind != "video")
                .count()
        };
        let expected = self.others.values().map(asked_for).sum();
        self.receiver.has_started(expected)
    }

    /// A light participant has seen how its streams start: from here on it looks at samples.
    fn sample(&mut self) {
        self.in_full = false;
        match self.link.sample(SAMPLE_ONE_IN) {
            Ok(()) => self.receiver.sample(),
            Err(error) => self.report.errors.push(format!(
                "the kernel takes no socket filter, everything is looked at: {error}"
            )),
        }
    }

    async fn handle_events(
        &mut self,
        life: &Life,
        count: usize,
        batch: &mut Vec<Event>,
    ) -> Option<String> {
        if count == 0 {
            return Some("the transport ended".into());
        }
        if !self.receiver.is_receiving() {
            // Who was idle looks after losses again.
            self.due.feedback = self.due.feedback.min(Instant::now() + FEEDBACK_EVERY);
        }
        for event in batch.drain(..) {
            if let Some(reason) = self.handle_event(life, event).await {
                return Some(reason);
            }
        }
        None
    }

    /// Gives a reason when the transport is gone.
    async fn handle_event(&mut self, life: &Life, event: Event) -> Option<String> {
        match event {
            Event::Rtp(packet, at) => match &life.config.tamper {
                None => self.receiver.handle_rtp(&packet, at),
                Some(tamper) => tamper
                    .apply(packet)
                    .iter()
                    .for_each(|packet| self.receiver.handle_rtp(packet, at)),
            },
            Event::Rtcp(packets, at) => packets
                .iter()
                .for_each(|packet| self.handle_rtcp(packet.as_any(), at)),
            Event::Text(text) => self.handle_text(life, &text).await,
            Event::Closed(reason) => return Some(reason),
        }
        None
    }

    fn handle_rtcp(&mut self, packet: &(dyn std::any::Any + Send + Sync), at: Instant) {
        use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
        use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
        use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
        if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
            self.publisher.handle_pli(pli.media_ssrc);
        } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            let numbers: Vec<_> = nack
                .nacks
                .iter()
                .flat_map(|pair| pair.packet_list())
                .collect();
            self.publisher.handle_nack(nack.media_ssrc, &numbers);
        } else if packet.is::<TransportLayerCc>() {
            self.report.transport_feedbacks += 1;
        } else if packet.is::<rtcp::receiver_report::ReceiverReport>() {
            self.report.receiver_reports += 1;
        } else if let Some(report) = packet.downcast_ref::<rtcp::sender_report::SenderReport>() {
            self.report.sender_reports += 1;
            self.receiver.handle_sender_report(report, at);
        }
    }

    async fn handle_text(&mut self, life: &Life, text: &str) {
        match self.dialect.parse(text) {
            Some(FromFocus::Ping) => {
                self.report.pings += 1;
                self.alive.handle_ping(Instant::now());
                if self.dialect == Dialect::Late {
                    self.link.send_text(&self.dialect.pong()).await;
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
                    self.link.send_text(&answer).await;
                }
            }
            Some(FromFocus::ActiveSpeaker(speakers)) => {
                let user_ids = speakers.into_iter().map(|speaker| speaker.user_id);
                self.report.speakers = user_ids.collect();
            }
            Some(FromFocus::Error(error)) => self.report.errors.push(error.to_string()),
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
                self.publisher.set_muted(kind, muted);
                let changed = self.dialect.metadata_changed(&life.metadata());
                self.link.send_text(&changed).await;
            }
            Command::Text(text) => self.link.send_text(&text).await,
            Command::Leave(..) => {}
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
                self.link.send_text(text).await;
            }
            self.subscribed = texts;
        }
    }

    fn set_owners(&mut self) {
        self.receiver.set_owners(|stream_id, track_id| {
            let stream = self.others.get(stream_id)?;
            let muted = match stream.tracks.get(track_id)?.kind.as_str() {
                "video" => stream.video_muted,
                _ => stream.audio_muted,
            };
            let (user_id, device_id) = (stream.user_id.clone(), stream.device_id.clone());
            Some(Owner {
                user_id,
                device_id,
                purpose: stream.purpose.clone(),
                muted,
            })
        });
    }

    fn apply(&mut self, remote: &Remote) {
        self.receiver.apply(remote);
        self.set_owners();
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
        let (receiver, times) = (&self.receiver, &mut self.times);
        let since = times.invited_at;
        let ms = |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1000.0;
        let latencies = &mut times.latencies;
        latencies.first_packet_ms = receiver.first_packet_at().map(ms);
        latencies.first_frame_ms = receiver.first_frame_at().map(ms);
        latencies.first_picture_ms = receiver.first_picture_at().map(ms);
        let report = &mut self.report;
        report.connected = true;
        report.latencies = *latencies;
        report.first_frame_after_ms = latencies.first_picture_ms.map(|ms| ms as u64);
        report.sent = self.publisher.sent();
        report.streams = receiver.report(now, since);
        report.unbound_packets = receiver.unbound_packets();
        report.transport = self.link.report();
        report.transport.feedbacks_sent = receiver.feedbacks_sent();
        report.encryption = life.media.as_ref().map(Media::report);
        life.publish(report);
    }
}
