//! The media of one participant on a transport that is up: what is sent when, what is checked, what is counted. Whoever signals
//! owns it: `call` for a focus of Matrix, [`attendance`](crate::attendance) for any other server.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::health::{HEALTH, Late};
use crate::participant::{Checks, Publish, SAMPLE_ONE_IN, Tamper};
use crate::peer::{Event, Link};
use crate::publish::{Publisher, SendParameters, Ssrcs};
use crate::receive::{Owner, Receiver};
use crate::report::{Kind, Report};
use crate::sdp::{Remote, Terms};

/// NACKs and picture loss indications are looked at this often by who sees all packets.
const FEEDBACK_EVERY: Duration = Duration::from_millis(20);
/// How often a light participant that is sampled, or one that receives nothing, wakes up at all.
const IDLE_EVERY: Duration = Duration::from_secs(1);
/// Reports to the owner are refreshed this often; those of light participants every [`IDLE_EVERY`].
const SNAPSHOT_EVERY: Duration = Duration::from_millis(200);
const SENDER_REPORT_EVERY: Duration = Duration::from_secs(1);
/// A light participant looks at everything this long at most, until it has seen what starts.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Events that are handled before anything else is looked at.
pub(crate) const EVENTS_AT_ONCE: usize = 64;

/// What an event means to who signals.
#[derive(Debug)]
pub(crate) enum Said {
    /// A text frame on the data channel.
    Text(String),
    /// The transport is gone; says why.
    Closed(String),
}

/// Both directions of a transport.
pub(crate) struct Media {
    pub(crate) publisher: Publisher,
    pub(crate) link: Link,
    receiver: Receiver,
    checks: Checks,
    tamper: Option<Tamper>,
    counts: Counts,
    /// What could not be done, until it is in a report.
    errors: Vec<String>,
    /// Media is looked at in full: always, or until a light participant has seen what starts.
    in_full: bool,
    look_until: Instant,
    due: Due,
}

/// RTCP that arrived since the last report.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    transport_feedbacks: u64,
    receiver_reports: u64,
    sender_reports: u64,
}

/// When something is to be done next. One timer serves a participant.
#[derive(Debug, Clone, Copy)]
struct Due {
    feedback: Instant,
    snapshot: Instant,
    sender_reports: Instant,
}

impl Media {
    /// Everything is due by its own time; sender reports begin after `phase`.
    pub(crate) fn new(
        link: Link,
        publisher: Publisher,
        receiver: Receiver,
        checks: Checks,
        phase: Duration,
    ) -> Media {
        let now = Instant::now();
        Media {
            publisher,
            link,
            receiver,
            checks,
            tamper: None,
            counts: Counts::default(),
            errors: Vec::new(),
            in_full: true,
            look_until: now + LOOK_MAX,
            due: Due {
                feedback: now + FEEDBACK_EVERY,
                snapshot: now,
                sender_reports: now + phase,
            },
        }
    }

    /// Changes what arrives before it is checked.
    pub(crate) fn tampering(mut self, tamper: Option<Tamper>) -> Media {
        self.tamper = tamper;
        self
    }

    /// Takes over what a description says that the other side sends, and whose tracks they are.
    pub(crate) fn apply(&mut self, remote: &Remote, owner: impl Fn(&str, &str) -> Option<Owner>) {
        self.receiver.apply(remote);
        self.receiver.set_owners(owner);
    }

    /// Takes over whose tracks they are.
    pub(crate) fn set_owners(&mut self, owner: impl Fn(&str, &str) -> Option<Owner>) {
        self.receiver.set_owners(owner);
    }

    /// Sends what is due. So many streams as `expected` says have to begin before a light participant is content with samples.
    pub(crate) async fn handle_timeout(&mut self, expected: impl FnOnce() -> usize, now: Instant) {
        while let Some(packet) = self.publisher.poll_packet(now) {
            self.link.send_rtp(&packet).await;
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
        let looks = self.checks == Checks::Light && self.in_full;
        if looks && (now >= self.look_until || self.receiver.has_started(expected())) {
            self.sample();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or a snapshot is due again.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let due = self.due;
        let own = due.feedback.min(due.snapshot).min(due.sender_reports);
        let publisher = self.publisher.poll_timeout();
        publisher.map_or(own, |publisher| publisher.min(own))
    }

    /// Waits until something is due.
    pub(crate) async fn wait(next: Instant) {
        tokio::time::sleep_until(next.into()).await;
        HEALTH.late(Late::Timer, next.elapsed());
    }

    /// Whether the owner's report is to be refreshed; true once each time.
    pub(crate) fn poll_snapshot(&mut self, now: Instant) -> bool {
        let due = self.due.snapshot <= now;
        if due {
            let light = self.checks == Checks::Light;
            self.due.snapshot = now + if light { IDLE_EVERY } else { SNAPSHOT_EVERY };
        }
        due
    }

    /// To be told when something arrived after a silence: who was idle looks after losses again.
    pub(crate) fn wake(&mut self) {
        if !self.receiver.is_receiving() {
            self.due.feedback = self.due.feedback.min(Instant::now() + FEEDBACK_EVERY);
        }
    }

    /// Takes what arrived; gives back what is for who signals.
    pub(crate) fn handle(&mut self, event: Event) -> Option<Said> {
        match event {
            Event::Rtp(packet, at) => match &self.tamper {
                None => self.receiver.handle_rtp(&packet, at),
                Some(tamper) => tamper
                    .apply(packet)
                    .iter()
                    .for_each(|packet| self.receiver.handle_rtp(packet, at)),
            },
            Event::Rtcp(packets, at) => packets
                .iter()
                .for_each(|packet| self.handle_rtcp(packet.as_any(), at)),
            Event::Text(text) => return Some(Said::Text(text)),
            Event::Closed(reason) => return Some(Said::Closed(reason)),
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
            self.counts.transport_feedbacks += 1;
        } else if packet.is::<rtcp::receiver_report::ReceiverReport>() {
            self.counts.receiver_reports += 1;
        } else if let Some(report) = packet.downcast_ref::<rtcp::sender_report::SenderReport>() {
            self.counts.sender_reports += 1;
            self.receiver.handle_sender_report(report, at);
        }
    }

    /// A light participant has seen how its streams start: from here on it looks at samples.
    fn sample(&mut self) {
        self.in_full = false;
        match self.link.sample(SAMPLE_ONE_IN) {
            Ok(()) => self.receiver.sample(),
            Err(error) => self.errors.push(format!(
                "the kernel takes no socket filter, everything is looked at: {error}"
            )),
        }
    }

    /// Writes what was sent and received into a report; times count from `since`.
    pub(crate) fn fill(&mut self, report: &mut Report, since: Instant, now: Instant) {
        let receiver = &self.receiver;
        let ms = |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1000.0;
        let latencies = &mut report.latencies;
        latencies.first_packet_ms = receiver.first_packet_at().map(ms);
        latencies.first_frame_ms = receiver.first_frame_at().map(ms);
        latencies.first_picture_ms = receiver.first_picture_at().map(ms);
        report.counted_at_ms = ms(now);
        report.first_frame_after_ms = latencies.first_picture_ms.map(|ms| ms as u64);
        report.connected = true;
        report.sent = self.publisher.sent();
        report.streams = receiver.report(now, since);
        report.unbound_packets = receiver.unbound_packets();
        report.transport = self.link.report();
        report.transport.feedbacks_sent = receiver.feedbacks_sent();
        // These add up over all calls of a participant.
        let counts = std::mem::take(&mut self.counts);
        report.transport_feedbacks += counts.transport_feedbacks;
        report.receiver_reports += counts.receiver_reports;
        report.sender_reports += counts.sender_reports;
        report.errors.append(&mut self.errors);
    }
}

/// What is negotiated besides the tracks.
pub(crate) fn terms(checks: Checks, rids: Vec<String>) -> Terms {
    Terms {
        rids,
        // Who does not see all packets cannot report on them.
        transport_cc: checks != Checks::Light,
        rtx: true,
    }
}

/// Thousands of participants that join together should not all wake up together ever after.
pub(crate) fn phase(rng: &mut impl Rng) -> Duration {
    Duration::from_millis(rng.random_range(0..1000))
}

/// Sends what is to be published on the m-lines of the own offer, `0` for sound and `1` for the picture, as far as the other side
/// takes it.
pub(crate) fn publisher(
    rng: &mut impl Rng,
    clips: crate::Clips,
    publish: Publish,
    answer: &Remote,
    ssrcs: Ssrcs,
) -> Publisher {
    let parameters = |kind: Kind| {
        let (mid, codec) = match kind {
            Kind::Audio => ("0", "opus"),
            Kind::Video => ("1", "VP8"),
        };
        let media = answer
            .media
            .iter()
            .find(|media| media.mid == mid && media.receives())?;
        Some(SendParameters {
            mid: mid.to_owned(),
            payload_type: media.payload_type(codec)?,
            extensions: media.extension_ids(),
        })
    };
    let video = parameters(Kind::Video).zip(publish.video);
    let audio = parameters(Kind::Audio).filter(|_| publish.audio);
    Publisher::from_rng(rng, clips, ssrcs, video, audio, Instant::now())
}
