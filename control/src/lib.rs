//! A focus for Matrix calls.

pub mod authorise;
pub mod conference;
pub mod config;
