//! The Matrix device against a homeserver: the embedded one, and a real one where `WEIR_TEST_HOMESERVER` names it.
//!
//! `tests/synapse.py` starts a real one; it has to allow registration without verification.
#![recursion_limit = "256"]

mod outage;
mod refusals;
mod scenarios;
mod support;
