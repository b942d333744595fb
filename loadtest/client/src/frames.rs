//! Puts VP8 frames together from packets and holds their descriptors against each other (RFC 7741 §4.2). No I/O, no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::checks::Violations;
use crate::clips::is_keyframe;
use crate::report::Violation;
use crate::vp8::Descriptor;

/// A frame of which every packet is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// For the decoder.
    pub data: Vec<u8>,
    /// Whether it is one.
    pub keyframe: bool,
    /// RTP time.
    pub timestamp: u32,
    /// Whether frames may be missing between this one and the one before.
    pub after_loss: bool,
    /// Whether frames before this one were there and were not decoded, because the decoder was busy.
    pub after_skip: bool,
}

/// A packet that is not there after this long is given up, and decoding goes on at the next keyframe.
const WAIT: Duration = Duration::from_millis(500);
/// A stream whose first packet is lost begins with the next one, and nobody knows of the first. A focus sends it again unasked within
/// some 30 ms.
const BEGINS_WITHIN: Duration = Duration::from_millis(150);
/// Until then a packet may be on its way that was overtaken by a keyframe.
const REORDERED_WITHIN: Duration = Duration::from_millis(20);
/// Ten seconds of the highest layer, so that memory is bounded whatever arrives.
const BUFFERED_MAX: usize = 2000;

/// Reorders packets and assembles frames.
#[derive(Debug, Default)]
pub struct Assembler {
    buffer: BTreeMap<u64, Part>,
    next: Option<u64>,
    current: Option<Partial>,
    last: Option<Descriptor>,
    /// Something was missing since the last frame that was given out.
    loss: bool,
    /// Packets that were given up since the last frame whose numbers were seen. Each may have been a frame of its own.
    given_up: u64,
    started: bool,
    waiting: bool,
    /// Frames that could not be used.
    pub broken: u64,
    /// Frames that a keyframe cut off before their last packet was sent.
    pub cut: u64,
    /// The numbers behind them, until somebody takes them.
    unused: Vec<u64>,
}

/// A packet; one without payload has no time either.
#[derive(Debug, Default)]
struct Part {
    payload: Bytes,
    marker: bool,
    timestamp: u32,
    arrived: Option<Instant>,
}

#[derive(Debug)]
struct Partial {
    data: Vec<u8>,
    timestamp: u32,
    descriptor: Descriptor,
    /// Its first packet is there.
    whole: bool,
}

impl Assembler {
    /// Takes a packet with its extended sequence number.
    pub fn handle(
        &mut self,
        number: u64,
        timestamp: u32,
        marker: bool,
        payload: Bytes,
        now: Instant,
    ) {
        let next = *self.next.get_or_insert(number);
        if !self.started && self.current.is_none() && number < next {
            // Reordered at the very start: nothing was assembled yet, so begin earlier.
            self.next = Some(number);
        } else if number < next {
            return;
        }
        if self.buffer.len() < BUFFERED_MAX {
            let part = Part {
                payload,
                marker,
                timestamp,
                arrived: Some(now),
            };
            self.buffer.insert(number, part);
        }
    }

    /// Takes the extended sequence number of a packet that carries nothing.
    pub fn handle_padding(&mut self, number: u64) {
        if self.next.is_some_and(|next| number >= next) && self.buffer.len() < BUFFERED_MAX {
            self.buffer.insert(number, Part::default());
        }
    }

    /// Another stream takes the place of this one.
    pub fn restart(&mut self) {
        *self = Assembler {
            broken: self.broken,
            cut: self.cut,
            ..Assembler::default()
        };
    }

    /// Whether nothing can be decoded before a keyframe arrives.
    pub fn needs_keyframe(&self) -> bool {
        self.waiting || !self.started
    }

    /// The next frame in order, until `None`.
    pub fn poll(&mut self, violations: &mut Violations, now: Instant) -> Option<Frame> {
        loop {
            let (&number, part) = self.buffer.first_key_value()?;
            let waited = part.arrived.map(|at| now.saturating_duration_since(at));
            let waited = waited.unwrap_or(WAIT);
            if self.may_begin_earlier(part) && waited < BEGINS_WITHIN {
                return None;
            }
            if Some(number) != self.next {
                if waited >= REORDERED_WITHIN && self.cut_off(number) {
                    self.cut += 1;
                    self.unused.extend(self.next.replace(number));
                    (self.current, self.loss) = (None, true);
                    self.given_up += 1;
                } else if waited < WAIT {
                    return None;
                } else {
                    self.give_up_to(number);
                }
            }
            let part = self.buffer.remove(&number)?;
            self.next = Some(number + 1);
            if part.arrived.is_none() {
                continue;
            }
            if let Some(frame) = self.append(part, violations) {
                return Some(frame);
            }
        }
    }

    /// Whether nothing has been assembled yet, and this, the first packet that is there, is not the beginning of a frame.
    fn may_begin_earlier(&self, part: &Part) -> bool {
        let is_within = |part: &Part| {
            Descriptor::parse(&part.payload).is_ok_and(|(descriptor, _)| !descriptor.begins_frame())
        };
        !self.started && self.current.is_none() && !self.loss && is_within(part)
    }

    /// Numbers of packets that were never sent, each once: what frames that were cut off leave.
    pub fn take_unused(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.unused)
    }

    /// Whether the packet with this number, the first that is there, begins a keyframe in the middle of another frame. A switch
    /// of layers does that where packets of both are on their way at once. The number between the two is left unused, so
    /// that decoders see a loss and not one frame of two (media.md); nothing is missing that a viewer would need.
    fn cut_off(&self, number: u64) -> bool {
        let begins_keyframe = |part: &Part| {
            Descriptor::parse(&part.payload)
                .is_ok_and(|(descriptor, data)| descriptor.begins_frame() && is_keyframe(data))
        };
        self.current.is_some()
            && self.next.is_some_and(|next| next + 1 == number)
            && self.buffer.get(&number).is_some_and(begins_keyframe)
    }

    fn give_up_to(&mut self, number: u64) {
        self.given_up += number - self.next.replace(number).unwrap_or(number);
        self.current = None;
        (self.loss, self.waiting) = (true, true);
        self.broken += 1;
    }

    fn append(&mut self, part: Part, violations: &mut Violations) -> Option<Frame> {
        let Ok((descriptor, data)) = Descriptor::parse(&part.payload) else {
            violations.add(Violation::DescriptorInvalid, || {
                format!("{:02x?}", &part.payload[..part.payload.len().min(8)])
            });
            // Whatever it was to be, it is not there.
            self.given_up += 1;
            (self.loss, self.waiting, self.current) = (true, true, None);
            self.broken += 1;
            return None;
        };
        let first = descriptor.begins_frame();
        if first
            || self
                .current
                .as_ref()
                .is_none_or(|current| current.timestamp != part.timestamp)
        {
            // A hole in the numbers would have ended the frame before.
            if let Some(cut) = self.current.take() {
                violations.add(Violation::FrameIncomplete, || {
                    format!("no end of the frame at time {}", cut.timestamp)
                });
                (self.loss, self.waiting) = (true, true);
                self.broken += 1;
            } else if !first && !self.loss && self.started {
                violations.add(Violation::FrameIncomplete, || {
                    format!("no beginning of the frame at time {}", part.timestamp)
                });
            }
            let keyframe = first.then(|| is_keyframe(data));
            self.check(&descriptor, keyframe, violations);
            self.current = Some(Partial {
                data: Vec::new(),
                timestamp: part.timestamp,
                descriptor,
                whole: first,
            });
        }
        let current = self.current.as_mut()?;
        if current.descriptor.picture_id != descriptor.picture_id {
            let describe = || {
                format!(
                    "{:?} and {:?} in one frame",
                    current.descriptor.picture_id, descriptor.picture_id
                )
            };
            violations.add(Violation::PictureIdGap, describe);
        }
        current.data.extend_from_slice(data);
        if part.marker {
            self.current
                .take()
                .and_then(|frame| self.finish(frame, violations))
        } else {
            None
        }
    }

    fn finish(&mut self, partial: Partial, violations: &mut Violations) -> Option<Frame> {
        let keyframe = partial.whole && is_keyframe(&partial.data);
        if !self.started {
            self.started = true;
            self.waiting = true;
            if !keyframe && !self.loss {
                violations.add(Violation::NoKeyframeFirst, || {
                    format!("first frame at time {}", partial.timestamp)
                });
            }
        }
        let after_loss = std::mem::take(&mut self.loss);
        if !partial.whole || self.waiting && !keyframe {
            self.broken += 1;
            self.loss = true;
            return None;
        }
        self.waiting = false;
        Some(Frame {
            data: partial.data,
            keyframe,
            timestamp: partial.timestamp,
            after_loss,
            after_skip: false,
        })
    }

    /// Holds a frame's descriptor against that of the frame before. `keyframe` is `None` if its first packet is not there.
    ///
    /// Where packets were given up, frames may have been among them, at most one for each.
    fn check(&mut self, now: &Descriptor, keyframe: Option<bool>, violations: &mut Violations) {
        let before = self.last.replace(*now);
        let given_up = std::mem::take(&mut self.given_up);
        let Some(before) = before else { return };
        match (before.picture_id, now.picture_id) {
            (Some(old), Some(new)) if old.wide != new.wide => {
                violations.add(Violation::PictureIdWidth, || {
                    format!("{new:?} after {old:?}")
                });
            }
            (Some(old), Some(new)) => {
                let mask = if old.wide { 0x7fff } else { 0x7f };
                let step = u64::from(new.value.wrapping_sub(old.value) & mask);
                // The rest of a frame whose beginning was given up is of the frame before.
                if step > 1 + given_up || step == 0 && given_up == 0 {
                    violations.add(Violation::PictureIdGap, || {
                        format!("{} after {}, {given_up} packets lost", new.value, old.value)
                    });
                }
            }
            (None, None) => {}
            (old, new) => {
                violations.add(Violation::PictureIdGap, || format!("{new:?} after {old:?}"))
            }
        }
        if let (Some(old), Some(new)) = (before.tl0_index, now.tl0_index) {
            let base_layer = now.temporal.is_none_or(|(tid, _)| tid == 0);
            let step = u64::from(new.wrapping_sub(old));
            let expected = u64::from(base_layer);
            if step > expected + given_up || step < expected && given_up == 0 {
                violations.add(Violation::Tl0Gap, || {
                    format!("{new} after {old}, {given_up} packets lost")
                });
            }
        }
        if let (Some(old), Some(new)) = (before.key_index, now.key_index) {
            let step = u64::from(new.wrapping_sub(old) & 0x1f);
            if step > u64::from(keyframe != Some(false)) + given_up {
                violations.add(Violation::KeyIndexGap, || {
                    format!("{new} after {old}, keyframe: {keyframe:?}, {given_up} packets lost")
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vp8::{Payloader, PictureId};
    use bytes::BytesMut;

    const KEY: &[u8] = &[0x10, 1, 2, 3, 4, 5, 6, 7, 8];
    const INTER: &[u8] = &[0x11, 9, 8, 7, 6, 5, 4, 3, 2];

    /// A stream of frames, each cut into parts of at most 3 bytes.
    struct Source {
        payloader: Payloader,
        number: u64,
        timestamp: u32,
    }

    impl Source {
        fn new() -> Source {
            Source {
                payloader: Payloader::new(0x7ffe, 255, 31, 9),
                number: 100,
                timestamp: 0,
            }
        }

        fn frame(&mut self, data: &[u8]) -> Vec<(u64, u32, bool, Bytes)> {
            self.timestamp += 3000;
            let payloads = self.payloader.packetize(data);
            let last = payloads.len() - 1;
            let numbered = payloads.into_iter().enumerate().map(|(index, payload)| {
                self.number += 1;
                (self.number, self.timestamp, index == last, payload)
            });
            numbered.collect()
        }
    }

    struct Sink {
        assembler: Assembler,
        violations: Violations,
        start: Instant,
    }

    impl Sink {
        fn new() -> Sink {
            Sink {
                assembler: Assembler::default(),
                violations: Violations::default(),
                start: Instant::now(),
            }
        }

        fn take(&mut self, packets: Vec<(u64, u32, bool, Bytes)>, ms: u64) -> Vec<Frame> {
            let now = self.start + Duration::from_millis(ms);
            for (number, timestamp, marker, payload) in packets {
                self.assembler
                    .handle(number, timestamp, marker, payload, now);
            }
            std::iter::from_fn(|| self.assembler.poll(&mut self.violations, now)).collect()
        }

        fn broken(&self) -> Vec<Violation> {
            self.violations
                .counts()
                .iter()
                .map(|count| count.violation)
                .collect()
        }
    }

    #[test]
    fn assembles_frames_over_all_wraps_whatever_the_order_of_packets() {
        let (mut source, mut sink) = (Source::new(), Sink::new());
        let mut packets = source.frame(KEY);
        packets.extend(source.frame(INTER));
        packets.extend(source.frame(INTER));
        packets[2..].reverse();
        let frames = sink.take(packets, 0);
        assert_eq!(
            frames
                .iter()
                .map(|frame| frame.data.as_slice())
                .collect::<Vec<_>>(),
            [KEY, INTER, INTER]
        );
        assert_eq!(
            frames
                .iter()
                .map(|frame| frame.keyframe)
                .collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(sink.broken(), []);
    }

    #[test]
    fn a_lost_packet_costs_the_frames_up_to_the_next_keyframe() {
        let (mut source, mut sink) = (Source::new(), Sink::new());
        assert_eq!(sink.take(source.frame(KEY), 0).len(), 1);
        let mut holed = source.frame(INTER);
        holed.remove(1);
        assert_eq!(sink.take(holed, 33), []);
        assert_eq!(sink.take(source.frame(INTER), 66), []);
        assert!(
            !sink.assembler.needs_keyframe(),
            "a retransmission may still come"
        );
        assert_eq!(sink.take(source.frame(INTER), 600), []);
        assert!(sink.assembler.needs_keyframe());
        let frames = sink.take(source.frame(KEY), 633);
        assert_eq!(
            frames
                .iter()
                .map(|frame| (frame.keyframe, frame.after_loss))
                .collect::<Vec<_>>(),
            [(true, true)]
        );
        assert_eq!(sink.broken(), [], "loss is no violation");
    }

    #[test]
    fn a_frame_that_a_keyframe_cuts_off_is_not_waited_for() {
        let (mut source, mut sink) = (Source::new(), Sink::new());
        sink.take(source.frame(KEY), 0);
        let mut cut = source.frame(INTER);
        cut.pop();
        sink.take(cut, 33);
        let unused = source.number;
        assert_eq!(sink.take(source.frame(KEY), 34), [], "it may be late");
        let frames = sink.take(source.frame(INTER), 66);
        let keyframes: Vec<bool> = frames.iter().map(|frame| frame.keyframe).collect();
        assert_eq!(keyframes, [true, false]);
        assert_eq!((sink.assembler.cut, sink.assembler.broken), (1, 0));
        assert_eq!(sink.assembler.take_unused(), [unused]);
        assert!(sink.assembler.take_unused().is_empty());
        assert_eq!(sink.broken(), []);
    }

    #[test]
    fn what_is_missing_before_a_keyframe_is_waited_for_unless_it_is_one_number_after_half_a_frame()
    {
        for (sent, missing) in [(3, 1), (1, 2)] {
            let (mut source, mut sink) = (Source::new(), Sink::new());
            sink.take(source.frame(KEY), 0);
            let mut half = source.frame(INTER);
            half.truncate(sent);
            source.number += sent as u64 + missing - 3;
            sink.take(half, 33);
            assert_eq!(sink.take(source.frame(KEY), 66), []);
            assert_eq!(sink.take(source.frame(INTER), 99), [], "{sent} {missing}");
            assert_eq!(sink.take(source.frame(INTER), 600).len(), 3);
            assert_eq!((sink.assembler.cut, sink.assembler.broken), (0, 1));
        }
    }

    #[test]
    fn catches_a_stream_that_does_not_start_at_a_keyframe() {
        let (mut source, mut sink) = (Source::new(), Sink::new());
        assert_eq!(sink.take(source.frame(INTER), 0), []);
        assert_eq!(sink.broken(), [Violation::NoKeyframeFirst]);
        let mut middle = Source::new().frame(KEY);
        middle.remove(0);
        let mut sink = Sink::new();
        assert_eq!(sink.take(middle, 0), []);
        assert_eq!(sink.take(vec![], 150), []);
        assert_eq!(sink.broken(), [Violation::NoKeyframeFirst]);
    }

    #[test]
    fn the_first_packet_may_come_late() {
        let (mut source, mut sink) = (Source::new(), Sink::new());
        let mut packets = source.frame(KEY);
        let first = packets.remove(0);
        assert_eq!(sink.take(packets, 0), []);
        assert_eq!(sink.take(source.frame(INTER), 33), []);
        let frames = sink.take(vec![first], 40);
        let keyframes: Vec<bool> = frames.iter().map(|frame| frame.keyframe).collect();
        assert_eq!(keyframes, [true, false]);
        assert_eq!((sink.broken(), sink.assembler.broken), (vec![], 0));
    }

    /// The violations that a second frame with this descriptor gives after picture 5, TL0 5, key index 5 in 15 bits.
    fn second(change: impl FnOnce(&mut Descriptor), data: &[u8]) -> Vec<Violation> {
        let mut descriptor = Descriptor {
            start_of_partition: true,
            picture_id: Some(PictureId {
                value: 5,
                wide: true,
            }),
            tl0_index: Some(5),
            temporal: Some((0, false)),
            key_index: Some(5),
            ..Descriptor::default()
        };
        let payload = |descriptor: &Descriptor, data: &[u8]| {
            let mut out = BytesMut::new();
            descriptor.emit(&mut out);
            out.extend_from_slice(data);
            out.freeze()
        };
        let mut sink = Sink::new();
        sink.take(vec![(1, 3000, true, payload(&descriptor, KEY))], 0);
        descriptor.picture_id = Some(PictureId {
            value: 6,
            wide: true,
        });
        descriptor.tl0_index = Some(6);
        change(&mut descriptor);
        sink.take(vec![(2, 6000, true, payload(&descriptor, data))], 33);
        sink.broken()
    }

    #[test]
    fn catches_each_field_of_the_descriptor_that_jumps() {
        let id = |value, wide| Some(PictureId { value, wide });
        assert_eq!(second(|_| {}, INTER), []);
        assert_eq!(second(|descriptor| descriptor.key_index = Some(6), KEY), []);
        assert_eq!(
            second(|descriptor| descriptor.picture_id = id(7, true), INTER),
            [Violation::PictureIdGap]
        );
        assert_eq!(
            second(|descriptor| descriptor.picture_id = id(5, true), INTER),
            [Violation::PictureIdGap]
        );
        assert_eq!(
            second(|descriptor| descriptor.picture_id = None, INTER),
            [Violation::PictureIdGap]
        );
        assert_eq!(
            second(|descriptor| descriptor.picture_id = id(6, false), INTER),
            [Violation::PictureIdWidth]
        );
        assert_eq!(
            second(|descriptor| descriptor.tl0_index = Some(7), INTER),
            [Violation::Tl0Gap]
        );
        assert_eq!(
            second(|descriptor| descriptor.tl0_index = Some(5), INTER),
            [Violation::Tl0Gap]
        );
        assert_eq!(
            second(|descriptor| descriptor.key_index = Some(6), INTER),
            [Violation::KeyIndexGap]
        );
        assert_eq!(
            second(|descriptor| descriptor.key_index = Some(7), KEY),
            [Violation::KeyIndexGap]
        );
    }

    #[test]
    fn a_hole_explains_as_many_frames_as_it_has_packets_and_no_more() {
        for (lost, broken) in [
            (1, vec![]),
            (0, vec![Violation::PictureIdGap, Violation::Tl0Gap]),
        ] {
            let (mut source, mut sink) = (Source::new(), Sink::new());
            sink.take(source.frame(KEY), 0);
            // Two frames of one packet each, of which the focus says that one was sent.
            source.frame(&INTER[..2]);
            source.frame(&INTER[..2]);
            source.number -= 1 - lost;
            sink.take(source.frame(KEY), 33);
            sink.take(source.frame(INTER), 600);
            assert_eq!(sink.broken(), broken, "{lost}");
        }
    }

    #[test]
    fn catches_frames_without_an_end_or_a_beginning_where_no_number_is_missing() {
        let (mut source, mut sink) = (Source::new(), Sink::new());
        sink.take(source.frame(KEY), 0);
        let mut cut = source.frame(INTER);
        cut.pop();
        source.number -= 1;
        sink.take(cut, 33);
        sink.take(source.frame(INTER), 66);
        assert_eq!(sink.broken(), [Violation::FrameIncomplete]);
        let (mut source, mut sink) = (Source::new(), Sink::new());
        sink.take(source.frame(KEY), 0);
        let mut cut = source.frame(INTER);
        cut.remove(0);
        for part in &mut cut {
            part.0 -= 1;
        }
        sink.take(cut, 33);
        assert_eq!(sink.broken(), [Violation::FrameIncomplete]);
    }

    #[test]
    fn padding_is_no_hole() {
        let (mut source, mut sink) = (Source::new(), Sink::new());
        sink.take(source.frame(KEY), 0);
        source.number += 1;
        sink.assembler.handle_padding(source.number);
        assert_eq!(sink.take(source.frame(INTER), 33).len(), 1);
        assert_eq!(sink.broken(), []);
    }

    #[test]
    fn catches_a_descriptor_that_is_cut_short() {
        let mut sink = Sink::new();
        sink.take(
            vec![(1, 3000, true, Bytes::from_static(&[0x90, 0x80, 0x80]))],
            0,
        );
        assert_eq!(sink.broken(), [Violation::DescriptorInvalid]);
    }
}
