//! What a shard's thread is told at its start, and the sizes of what it allocates then.

use std::net::SocketAddr;

use weir_shard::limits::PACKETS_PER_BATCH_MAX;

use crate::error::SpawnError;

/// Settings of one shard's thread.
#[derive(Clone, Debug)]
pub struct Config {
    /// The shard's number; its thread is named `weir-shard-N`.
    pub index: usize,
    /// The core to run on, and on no other; `None` leaves the thread to the scheduler.
    pub core: Option<usize>,
    /// Where to receive: at most one IPv4 and one IPv6 address. Port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// What the shard itself is told. `unix_time` is set when the thread starts.
    pub shard: weir_shard::Config,
    /// How many receive buffers of [`weir_shard::limits::RECEIVE_BUFFER_BYTES`] the thread owns. They are shared by what
    /// the kernel may fill and what the shard keeps for retransmission.
    pub receive_buffers: u16,
}

/// 32 MiB. The shard's history takes 8192, a batch 1024; the other 7168 are what the kernel can fill while the shard is
/// busy: a third of a second of 20 000 packets a second. Fewer lose packets in bursts, more only cost memory.
const RECEIVE_BUFFERS: u16 = 16 * 1024;

/// The least that the kernel must have to fill while history and batch are at their limits: one burst of a keyframe from
/// a few publishers. Below it, every burst would lose packets.
const RECEIVE_BUFFERS_SPARE_MIN: usize = 256;

/// Entries of a provided-buffer ring are counted with 16 bits, of which the kernel allows the lower half.
const BUFFER_RING_ENTRIES_MAX: usize = 32 * 1024;

/// Sends between two system calls. Their buffers come back at once where the kernel sends at once, so that a batch for
/// thousands seals into memory that is still in the cache. Fewer cost a system call more often, more leave the cache.
pub(crate) const SENDS_PER_SUBMIT: usize = 32;

/// Submissions between two system calls: sends, receives, doorbells, and what is sent again one datagram at a time. If it is
/// too small a batch costs a system call more; each entry is 64 bytes of locked memory.
pub(crate) const SUBMISSION_ENTRIES: u32 = 512;

/// Completions between two visits: every send buffer (1024), a full batch of datagrams (1024), and the same again
/// for what arrives while the first are handled. If it is too small the kernel keeps the rest on a slower list and ends
/// multishot receives, which are then started again; each entry is 16 bytes of locked memory.
pub(crate) const COMPLETION_ENTRIES: u32 = 4096;

/// Completions of something else that may wait for the next batch while sends are looked for. Where there are more, sends are
/// not looked for; the shard then drops and counts what it has no buffer for.
pub(crate) const POSTPONED_MAX: usize = COMPLETION_ENTRIES as usize;

/// Datagrams handed to the shard before `flush`. The rest waits in the completion queue for the next batch.
pub(crate) const DATAGRAMS_PER_BATCH: usize = PACKETS_PER_BATCH_MAX;

/// Commands taken in one batch, so that a conference of hundreds that starts at once does not delay media.
pub(crate) const COMMANDS_PER_BATCH: usize = 64;

/// Commands that may wait for the shard: everything that a join of some hundred participants needs at once. A full ring
/// is control's to retry.
pub(crate) const COMMAND_RING_ENTRIES: usize = 4096;

/// Events that may wait for control. The shard keeps some thousand more itself before it drops DTLS datagrams.
pub(crate) const EVENT_RING_ENTRIES: usize = 4096;

/// What the kernel may hold per socket. A keyframe burst of hundreds of publishers is some megabytes; more only hides a
/// shard that cannot keep up.
pub(crate) const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// The longest sleep. Nothing depends on it; it bounds what a lost wake-up could cost, for ten wake-ups a second.
pub(crate) const SLEEP_MAX: std::time::Duration = std::time::Duration::from_millis(100);

const _: () = assert!(
    COMPLETION_ENTRIES as usize >= 2 * (DATAGRAMS_PER_BATCH + weir_shard::limits::SEND_BUFFERS),
    "the completion queue holds two batches of sends and datagrams"
);

impl Config {
    /// The defaults for shard number `index`, not pinned.
    pub fn new(index: usize, listen: Vec<SocketAddr>) -> Config {
        Config {
            index,
            core: None,
            listen,
            shard: weir_shard::Config::default(),
            receive_buffers: RECEIVE_BUFFERS,
        }
    }

    /// Says what is wrong, by key.
    pub(crate) fn validate(&self) -> Result<(), SpawnError> {
        let v4 = self
            .listen
            .iter()
            .filter(|address| address.is_ipv4())
            .count();
        let v6 = self.listen.len() - v4;
        if self.listen.is_empty() || v4 > 1 || v6 > 1 {
            return Err(SpawnError::Config(format!(
                "listen = {:?}: a shard needs one IPv4 address, one IPv6 address, or one of each",
                self.listen
            )));
        }
        let buffers = usize::from(self.receive_buffers);
        let least =
            self.shard.history_packets_max + DATAGRAMS_PER_BATCH + RECEIVE_BUFFERS_SPARE_MIN;
        if buffers < least || buffers > BUFFER_RING_ENTRIES_MAX {
            return Err(SpawnError::Config(format!(
                "receive_buffers = {buffers}: must be at least {least} (history_packets_max = {}, a batch of \
                 {DATAGRAMS_PER_BATCH}, and {RECEIVE_BUFFERS_SPARE_MIN} to spare) and at most {BUFFER_RING_ENTRIES_MAX}",
                self.shard.history_packets_max
            )));
        }
        if self.shard.send_buffers == 0 {
            return Err(SpawnError::Config(
                "send_buffers = 0: must be at least 1".into(),
            ));
        }
        Ok(())
    }

    /// Entries of the provided-buffer ring: a power of two that holds every buffer.
    pub(crate) fn buffer_ring_entries(&self) -> u16 {
        self.receive_buffers.next_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(config: &Config) -> String {
        match config.validate() {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn defaults_are_valid() {
        let listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
        let config = Config::new(0, listen);
        assert_eq!(error(&config), "");
        assert_eq!(config.buffer_ring_entries(), 16384);
    }

    #[test]
    fn names_key_and_value_of_what_is_wrong() {
        let mut config = Config::new(0, vec![]);
        assert!(error(&config).contains("listen = []"));
        config.listen = vec![
            "127.0.0.1:0".parse().unwrap(),
            "127.0.0.2:0".parse().unwrap(),
        ];
        assert!(error(&config).contains("127.0.0.2:0"));
        config.listen.pop();
        config.receive_buffers = 1000;
        assert!(error(&config).contains("receive_buffers = 1000: must be at least 9472"));
        config.receive_buffers = 40_000;
        assert!(error(&config).contains("at most 32768"));
    }
}
