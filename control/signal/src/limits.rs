//! How much of each thing a peer may say. More is refused, never stored.
//!
//! The sums: a conference of 100 participants with camera, microphone and every tenth a screen is 220 streams' worth of tracks
//! in a snapshot; a browser's own offer with several screen shares is 20 to 40 kB and a dozen sections.

/// Bytes of one session description. Chromium's offers have 6 to 40 kB; more costs a peer's share of memory, less breaks calls with
/// many tracks (a section has about 1.5 kB).
pub const SDP_BYTES_MAX: usize = 256 * 1024;
/// Sections (m-lines) of one session description, used and unused. Browsers become slow well before.
pub const SECTIONS_MAX: usize = 512;
/// Simulcast layers of one track. Browsers send 3.
pub const RIDS_MAX: usize = 8;
/// Payload types listed in one section; there are no more than 128.
pub const CODECS_MAX: usize = 128;
/// Bytes of one codec's parameters, which are repeated in every own section. H.264 has about 70.
pub const FMTP_BYTES_MAX: usize = 512;
/// Header extensions listed in one section; a one-byte header has 14, a two-byte header 255.
pub const EXTENSIONS_MAX: usize = 64;
/// Synchronisation sources listed in one section.
pub const SSRCS_MAX: usize = 32;
/// Candidates kept of one description or message.
pub const CANDIDATES_MAX: usize = 64;
/// Bytes of one candidate line. Browsers' have about 150.
pub const CANDIDATE_BYTES_MAX: usize = 1024;
/// Bytes of one identifier: stream, track, call, conference, device. Matrix identifiers have at most 255.
pub const ID_BYTES_MAX: usize = 255;
/// Bytes of one text message of the data channel, as announced by `a=max-message-size`.
pub const CHANNEL_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Streams of one metadata object.
pub const STREAMS_MAX: usize = 2048;
/// Tracks of one metadata object.
pub const TRACKS_MAX: usize = 4096;
/// Entries of one subscription request.
pub const SUBSCRIPTIONS_MAX: usize = 4096;
