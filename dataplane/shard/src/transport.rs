//! One participant's transport: keys, addresses, the SSRCs that it sends, and what hangs on it.

use std::time::Instant;

use weir_srtp::{MasterKey, Receiver, Sender};
use weir_wire::{ExtSeq, Seq};

use crate::bandwidth::Bandwidth;
use crate::counters::Counters;
use crate::departures::Departures;
use crate::feedback::Feedback;
use crate::ice::Ice;
use crate::ids::{ExtensionIds, TransportId};
use crate::limits::{DATAGRAMS_PER_SECOND, SSRC_IDLE, SSRCS_PER_LAYER, SSRCS_PER_TRANSPORT};
use crate::publisher::Tag;
use crate::round_trip::RoundTrip;
use crate::status::{Flow, TransportStatus};

/// No entry, in lists that are linked by index.
pub(crate) const NONE: u32 = u32::MAX;

/// One transport.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) id: TransportId,
    pub(crate) ice: Ice,
    /// Whether the other end is a focus. Nothing but counting depends on it.
    pub(crate) is_trunk: bool,
    pub(crate) sender: Option<Sender>,
    pub(crate) receiver: Option<Receiver>,
    /// Sorted by SSRC.
    pub(crate) streams: Vec<Stream>,
    /// At most so many; there is room for them.
    streams_max: usize,
    /// Table indices.
    pub(crate) tracks: Vec<u32>,
    /// Table indices.
    pub(crate) subscriptions: Vec<u32>,
    /// All media sections of a bundle use one id for one extension (RFC 8843 §14), so the transport's are those of any.
    pub(crate) extensions: ExtensionIds,
    pub(crate) feedback: Feedback,
    /// The SSRC of this end in reports.
    pub(crate) report_ssrc: u32,
    pub(crate) report_due: Option<Instant>,
    /// From the participant's wall clock to the shard's, by its first sender report. One for all its tracks, so that they
    /// stay in step, and nobody learns how its clock is set.
    pub(crate) clock_shift: Option<u64>,
    /// First and last of what waits for `flush`.
    pub(crate) queue: (u32, u32),
    pub(crate) resends: u32,
    /// SSRCs of subscriptions that ended, and the first number that is free. Should one be used again under the same key,
    /// it goes on from there: two packets under one number break the cipher.
    pub(crate) used_ssrcs: Vec<(u32, ExtSeq)>,
    pub(crate) round_trip: RoundTrip,
    pub(crate) departures: Departures,
    /// The transport-wide number of the next packet that carries one.
    pub(crate) next_wide: Seq,
    pub(crate) bandwidth: Bandwidth,
    /// What control was told of it.
    pub(crate) told: TransportStatus,
    /// What has gone to the participant; its losses are the subscriptions'.
    pub(crate) sent: Flow,
    /// What has come from it; its losses are the sources'.
    pub(crate) received: Flow,
    datagrams: (Instant, u32),
}

/// One RTP packet that went to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// Its transport-wide number. `None` where that was not negotiated, and for what goes out under a number that went out
    /// before.
    pub(crate) number: Option<Seq>,
    /// Of the datagram.
    pub(crate) bytes: usize,
    pub(crate) kind: DepartureKind,
}

/// What a packet is to bandwidth estimation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DepartureKind {
    Audio,
    Video,
    /// Sent before.
    Resend,
    /// Sent for nothing but to learn how much fits.
    Probe,
}

/// One SSRC that authenticated packets came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) feeds: Feeds,
    pub(crate) last_arrival: Instant,
    pub(crate) names: Names,
}

/// What an SSRC's packets say about where it belongs. Browsers stop saying it once they got a report on the SSRC, so it is
/// remembered: the track may come after the packets, or go and come back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    pub(crate) mid: Option<Tag>,
    pub(crate) rid: Option<Tag>,
    pub(crate) repaired_rid: Option<Tag>,
}

impl Names {
    /// Takes what a packet says; what it does not say stays.
    pub(crate) fn learn(&mut self, said: Names) {
        self.mid = said.mid.or(self.mid);
        self.rid = said.rid.or(self.rid);
        self.repaired_rid = said.repaired_rid.or(self.repaired_rid);
    }
}

/// What the packets of an SSRC are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feeds {
    /// Media: the table index of the source.
    Source(u32),
    /// Retransmissions (RFC 4588) of this source.
    Rtx(u32),
    /// This track once, before another SSRC took its place.
    Retired {
        /// Table index.
        track: u32,
    },
    /// Not known yet.
    Nothing,
}

impl Transport {
    pub(crate) fn new(
        id: TransportId,
        ice: Ice,
        is_trunk: bool,
        report_ssrc: u32,
        now: Instant,
    ) -> Self {
        Self {
            id,
            ice,
            is_trunk,
            sender: None,
            receiver: None,
            streams: Vec::with_capacity(SSRCS_PER_TRANSPORT),
            streams_max: SSRCS_PER_TRANSPORT,
            tracks: Vec::new(),
            subscriptions: Vec::new(),
            extensions: ExtensionIds::default(),
            feedback: Feedback::new(),
            report_ssrc,
            report_due: None,
            clock_shift: None,
            queue: (NONE, NONE),
            resends: 0,
            used_ssrcs: Vec::new(),
            departures: Departures::new(),
            round_trip: RoundTrip::new(now),
            next_wide: Seq(0),
            bandwidth: Bandwidth::new(now),
            told: TransportStatus::default(),
            sent: Flow::default(),
            received: Flow::default(),
            datagrams: (now, 0),
        }
    }

    /// Every RTP packet that was sealed for this participant passes here, in order.
    pub(crate) fn note_sent(&mut self, departure: Departure, counters: &Counters, now: Instant) {
        self.sent.count(departure.bytes);
        self.count_sent(departure.bytes, counters);
        self.bandwidth.note_sent(departure, now);
    }

    /// Every datagram but connectivity checks passes here on its way out.
    pub(crate) fn count_sent(&self, bytes: usize, counters: &Counters) {
        if self.is_trunk {
            counters.trunk_datagrams_sent.add(1);
            counters.trunk_bytes_sent.add(bytes as u64);
        }
    }

    /// Every datagram but connectivity checks passes here on its way in.
    pub(crate) fn count_received(&self, bytes: usize, counters: &Counters) {
        if self.is_trunk {
            counters.trunk_datagrams_received.add(1);
            counters.trunk_bytes_received.add(bytes as u64);
        }
    }

    /// Remembers an SSRC whose stream has ended, and the first number that is free.
    pub(crate) fn note_used(&mut self, ssrc: u32, free: ExtSeq) {
        match self.used_ssrcs.iter_mut().find(|(used, _)| *used == ssrc) {
            Some(used) => used.1 = free,
            None => self.used_ssrcs.push((ssrc, free)),
        }
    }

    /// Whether anything can be sent, protected, right now.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_some() && self.ice.selected().is_some()
    }

    /// The place of an SSRC in `streams`, made if it is new: its packets are authentic. `None` when there is no room.
    pub(crate) fn stream(&mut self, ssrc: u32, now: Instant) -> Option<usize> {
        if let Ok(at) = self.place_of(ssrc) {
            self.streams[at].last_arrival = now;
            return Some(at);
        }
        if self.streams.len() >= self.streams_max && !self.forget_idle_stream(now) {
            return None;
        }
        let (Ok(at) | Err(at)) = self.place_of(ssrc);
        let stream = Stream {
            ssrc,
            feeds: Feeds::Nothing,
            last_arrival: now,
            names: Names::default(),
        };
        self.streams.insert(at, stream);
        Some(at)
    }

    /// Where an SSRC is, or belongs, in `streams`.
    fn place_of(&self, ssrc: u32) -> Result<usize, usize> {
        self.streams
            .binary_search_by_key(&ssrc, |stream| stream.ssrc)
    }

    /// Makes room for what so many layers, of all tracks together, are sent with.
    pub(crate) fn expect_layers(&mut self, layers: usize) {
        self.streams_max = self.streams_max.max(layers * SSRCS_PER_LAYER);
        self.streams
            .reserve_exact(self.streams_max - self.streams.len());
        if let Some(receiver) = &mut self.receiver {
            receiver.raise_sources(self.streams_max);
        }
    }

    /// Takes the keys of a transport that has none.
    pub(crate) fn install_keys(&mut self, local: &MasterKey, remote: &MasterKey) {
        self.sender = Some(Sender::new(local));
        self.receiver = Some(Receiver::new(remote, self.streams_max));
    }

    /// Makes room for another SSRC, here and in the SRTP receiver, if one feeds nothing and was silent for long.
    pub(crate) fn forget_idle_stream(&mut self, now: Instant) -> bool {
        let idle = |stream: &Stream| {
            !matches!(stream.feeds, Feeds::Source(_))
                && now.saturating_duration_since(stream.last_arrival) >= SSRC_IDLE
        };
        let oldest = self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, s)| idle(s))
            .min_by_key(|(_, s)| s.last_arrival);
        let Some((at, _)) = oldest else { return false };
        let stream = self.streams.remove(at);
        if let Some(receiver) = &mut self.receiver {
            receiver.forget(stream.ssrc);
        }
        true
    }

    /// Whether another DTLS datagram may go to control now.
    pub(crate) fn take_datagram(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.datagrams;
        if now.saturating_duration_since(*since).as_secs() >= 1 {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= DATAGRAMS_PER_SECOND
    }
}
