//! What one participant gets: what it asked for, what of that exists, and what has been agreed in SDP.
//!
//! ```text
//! request ─► wanted (by name, present or not) ─► asked (the session will offer it) ─► forwarding (the shard sends it)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use weir_shard::{
    Command, Size, Subscribe, SubscriptionId, SubscriptionStatus, TrackId, TransportId,
};
use weir_signal::{
    channel::{TrackName, TrackRequest, TrackStatus},
    sdp::{MediaKind, SendTrack, Sending, Session},
};

use super::{
    board::{Advertised, Board, Viewer},
    mapping,
    shared::Shared,
    told,
};

/// The subscriptions of one participant.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// What it asked for. A track that does not exist is remembered: it may come, or come back before the participant has
    /// been told that it was gone.
    wanted: BTreeMap<TrackName, Option<Size>>,
    active: BTreeMap<TrackId, Subscription>,
    /// Tracks that still exist and have a section that waits for them, although they are not wanted now.
    paused: BTreeSet<TrackId>,
}

#[derive(Debug)]
struct Subscription {
    name: TrackName,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
    cname: String,
    phase: Phase,
    /// As the shard told it, and whether the participant has yet to be told.
    status: Option<(SubscriptionStatus, Told)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    NotYet,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The participant has not agreed yet, or does not take it.
    Asked,
    /// The shard forwards, for a tile of that size.
    Forwarding {
        id: SubscriptionId,
        wanted: Option<Size>,
    },
}

/// A request that names more than is allowed. What fits has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableFull;

impl Subscriptions {
    /// Takes a request. What it does not name stays as it is; what it repeats costs nothing.
    pub(super) fn handle_request(
        &mut self,
        subscribe: Vec<TrackRequest>,
        unsubscribe: &[TrackName],
        wanted_max: usize,
        board: &Board,
    ) -> Result<(), TableFull> {
        for name in unsubscribe {
            self.wanted.remove(name);
        }
        if self.wanted.len() + subscribe.len() > wanted_max {
            self.wanted.retain(|name, _| board.is_announced(name));
        }
        let mut result = Ok(());
        for request in subscribe {
            let size = mapping::wanted_size(request.size);
            if self.wanted.len() < wanted_max || self.wanted.contains_key(&request.name) {
                self.wanted.insert(request.name, size);
            } else {
                result = Err(TableFull);
            }
        }
        result
    }

    /// Brings the session's wishes and the shard in line with what is wanted and with what exists.
    pub(super) fn reconcile(
        &mut self,
        place: Place<'_>,
        board: &Board,
        session: &mut Session,
        shared: &mut Shared,
    ) {
        let exists: BTreeMap<TrackId, (&TrackName, &Advertised)> = board
            .tracks_for(place.viewer)
            .map(|(name, advertised)| (advertised.track, (name, advertised)))
            .collect();
        self.drop_gone(&exists, session);

        let wanted: BTreeMap<TrackId, (&TrackName, &Advertised, Option<Size>)> = exists
            .into_iter()
            .filter_map(|(track, (name, advertised))| {
                let size = self.wanted.get(name)?;
                Some((track, (name, advertised, *size)))
            })
            .collect();

        let unwanted: Vec<TrackId> = self
            .active
            .keys()
            .copied()
            .filter(|track| !wanted.contains_key(track))
            .collect();
        for track in unwanted {
            session.stop_track(track.0);
            self.paused.insert(track);
            if let Some(Subscription {
                phase: Phase::Forwarding { id, .. },
                ..
            }) = self.active.remove(&track)
            {
                shared.command(place.shard, Command::Unsubscribe { id });
            }
        }
        for (track, (name, advertised, size)) in wanted {
            match self.active.get_mut(&track) {
                Some(Subscription {
                    phase: Phase::Forwarding { id, wanted },
                    ..
                }) if *wanted != size => {
                    *wanted = size;
                    shared.command(
                        place.shard,
                        Command::SetWanted {
                            id: *id,
                            wanted: size,
                        },
                    );
                }
                Some(_) => {}
                None => {
                    let subscription = Subscription::new(name.clone(), advertised, shared);
                    if subscription.wish(track, advertised.kind, session) {
                        self.paused.remove(&track);
                        self.active.insert(track, subscription);
                    }
                }
            }
        }
    }

    /// What is wanted, whether it exists or not.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&TrackName, Option<Size>)> {
        self.wanted.iter().map(|(name, size)| (name, *size))
    }

    /// What the shard forwards.
    pub(super) fn forwarding(&self) -> impl Iterator<Item = &TrackName> {
        let active = self.active.values();
        let agreed = active.filter(|of| matches!(of.phase, Phase::Forwarding { .. }));
        agreed.map(|of| &of.name)
    }

    /// Takes what the shard says about a subscription.
    pub(super) fn set_status(&mut self, id: SubscriptionId, status: SubscriptionStatus) {
        let is_it = |of: &&mut Subscription| matches!(of.phase, Phase::Forwarding { id: own, .. } if own == id);
        if let Some(of) = self.active.values_mut().find(is_it) {
            of.status = Some((status, Told::NotYet));
        }
    }

    /// Everything is to be told anew: somebody asks for the first time, or again.
    pub(super) fn tell_all(&mut self) {
        let states = self.active.values_mut().filter_map(|of| of.status.as_mut());
        states.for_each(|(_, told)| *told = Told::NotYet);
    }

    /// What has changed since it was taken last.
    pub(super) fn take_changed(&mut self, board: &Board) -> Vec<TrackStatus> {
        let mut changed = Vec::new();
        for of in self.active.values_mut() {
            if let Some((status, state @ Told::NotYet)) = &mut of.status {
                *state = Told::Yes;
                changed.push(told::track_status(&of.name, board.track(&of.name), status));
            }
        }
        changed
    }

    /// Lets go of tracks that exist no more. The shard has ended their subscriptions together with them.
    fn drop_gone<T>(&mut self, exists: &BTreeMap<TrackId, T>, session: &mut Session) {
        let mut stays = |track: &TrackId| {
            let stays = exists.contains_key(track);
            if !stays {
                session.forget_track(track.0);
            }
            stays
        };
        self.active.retain(|track, _| stays(track));
        self.paused.retain(|track| stays(track));
    }

    /// Brings the shard in line with what has been agreed; to be called after every description from the participant.
    pub(super) fn handle_agreed(
        &mut self,
        place: Place<'_>,
        board: &Board,
        session: &mut Session,
        shared: &mut Shared,
    ) {
        let sending: BTreeMap<u32, Sending> = session
            .sending()
            .into_iter()
            .map(|sending| (sending.key, sending))
            .collect();
        for (track, subscription) in &mut self.active {
            match (sending.get(&track.0), subscription.phase) {
                (Some(sending), Phase::Asked) => {
                    let id = shared.subscription_id();
                    let wanted = self.wanted.get(&subscription.name).copied().flatten();
                    subscription.phase = Phase::Forwarding { id, wanted };
                    let subscribe =
                        subscription.subscribe(id, *track, place.transport, wanted, sending);
                    shared.command(place.shard, Command::Subscribe(subscribe));
                }
                (None, Phase::Forwarding { id, .. }) => {
                    shared.command(place.shard, Command::Unsubscribe { id });
                    // What begins anew needs a new source: packet numbers must never be used twice under one key.
                    if let Some(advertised) = board.track(&subscription.name) {
                        *subscription =
                            Subscription::new(subscription.name.clone(), advertised, shared);
                        subscription.wish(*track, advertised.kind, session);
                    }
                }
                (Some(_), Phase::Forwarding { .. }) | (None, Phase::Asked) => {}
            }
        }
    }
}

/// Whose subscriptions they are.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) viewer: Viewer<'a>,
    pub(super) transport: TransportId,
    pub(super) shard: usize,
}

impl Subscription {
    fn new(name: TrackName, advertised: &Advertised, shared: &mut Shared) -> Self {
        let rtx_ssrc = match advertised.kind {
            MediaKind::Audio => None,
            MediaKind::Video => Some(shared.ssrc()),
        };
        Self {
            name,
            ssrc: shared.ssrc(),
            rtx_ssrc,
            cname: advertised.cname.clone(),
            phase: Phase::Asked,
            status: None,
        }
    }

    /// Tells the session. It refuses what cannot be written down; such a name is never on the board.
    fn wish(&self, track: TrackId, kind: MediaKind, session: &mut Session) -> bool {
        session.send_track(SendTrack {
            key: track.0,
            kind,
            stream_id: self.name.stream_id.clone(),
            track_id: self.name.track_id.clone(),
            ssrc: self.ssrc,
            rtx_ssrc: self.rtx_ssrc,
            cname: self.cname.clone(),
        })
    }

    fn subscribe(
        &self,
        id: SubscriptionId,
        track: TrackId,
        transport: TransportId,
        wanted: Option<Size>,
        sending: &Sending,
    ) -> Subscribe {
        Subscribe {
            id,
            transport,
            track,
            mid: sending.mid.clone(),
            ssrc: self.ssrc,
            rtx_ssrc: self.rtx_ssrc,
            cname: self.cname.clone(),
            codecs: sending.codecs.iter().map(mapping::codec_mapping).collect(),
            extensions: mapping::extensions(&sending.extensions),
            wanted,
        }
    }
}
