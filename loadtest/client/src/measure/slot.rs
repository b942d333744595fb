//! A call without media: what answers how fast on it, and a place at the focus while it lasts.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use tokio::sync::{mpsc, oneshot};

use super::Surveyor;
use super::burst::Burst;
use crate::channel::{Dialect, FromFocus, Metadata, Stream, Track};
use crate::choose::{Criterion, MediaMeasured};
use crate::matrix::ToDevice;
use crate::participant::FocusAddress;
use crate::peer::{Event, Link, Peer};
use crate::publish::{SendParameters, Ssrcs};
use crate::report::Kind;
use crate::sdp::{Local, Remote, Terms};
use crate::signalling::Signalling;

/// What a stream is for that only measures the way: a focus that knows this name tells nobody of it.
pub(super) const PROBE: &str = "org.matrix.msc3898.probe";

/// An answer takes well under a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The fastest of so many counts.
const PINGS: usize = 5;
/// A focus that does not answer pings is not measured by them.
const PONG_WITHIN: Duration = Duration::from_secs(2);

/// A call that was answered.
pub(super) struct Slot {
    signalling: Signalling,
    peer: Peer,
    answer: Remote,
    ssrcs: Ssrcs,
    answered_after: Duration,
}

/// A call that is up.
pub(super) struct Line {
    signalling: Signalling,
    link: Link,
    events: mpsc::Receiver<Event>,
    answer: Remote,
    ssrcs: Ssrcs,
}

/// A slot that is held: pings are answered until it is dropped, and then it is given back.
#[derive(Debug)]
pub struct Held {
    _given_back: oneshot::Sender<()>,
}

impl Slot {
    /// Invites, and waits for the answer.
    pub(super) async fn call(
        surveyor: &Surveyor,
        focus: &FocusAddress,
        mut messages: mpsc::Receiver<ToDevice>,
    ) -> Result<Slot, String> {
        let detour = surveyor.detours.get(focus).cloned();
        let towards: Option<IpAddr> = surveyor.towards;
        let peer = Peer::towards(towards, detour).await;
        let peer = peer.map_err(|error| error.to_string())?;
        let (device, conf_id) = (&surveyor.device, &surveyor.conf_id);
        let mut signalling = Signalling::new(device, focus, conf_id, &surveyor.session_id);
        let ssrcs = Ssrcs::random();
        let sends = surveyor.criteria.contains(&Criterion::Media);
        let local = local_description(&peer, sends.then(|| crate::random_id(36)));
        let began = Instant::now();
        let (offer, own) = (local.offer_slot(&ssrcs), metadata(&local));
        let answered = async {
            signalling.invite(&peer, &offer, &own).await?;
            loop {
                let message = messages.recv().await.ok_or("the sync ended")?;
                let answered = signalling.handle_unanswered(&message, &peer).await;
                if let Some(answered) = answered {
                    return answered;
                }
            }
        };
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok((answer, _))) => Ok(Slot {
                signalling,
                peer,
                answer,
                ssrcs,
                answered_after: began.elapsed(),
            }),
            Ok(Err(reason)) => {
                peer.close().await;
                Err(reason)
            }
            Err(_) => {
                peer.close().await;
                signalling.hang_up("invite_timeout").await;
                Err("no answer".into())
            }
        }
    }

    pub(super) fn answered_after(&self) -> Duration {
        self.answered_after
    }

    pub(super) async fn hang_up(&mut self) {
        self.signalling.hang_up("user_hangup").await;
        self.peer.close().await;
    }

    pub(super) async fn connect(mut self) -> Result<Line, String> {
        match self.peer.connect(&self.answer).await {
            Ok((link, events)) => Ok(Line {
                signalling: self.signalling,
                link,
                events,
                answer: self.answer,
                ssrcs: self.ssrcs,
            }),
            Err(error) => {
                self.peer.close().await;
                self.signalling.hang_up("ice_failed").await;
                Err(error.to_string())
            }
        }
    }
}

impl Line {
    /// From a ping to its pong; `None` if the focus does not answer pings.
    pub(super) async fn measure_channel(&mut self) -> Option<Duration> {
        let mut best = None;
        for _ in 0..PINGS {
            let began = Instant::now();
            self.link.send_text(&Dialect::Late.ping()).await;
            let pong = tokio::time::timeout(PONG_WITHIN, self.wait_for_pong());
            pong.await.ok().flatten()?;
            let took = began.elapsed();
            best = Some(best.map_or(took, |best: Duration| best.min(took)));
        }
        best
    }

    /// `None` when the transport is gone.
    async fn wait_for_pong(&mut self) -> Option<()> {
        loop {
            let event = self.events.recv().await?;
            if let Event::Closed(_) = event {
                return None;
            }
            if let Some(FromFocus::Pong) = said(&event) {
                return Some(());
            }
            answer_ping(&self.link, &event).await;
        }
    }

    /// What a burst meets; `None` if nothing was agreed to be sent, or no feedback comes.
    pub(super) async fn measure_media(&mut self) -> Option<MediaMeasured> {
        let mut sections = self.answer.media.iter();
        let section = sections
            .find(|section| section.media_kind() == Some(Kind::Video) && section.receives())?;
        let parameters = SendParameters {
            mid: section.mid.clone(),
            payload_type: section.payload_type("VP8")?,
            extensions: section.extension_ids(),
        };
        let mut burst = Burst::new(parameters, self.ssrcs.layers[0], Instant::now())?;
        while let Some(due) = burst.poll_timeout() {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {
                    let now = Instant::now();
                    while let Some(packet) = burst.poll(now) {
                        self.link.send_plain_rtp(&packet);
                    }
                    burst.handle_timeout(now);
                }
                event = self.events.recv() => match event? {
                    Event::Rtcp(packets, at) => packets
                        .iter()
                        .filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerCc>())
                        .for_each(|feedback| burst.handle_feedback(feedback, at)),
                    Event::Closed(_) => return None,
                    event => answer_ping(&self.link, &event).await,
                }
            }
        }
        burst.measured()
    }

    /// Holds the slot by a task of its own.
    pub(super) fn hold(self) -> Held {
        let (_given_back, back) = oneshot::channel();
        tokio::spawn(self.answer_pings(back));
        Held { _given_back }
    }

    async fn answer_pings(mut self, mut back: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                // It is never sent anything: it is dropped.
                _ = &mut back => break,
                event = self.events.recv() => match event {
                    None | Some(Event::Closed(_)) => break,
                    Some(event) => answer_ping(&self.link, &event).await,
                }
            }
        }
        self.signalling.hang_up("user_hangup").await;
        self.link.close().await;
    }
}

fn said(event: &Event) -> Option<FromFocus> {
    match event {
        Event::Text(text) => Dialect::Late.parse(text),
        _ => None,
    }
}

async fn answer_ping(link: &Link, event: &Event) {
    if let Some(FromFocus::Ping) = said(event) {
        link.send_text(&Dialect::Late.pong()).await;
    }
}

fn local_description(peer: &Peer, track: Option<String>) -> Local {
    let terms = Terms {
        rids: Vec::new(),
        transport_cc: true,
        rtx: false,
    };
    peer.describe(crate::random_id(36), None, track, terms)
}

/// Says that the track, if there is one, is nobody's.
fn metadata(local: &Local) -> Metadata {
    let Some(track_id) = local.video_track.clone() else {
        return Metadata::new();
    };
    let track = Track {
        kind: "video".to_owned(),
        ..Track::default()
    };
    let stream = Stream {
        purpose: PROBE.to_owned(),
        tracks: [(track_id, track)].into(),
        ..Stream::default()
    };
    Metadata::from([(local.stream_id.clone(), stream)])
}
