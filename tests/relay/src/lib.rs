//! A UDP relay that behaves like a bad network: loss, bursts of loss, delay, jitter, reordering, duplication, a rate limit
//! with a bounded queue; each direction by itself, and over time by a schedule.
//!
//! ```text
//!   client ──► relay ── up: Link ──► focus
//!          ◄── relay ◄─ down: Link ──
//! ```
//!
//! * [`profile`]: what is wrong with a network, written in a line, and when it changes.
//! * [`link`]: one direction. Pure: takes datagrams and the time, gives them back when they would arrive. The same seed and
//!   the same datagrams at the same times have the same fate.
//! * [`relay`]: the sockets around two links.
//! * [`trace`]: what passes, packet by packet.
//! * [`tcp`]: a TCP connection to somewhere far away.
//!
//! For kernels without netem, and for tests that must not need root. Not here: what a bad network does to TCP; only distance.

pub mod link;
pub mod profile;
pub mod relay;
pub mod tcp;
pub mod trace;
