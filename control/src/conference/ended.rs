//! Calls that are over, so that a replayed invite does not bring them back.

use std::collections::{BTreeSet, VecDeque};

use super::{ParticipantId, limits};

/// The last so many calls that have ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    order: VecDeque<(ParticipantId, String)>,
    calls: BTreeSet<(ParticipantId, String)>,
}

impl Ended {
    pub(super) fn push(&mut self, participant: &ParticipantId, call_id: &str) {
        let call = (participant.clone(), call_id.to_owned());
        if !self.calls.insert(call.clone()) {
            return;
        }
        self.order.push_back(call);
        if self.order.len() > limits::ENDED_CALLS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, participant: &ParticipantId, call_id: &str) -> bool {
        self.calls
            .contains(&(participant.clone(), call_id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number() {
        let mut ended = Ended::default();
        let alice = ParticipantId::new("@alice:x", "A");
        for call in 0..5000 {
            ended.push(&alice, &call.to_string());
            ended.push(&alice, &call.to_string());
        }
        assert_eq!((ended.order.len(), ended.calls.len()), (4096, 4096));
        assert!(ended.contains(&alice, "4999"));
        assert!(!ended.contains(&alice, "0"));
        assert!(!ended.contains(&ParticipantId::new("@alice:x", "B"), "4999"));
    }
}
