//! One call from the invite to its end: the order of messages with the focus, and the loop that sends and receives.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::channel::{self, FromFocus, Metadata};
use crate::matrix::ToDevice;
use crate::participant::{Command, Life, Wishes};
use crate::peer::{Event, Link, Peer};
use crate::publish::{Publisher, SendParameters, Ssrcs};
use crate::receive::{Owner, Receiver};
use crate::report::{Kind, Report};
use crate::sdp::{Local, Remote, RemoteMedia};

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
/// NACKs and picture loss indications are looked at this often, reports to the owner are refreshed at ten times that.
const FEEDBACK_EVERY: Duration = Duration::from_millis(20);
const SNAPSHOT_EVERY: Duration = Duration::from_millis(200);
const SENDER_REPORT_EVERY: Duration = Duration::from_secs(1);

/// A call's names in its messages.
struct Names {
    call_id: String,
    sequence: u32,
}

/// Makes one call and stays in it to its end.
pub(crate) async fn run(life: &mut Life) -> End {
    let peer = match Peer::new().await {
        Ok(peer) => peer,
        Err(error) => return End::Ended(error.to_string()),
    };
    let mut names = Names {
        call_id: crate::random_id(16),
        sequence: 0,
    };
    let local = local_description(life, &peer);
    let ssrcs = Ssrcs::random();
    let invited_at = Instant::now();
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
    let (link, events) = match peer.connect(&answer).await {
        Ok(up) => up,
        Err(error) => {
            peer.close().await;
            hang_up(life, &mut names, "ice_failed").await;
            return End::Ended(error.to_string());
        }
    };
    let now = Instant::now();
    let decoder = life.decoder.clone();
    let mut call = Call {
        names,
        local,
        publisher: publisher(life, &answer, ssrcs, now),
        receiver: Receiver::new(decoder, life.config.clips.clone(), ssrcs.audio, now),
        link,
        others,
        subscribed: String::new(),
        report: Report {
            connected_after_ms: Some(ms_between(invited_at, now)),
            ..life.report()
        },
        invited_at,
    };
    call.apply(&answer);
    let end = call.run(life, events).await;
    call.link.close().await;
    call.snapshot(life, Instant::now());
    life.update(|report| report.connected = false);
    end
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
        video_track: publish.video.then(|| life.video_track.clone()),
    }
}

fn publisher(life: &Life, answer: &Remote, ssrcs: Ssrcs, now: Instant) -> Publisher {
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
    let video = parameters("1", "VP8").filter(|_| life.config.publish.video);
    let audio = parameters("0", "opus").filter(|_| life.config.publish.audio);
    let mut publisher = Publisher::new(life.config.clips.clone(), ssrcs, video, audio, now);
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
        "offer": {"type": "offer", "sdp": local.offer(ssrcs.audio)},
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
    others: Metadata,
    /// The latest `track_subscription`, so that the same is not said twice.
    subscribed: String,
    report: Report,
    invited_at: Instant,
}

impl Call {
    async fn run(&mut self, life: &mut Life, mut events: mpsc::Receiver<Event>) -> End {
        let mut feedback = tokio::time::interval(FEEDBACK_EVERY);
        let mut snapshot = tokio::time::interval(SNAPSHOT_EVERY);
        let mut sender_reports = tokio::time::interval(SENDER_REPORT_EVERY);
        self.subscribe(&life.wishes).await;
        loop {
            let now = Instant::now();
            while let Some(packet) = self.publisher.poll_packet(now) {
                self.link.send_rtp(&packet).await;
            }
            let next = self
                .publisher
                .poll_timeout()
                .unwrap_or(now + FEEDBACK_EVERY);
            tokio::select! {
                event = events.recv() => {
                    if let Some(reason) = self.handle_event(life, event).await {
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
                _ = feedback.tick() => {
                    let packets = self.receiver.poll_feedback(Instant::now());
                    self.link.send_rtcp(&packets).await;
                }
                _ = sender_reports.tick() => {
                    for report in self.publisher.sender_reports(Instant::now()) {
                        self.link.send_rtcp(&[Box::new(report)]).await;
                    }
                }
                _ = snapshot.tick() => self.snapshot(life, Instant::now()),
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Gives a reason when the transport is gone.
    async fn handle_event(&mut self, life: &Life, event: Option<Event>) -> Option<String> {
        match event {
            Some(Event::Rtp(packet, at)) => self.receiver.handle_rtp(&packet, at),
            Some(Event::Rtcp(packets)) => packets
                .iter()
                .for_each(|packet| self.handle_rtcp(packet.as_any())),
            Some(Event::Text(text)) => self.handle_text(life, &text).await,
            Some(Event::Closed(reason)) => return Some(reason),
            None => return Some("the transport ended".into()),
        }
        None
    }

    fn handle_rtcp(&mut self, packet: &(dyn std::any::Any + Send + Sync)) {
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
        } else if packet.is::<rtcp::sender_report::SenderReport>() {
            self.report.sender_reports += 1;
        }
    }

    async fn handle_text(&mut self, life: &Life, text: &str) {
        match channel::parse(text) {
            Some(FromFocus::Ping) => {
                self.report.pings += 1;
                self.link.send_text(&channel::pong()).await;
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
                    self.link
                        .send_text(&channel::negotiate("answer", &answer, &life.metadata()))
                        .await;
                }
            }
            Some(FromFocus::Other(value)) if value["type"] == "org.matrix.msc3898.error" => {
                self.report.errors.push(value["content"].to_string());
            }
            _ => {}
        }
    }

    async fn handle_command(&mut self, life: &mut Life, command: Command) {
        life.wishes.handle(&command);
        match command {
            Command::Wanted(..) | Command::WantedOf(..) => self.subscribe(&life.wishes).await,
            Command::Mute(kind, muted) => {
                self.publisher.set_muted(kind, muted);
                self.link
                    .send_text(&channel::metadata_changed(&life.metadata()))
                    .await;
            }
            Command::Text(text) => self.link.send_text(&text).await,
            Command::Leave(..) => {}
        }
    }

    async fn subscribe(&mut self, wishes: &Wishes) {
        if self.others.is_empty() {
            return;
        }
        let text = channel::track_subscription(&self.others, |user_id| wishes.wanted_of(user_id));
        if text != self.subscribed {
            self.link.send_text(&text).await;
            self.subscribed = text;
        }
    }

    fn set_owners(&mut self) {
        self.receiver.set_owners(|stream_id, track_id| {
            let listed = |stream: &&channel::Stream| stream.tracks.contains_key(track_id);
            let stream = self.others.get(stream_id).filter(listed)?;
            let (user_id, device_id) = (stream.user_id.clone(), stream.device_id.clone());
            Some(Owner {
                user_id,
                device_id,
                purpose: stream.purpose.clone(),
            })
        });
    }

    fn apply(&mut self, remote: &Remote) {
        self.receiver.apply(remote);
        self.set_owners();
        let ids = |media: &RemoteMedia| (media.rids_received.len(), media.mid.clone());
        // An m-line with simulcast in the answer must have it in every later offer (or browsers pause layers).
        let lost = remote
            .media
            .iter()
            .map(ids)
            .find(|(rids, mid)| mid == "1" && *rids != 3 && self.local.video_track.is_some());
        if let Some((rids, _)) = lost {
            self.report.errors.push(format!(
                "a description with {rids} instead of 3 rids for the simulcast m-line"
            ));
        }
    }

    fn snapshot(&mut self, life: &Life, now: Instant) {
        self.report.connected = true;
        self.report.sent = self.publisher.sent();
        self.report.streams = self.receiver.report(now);
        self.report.unbound_packets = self.receiver.unbound_packets();
        let first = self.receiver.first_picture_at();
        self.report.first_frame_after_ms = first.map(|at| ms_between(self.invited_at, at));
        life.update(|report| *report = self.report.clone());
    }
}

fn ms_between(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_millis() as u64
}
