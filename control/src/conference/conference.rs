//! One conference: its legs and its notice board.

use std::{collections::BTreeMap, time::Instant};

use weir_shard::{ConferenceId, Speakers};
use weir_signal::{
    call::{Answer, Body},
    channel::MessageName,
};

use super::{
    HangupReason, ParticipantId, Refusal, board::Board, leg::Leg, shared::Shared, streams::Origin,
};

/// One call (`conf_id`). Lives on one shard, from its first leg to its last.
#[derive(Debug)]
pub(super) struct Conference {
    pub(super) id: ConferenceId,
    pub(super) shard: usize,
    pub(super) legs: BTreeMap<ParticipantId, Leg>,
    pub(super) board: Board,
    /// As last told by the shard.
    pub(super) speakers: Speakers,
    /// Whether the board has changed since all legs were settled.
    changed: bool,
}

impl Conference {
    pub(super) fn new(id: ConferenceId, shard: usize) -> Self {
        Self {
            id,
            shard,
            legs: BTreeMap::new(),
            board: Board::default(),
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
            let metadata = self.board.snapshot_for(&participant);
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
            self.rebuild_board();
        }
    }

    /// Looks again at what a participant publishes, after a description or metadata of its own, which came in `message`.
    pub(super) fn refresh_streams(
        &mut self,
        participant: &ParticipantId,
        message: Option<&MessageName>,
        shared: &mut Shared,
    ) {
        let Some(leg) = self.legs.get_mut(participant) else {
            return;
        };
        let published = leg.session.published();
        let (shard, board) = (leg.shard(), &self.board);
        let origin = Origin {
            conference: self.id,
            transport: leg.transport(),
        };
        let changes = leg.streams.refresh(
            published,
            origin,
            |id| board.is_taken(id, participant),
            shared,
        );
        let changed = changes.visible || !changes.commands.is_empty();
        for command in changes.commands {
            shared.command(shard, command);
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
        if changed {
            self.rebuild_board();
        }
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
        let Self {
            legs,
            board,
            changed,
            ..
        } = self;
        if std::mem::take(changed) {
            for leg in legs.values_mut() {
                leg.handle_board_changed();
                leg.settle(board, shared, now);
            }
        } else if let Some(leg) = legs.get_mut(participant) {
            leg.settle(board, shared, now);
        }
    }
}
