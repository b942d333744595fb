//! Weir, Janus and LiveKit side by side: the same load, in the same run, on the same machine. `docs/peers.md` says how the figures
//! are made, and what they do not say.
//!
//! ```text
//! cli ─► round, for each server in turn ─► figures (pure) ─► report (JSON, tables)
//!          └ server ─┬─ weir      the focus as a child, called through an embedded homeserver
//!                    ├─ janus     videoroom, JSON ─────────┐ socket: WebSockets with bounds
//!                    └─ livekit   protobuf, access tokens ─┘
//! ```
//! The adapters hold signalling alone. What is published, received, checked and measured is `weir-client`'s for all of them.

mod cli;
mod figures;
mod janus;
mod livekit;
mod report;
mod round;
mod server;
mod socket;
mod weir;

fn main() -> std::process::ExitCode {
    cli::main()
}
