//! A conference on a bad network.

use super::{Settings, conference};
use crate::plan::Plan;

pub(super) const ABOUT: &str = "\
A conference whose datagrams all pass a relay in this process that behaves like a bad network, both ways: --network has the
notation of weir-relay, and is `loss=5%, delay=25ms` by default. What is lost must be mended without breaking a rule: losses
are counted, violations are not allowed. Everybody checks in full.";

pub(super) const NETWORK: &str = "loss=5%, delay=25ms";

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        participants: 4,
        publishers: usize::MAX,
        full_share: 1.0,
        ..common
    }
}

pub(super) fn plan(settings: &Settings) -> Plan {
    conference::plan(settings)
}
