//! Which VP8 frames a browser may decode: references found from the payload descriptor alone, as libwebrtc's
//! `RtpVp8RefFinder` does, and decoded in order of picture ids as its `FrameBuffer` does.

use std::collections::{BTreeMap, BTreeSet};

use super::media::Identity;
use super::oracle::Descriptor;

/// A frame of which every packet is there.
#[derive(Clone, Debug)]
pub struct Frame {
    pub descriptor: Descriptor,
    pub identity: Identity,
    pub timestamp: u32,
    pub last_seq: u64,
}

/// A frame whose references are known, by picture id.
#[derive(Clone, Debug)]
struct Ordered {
    frame: Frame,
    references: Vec<i64>,
}

/// Picture ids of the last frames of each temporal layer, at one base layer frame.
type LayerInfo = [Option<i64>; 4];

enum Fate {
    HandOff(Vec<i64>),
    Stash,
    Drop,
}

/// Frames on their way to the decoder.
#[derive(Clone, Debug, Default)]
pub struct Order {
    ids: Unwrapper<15>,
    tl0s: Unwrapper<8>,
    last_id: Option<i64>,
    not_yet_received: BTreeSet<i64>,
    layers: BTreeMap<i64, LayerInfo>,
    stash: Vec<(i64, i64, Frame)>,
    ready: BTreeMap<i64, Ordered>,
    decoded: BTreeSet<i64>,
    last_decoded: Option<i64>,
}

impl Order {
    pub fn insert(&mut self, frame: Frame) {
        let id = self.ids.unwrap(frame.descriptor.id);
        let tl0 = self.tl0s.unwrap(frame.descriptor.tl0.into());
        let last = *self.last_id.get_or_insert(id);
        self.not_yet_received = self.not_yet_received.split_off(&(id - 100));
        // What waits for something that is forgotten by now must not be taken for complete.
        self.stash.retain(|(waiting, ..)| *waiting > id - 100);
        if id > last {
            self.not_yet_received.extend(last + 1..=id);
            self.last_id = Some(id);
        }
        self.layers = self.layers.split_off(&(tl0 - 50));
        if !self.manage(id, tl0, &frame) {
            return;
        }
        while let Some(at) = (0..self.stash.len()).find(|at| {
            let (id, tl0, frame) = self.stash[*at].clone();
            !matches!(self.fate(id, tl0, &frame), Fate::Stash)
        }) {
            let (id, tl0, frame) = self.stash.remove(at);
            self.manage(id, tl0, &frame);
        }
    }

    /// Whether the frame was handed off.
    fn manage(&mut self, id: i64, tl0: i64, frame: &Frame) -> bool {
        match self.fate(id, tl0, frame) {
            Fate::Drop => false,
            Fate::Stash => {
                self.stash.push((id, tl0, frame.clone()));
                if self.stash.len() > 100 {
                    self.stash.remove(0);
                }
                false
            }
            Fate::HandOff(references) => {
                self.update(id, tl0, frame);
                if self.last_decoded.is_none_or(|last| id > last) {
                    let ordered = Ordered {
                        frame: frame.clone(),
                        references,
                    };
                    self.ready.insert(id, ordered);
                }
                true
            }
        }
    }

    fn fate(&self, id: i64, tl0: i64, frame: &Frame) -> Fate {
        if frame.identity.keyframe {
            return Fate::HandOff(Vec::new());
        }
        let tid = usize::from(frame.descriptor.tid);
        let base = if tid == 0 { tl0 - 1 } else { tl0 };
        let Some(layers) = self.layers.get(&base) else {
            return Fate::Stash;
        };
        let newer = |last: Option<i64>| last.is_some_and(|last| last >= id);
        match (tid, layers[0]) {
            (0, Some(last)) if last < id => return Fate::HandOff(vec![last]),
            (0, _) => return Fate::Drop,
            (_, Some(_)) if frame.descriptor.sync && newer(layers[tid]) => return Fate::Drop,
            (_, Some(base)) if frame.descriptor.sync => return Fate::HandOff(vec![base]),
            _ => {}
        }
        let mut references = Vec::new();
        for last in &layers[..=tid] {
            let Some(last) = *last else {
                return Fate::Stash;
            };
            if last > id {
                return Fate::Drop;
            }
            if self.not_yet_received.range(last + 1..id).next().is_some() {
                return Fate::Stash;
            }
            references.push(last);
        }
        Fate::HandOff(references)
    }

    fn update(&mut self, id: i64, tl0: i64, frame: &Frame) {
        let tid = usize::from(frame.descriptor.tid);
        if frame.identity.keyframe {
            self.layers.insert(tl0, [None; 4]);
        } else if tid == 0 {
            let before = self.layers[&(tl0 - 1)];
            self.layers.entry(tl0).or_insert(before);
        }
        for at in tl0.. {
            let Some(layers) = self.layers.get_mut(&at) else {
                break;
            };
            if layers[tid].is_some_and(|last| last > id) {
                break;
            }
            layers[tid] = Some(id);
        }
        self.not_yet_received.remove(&id);
    }

    /// The next frame that can be decoded, whether it follows the last one directly, and its picture id.
    pub fn next(&self) -> Option<(i64, &Frame, bool)> {
        let (id, next) = self
            .ready
            .iter()
            .find(|(_, of)| of.references.iter().all(|id| self.decoded.contains(id)))?;
        let follows = self.last_decoded.is_none_or(|last| *id == last + 1);
        Some((*id, &next.frame, follows))
    }

    /// Takes a frame out for the decoder; what was before it comes too late from now on.
    pub fn decode(&mut self, id: i64) -> Frame {
        let taken = self.ready.remove(&id).expect("offered by next");
        self.ready = self.ready.split_off(&id);
        self.decoded.insert(id);
        self.decoded = self.decoded.split_off(&(id - 200));
        self.last_decoded = Some(id);
        taken.frame
    }
}

/// Numbers of so many bits, extended by the shorter way round.
#[derive(Clone, Debug, Default)]
struct Unwrapper<const BITS: u32> {
    last: Option<i64>,
}

impl<const BITS: u32> Unwrapper<BITS> {
    fn unwrap(&mut self, value: u16) -> i64 {
        let size = 1i64 << BITS;
        let last = *self.last.get_or_insert(i64::from(value) + size);
        let mut step = (i64::from(value) - last).rem_euclid(size);
        if step >= size / 2 {
            step -= size;
        }
        self.last = Some(last + step);
        last + step
    }
}
