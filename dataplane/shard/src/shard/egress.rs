//! Sealing: headers are written, payloads pass once from the receive buffer to the send buffer, equal sizes go out as one.

use std::time::Instant;

use weir_wire::dependency;
use weir_wire::extension::Element;
use weir_wire::{ExtSeq, NoRoom, Seq, rtp};

use crate::codec::Descriptor;
use crate::counters::DropReason;
use crate::departures::Departed;
use crate::ids::MediaKind;
use crate::limits::{DATAGRAM_BYTES_MAX, RUN_PADDING_MAX};
use crate::packet::Packet;
use crate::path::Path;
use crate::reason::Stage;
use crate::rewriter::Outgoing;
use crate::sent::Sealed;
use crate::shard::Shard;
use crate::subscription::Subscription;
use crate::transport::{Departure, DepartureKind, NONE};
use crate::tx::{Again, Run, Waiting};

/// Room for one compound RTCP packet, or for one header.
pub(super) const SCRATCH_BYTES: usize = 1500;

/// Protection adds at most this to an RTP packet, whatever the profile.
const TAG_BYTES_MAX: usize = 16;

/// Bytes of the number in front of a retransmission's payload.
const ORIGINAL_BYTES: usize = 2;

/// Bytes of the longest dependency descriptor that a header extension can hold.
const DEPENDENCY_BYTES_MAX: usize = 255;

/// Bytes of the longest header: fixed part, extension block with all elements.
pub(super) const HEADER_BYTES_MAX: usize = 64 + 1 + DEPENDENCY_BYTES_MAX;

impl Shard {
    /// Seals everything that waits for one transport.
    pub(super) fn seal_transport(&mut self, index: u32, now: Instant) {
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        let (first, _) = std::mem::replace(&mut transport.queue, (NONE, NONE));
        transport.resends = 0;
        self.seal_run(index, first, now);
    }

    /// Seals what waits for one transport, beginning with entry `next`.
    fn seal_run(&mut self, transport: u32, mut next: u32, now: Instant) {
        let path = self
            .transports
            .get(transport)
            .and_then(|transport| transport.ice.selected());
        let mut run = path.map(Run::new);
        while let Some(waiting) = self.tx.get(next) {
            next = waiting.next;
            let sealed = match &mut run {
                Some(run) => self.seal(transport, &waiting, run, now),
                None => Err(DropReason::NotReady),
            };
            if let Err(reason) = sealed {
                self.counters.count_drop(reason);
            }
            self.packets.release(waiting.slot);
        }
        if let Some(mut run) = run {
            run.finish(&mut self.tx, &self.counters);
        }
    }

    fn seal(
        &mut self,
        transport: u32,
        waiting: &Waiting,
        run: &mut Run,
        now: Instant,
    ) -> Result<(), DropReason> {
        let of = self
            .subscriptions
            .get_mut(waiting.subscription)
            .filter(|of| of.id == waiting.id)
            .ok_or(DropReason::NotReady)?;
        let to = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::NotReady)?;
        let sender = to.sender.as_mut().ok_or(DropReason::NotReady)?;
        let packet = self
            .packets
            .get_mut(waiting.slot)
            .ok_or(DropReason::NotReady)?;
        let mut envelope =
            Envelope::new(of, packet, waiting, to.next_wide).ok_or(DropReason::TooLate)?;
        let mut header = [0; HEADER_BYTES_MAX];

        let plain = write_header(of, packet, &waiting.numbers, &envelope, &mut header)
            .map_err(|_| DropReason::TooLarge)?;
        let octets = payload_len(packet) + envelope.original.map_or(0, |_| ORIGINAL_BYTES);
        let len = plain + octets + sender.profile().tag_len();
        if envelope.is_new && !packet.padding {
            envelope.padding = run.lacks(len, RUN_PADDING_MAX) as u8;
        }
        let padding = usize::from(envelope.padding);
        if padding > 0 {
            write_header(of, packet, &waiting.numbers, &envelope, &mut header)
                .map_err(|_| DropReason::TooLarge)?;
        }
        let len = len + padding;
        if len > DATAGRAM_BYTES_MAX {
            return Err(DropReason::TooLarge);
        }
        let payload =
            write_payload(packet, &waiting.numbers, &envelope).ok_or(DropReason::TooLarge)?;
        let room = run
            .room(len, &mut self.tx, &self.counters)
            .ok_or(DropReason::NoSendBuffer)?;
        let sealed = sender.protect_rtp(&header[..plain], payload, envelope.seq, room);
        run.wrote(sealed.map_err(|_| DropReason::Protect)?);
        self.counters.pass(Stage::Sealed, len);
        envelope.note_sealed(of, waiting, octets);
        let number = envelope.wide.filter(|_| envelope.is_new);
        to.next_wide = number.map_or(to.next_wide, |number| number.add(1));
        if let (Some(number), MediaKind::Video) = (number, of.kind) {
            let departed = Departed {
                subscription: waiting.subscription,
                id: waiting.id,
                seq: waiting.numbers.seq.seq(),
            };
            to.departures.note(number, departed);
        }
        let kind = match (waiting.again, of.kind) {
            (Again::Resend, _) => DepartureKind::Resend,
            (Again::First, MediaKind::Audio) => DepartureKind::Audio,
            (Again::First, MediaKind::Video) => DepartureKind::Video,
        };
        to.note_sent(
            Departure {
                number,
                bytes: len,
                kind,
            },
            &self.counters,
            now,
        );
        Ok(())
    }

    /// Protects and sends the first `len` bytes of the scratch buffer as a compound RTCP packet.
    pub(super) fn send_rtcp(&mut self, transport: u32, len: usize) {
        if len == 0 {
            return;
        }
        if let Err(reason) = self.try_send_rtcp(transport, len) {
            self.counters.count_drop(reason);
        }
    }

    fn try_send_rtcp(&mut self, transport: u32, len: usize) -> Result<(), DropReason> {
        let of = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::NotReady)?;
        let (Some(path), Some(sender)) = (of.ice.selected(), of.sender.as_mut()) else {
            return Err(DropReason::NotReady);
        };
        let plain = self.scratch.get(..len).ok_or(DropReason::TooLarge)?;
        let mut buffer = self.tx.take().ok_or(DropReason::NoSendBuffer)?;
        let sealed = sender.protect_rtcp(plain, buffer.room());
        if let Ok(len) = sealed {
            buffer.advance(len);
            self.counters.rtcp_sent.add(1);
            of.count_sent(len, &self.counters);
        }
        // An empty buffer goes back to the pool.
        let len = buffer.len();
        self.tx.transmit(path, len, buffer, &self.counters);
        sealed.map(|_| ()).map_err(|_| DropReason::Protect)
    }

    /// Sends a datagram as it is.
    pub(super) fn send_plain(&mut self, path: Path, datagram: &[u8]) {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return self.counters.count_drop(DropReason::TooLarge);
        }
        let Some(mut buffer) = self.tx.take() else {
            return self.counters.count_drop(DropReason::NoSendBuffer);
        };
        buffer.room()[..datagram.len()].copy_from_slice(datagram);
        buffer.advance(datagram.len());
        self.tx
            .transmit(path, datagram.len(), buffer, &self.counters);
    }
}

/// What is written around a packet's payload besides the numbers of the picture.
#[derive(Clone, Copy, Debug)]
struct Envelope {
    ssrc: u32,
    payload_type: u8,
    seq: ExtSeq,
    /// In front of the payload of a retransmission: the number it went out with at first (RFC 4588 §4).
    original: Option<Seq>,
    wide: Option<Seq>,
    /// Bytes of padding that are added.
    padding: u8,
    /// Whether nothing went out under this number before.
    is_new: bool,
}

impl Envelope {
    /// A resend on the packet's own SSRC repeats what it had, to the bit: sealed under the same number, another text would
    /// break the cipher. Everything else is new. `None` when the packet's record is gone.
    fn new(of: &Subscription, packet: &Packet, waiting: &Waiting, next_wide: Seq) -> Option<Self> {
        let seq = waiting.numbers.seq;
        let wide = of
            .extensions
            .transport_cc
            .filter(|id| *id != 0)
            .map(|_| next_wide);
        let rtx = of
            .rtx(packet.codec)
            .filter(|_| waiting.again == Again::Resend);
        if let Some((payload_type, rtx)) = rtx {
            return Some(Self {
                ssrc: rtx.ssrc,
                payload_type,
                seq: rtx.next,
                original: Some(seq.seq()),
                wide,
                padding: 0,
                is_new: true,
            });
        }
        if !of.sent.is_recorded(seq) {
            return None;
        }
        let before = of.sent.sealed(seq);
        let sealed = before.unwrap_or(Sealed { wide, padding: 0 });
        Some(Self {
            ssrc: of.ssrc,
            payload_type: of.payload_type(packet.codec)?,
            seq,
            original: None,
            wide: sealed.wide,
            padding: sealed.padding,
            is_new: before.is_none(),
        })
    }

    /// Counts the packet and notes what must be the same the next time.
    fn note_sealed(&self, of: &mut Subscription, waiting: &Waiting, octets: usize) {
        if let (Some(_), Some(rtx)) = (self.original, &mut of.rtx) {
            rtx.next = rtx.next.add(1);
            return of.sent.note_wide(waiting.numbers.seq, self.wide);
        }
        of.packets = of.packets.wrapping_add(1);
        of.octets = of.octets.wrapping_add(octets as u32);
        let with = Sealed {
            wide: self.wide,
            padding: self.padding,
        };
        of.sent.note_sealed(waiting.numbers.seq, with);
    }
}

/// Writes the header of an outgoing packet. What it says depends on nothing but the subscription, the packet and what is
/// given, so that a resend is the same to the bit.
fn write_header(
    of: &Subscription,
    packet: &Packet,
    numbers: &Outgoing,
    envelope: &Envelope,
    out: &mut [u8],
) -> Result<usize, NoRoom> {
    let (level, orientation) = (
        [packet.audio_level.unwrap_or(0)],
        [packet.video_orientation.unwrap_or(0)],
    );
    let wide = envelope.wide.unwrap_or_default().0.to_be_bytes();
    let mut dependency = [0; DEPENDENCY_BYTES_MAX];
    // Not beside a descriptor of the codec's own: told who refers to whom, browsers skip upper temporal layers that wait for a
    // retransmission (15 % of all frames at 10 % loss); with VP8's descriptor they wait for them, too.
    let dependency = match of.extensions.dependency_descriptor {
        Some(_) if packet.dependency_len > 0 && packet.descriptor == Descriptor::None => {
            outgoing_dependency(packet, numbers, &mut dependency)
        }
        _ => &[],
    };
    let mut elements = [Element { id: 0, data: &[] }; 5];
    let mut count = 0;
    let mut add = |id: Option<u8>, data| {
        if let Some(id) = id.filter(|id| *id != 0) {
            elements[count] = Element { id, data };
            count += 1;
        }
    };
    let ids = &of.extensions;
    let has_mid = !of.mid.as_bytes().is_empty();
    add(ids.transport_cc.filter(|_| envelope.wide.is_some()), &wide);
    add(ids.mid.filter(|_| has_mid), of.mid.as_bytes());
    add(
        ids.audio_level.filter(|_| packet.audio_level.is_some()),
        &level,
    );
    add(
        ids.video_orientation
            .filter(|_| packet.video_orientation.is_some()),
        &orientation,
    );
    add(
        ids.dependency_descriptor.filter(|_| !dependency.is_empty()),
        dependency,
    );
    let header = rtp::Outgoing {
        marker: numbers.marker,
        payload_type: envelope.payload_type,
        sequence_number: envelope.seq.seq(),
        timestamp: numbers.timestamp,
        ssrc: envelope.ssrc,
        has_padding: envelope.padding > 0 || (packet.padding && packet.payload_len > 0),
    };
    header.emit(&elements[..count], out)
}

/// The length of the payload with its new descriptor.
fn payload_len(packet: &Packet) -> usize {
    packet.payload_len + packet.descriptor.outgoing(&packet.picture).len()
}

/// Copies the dependency descriptor and gives it the number that the frame goes out with.
fn outgoing_dependency<'a>(
    packet: &Packet,
    numbers: &Outgoing,
    out: &'a mut [u8; DEPENDENCY_BYTES_MAX],
) -> &'a [u8] {
    let start = packet.buffer.start();
    let len = usize::from(packet.dependency_len);
    let (Some(from), Some(to)) = (
        packet.buffer.all().get(start..start + len),
        out.get_mut(..len),
    ) else {
        return &[];
    };
    to.copy_from_slice(from);
    dependency::set_frame_number(to, numbers.picture.frame);
    to
}

/// Writes the new descriptor in front of the payload, and of a retransmission the original number in front of that, where
/// the packet's own header was; and padding behind it, where its authentication tag was. The payload itself is not touched:
/// other subscribers take it next.
fn write_payload<'a>(
    packet: &'a mut Packet,
    numbers: &Outgoing,
    envelope: &Envelope,
) -> Option<&'a [u8]> {
    let (mut start, end) = (
        packet.payload_start,
        packet.payload_start + packet.payload_len,
    );
    let memory = packet.buffer.around();
    let descriptor = packet.descriptor.outgoing(&numbers.picture);
    start = start.checked_sub(descriptor.len())?;
    descriptor
        .emit(memory.get_mut(start..packet.payload_start)?)
        .ok()?;
    if let Some(original) = envelope.original {
        start = start.checked_sub(ORIGINAL_BYTES)?;
        memory
            .get_mut(start..start + ORIGINAL_BYTES)?
            .copy_from_slice(&original.0.to_be_bytes());
    }
    let padding = usize::from(envelope.padding);
    let pad = memory.get_mut(end..end + padding)?;
    if let Some((count, zeros)) = pad.split_last_mut() {
        zeros.fill(0);
        *count = envelope.padding;
    }
    memory.get(start..end + padding)
}

const _: () = assert!(
    HEADER_BYTES_MAX
        >= 12 + 4 + 4 + 2 + crate::limits::MID_BYTES_MAX + 3 + 3 + 2 + DEPENDENCY_BYTES_MAX + 3,
    "the longest header must fit: fixed part, block head, transport-wide number, mid, audio level, orientation, dependency \
     descriptor, fill"
);
const _: () = assert!(
    crate::limits::SEND_BUFFER_BYTES >= DATAGRAM_BYTES_MAX + TAG_BYTES_MAX,
    "a send buffer holds at least one datagram"
);
