//! What the shards tell about media, passed on to those it concerns: who speaks, which layers of their own tracks are needed, and
//! what each gets and why it is not more. The last goes only to participants that have asked for it.

use std::time::Instant;

use weir_shard::{
    ConferenceId, LayerSet, Speakers, SubscriptionId, SubscriptionStatus, TrackId, TransportId,
    TransportStatus,
};
use weir_signal::channel::{self, LayersInUse, Speaker, ToClient, TrackStatus};

use super::{
    Conferences, ParticipantId,
    board::{Advertised, Board},
    conference::Conference,
    leg::Leg,
    limits,
    shared::Shared,
};

impl Conferences {
    /// Takes who speaks in a conference, and tells its participants.
    pub fn handle_speakers(&mut self, id: ConferenceId, speakers: Speakers) {
        let found = self.conferences.values_mut().find(|of| of.id == id);
        let Some(conference) = found else {
            return;
        };
        conference.speakers = speakers;
        let message = conference.active_speaker();
        // Other foci hear for themselves.
        for (_, leg) in conference.participants() {
            leg.send(&message, &mut self.shared);
        }
    }

    /// Takes which layers of a track anybody needs, and tells its publisher.
    pub fn handle_layers_in_use(
        &mut self,
        publisher: TransportId,
        track: TrackId,
        layers: LayerSet,
    ) {
        let (shared, leg) = self.leg(publisher);
        let Some((leg, _)) = leg else {
            return;
        };
        leg.streams.set_layers_in_use(track, layers);
        if let Some(in_use) = leg.streams.layers_in_use(track) {
            leg.send(&ToClient::LayersInUse(vec![in_use]), shared);
        }
    }

    /// Takes what a participant can be sent.
    pub fn handle_transport_status(
        &mut self,
        id: TransportId,
        status: TransportStatus,
        now: Instant,
    ) {
        if let (shared, Some((leg, _))) = self.leg(id) {
            leg.status.transport = status;
            if leg.status.changed(now) {
                leg.arm(shared);
            }
        }
    }

    /// Takes what a participant gets of one track.
    pub fn handle_subscription_status(
        &mut self,
        to: TransportId,
        id: SubscriptionId,
        status: SubscriptionStatus,
        now: Instant,
    ) {
        if let (shared, Some((leg, _))) = self.leg(to) {
            leg.subscriptions.set_status(id, status);
            if leg.status.changed(now) {
                leg.arm(shared);
            }
        }
    }

    fn leg(&mut self, transport: TransportId) -> (&mut Shared, Option<(&mut Leg, &Board)>) {
        let found = self.transports.get(&transport);
        let found = found.and_then(|(conf_id, participant)| {
            let conference = self.conferences.get_mut(conf_id)?;
            let leg = conference.legs.get_mut(participant)?;
            Some((leg, &conference.board))
        });
        (&mut self.shared, found)
    }
}

impl Conference {
    /// Who speaks now.
    pub(super) fn active_speaker(&self) -> ToClient {
        let named = self.speakers.iter().filter_map(|speaker| {
            let (name, advertised) = self.board.named(speaker.track)?;
            Some(Speaker {
                user_id: advertised.owner.user_id.clone(),
                device_id: advertised.owner.device_id.clone(),
                name: name.clone(),
                level: speaker.level,
            })
        });
        ToClient::ActiveSpeaker(named.collect())
    }

    /// Tells a participant whose channel has just opened what the others were told before.
    pub(super) fn tell_newcomer(&self, participant: &ParticipantId, shared: &mut Shared) {
        let Some(leg) = self.legs.get(participant).filter(|leg| leg.trunk.is_none()) else {
            return;
        };
        if self.speakers.iter().next().is_some() {
            leg.send(&self.active_speaker(), shared);
        }
        let in_use: Vec<LayersInUse> = leg.streams.all_layers_in_use();
        if !in_use.is_empty() {
            leg.send(&ToClient::LayersInUse(in_use), shared);
        }
    }
}

/// What a participant is told of its own state, if it wants to know.
#[derive(Debug, Default)]
pub(super) struct StatusTeller {
    follows: bool,
    pub(super) transport: TransportStatus,
    /// When what has changed is told.
    due: Option<Instant>,
}

impl StatusTeller {
    /// The participant wants to know from now on.
    pub(super) fn follow(&mut self, now: Instant) {
        self.follows = true;
        self.changed(now);
    }

    /// Something has changed. It is told a little later, together with what else changes until then. Whether there is a new
    /// time to wake for.
    fn changed(&mut self, now: Instant) -> bool {
        let is_first = self.follows && self.due.is_none();
        if is_first {
            self.due = Some(now + limits::STATUS_GATHERED);
        }
        is_first
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is to be told now.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}

/// One subscription's state in the words of the channel.
pub(super) fn track_status(
    name: &channel::TrackName,
    advertised: Option<&Advertised>,
    status: &SubscriptionStatus,
) -> TrackStatus {
    let rids = advertised.map_or(&[][..], |advertised| &advertised.rids);
    TrackStatus {
        name: name.clone(),
        rid: status
            .layer
            .and_then(|layer| rids.get(usize::from(layer)).cloned()),
        size: status.size.map(|size| channel::Size {
            width: size.width.into(),
            height: size.height.into(),
        }),
        temporal: status.temporal,
        reason: status.reason.label().to_owned(),
    }
}
