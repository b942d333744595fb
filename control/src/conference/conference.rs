//! One conference: its legs and its notice board.

use std::{collections::BTreeMap, time::Instant};

use weir_shard::{ConferenceId, Speakers};
use weir_signal::{
    call::{Answer, Body},
    channel::MessageName,
};

use super::{
    HangupReason, ParticipantId, Refusal,
    board::Board,
    cascade::Cascade,
    leg::Leg,
    shared::Shared,
    streams::{Changes, Origin},
};

/// One call (`conf_id`). Lives on one shard, from its first leg to its last. Legs are participants and other foci.
#[derive(Debug)]
pub(super) struct Conference {
    pub(super) id: ConferenceId,
    pub(super) shard: usize,
    pub(super) legs: BTreeMap<ParticipantId, Leg>,
    pub(super) board: Board,
    pub(super) cascade: Cascade,
    /// As last told by the shard.
    pub(super) speakers: Speakers,
    /// Whether the board has changed since all legs were settled.
    changed: bool,
}

impl Conference {
    pub(super) fn new(id: ConferenceId, shard: usize, now: Instant) -> Self {
        Self {
            id,
            shard,
            legs: BTreeMap::new(),
            board: Board::default(),
            cascade: Cascade::new(now),
            speakers: Speakers::default(),
            changed: false,
        }
    }

    /// Takes in a leg whose offer has been answered, and sends the answer.
    pub(super) fn add(&mut self, leg: Leg, answer: String, shared: &mut Shared) {
        let participant = leg.participant().clone();
        self.legs.insert(participant.clone(), leg);
        // Its channel is not open yet: there is nowhere to say what is wrong.
        self.refresh_streams(&participant, None, shared);
        if let Some(leg) = self.legs.get(&participant) {
            let metadata = self.board.metadata_for(leg.viewer());
            leg.send_call(
                Body::Answer(Answer {
                    sdp: answer,
                    metadata,
                }),
                shared,
            );
        }
    }

    /// Ends a leg. With a reason, the participant is told.
    pub(super) fn remove(
        &mut self,
        participant: &ParticipantId,
        reason: Option<HangupReason>,
        shared: &mut Shared,
    ) {
        if let Some(leg) = self.legs.remove(participant) {
            leg.close(reason, shared);
            self.cascade.forget(participant);
            self.rebuild_board();
            self.refresh_trunks(shared);
            self.handle_demand_changed();
        }
    }

    /// Looks again at what a participant publishes, after a description or metadata of its own, which came in `message`.
    pub(super) fn refresh_streams(
        &mut self,
        participant: &ParticipantId,
        message: Option<&MessageName>,
        shared: &mut Shared,
    ) {
        let Some(changes) = self.find_changes(participant, shared) else {
            return;
        };
        let Some(leg) = self.legs.get(participant) else {
            return;
        };
        let changed = changes.visible || !changes.commands.is_empty();
        for command in changes.commands {
            shared.command(leg.shard(), command);
        }
        for _ in 0..changes.streams_refused {
            shared.refuse(Refusal::NotTheirStream);
        }
        for _ in 0..changes.tracks_refused {
            shared.refuse(Refusal::TooManyTracks);
        }
        if changes.tracks_refused > 0 {
            leg.send_error(
                "M_LIMIT_EXCEEDED",
                "more tracks than a participant may publish",
                message,
                shared,
            );
        }
        let is_participant = leg.trunk.is_none();
        if changed {
            self.rebuild_board();
        }
        if changed && is_participant {
            // Who publishes here is not announced by others.
            self.refresh_trunks(shared);
        }
    }

    /// Holds what a leg publishes, or another focus announces, against what is known of it.
    fn find_changes(
        &mut self,
        participant: &ParticipantId,
        shared: &mut Shared,
    ) -> Option<Changes> {
        let (board, cascade) = (&self.board, &self.cascade);
        let leg = self.legs.get_mut(participant)?;
        let published = leg.session.published();
        let origin = Origin {
            conference: self.id,
            transport: leg.transport(),
        };
        let taken = |id: &str| board.is_taken(id, participant);
        Some(match &mut leg.trunk {
            None => leg.streams.refresh(published, origin, taken, shared),
            Some(trunk) => {
                let elsewhere = board.owners_elsewhere(participant);
                let admits = |owner: &ParticipantId| {
                    !elsewhere.contains(owner) && cascade.vouches(owner, participant)
                };
                trunk.handle_demand_changed();
                trunk
                    .remote
                    .refresh(published, origin, admits, taken, shared)
            }
        })
    }

    fn rebuild_board(&mut self) {
        self.board = Board::new(self.legs.values());
        self.changed = true;
    }

    /// Does what follows from a change at `participant`: for everybody if the board has changed, else for itself.
    pub(super) fn settle(
        &mut self,
        participant: &ParticipantId,
        shared: &mut Shared,
        now: Instant,
    ) {
        if self.changed {
            self.settle_all(shared, now);
            return;
        }
        if let Some(leg) = self.legs.get_mut(participant) {
            leg.settle(&self.board, shared, now);
        }
        self.ask_trunks(shared, now);
    }

    /// Does what follows from a change for everybody, if there was one.
    pub(super) fn settle_all(&mut self, shared: &mut Shared, now: Instant) {
        if std::mem::take(&mut self.changed) {
            for leg in self.legs.values_mut() {
                leg.handle_board_changed();
                leg.settle(&self.board, shared, now);
            }
        }
        self.ask_trunks(shared, now);
    }
}
