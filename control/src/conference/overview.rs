//! Who is connected where, for an operator who looks: participants and trunks of all conferences, and how many tracks each sends and
//! gets.
//!
//! Nothing that participants are told. What flows is the shards' to say: [`Connected::place`] is where to ask.

use aws_lc_rs::digest::{SHA256, digest};
use weir_shard::TransportId;
use weir_signal::sdp::MediaKind;

use super::{
    Conferences, ParticipantId,
    board::Board,
    conference::Conference,
    leg::Leg,
    limits,
    trunk::{Phase, Trunk},
};

/// All conferences of one focus, as far as there is room for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// The conferences.
    pub conferences: Vec<ConferenceOverview>,
    /// Participants and trunks for which there was no room.
    pub left_out: usize,
}

/// One conference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConferenceOverview {
    /// The same at every focus, and not its id: nobody can call with it.
    pub name: String,
    /// Those who are connected to this focus. Who holds no more than a slot is not among them.
    pub participants: Vec<Connected>,
    /// Other foci, connected or wanted.
    pub trunks: Vec<(TrunkState, Connected)>,
}

/// Somebody at the other end of a leg, or a focus that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Who it is.
    pub id: ParticipantId,
    /// Its shard and its transport; `None` while there is none.
    pub place: Option<(usize, TransportId)>,
    /// What goes to it.
    pub to: Tracks,
    /// What comes from it.
    pub from: Tracks,
}

/// How many tracks flow in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// Microphones, and the sound of screens.
    pub audio: usize,
    /// Cameras and screens.
    pub video: usize,
}

/// How far a trunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkState {
    /// It is to be called, or to call.
    Wanted,
    /// It has been called, and has not answered.
    Calling,
    /// It has answered or called; the transport comes about.
    Connecting,
    /// The channel is open.
    Up,
    /// A call came to nothing or a trunk has ended; it is called again after a pause.
    Lost,
}

impl TrunkState {
    /// As it is written down.
    pub fn label(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Calling => "calling",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Lost => "lost",
        }
    }
}

impl From<Phase> for TrunkState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Calling => Self::Calling,
            Phase::Connecting | Phase::Handshaking => Self::Connecting,
            Phase::Up(_) => Self::Up,
        }
    }
}

impl Tracks {
    fn count(kinds: impl Iterator<Item = MediaKind>) -> Self {
        kinds.fold(Self::default(), |mut tracks, kind| {
            match kind {
                MediaKind::Audio => tracks.audio += 1,
                MediaKind::Video => tracks.video += 1,
            }
            tracks
        })
    }
}

impl Conferences {
    /// Who is connected where now, at most [`limits::OVERVIEW_MAX`] participants and trunks in all.
    pub fn overview(&self) -> Overview {
        let mut overview = Overview::default();
        let mut room = limits::OVERVIEW_MAX;
        for (conf_id, conference) in &self.conferences {
            let mut shown = conference.overview(conf_id);
            let mut take = |found: usize| {
                let taken = found.min(room);
                room -= taken;
                overview.left_out += found - taken;
                taken
            };
            // Trunks first: there are few, and they are what is hard to see otherwise.
            shown.trunks.truncate(take(shown.trunks.len()));
            shown.participants.truncate(take(shown.participants.len()));
            if !shown.trunks.is_empty() || !shown.participants.is_empty() {
                overview.conferences.push(shown);
            }
        }
        overview
    }
}

impl Conference {
    fn overview(&self, conf_id: &str) -> ConferenceOverview {
        let participants = self.participants().filter(|(_, leg)| !leg.is_slot());
        let legs = self.legs.values();
        let trunks = legs.filter_map(|leg| {
            let trunk = leg.trunk.as_ref()?;
            Some((
                TrunkState::from(trunk.phase),
                leg.trunk_overview(trunk, &self.board),
            ))
        });
        let wished = self.cascade.unconnected(&self.legs);
        ConferenceOverview {
            name: name(conf_id),
            participants: participants
                .map(|(_, leg)| leg.overview(&self.board))
                .collect(),
            trunks: trunks
                .chain(wished.map(|(focus, state)| (state, Connected::not_yet(focus))))
                .collect(),
        }
    }
}

impl Leg {
    fn overview(&self, board: &Board) -> Connected {
        let from = self.streams().tracks();
        self.connected(board, Tracks::count(from.map(|(.., of)| of.kind)))
    }

    fn trunk_overview(&self, trunk: &Trunk, board: &Board) -> Connected {
        let from = trunk.remote.tracks();
        self.connected(board, Tracks::count(from.map(|(.., kind)| kind)))
    }

    fn connected(&self, board: &Board, from: Tracks) -> Connected {
        let names = self.subscriptions.forwarding();
        let kinds = names.filter_map(|name| Some(board.track(name)?.kind));
        Connected {
            id: self.participant().clone(),
            // Before the answer, the shard knows nothing of it.
            place: (!self.is_calling()).then(|| (self.shard(), self.transport())),
            to: Tracks::count(kinds),
            from,
        }
    }
}

impl Connected {
    fn not_yet(focus: &ParticipantId) -> Self {
        Self {
            id: focus.clone(),
            place: None,
            to: Tracks::default(),
            from: Tracks::default(),
        }
    }
}

/// Enough of a hash to tell conferences apart.
fn name(conf_id: &str) -> String {
    let hash = digest(&SHA256, conf_id.as_bytes());
    let head = hash.as_ref().iter().take(NAME_BYTES);
    head.map(|byte| format!("{byte:02x}")).collect()
}

/// Of a million conferences two have the same name with a probability of one in ten thousand, and nothing but a picture suffers.
const NAME_BYTES: usize = 6;
