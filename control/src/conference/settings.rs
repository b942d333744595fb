//! What the conferences are told once, at the start.

use std::{fmt, net::SocketAddr, time::Duration};

use super::{Fingerprint, Limits, ParticipantId};

/// Settings of all conferences of one focus.
#[derive(Clone)]
pub struct Settings {
    /// The focus's own user and device: sender and `party_id` of what it says.
    pub focus: ParticipantId,
    /// Addresses that clients can reach, for each shard; they become the candidates in its answers. At least one shard.
    pub shards: Vec<Vec<SocketAddr>>,
    /// The hash of the focus's certificate.
    pub fingerprint: Fingerprint,
    /// How much of everything.
    pub limits: Limits,
    /// How long everything may take.
    pub timing: Timing,
    /// Where ICE passwords and SSRCs come from: 32 bytes from the operating system; the same in a test gives the same run.
    pub seed: [u8; 32],
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("focus", &self.focus)
            .field("shards", &self.shards)
            .field("limits", &self.limits)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// How long a participant may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between a pong (or the opening of the channel) and the next ping. MSC3898 allows at most 30 s; shorter notices a
    /// dead client sooner and costs a message.
    pub ping_interval: Duration,
    /// From a ping to its pong. Shorter drops clients whose network paused.
    pub ping_timeout: Duration,
    /// The longest silence of a participant of the early dialect, which has no question that it must answer. The text names no
    /// interval: what the late text allows between pings, 30 s, is taken for the longest, and one may be lost. Shorter drops
    /// clients that are rarely heard of, longer keeps dead ones on the board.
    pub alive_timeout: Duration,
    /// From an offer to its answer. The reference client drops offers that cross its own; shorter repeats to slow clients.
    pub offer_timeout: Duration,
    /// From the invite to an open data channel. Covers ICE and DTLS over a bad network.
    pub channel_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(15),
            alive_timeout: Duration::from_secs(75),
            offer_timeout: Duration::from_secs(10),
            channel_timeout: Duration::from_secs(30),
        }
    }
}
