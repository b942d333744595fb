//! What is needed to see a focus at work without installing anything: a homeserver, a focus and synthetic participants in
//! one process.
//!
//! | module | what it is |
//! |---|---|
//! | [`stage`] | starts everything and stops it again |
//! | [`verdict`] | whether everybody received everybody, with reasons; pure |
//! | [`table`] | who receives what, as text; pure |

pub mod stage;
pub mod table;
pub mod verdict;
