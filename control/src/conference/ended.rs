//! Calls that are over, so that a replayed invite does not bring them back.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use super::{ParticipantId, limits};

/// The last so many calls that have ended, each as a hash of its names under a key of its own: a few bytes for each call that
/// anybody ever made, and nobody can make two names collide.
#[derive(Debug, Default)]
pub(super) struct Ended {
    hasher: RandomState,
    order: VecDeque<u64>,
    calls: HashSet<u64>,
}

impl Ended {
    pub(super) fn push(&mut self, participant: &ParticipantId, call_id: &str) {
        let call = self.hash(participant, call_id);
        if !self.calls.insert(call) {
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
        self.calls.contains(&self.hash(participant, call_id))
    }

    fn hash(&self, participant: &ParticipantId, call_id: &str) -> u64 {
        self.hasher.hash_one((participant, call_id))
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
