//! Every limit of the conferences, with what more and what less of it costs. A full table refuses, counts, and never grows.

use std::time::Duration;

/// What an operator may choose, as `[limits]` of the configuration says it. Everything that is a rule and not a choice is a
/// constant of this file.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Conferences at one time. One that is empty does not exist, so this bounds nothing that participants do not.
    pub conferences_max: usize,
    /// Participants of one conference. A conference lives on one shard; what one core forwards grows with the square of
    /// those who all see each other.
    pub participants_per_conference_max: usize,
    /// Devices of one user in one conference. A user with many devices is rare; one with many more is an attack.
    pub participants_per_user_max: usize,
    /// Tracks that one participant publishes: camera, microphone, and a screen share with sound are 4, and a share that
    /// starts while another stops makes 6.
    pub tracks_per_participant_max: usize,
    /// Tracks that one participant asks for, present and not yet present ones together. 64 others with sound and picture are 128.
    pub subscriptions_per_participant_max: usize,
    /// Participants without media, over all conferences: clients that hold a place, or measure the way. Each has a transport, and
    /// counts for its conference as any other. 0 refuses them all; clients then compare foci by other means.
    pub slots_max: usize,
    /// The same of one user. A client holds one at each of a few foci, for each call that it is in.
    pub slots_per_user_max: usize,
    /// How long such a participant may stay without media, in seconds: long enough to measure and to join, short enough that
    /// nobody keeps a place for nothing. It may call again.
    pub slot_seconds: u32,
    /// Invites that one user may send: per second in the long run, with a burst of [`INVITE_BURST_SECONDS`] times as many.
    /// A client retries every 5 s.
    pub invites_per_user_per_second: f64,
    /// The same for all users of one homeserver together: a company that joins its morning meeting.
    pub invites_per_homeserver_per_second: f64,
    /// Other foci that one conference is connected with; 0 connects with none. Each carries every track that is wanted here once,
    /// and what is published here once for each of them.
    pub trunks_per_conference_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            conferences_max: 1000,
            participants_per_conference_max: 200,
            participants_per_user_max: 8,
            tracks_per_participant_max: 12,
            subscriptions_per_participant_max: 512,
            slots_max: 200,
            slots_per_user_max: 4,
            slot_seconds: 120,
            invites_per_user_per_second: 1.0,
            invites_per_homeserver_per_second: 50.0,
            trunks_per_conference_max: 16,
        }
    }
}

/// A burst of invites is this many seconds' worth: one impatient user reloads five times, and then waits. Each time its client
/// makes two, where it chooses a focus: one to hold a slot, one to join.
pub const INVITE_BURST_SECONDS: f64 = 10.0;

/// Users and homeservers whose invite rate is remembered, each. A full table forgets the one that was quiet longest,
/// which gives it a fresh burst and nothing more.
pub const RATES_MAX: usize = 4096;

/// Call ids that are remembered after their call, so that a replayed invite cannot replace a newer leg: some minutes of
/// a busy focus. Less lets older replays through; each costs about 200 bytes.
pub const ENDED_CALLS_MAX: usize = 4096;

/// Tracks that one `track_subscription` may name, both lists together: twice the most subscriptions, since clients name
/// in each message all they want and all they do not want.
pub const TRACKS_PER_REQUEST_MAX: usize = 2048;

/// Data channel messages that one participant may send a second in the long run. A client that drags a tile's edge sends ten.
pub const MESSAGES_PER_SECOND: f64 = 50.0;

/// And in one burst: what has piled up while the network was away.
pub const MESSAGES_BURST: f64 = 200.0;

/// Bytes of an id that a client chooses (call, conference, device, stream, track). The specification allows 255 for ids of
/// its own; more is only memory.
pub const ID_BYTES_MAX: usize = 255;

/// Snapshots to one participant are at least this far apart; changes in between are sent together at its end. Longer
/// delays mute flags (100 ms is promised), shorter lets one participant's flood become everybody's.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(50);

/// Changes of what a participant gets are told this long after the first of them, together: a switch of the layout changes all
/// tiles at once.
pub const STATUS_GATHERED: Duration = Duration::from_millis(100);

/// Offers that are sent again when no answer comes, before the call is given up.
pub const OFFER_ATTEMPTS_MAX: u32 = 3;

/// Foci that one conference may want to be connected with, whether it is or not. A room's members can name more; the first ones
/// count.
pub const FOCI_PER_CONFERENCE_MAX: usize = 32;

/// Calls to other foci for one conference, and such calls to one homeserver that are not answered: per second in the long run. Whoever
/// is named as a focus and is none gets six messages a minute, whatever members write into their events.
pub const TRUNK_CALLS_PER_SECOND: f64 = 0.1;

/// And in one burst: all foci of a conference when it begins; all conferences with one other focus when this one has been restarted,
/// so many at a time as have not been answered yet.
pub const TRUNK_CALLS_BURST: f64 = 16.0;

/// The focus with the higher (user, device) waits for the other one's call this long before it calls itself.
pub const TRUNK_PATIENCE: Duration = Duration::from_secs(3);

/// Between a call that came to nothing, or a trunk that was lost, and the next call; doubled each time, up to the longest.
pub const TRUNK_RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause between two calls.
pub const TRUNK_RETRY_MAX: Duration = Duration::from_secs(60);

/// A trunk that has lasted this long was good: when it is lost, the pauses begin with the first again.
pub const TRUNK_STABLE: Duration = Duration::from_secs(30);

/// How long a trunk stays that nobody needs: members take themselves out of the call's state and come back.
pub const TRUNK_IDLE_MAX: Duration = Duration::from_secs(15);

/// How long the call to another focus is good for.
pub const TRUNK_INVITE_LIFETIME: Duration = Duration::from_secs(30);

/// Streams that one other focus may announce: those of the largest conference, with a screen each.
pub const STREAMS_PER_TRUNK_MAX: usize = 512;

/// Tracks of one announced stream.
pub const TRACKS_PER_STREAM_MAX: usize = 12;

/// Tracks that may flow over one trunk. Each is a section of its description.
pub const TRACKS_PER_TRUNK_MAX: usize = 512;

/// Participants and trunks that an overview shows, over all conferences: more than a person takes in, and each is asked about
/// once a second.
pub const OVERVIEW_MAX: usize = 256;

const _: () = assert!(
    SNAPSHOT_INTERVAL.as_millis() < 100,
    "a mute flag reaches the others within 100 ms"
);
