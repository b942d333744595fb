//! The rules of one core: datagrams, commands and the time in; datagrams, events and the next deadline out.
//!
//! [`Shard`] is pure: it reads no clock, makes no random number, touches no socket. The ring runtime calls
//!
//! 1. [`Shard::handle_datagram`], [`Shard::handle_command`], [`Shard::handle_timeout`], [`Shard::handle_sent`] for whatever
//!    happened since the last time, then
//! 2. [`Shard::flush`] once, then
//! 3. [`Shard::poll_transmit`], [`Shard::poll_free`], [`Shard::poll_event`] each until `None`, and
//! 4. sleeps until [`Shard::poll_timeout`] or the next input.
//!
//! **Nothing leaves before `flush`, and nothing is left behind after step 3.** Between [`Shard::poll_transmit`]s the runtime may
//! give buffers back with [`Shard::handle_sent`]: it has to when it has them all.

pub mod limits;
pub mod metrics;

mod allocate;
mod bandwidth;
mod buffer;
mod bwe;
mod codec;
mod command;
mod config;
mod controlling;
mod counters;
mod departures;
mod event;
mod feedback;
mod history;
mod ice;
mod ids;
mod kept;
mod keyframe;
mod layers;
mod nack;
mod pacer;
mod packet;
mod path;
mod publisher;
mod rate;
mod reason;
mod reports;
mod rewriter;
mod room;
mod round_trip;
mod sent;
mod shard;
mod speaker;
mod status;
mod subscription;
mod table;
mod timing;
mod transport;
mod tx;

pub use buffer::{ReceiveBuffer, SendBuffer, Transmit};
pub use command::{AddTrack, Command, IceCredentials, Subscribe};
pub use config::Config;
pub use counters::{Counters, DropReason};
pub use event::Event;
pub use ids::{
    Codec, CodecMapping, ConferenceId, ExtensionIds, LayerSet, MediaKind, Purpose, Size,
    SubscriptionId, TrackId, TransportId,
};
pub use metrics::Counter;
pub use path::{Local, Path};
pub use reason::{Direction, Reason, Stage, Withheld};
pub use shard::{Opened, Shard};
pub use status::{Flow, Speaker, Speakers, SubscriptionStatus, Traffic, TransportStatus};
/// The keys and profiles of [`Command::InstallKeys`], for those who do not depend on the SRTP crate themselves.
pub use weir_srtp::{MasterKey, Profile};
