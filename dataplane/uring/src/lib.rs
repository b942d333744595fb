//! The wires of a shard: ring, buffers, sockets, pinning, and the rings between threads.
//!
//! [`spawn`] starts one thread that runs one [`weir_shard::Shard`] on one io_uring, and gives control a [`ShardHandle`]:
//!
//! ```text
//!  control thread                         shard thread, pinned to its core
//!  ShardHandle ── commands, doorbell ──►  ┌──────────────────────────────┐ ◄─ multishot recvmsg ─ UDP sockets
//!              ◄── events, doorbell ────  │ Shard (pure), one per thread │ ── sendmsg (GSO) ────►
//!                                         └──────────────────────────────┘
//! ```
//!
//! There is no `if` about RTP here, and no socket, clock or thread in the shard. One wake-up is one batch: reap
//! completions, hand datagrams and commands over, flush, queue sends, give buffers back, and one `io_uring_enter` that
//! submits it all and sleeps.
//!
//! All `unsafe` of the focus outside SIMD kernels is in this crate, one operation a block.

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, clippy::multiple_unsafe_ops_per_block)]

mod affinity;
mod buffers;
mod config;
mod counters;
mod doorbell;
mod error;
mod handle;
mod laps;
mod ring;
mod runtime;
mod sends;
mod socket;

pub use config::Config;
pub use counters::{Holder, RingCounters, Step};
pub use error::SpawnError;
pub use handle::{ShardHandle, ShutdownError, ShutdownReport, spawn};
