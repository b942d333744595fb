//! What a source's dependency descriptors say about its frames: before anything else, and whatever the payload.

use weir_wire::ExtSeq;
use weir_wire::dependency::{Descriptor, Indication, Structure};

use super::Payload;
use crate::ids::Size;
use crate::layers::{Opens, Sublayer};
use crate::limits::SPATIAL_LAYERS_MAX;

/// The structure that a source's frames are read by.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    structure: Option<Structure>,
    /// Where it came.
    since: ExtSeq,
    /// The highest layers that are produced.
    top: Option<Sublayer>,
}

impl Dependencies {
    /// The highest layers that are produced, if descriptors say it.
    pub(crate) fn top(&self) -> Option<Sublayer> {
        self.top
    }

    /// Reads the descriptor of packet `seq` and puts what it says in the place of what was read of the payload. Returns the
    /// frame's number; `None` when the descriptor says nothing that can be understood. Then no decoder can start here, either,
    /// whatever the payload seems to say: keyframes bring what explains them.
    pub(crate) fn read(&mut self, data: &[u8], seq: ExtSeq, payload: &mut Payload) -> Option<u16> {
        let Ok((descriptor, own)) = Descriptor::parse(data, self.structure.as_ref()) else {
            payload.keyframe_start = false;
            payload.opens = Opens::Nothing;
            return frame_number(data);
        };
        let brings_structure = own.is_some();
        if own.is_some() && (self.structure.is_none() || seq >= self.since) {
            self.structure = own;
            self.since = seq;
            self.top = None;
        }
        let structure = self.structure.as_ref()?;
        if self.top.is_none() || (descriptor.active_targets.is_some() && seq >= self.since) {
            self.top = Some(top(structure, descriptor.active_targets));
        }
        payload.sublayer = Sublayer::new(descriptor.spatial, descriptor.temporal);
        payload.frame_end = descriptor.end_of_frame;
        let is_start = brings_structure || payload.keyframe_start;
        payload.keyframe_start =
            is_start && descriptor.start_of_frame && descriptor.is_intra_base();
        payload.opens = if payload.keyframe_start {
            Opens::Everything
        } else {
            opens(structure, &descriptor)
        };
        if payload.keyframe_start && payload.sizes.iter().all(Option::is_none) {
            for (spatial, size) in payload.sizes.iter_mut().enumerate() {
                *size = structure.size(spatial as u8).map(Size::from);
            }
        }
        Some(descriptor.frame_number)
    }
}

/// The frame number of a descriptor that cannot be read for want of its structure: it has one place, and the receiver may know the
/// structure by the time it needs it.
fn frame_number(data: &[u8]) -> Option<u16> {
    let number = data.get(1..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*number))
}

/// The highest spatial and temporal layer of what is still produced.
fn top(structure: &Structure, active: Option<u32>) -> Sublayer {
    let active = active.unwrap_or(u32::MAX);
    let targets = (0..structure.target_count()).filter(|target| active >> target & 1 == 1);
    let targets = targets.filter_map(|target| structure.target(target));
    targets
        .map(|(spatial, temporal)| Sublayer::new(spatial, temporal))
        .fold(Sublayer::default(), Sublayer::max)
}

/// By spatial layer the highest temporal layer that one may switch to at this frame.
fn opens(structure: &Structure, descriptor: &Descriptor) -> Opens {
    let mut open = [None; SPATIAL_LAYERS_MAX];
    for target in 0..structure.target_count() {
        if descriptor.indications.of(target) != Indication::Switch {
            continue;
        }
        let Some((spatial, temporal)) = structure.target(target) else {
            continue;
        };
        let layer = Sublayer::new(spatial, temporal);
        if let Some(place) = open.get_mut(usize::from(layer.spatial)) {
            *place = (*place).max(Some(layer.temporal));
        }
    }
    Opens::UpTo(open)
}
