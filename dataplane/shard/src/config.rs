//! What a shard is told once, at its start.

use std::time::Duration;

use crate::limits;

/// Settings of one shard. Everything that is a rule and not a choice is in [`crate::limits`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Makes SSRCs of reports and hash keys; the same seed and the same input give the same output.
    pub seed: u64,
    /// The wall clock at the `now` that the shard is made with, since 1970-01-01 UTC.
    pub unix_time: Duration,
    /// At most this many transports.
    pub transports_max: usize,
    /// At most this many published tracks.
    pub tracks_max: usize,
    /// At most this many subscriptions.
    pub subscriptions_max: usize,
    /// Microphones of one conference up to which all are forwarded.
    pub voices_all_up_to: usize,
    /// With more of them, how many are forwarded at a time: the loudest. At least 1.
    pub voices_loudest: usize,
    /// How many sockets of each address family the runtime has to call others from, besides the one that it listens on: so many
    /// trunks, and one more, can lead to one address.
    pub calling_sockets: u8,
    /// At most this many packets kept for retransmission over all layers. Each keeps its receive buffer, so the runtime
    /// must own this many buffers and [`limits::PACKETS_PER_BATCH_MAX`] more.
    pub history_packets_max: usize,
    /// How many send buffers the shard owns; memory is touched only for those in use.
    pub send_buffers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            unix_time: Duration::from_secs(1_700_000_000),
            transports_max: limits::TRANSPORTS_MAX,
            tracks_max: limits::TRACKS_MAX,
            subscriptions_max: limits::SUBSCRIPTIONS_MAX,
            voices_all_up_to: limits::VOICES_ALL_UP_TO,
            voices_loudest: limits::VOICES_LOUDEST,
            calling_sockets: 0,
            history_packets_max: limits::HISTORY_PACKETS_MAX,
            send_buffers: limits::SEND_BUFFERS,
        }
    }
}
