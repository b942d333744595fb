//! A short burst of packets, and what transport-wide feedback says of it (draft-holmer-rmcat-transport-wide-cc-extensions-01). Pure:
//! packets that are due come out, feedback goes in.
//!
//! First one packet every few milliseconds: a focus sends feedback when it is due, which is soon after one of them, so that from
//! that one's departure to the feedback's arrival it is the round trip. Then a train without gaps: what comes out of the
//! narrowest place of the way has gaps that say how narrow it is.
//!
//! The packets are padding alone (RFC 3550 §5.1): no receiver takes them for media.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtp::header::{Extension, Header};
use webrtc_util::marshal::Marshal as _;

use crate::choose::MediaMeasured;
use crate::publish::SendParameters;
use crate::twcc;

/// Feedback is due every 50 to 250 ms where people have implemented it: in this time there is some, over and over.
const PACED_PACKETS: u16 = 80;
/// The round trip comes out too long by this at most.
const PACED_EVERY: Duration = Duration::from_millis(5);
/// 17 kB: a queue that cannot take so much in one go drops every keyframe.
const TRAIN_PACKETS: u16 = 60;
/// Padding is counted in one byte.
const PADDING_BYTES: u8 = 255;
/// What is faster than the train in a millisecond cannot be told from it: receivers look at their sockets about so often.
const TRAIN_LASTS_MIN_US: i64 = 1000;
/// How long feedback on the last packet is waited for.
const FEEDBACK_WITHIN: Duration = Duration::from_secs(1);

/// One burst, from the first packet to the last feedback.
#[derive(Debug)]
pub(super) struct Burst {
    parameters: SendParameters,
    ssrc: u32,
    began: Instant,
    /// When each packet left; a packet's place is its transport-wide number.
    sent: Vec<Instant>,
    packet_bytes: usize,
    round_trip: Option<Duration>,
    /// Of the train: number to time of arrival, in microseconds of the focus's clock.
    arrived: BTreeMap<u16, i64>,
    done: bool,
}

impl Burst {
    /// Begins at `now`. `None` if transport-wide numbers were not agreed on.
    pub(super) fn new(parameters: SendParameters, ssrc: u32, now: Instant) -> Option<Burst> {
        parameters.extensions.transport_cc?;
        Some(Burst {
            parameters,
            ssrc,
            began: now,
            sent: Vec::new(),
            packet_bytes: 0,
            round_trip: None,
            arrived: BTreeMap::new(),
            done: false,
        })
    }

    /// The next packet, if it is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Bytes> {
        let number = self.next()?;
        if now < self.due(number) {
            return None;
        }
        let packet = self.packet(number)?;
        self.packet_bytes = packet.len();
        self.sent.push(now);
        Some(packet)
    }

    /// When a packet is due, or nothing more is waited for; `None` when all is done.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match (self.done, self.next(), self.sent.last()) {
            (true, _, _) => None,
            (false, Some(number), _) => Some(self.due(number)),
            (false, None, last) => last.map(|last| *last + FEEDBACK_WITHIN),
        }
    }

    /// Ends it if feedback has been waited for long enough.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let last = self.sent.last().filter(|_| self.next().is_none());
        self.done |= last.is_some_and(|last| now >= *last + FEEDBACK_WITHIN);
    }

    /// Takes feedback that has arrived at `at`.
    pub(super) fn handle_feedback(&mut self, feedback: &TransportLayerCc, at: Instant) {
        let arrived = twcc::arrivals(feedback);
        let arrived = arrived
            .into_iter()
            .filter_map(|(number, us)| Some((number, us?)))
            .filter(|(number, _)| usize::from(*number) < self.sent.len());
        let mut latest = None;
        for (number, us) in arrived {
            latest = latest.max(Some(number));
            if number >= PACED_PACKETS {
                self.arrived.insert(number, us);
            }
        }
        let Some(latest) = latest else { return };
        // What the train's queue costs is no part of the way.
        if latest < PACED_PACKETS {
            let took = at.saturating_duration_since(self.sent[usize::from(latest)]);
            self.round_trip = Some(self.round_trip.map_or(took, |best| best.min(took)));
        }
        self.done |= latest == PACED_PACKETS + TRAIN_PACKETS - 1;
    }

    /// What came out; `None` without any feedback on the paced packets.
    pub(super) fn measured(&self) -> Option<MediaMeasured> {
        let round_trip = self.round_trip?;
        let times = || self.arrived.values().copied();
        let lasted_us = times().max().unwrap_or(0) - times().min().unwrap_or(0);
        // The first one has opened the gate.
        let packets = self.arrived.len().saturating_sub(1);
        let bits = (packets * self.packet_bytes * 8) as u64;
        let lasted_us = lasted_us.max(TRAIN_LASTS_MIN_US) as u64;
        Some(MediaMeasured {
            round_trip,
            bandwidth_bps: bits * 1_000_000 / lasted_us,
        })
    }

    /// The number of the next packet; `None` after the last one.
    fn next(&self) -> Option<u16> {
        let number = self.sent.len() as u16;
        (number < PACED_PACKETS + TRAIN_PACKETS).then_some(number)
    }

    fn due(&self, number: u16) -> Instant {
        self.began + PACED_EVERY * u32::from(number.min(PACED_PACKETS))
    }

    fn packet(&self, number: u16) -> Option<Bytes> {
        let ids = &self.parameters.extensions;
        let extension = |id: Option<u8>, payload: &[u8]| {
            let payload = Bytes::copy_from_slice(payload);
            id.map(|id| Extension { id, payload })
        };
        let extensions = [
            extension(ids.transport_cc, &number.to_be_bytes()),
            extension(ids.mid, self.parameters.mid.as_bytes()),
        ];
        let header = Header {
            version: 2,
            padding: true,
            extension: true,
            // RFC 8285 §4.2.
            extension_profile: 0xbede,
            payload_type: self.parameters.payload_type,
            sequence_number: number,
            timestamp: 0,
            ssrc: self.ssrc,
            extensions: extensions.into_iter().flatten().collect(),
            ..Header::default()
        };
        let mut packet = header.marshal().ok()?.to_vec();
        packet.resize(packet.len() + usize::from(PADDING_BYTES) - 1, 0);
        packet.push(PADDING_BYTES);
        Some(packet.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::ExtensionIds;
    use crate::twcc::TransportArrivals;

    const MS: Duration = Duration::from_millis(1);

    fn burst(now: Instant) -> Burst {
        let parameters = SendParameters {
            mid: "1".into(),
            payload_type: 96,
            extensions: ExtensionIds {
                mid: Some(4),
                transport_cc: Some(3),
                ..ExtensionIds::default()
            },
        };
        Burst::new(parameters, 7, now).unwrap()
    }

    /// Sends a burst over a way with a round trip and a narrowest place to a receiver that reports every 100 ms.
    fn over(round_trip: Duration, bits_per_second: u64, lost_one_in: u16) -> Option<MediaMeasured> {
        let start = Instant::now();
        let mut burst = burst(start);
        let mut receiver = TransportArrivals::new(1, start);
        let mut on_the_way: Vec<(Instant, u16)> = Vec::new();
        let mut free_at = start;
        let mut reports = Vec::new();
        let mut now = start;
        for number in 0.. {
            while let Some(packet) = burst.poll(now) {
                let index = burst.sent.len() as u16 - 1;
                let takes =
                    Duration::from_micros(packet.len() as u64 * 8 * 1_000_000 / bits_per_second);
                free_at = free_at.max(now) + takes;
                if lost_one_in == 0 || !index.is_multiple_of(lost_one_in) {
                    on_the_way.push((free_at + round_trip / 2, index));
                }
            }
            on_the_way.retain(|(at, index)| {
                let arrived = *at <= now;
                if arrived {
                    receiver.handle(*index, 7, *at);
                }
                !arrived
            });
            reports.extend(
                receiver
                    .poll(now)
                    .map(|report| (now + round_trip / 2, report)),
            );
            reports.retain(|(at, report)| {
                let arrived = *at <= now;
                if arrived {
                    burst.handle_feedback(report, now);
                }
                !arrived
            });
            burst.handle_timeout(now);
            if burst.poll_timeout().is_none() {
                return burst.measured();
            }
            assert!(number < 10_000, "it ends");
            now += MS;
        }
        None
    }

    #[test]
    fn packets_are_padding_alone_with_their_number_and_section() {
        let now = Instant::now();
        let mut burst = burst(now);
        let packet = burst.poll(now).unwrap();
        // V=2, P=1, X=1; PT 96; sequence number 0; SSRC 7; 0xbede, two words: 3 ⇒ 0, 4 ⇒ "1", rest.
        let head = [
            0xb0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0xbe, 0xde, 0, 2, 0x31, 0, 0, 0x40, b'1', 0, 0,
            0,
        ];
        assert_eq!(packet[..head.len()], head);
        assert_eq!(packet.len(), head.len() + 255);
        assert_eq!(packet.last(), Some(&255));
        assert_eq!(burst.poll(now), None, "the next is due in 5 ms");
        assert_eq!(burst.poll_timeout(), Some(now + 5 * MS));
    }

    #[test]
    fn the_round_trip_is_found_to_a_few_milliseconds() {
        for ms in [1, 10, 80, 300] {
            let found = over(ms * MS, 1_000_000_000, 0).unwrap().round_trip;
            let (least, most) = (ms * MS, ms * MS + PACED_EVERY + 2 * MS);
            assert!(found >= least && found <= most, "{ms} ms: {found:?}");
        }
    }

    #[test]
    fn the_bandwidth_of_the_narrowest_place_is_found_with_and_without_losses() {
        for bps in [600_000, 2_000_000, 10_000_000] {
            for lost_one_in in [0, 10] {
                let found = over(40 * MS, bps, lost_one_in).unwrap().bandwidth_bps;
                let off = found as f64 / bps as f64;
                assert!((0.85..1.15).contains(&off), "{bps}: {found}");
            }
        }
        // What is wide open is said to be as wide as can be seen.
        assert!(over(40 * MS, 10_000_000_000, 0).unwrap().bandwidth_bps > 50_000_000);
    }

    #[test]
    fn without_feedback_it_ends_and_says_nothing() {
        let start = Instant::now();
        let mut burst = burst(start);
        while burst.poll(start + 1000 * MS).is_some() {}
        burst.handle_feedback(&TransportLayerCc::default(), start + 1001 * MS);
        assert_eq!(burst.poll_timeout(), Some(start + 2000 * MS));
        burst.handle_timeout(start + 2000 * MS);
        assert_eq!((burst.poll_timeout(), burst.measured()), (None, None));
    }
}
