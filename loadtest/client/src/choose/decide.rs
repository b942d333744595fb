//! From what is known to what is to be done: the diagram of MSC3898 "Joining a call", and "Mid-call changes".

use std::time::Duration;

use super::Choice;
use super::measured::{Criterion, Scale};
use super::members::View;
use crate::participant::FocusAddress;

/// What is a matter of taste.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether two call each other without a focus.
    pub full_mesh: FullMesh,
    /// By what foci are compared, the most telling first.
    pub criteria: Vec<Criterion>,
    /// A focus to which less goes than this, in bits per second, comes after all others. 0 for no matter.
    pub bandwidth_min_bps: u64,
    /// Foci to publish to at the same time, at most; at least 1.
    pub active_max: usize,
    /// If the best focus is farther than this, more than one may be used.
    pub near: Duration,
}

impl Default for Rules {
    /// Full mesh for two, everything compared, one focus at a time.
    fn default() -> Rules {
        Rules {
            full_mesh: FullMesh::UpToTwo,
            criteria: Criterion::ALL.to_vec(),
            bandwidth_min_bps: 0,
            active_max: 1,
            near: Duration::from_millis(100),
        }
    }
}

/// Whether members call each other without a focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullMesh {
    /// While there are two members at most, and none uses a focus.
    UpToTwo,
    /// Only if no focus is to be had.
    Never,
}

/// What a device publishes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Using {
    /// Nothing: it has not joined, or there is nothing to join by.
    #[default]
    Nothing,
    /// The other members themselves.
    FullMesh,
    /// These foci, the best first; at least one.
    Foci(Vec<FocusAddress>),
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The best that another member prefers.
    AnotherPrefersIt,
    /// The best that is in use.
    InUse,
    /// Nobody uses or prefers one that can be had: the best of the own ones.
    First,
    /// Another member has begun to use one that this device prefers.
    AnotherBegan,
    /// As before.
    Stays,
    /// There are two members at most.
    TwoAtMost,
    /// There is no focus to be had.
    NoFocus,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to publish to. Its foci are `m.foci.active`.
    pub using: Using,
    /// `m.foci.preferred`: what to switch to if another member begins to use it, the best first.
    pub preferred: Vec<FocusAddress>,
    /// Why.
    pub because: Because,
}

impl Decision {
    /// `m.foci.active`.
    pub fn active(&self) -> &[FocusAddress] {
        match &self.using {
            Using::Foci(foci) => foci,
            Using::Nothing | Using::FullMesh => &[],
        }
    }
}

impl Choice {
    pub(super) fn decide(&self, now_ms: u64) -> Decision {
        let view = self.members.view(now_ms);
        let known = self.known(&view).into_iter().map(|known| known.focus);
        let usable = known.filter(|focus| !self.failed.contains(focus));
        let order = self.scale().order(usable.collect());
        let (using, because) = match &self.using {
            Using::Foci(foci) => self.stay_or_switch(foci, &view, &order),
            Using::Nothing | Using::FullMesh => self.join(&view, &order),
        };
        Decision {
            preferred: self.preferred(&using, &order),
            using,
            because,
        }
    }

    fn scale(&self) -> Scale<'_> {
        Scale {
            measured: &self.measured,
            criteria: &self.rules.criteria,
            bandwidth_min_bps: self.rules.bandwidth_min_bps,
        }
    }

    /// "Joining a call". The same again where a full mesh has grown too large, or where every focus in use has failed.
    fn join(&self, view: &View, order: &[FocusAddress]) -> (Using, Because) {
        // Who is alone with somebody on a focus cannot call it in any other way.
        let two_at_most = view.others <= 1 && view.active.is_empty();
        if two_at_most && self.rules.full_mesh == FullMesh::UpToTwo {
            return (Using::FullMesh, Because::TwoAtMost);
        }
        let first = |wanted: &dyn Fn(&FocusAddress) -> bool| order.iter().find(|of| wanted(of));
        let chosen = first(&|focus| view.preferred.contains_key(focus))
            .map(|focus| (focus, Because::AnotherPrefersIt))
            .or_else(|| {
                first(&|focus| view.active.contains_key(focus)).map(|focus| (focus, Because::InUse))
            })
            .or_else(|| first(&|focus| self.is_own(focus)).map(|focus| (focus, Because::First)));
        match (chosen, self.rules.full_mesh) {
            (Some((focus, because)), _) => (Using::Foci(self.fan_out(focus, view, order)), because),
            (None, FullMesh::UpToTwo) => (Using::FullMesh, Because::NoFocus),
            (None, FullMesh::Never) => (Using::Nothing, Because::NoFocus),
        }
    }

    /// "Mid-call changes".
    fn stay_or_switch(
        &self,
        foci: &[FocusAddress],
        view: &View,
        order: &[FocusAddress],
    ) -> (Using, Because) {
        let left = foci.iter().filter(|focus| !self.failed.contains(focus));
        let left: Vec<FocusAddress> = left.cloned().collect();
        if left.is_empty() {
            return self.join(view, order);
        }
        let using = Using::Foci(left);
        let preferred = self.preferred(&using, order);
        match preferred.iter().find(|of| view.active.contains_key(of)) {
            Some(focus) => {
                let foci = self.fan_out(focus, view, order);
                (Using::Foci(foci), Because::AnotherBegan)
            }
            None => (using, Because::Stays),
        }
    }

    /// The chosen focus; where it is far, with others that are in use.
    fn fan_out(
        &self,
        chosen: &FocusAddress,
        view: &View,
        order: &[FocusAddress],
    ) -> Vec<FocusAddress> {
        let mut foci = vec![chosen.clone()];
        let far = self.scale().distance(chosen);
        if far.is_some_and(|far| far > self.rules.near) {
            let in_use = order
                .iter()
                .filter(|focus| view.active.contains_key(focus) && *focus != chosen);
            foci.extend(in_use.take(self.rules.active_max.max(1) - 1).cloned());
        }
        foci
    }

    /// Own foci that are better than what is used; none if one of the own ones is used.
    fn preferred(&self, using: &Using, order: &[FocusAddress]) -> Vec<FocusAddress> {
        let own = order.iter().filter(|focus| self.is_own(focus));
        match using {
            Using::Foci(foci) if foci.iter().any(|focus| self.is_own(focus)) => Vec::new(),
            Using::Foci(foci) => {
                let place = |focus| order.iter().position(|of| of == focus);
                let used = foci.iter().filter_map(place).min();
                own.filter(|focus| used.is_none_or(|used| place(focus) < Some(used)))
                    .cloned()
                    .collect()
            }
            Using::Nothing | Using::FullMesh => own.cloned().collect(),
        }
    }

    /// Whether the focus is configured, or recommended by the own homeserver.
    pub fn is_own(&self, focus: &FocusAddress) -> bool {
        self.own.iter().any(|own| own.focus == *focus)
    }
}
