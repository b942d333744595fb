//! Slots: participants without media. A client calls like that to have a place at a focus that it may use later, and to measure
//! the way there (MSC3898 "Joining a call"). Each costs a transport, and nobody sees it, so that they are few and short.

use std::collections::BTreeMap;

use weir_shard::TransportId;
use weir_signal::{metadata::StreamMetadata, sdp::Session};

use super::{Limits, Refusal};

/// All slots of the focus, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeMap<TransportId, String>);

impl Slots {
    /// Whether a user may have one more. `instead` is what it gives up for it.
    pub(super) fn check(
        &self,
        user_id: &str,
        instead: Option<TransportId>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let others = || self.0.iter().filter(|(id, _)| Some(**id) != instead);
        if others().count() >= limits.slots_max {
            return Err(Refusal::TooManySlots);
        }
        let own = others().filter(|(_, holder)| *holder == user_id);
        if own.count() >= limits.slots_per_user_max {
            return Err(Refusal::TooManySlotsOfUser);
        }
        Ok(())
    }

    pub(super) fn hold(&mut self, id: TransportId, user_id: &str) {
        self.0.insert(id, user_id.to_owned());
    }

    /// Media has come, or the participant has gone.
    pub(super) fn release(&mut self, id: TransportId) {
        self.0.remove(&id);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether nothing flows in a session, nor is to: it has no section for media but those of streams that only measure the way.
pub(super) fn is_slot(session: &Session, said: Option<&StreamMetadata>) -> bool {
    let sections = session.media_sections();
    let Some(said) = said.filter(|_| sections > 0) else {
        return sections == 0;
    };
    let published = session.published();
    let probes = published.iter().filter(|published| {
        let stream = said.by_track(&published.track_id);
        stream.is_some_and(|(_, stream, _)| stream.purpose.is_probe())
    });
    probes.count() == sections
}
