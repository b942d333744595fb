//! One RTP packet of a publisher: authenticated, decrypted in place, counted, kept, and passed on to `forward`.

use std::ops::Range;
use std::time::Instant;

use weir_srtp::Error;
use weir_wire::rtp::{Header, Packet as RtpPacket};
use weir_wire::{ExtSeq, Seq, extension};

use crate::buffer::ReceiveBuffer;
use crate::codec::{self, Payload};
use crate::counters::DropReason;
use crate::history::Inserted;
use crate::ids::{Codec, ExtensionIds, MediaKind};
use crate::kept::KeptPacket;
use crate::limits::{
    HISTORY_IDLE_PACKETS, HISTORY_VIDEO_PACKETS, LAYER_CHECK_INTERVAL, LAYER_SILENT,
};
use crate::packet::{Packet, Slot};
use crate::publisher::Tag;
use crate::reason::Stage;
use crate::shard::Shard;
use crate::timing;
use crate::transport::{Feeds, Names};

/// What a packet is longer than its payload when it leaves: header, extensions and authentication tag.
pub(super) const OVERHEAD_BYTES: usize = 40;

/// What was read of a packet's header.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) header: Header,
    pub(super) index: ExtSeq,
    /// Within the datagram, without padding.
    pub(super) payload: Range<usize>,
    pub(super) padding_len: usize,
    pub(super) names: Names,
    pub(super) transport_seq: Option<Seq>,
    pub(super) audio_level: Option<u8>,
    pub(super) video_orientation: Option<u8>,
    /// Where the dependency descriptor lies within the datagram.
    pub(super) dependency: Option<Range<usize>>,
}

impl Arrived {
    fn read(packet: &RtpPacket<'_>, index: ExtSeq, ids: &ExtensionIds) -> Self {
        let mut arrived = Self {
            header: *packet.header(),
            index,
            payload: packet.payload_range(),
            padding_len: packet.padding_len(),
            names: Names::default(),
            transport_seq: None,
            audio_level: None,
            video_orientation: None,
            dependency: None,
        };
        let tag = |data| extension::stream_name(data).and_then(|name| Tag::new(name.as_bytes()));
        for element in packet.extensions() {
            match Some(element.id) {
                id if id == ids.mid => arrived.names.mid = tag(element.data),
                id if id == ids.rid => arrived.names.rid = tag(element.data),
                id if id == ids.repaired_rid => arrived.names.repaired_rid = tag(element.data),
                id if id == ids.transport_cc => {
                    arrived.transport_seq = extension::transport_sequence(element.data)
                }
                id if id == ids.audio_level => arrived.audio_level = element.data.first().copied(),
                id if id == ids.video_orientation => {
                    arrived.video_orientation = element.data.first().copied()
                }
                id if id == ids.dependency_descriptor => {
                    arrived.dependency = packet.range_of(element.data)
                }
                _ => {}
            }
        }
        arrived
    }
}

/// A packet of media that is authentic and decrypted, between [`Shard::open`] and [`Shard::route`].
#[derive(Debug)]
#[must_use = "the shard gets its buffer back only by Shard::route"]
pub struct Opened {
    buffer: ReceiveBuffer,
    transport: u32,
    arrived: Arrived,
}

/// The media in a packet, after a retransmission has been unwrapped.
#[derive(Clone, Debug)]
struct Media {
    seq: ExtSeq,
    payload_type: u8,
    payload: Range<usize>,
    padding: bool,
    way: Way,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Directly,
    Retransmitted,
}

impl Shard {
    /// Authenticates and decrypts a packet of media; `None` if it is not authentic.
    pub(super) fn open_rtp(
        &mut self,
        mut buffer: ReceiveBuffer,
        transport: u32,
        now: Instant,
    ) -> Option<Opened> {
        match self.unprotect(&mut buffer, transport, now) {
            Ok(arrived) => Some(Opened {
                buffer,
                transport,
                arrived,
            }),
            Err(reason) => {
                self.refuse(buffer, reason);
                None
            }
        }
    }

    pub(super) fn rtp(&mut self, opened: Opened, now: Instant) {
        let Opened {
            buffer,
            transport,
            arrived,
        } = opened;
        let feeds = match self.feeds(transport, &arrived, now) {
            Ok(feeds) => feeds,
            Err(reason) => return self.refuse(buffer, reason),
        };
        let media = match feeds {
            Feeds::Source(source) => self.direct(source, &arrived).map(|media| (source, media)),
            Feeds::Rtx(source) => self
                .unwrap_rtx(source, &arrived, buffer.datagram())
                .map(|media| (source, media)),
            Feeds::Retired { .. } | Feeds::Nothing => Err(DropReason::UnknownSsrc),
        };
        if matches!(feeds, Feeds::Source(_) | Feeds::Rtx(_)) {
            self.counters.pass(Stage::Bound, buffer.datagram().len());
        }
        match media {
            Ok((source, media)) => self.media(buffer, source, media, &arrived, now),
            Err(reason) => self.refuse(buffer, reason),
        }
    }

    /// Authenticates and decrypts in place, reads the header, and notes the arrival for transport-wide feedback.
    fn unprotect(
        &mut self,
        buffer: &mut ReceiveBuffer,
        transport: u32,
        now: Instant,
    ) -> Result<Arrived, DropReason> {
        let of = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::UnknownAddress)?;
        let bytes = buffer.datagram().len();
        of.count_received(bytes, &self.counters);
        let receiver = of.receiver.as_mut().ok_or(DropReason::NoKeys)?;
        let unprotected = match receiver.unprotect_rtp(buffer.datagram_mut()) {
            Ok(unprotected) => unprotected,
            Err(error) => {
                if error == Error::TooManySources {
                    of.forget_idle_stream(now);
                }
                return Err(drop_reason(error));
            }
        };
        of.received.count(bytes);
        buffer.truncate(unprotected.len);
        let packet = RtpPacket::parse(buffer.datagram()).map_err(|_| DropReason::RtpMalformed)?;
        let arrived = Arrived::read(&packet, unprotected.index, &of.extensions);
        if let Some(seq) = arrived.transport_seq {
            let due = of.feedback.record(seq, arrived.header.ssrc, now);
            self.wake_at(due);
        }
        Ok(arrived)
    }

    /// What the packet's SSRC is for; a new SSRC is bound to a track here.
    fn feeds(
        &mut self,
        transport: u32,
        arrived: &Arrived,
        now: Instant,
    ) -> Result<Feeds, DropReason> {
        let of = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::UnknownAddress)?;
        let at = of
            .stream(arrived.header.ssrc, now)
            .ok_or(DropReason::TooManySsrcs)?;
        let stream = &mut of.streams[at];
        stream.names.learn(arrived.names);
        let names = stream.names;
        match stream.feeds {
            feeds @ (Feeds::Source(_) | Feeds::Rtx(_)) => Ok(feeds),
            before @ (Feeds::Retired { .. } | Feeds::Nothing) => {
                let feeds = self
                    .bind(transport, arrived, &names, before, now)
                    .ok_or(DropReason::UnknownSsrc)?;
                if let Some(of) = self.transports.get_mut(transport) {
                    of.streams[at].feeds = feeds;
                }
                Ok(feeds)
            }
        }
    }

    fn direct(&self, source: u32, arrived: &Arrived) -> Result<Media, DropReason> {
        self.sources.get(source).ok_or(DropReason::UnknownSsrc)?;
        let padding = arrived.payload.is_empty();
        // The padding of a packet that has nothing else is its payload.
        let end = arrived.payload.end + if padding { arrived.padding_len } else { 0 };
        Ok(Media {
            seq: arrived.index,
            payload_type: arrived.header.payload_type,
            payload: arrived.payload.start..end,
            padding,
            way: Way::Directly,
        })
    }

    /// Takes the original packet out of a retransmission (RFC 4588 §4): its number is in front of the payload.
    fn unwrap_rtx(
        &self,
        source: u32,
        arrived: &Arrived,
        datagram: &[u8],
    ) -> Result<Media, DropReason> {
        let source = self.sources.get(source).ok_or(DropReason::UnknownSsrc)?;
        let track = self
            .tracks
            .get(source.track)
            .ok_or(DropReason::UnknownSsrc)?;
        let codec = track
            .codec_of_rtx(arrived.header.payload_type)
            .ok_or(DropReason::UnknownPayloadType)?;
        let number = datagram
            .get(arrived.payload.clone())
            .and_then(|payload| payload.first_chunk::<2>());
        let number = Seq(u16::from_be_bytes(*number.ok_or(DropReason::RtxUseless)?));
        let newest = source.history.newest().ok_or(DropReason::RtxUseless)?;
        let seq = newest.nearest(number);
        if seq > newest {
            return Err(DropReason::RtxUseless);
        }
        let payload = arrived.payload.start + 2..arrived.payload.end;
        if payload.is_empty() {
            return Err(DropReason::RtxUseless);
        }
        let payload_type = codec.payload_type;
        Ok(Media {
            seq,
            payload_type,
            payload,
            padding: false,
            way: Way::Retransmitted,
        })
    }

    fn media(
        &mut self,
        mut buffer: ReceiveBuffer,
        source: u32,
        media: Media,
        arrived: &Arrived,
        now: Instant,
    ) {
        let (codec, mut payload) = match self.read_payload(source, &media, buffer.datagram()) {
            Ok(read) => read,
            Err(reason) => return self.refuse(buffer, reason),
        };
        let frame = self.read_dependency(source, &media, arrived, buffer.datagram(), &mut payload);
        if let Err(reason) = self.count_arrival(source, &media, &payload, arrived, now) {
            return self.refuse(buffer, reason);
        }
        let Some(of) = self.sources.get_mut(source) else {
            return self.refuse(buffer, DropReason::UnknownSsrc);
        };
        let mut picture = payload.descriptor.picture(&mut of.picture_ids);
        picture.frame = frame.unwrap_or(0);
        let dependency_len = keep_dependency(&mut buffer, arrived.dependency.as_ref());
        let payload_len = media.payload.len() - payload.descriptor_len;
        let packet = Packet {
            payload_start: buffer.start() + media.payload.start + payload.descriptor_len,
            buffer,
            seq: media.seq,
            timestamp: arrived.header.timestamp,
            marker: arrived.header.marker,
            codec,
            payload_len,
            padding: media.padding,
            keyframe_start: payload.keyframe_start,
            descriptor: payload.descriptor,
            picture,
            sublayer: payload.sublayer,
            opens: payload.opens,
            frame_end: payload.frame_end,
            dependency_len,
            audio_level: arrived.audio_level,
            video_orientation: arrived.video_orientation,
            arrival: now,
        };
        let Some(slot) = self.packets.insert(packet) else {
            return self.counters.count_drop(DropReason::OutgoingFull);
        };
        // One reference is the batch's own: the history may let go of the packet before it is forwarded.
        self.packets.hold(slot);
        self.keep(source, media.seq, slot);
        self.counters.pass(Stage::Kept, payload_len);
        self.forward(slot, source, now);
        self.packets.release(slot);
    }

    fn read_payload(
        &self,
        source: u32,
        media: &Media,
        datagram: &[u8],
    ) -> Result<(Codec, Payload), DropReason> {
        let of = self.sources.get(source).ok_or(DropReason::UnknownSsrc)?;
        let track = self.tracks.get(of.track).ok_or(DropReason::UnknownSsrc)?;
        let codec = track
            .codec(media.payload_type)
            .ok_or(DropReason::UnknownPayloadType)?
            .codec;
        match of.history.check(media.seq) {
            Inserted::Kept => {}
            Inserted::Duplicate | Inserted::TooOld => return Err(DropReason::Duplicate),
        }
        if media.padding {
            return Ok((codec, Payload::default()));
        }
        let payload = datagram
            .get(media.payload.clone())
            .ok_or(DropReason::RtpMalformed)?;
        let payload = codec::read(codec, payload).map_err(|_| DropReason::PayloadMalformed)?;
        Ok((codec, payload))
    }

    /// What the dependency descriptor says goes before what was read of the payload. Returns the frame's number.
    fn read_dependency(
        &mut self,
        source: u32,
        media: &Media,
        arrived: &Arrived,
        datagram: &[u8],
        payload: &mut Payload,
    ) -> Option<u16> {
        let data = datagram.get(arrived.dependency.clone()?)?;
        let of = self.sources.get_mut(source).filter(|_| !media.padding)?;
        of.dependencies.read(data, media.seq, payload)
    }

    /// Everything that is known of a source and its layer by a packet's mere arrival.
    fn count_arrival(
        &mut self,
        source: u32,
        media: &Media,
        payload: &Payload,
        arrived: &Arrived,
        now: Instant,
    ) -> Result<(), DropReason> {
        let of = self
            .sources
            .get_mut(source)
            .ok_or(DropReason::UnknownSsrc)?;
        let track_index = of.track;
        let track = self
            .tracks
            .get_mut(track_index)
            .ok_or(DropReason::UnknownSsrc)?;
        self.counters.rtp_received.add(1);
        if media.way == Way::Directly {
            let since_epoch =
                timing::units(now.saturating_duration_since(self.epoch), of.clock_rate);
            of.reception
                .count(media.seq, arrived.header.timestamp, since_epoch);
        } else {
            self.counters.rtx_unwrapped.add(1);
        }
        let in_use = !track.subscriptions.is_empty();
        let publisher = self.transports.get(track.transport);
        let rtt = publisher.and_then(|of| of.round_trip.smoothed());
        match of.history.newest() {
            Some(newest) if media.seq > newest && in_use && track.kind == MediaKind::Video => {
                self.counters.rtp_missing.add(media.seq.0 - newest.0 - 1);
                if of.missing.note(newest, media.seq, rtt, now).is_err() {
                    of.keyframes.want();
                }
            }
            Some(_) => of.missing.fill(media.seq, now),
            None => {}
        }
        if payload.keyframe_start && track.kind == MediaKind::Video {
            self.counters.keyframes_received.add(1);
            of.missing.clear_before(media.seq);
        }
        of.last_arrival = now;
        if !media.padding {
            let bytes = media.payload.len() + OVERHEAD_BYTES;
            of.meter.count(payload.sublayer, bytes, now);
        }
        let seen = of.top.max(payload.sublayer);
        let before = std::mem::replace(&mut of.top, of.dependencies.top().unwrap_or(seen));
        let other_top = before != of.top;
        let due = [
            of.missing.poll_timeout(),
            of.keyframes.poll_timeout().map(|at| at.unwrap_or(now)),
        ];
        let layer = &mut track.layers[of.layer];
        let returned = layer
            .last_arrival
            .is_none_or(|last| now.saturating_duration_since(last) >= LAYER_SILENT);
        let says_sizes = payload.sizes.iter().any(Option::is_some);
        let resized = says_sizes && payload.sizes != layer.sizes;
        layer.last_arrival = Some(now);
        if says_sizes {
            layer.sizes = payload.sizes;
        }
        let look = returned
            || other_top
            || resized
            || now.saturating_duration_since(track.layers_checked) >= LAYER_CHECK_INTERVAL;
        due.into_iter().flatten().for_each(|at| self.wake_at(at));
        self.report_soon(track_index, now);
        self.look_soon(now);
        if look {
            self.choose_layers(track_index, now);
        }
        if payload.keyframe_start
            && let Some(of) = self.sources.get_mut(source)
        {
            // After the look: whoever it finds waiting gets this one, and must not ask for another.
            of.keyframes.satisfied();
        }
        Ok(())
    }

    /// Starts the clock of this publisher's next receiver report.
    fn report_soon(&mut self, track: u32, now: Instant) {
        let Some(transport) = self.tracks.get(track).map(|track| track.transport) else {
            return;
        };
        self.report_at(transport, now);
    }

    /// Keeps a packet in its source's history, and lets go of what leaves it or exceeds the shard's bound.
    fn keep(&mut self, source: u32, seq: ExtSeq, slot: Slot) {
        let Some(of) = self.sources.get_mut(source) else {
            return self.packets.release(slot);
        };
        let in_use = self
            .tracks
            .get(of.track)
            .is_some_and(|track| !track.subscriptions.is_empty());
        let window = if in_use {
            HISTORY_VIDEO_PACKETS as u64
        } else {
            HISTORY_IDLE_PACKETS
        };
        let packets = &mut self.packets;
        of.history
            .insert(seq, slot, window, |gone| packets.release(gone));
        let kept = KeptPacket {
            source,
            seq,
            slot,
            serial: self.packets.serial(slot),
        };
        let Some(oldest) = self.kept.push(kept) else {
            return;
        };
        if self.packets.serial(oldest.slot) != oldest.serial {
            return;
        }
        if let Some(of) = self.sources.get_mut(oldest.source)
            && of.history.get(oldest.seq) == Some(oldest.slot)
        {
            of.history.let_go(oldest.seq);
            self.packets.release(oldest.slot);
        }
    }
}

/// Moves the dependency descriptor to the start of the datagram, over header fields that have been read: where it was, payload
/// descriptors of subscribers are written. Returns how long it is.
fn keep_dependency(buffer: &mut ReceiveBuffer, at: Option<&Range<usize>>) -> u8 {
    let Some(at) = at.filter(|at| at.end <= buffer.datagram().len()) else {
        return 0;
    };
    let len = u8::try_from(at.len()).unwrap_or(0);
    buffer
        .datagram_mut()
        .copy_within(at.start..at.start + usize::from(len), 0);
    len
}

/// Why a protected packet was refused, as a counter.
pub(super) fn drop_reason(error: Error) -> DropReason {
    match error {
        Error::AuthFailed => DropReason::Unauthenticated,
        Error::Replayed | Error::TooOld => DropReason::Replayed,
        Error::TooManySources => DropReason::TooManySsrcs,
        Error::TooShort | Error::BadHeader | Error::NotEncrypted => DropReason::RtpMalformed,
        Error::NoRoom | Error::KeyExhausted => DropReason::Protect,
    }
}
