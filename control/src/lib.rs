//! A focus for Matrix calls: everything of the binary `weir`, for it and for those who run a focus inside their own process.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what the operator says |
//! | [`appservice`] | the focus as an application service of its homeserver |
//! | [`authorise`] | who may use the focus; pure |
//! | [`blip`] | a port that refuses everybody, for measuring the way |
//! | [`conference`] | who is in which call, what they publish, who gets what; pure |
//! | [`discovery`] | what a well-known document says about the focus |
//! | [`focus`] | a running focus: the loop between Matrix, conferences, DTLS and shards |
//! | [`http`] | health, metrics, the entry for well-known documents, the page |
//! | [`listening`] | a TCP listener and the task that serves it |
//! | `memory` | what is not needed goes back to the system |
//! | [`run`] | a focus as a process, until it is told to stop |
// The futures of matrix-sdk nest deeply.
#![recursion_limit = "256"]

pub mod appservice;
pub mod authorise;
pub mod blip;
pub mod conference;
pub mod config;
pub mod discovery;
pub mod focus;
pub mod http;
pub mod listening;
mod memory;
pub mod run;
