//! Which layer of a track a subscriber gets: a decision over a few numbers, without state.
//!
//! A *layer* is one simulcast encoding with an SSRC of its own. A *sublayer* is a spatial or temporal layer within it, which
//! can be left out packet by packet.

use crate::ids::Size;
use crate::limits::{LAYERS_MAX, SPATIAL_LAYERS_MAX, TEMPORAL_LAYERS_MAX};

/// A spatial and a temporal layer within one encoding; 0 is the base of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sublayer {
    /// Less than [`SPATIAL_LAYERS_MAX`].
    pub(crate) spatial: u8,
    /// Less than [`TEMPORAL_LAYERS_MAX`].
    pub(crate) temporal: u8,
}

impl Sublayer {
    /// Everything there may be.
    pub(crate) const ALL: Self = Self {
        spatial: SPATIAL_LAYERS_MAX as u8 - 1,
        temporal: TEMPORAL_LAYERS_MAX as u8 - 1,
    };

    /// The layers of a descriptor; what is higher than is told apart here counts as the highest.
    pub(crate) fn new(spatial: u8, temporal: u8) -> Self {
        Self {
            spatial: spatial.min(Self::ALL.spatial),
            temporal: temporal.min(Self::ALL.temporal),
        }
    }

    /// The higher of both, spatially and temporally.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            spatial: self.spatial.max(other.spatial),
            temporal: self.temporal.max(other.temporal),
        }
    }
}

/// Which layers may begin to flow with a packet, although what came before was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Opens {
    /// None, as far as is known.
    #[default]
    Nothing,
    /// All: a keyframe.
    Everything,
    /// Its own, if those below it flow.
    Own,
    /// By spatial layer the highest temporal layer that may; if its own flows.
    UpTo([Option<u8>; SPATIAL_LAYERS_MAX]),
}

/// What a subscription is to get of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index of the simulcast layer, 0 is the first in SDP.
    pub(crate) layer: usize,
    /// The highest spatial layer of it.
    pub(crate) spatial: u8,
    /// The highest temporal layer of it.
    pub(crate) temporal: u8,
}

/// Bits a second of each sublayer of one source, without those below it. Zero is unknown, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    /// By spatial, then by temporal layer.
    pub(crate) bps: [[u64; TEMPORAL_LAYERS_MAX]; SPATIAL_LAYERS_MAX],
}

impl Rates {
    /// The sum over everything that `upto` needs.
    pub(crate) fn total(&self, upto: Sublayer) -> u64 {
        let spatial = self.bps.iter().take(usize::from(upto.spatial) + 1);
        spatial
            .flat_map(|of| of.iter().take(usize::from(upto.temporal) + 1))
            .sum()
    }
}

/// What is known about one layer at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LayerState {
    /// Whether packets come, compared with the other layers.
    pub(crate) live: bool,
    /// By spatial layer; from the bitstream, else from signalling.
    pub(crate) sizes: [Option<Size>; SPATIAL_LAYERS_MAX],
    /// The highest sublayer there is.
    pub(crate) top: Sublayer,
    pub(crate) rates: Rates,
}

/// The layers of a track, in the order of SDP.
pub(crate) type LayerStates = [LayerState; LAYERS_MAX];

/// One step of a [`Ladder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rung {
    pub(crate) target: Target,
    /// What it takes; 0 as long as nobody has measured it.
    pub(crate) bps: u64,
}

/// The choices between the least of a track and what a subscriber asked for, ascending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ladder {
    rungs: [Rung; RUNGS_MAX],
    len: usize,
}

/// Choices of one track.
pub(crate) const RUNGS_MAX: usize = LAYERS_MAX * SPATIAL_LAYERS_MAX * TEMPORAL_LAYERS_MAX;

impl Ladder {
    const EMPTY: Self = {
        let target = Target {
            layer: 0,
            spatial: 0,
            temporal: 0,
        };
        Self {
            rungs: [Rung { target, bps: 0 }; RUNGS_MAX],
            len: 0,
        }
    };

    /// The choices, least first; empty when no layer is live.
    pub(crate) fn rungs(&self) -> &[Rung] {
        &self.rungs[..self.len]
    }

    /// Adds a better choice. One that is not cheaper than it, is none.
    fn push(&mut self, rung: Rung) {
        while rung.bps > 0
            && let Some(last) = self.rungs().last()
            && last.bps >= rung.bps
        {
            self.len -= 1;
        }
        if let Some(place) = self.rungs.get_mut(self.len) {
            *place = rung;
            self.len += 1;
        }
    }
}

/// All choices up to what covers `wanted` (see [`choose`]).
///
/// The lowest layer may be thinned out to its base. Of larger ones at most one temporal layer is left out: a large picture at a
/// quarter of its rate is no better than a small one that moves.
pub(crate) fn ladder(layers: &LayerStates, wanted: Option<Size>) -> Ladder {
    let mut ladder = Ladder::EMPTY;
    let Some(best) = choose(layers, wanted) else {
        return ladder;
    };
    let (order, live) = ascending(layers);
    let upto = order[..live].iter().position(|index| *index == best.layer);
    for (step, &layer) in order.iter().take(upto.map_or(0, |at| at + 1)).enumerate() {
        let state = &layers[layer];
        let top = if layer == best.layer {
            best.spatial
        } else {
            state.top.spatial
        };
        for spatial in 0..=top {
            let least = match (step, spatial) {
                (0, 0) => 0,
                _ => state.top.temporal.saturating_sub(1),
            };
            for temporal in least..=state.top.temporal {
                let bps = state.rates.total(Sublayer { spatial, temporal });
                let target = Target {
                    layer,
                    spatial,
                    temporal,
                };
                ladder.push(Rung { target, bps });
            }
        }
    }
    ladder
}

/// The smallest live picture that covers `wanted`, with all its temporal layers. Without a wanted size, or when no live layer's
/// size is known: the lowest. When none is large enough: the largest. `None` when no layer is live.
pub(crate) fn choose(layers: &LayerStates, wanted: Option<Size>) -> Option<Target> {
    let (order, live) = ascending(layers);
    let lowest = *order[..live].first()?;
    let target = |layer: usize, spatial| Target {
        layer,
        spatial,
        temporal: layers[layer].top.temporal,
    };
    let Some(wanted) = wanted else {
        return Some(target(lowest, 0));
    };
    let sized = || {
        order[..live].iter().enumerate().flat_map(|(rank, &layer)| {
            let state = &layers[layer];
            let sizes = state.sizes.iter().take(usize::from(state.top.spatial) + 1);
            let sizes = sizes.enumerate();
            sizes.filter_map(move |(spatial, size)| Some((rank, layer, spatial as u8, (*size)?)))
        })
    };
    // Equal areas: the lower quality costs less and looks the same, hence the rank in the key.
    let smallest = sized()
        .filter(|(.., size)| size.covers(wanted))
        .min_by_key(|(rank, _, spatial, size)| (size.area(), *rank, *spatial));
    let largest = || sized().max_by_key(|(rank, _, spatial, size)| (size.area(), *rank, *spatial));
    let found = smallest.or_else(largest);
    Some(found.map_or(target(lowest, 0), |(_, layer, spatial, _)| {
        target(layer, spatial)
    }))
}

/// The live layers and how many they are, lowest quality first: by size where all sizes are known, else against the order of SDP.
pub(crate) fn ascending(layers: &LayerStates) -> ([usize; LAYERS_MAX], usize) {
    let mut order = [0; LAYERS_MAX];
    let mut live = 0;
    for index in (0..LAYERS_MAX).rev().filter(|index| layers[*index].live) {
        order[live] = index;
        live += 1;
    }
    let area = |index: &usize| {
        let state = &layers[*index];
        state.sizes[usize::from(state.top.spatial)].map(Size::area)
    };
    let order_of_live = &mut order[..live];
    if order_of_live.iter().all(|index| area(index).is_some()) {
        // Stable: equal sizes stay in the order of SDP.
        order_of_live.sort_by_key(area);
    }
    (order, live)
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: Option<Size> = Some(Size::new(1280, 720));
    const H: Option<Size> = Some(Size::new(640, 360));
    const Q: Option<Size> = Some(Size::new(320, 180));

    fn layers(of: &[(bool, Option<Size>)]) -> LayerStates {
        let mut states = LayerStates::default();
        for (state, &(live, size)) in states.iter_mut().zip(of) {
            *state = LayerState {
                live,
                sizes: [size, None, None, None],
                ..LayerState::default()
            };
        }
        states
    }

    /// The layer that [`super::choose`] takes.
    fn choose(layers: &LayerStates, wanted: Option<Size>) -> Option<usize> {
        super::choose(layers, wanted).map(|target| target.layer)
    }

    #[test]
    fn takes_the_smallest_layer_that_covers_the_tile() {
        let all = layers(&[(true, F), (true, H), (true, Q)]);
        for (wanted, layer) in [
            (Size::new(1280, 720), 0),
            (Size::new(1920, 1080), 0),
            (Size::new(641, 360), 0),
            (Size::new(640, 360), 1),
            (Size::new(321, 100), 1),
            (Size::new(320, 180), 2),
            (Size::new(1, 1), 2),
            (Size::new(360, 640), 1),
        ] {
            assert_eq!(choose(&all, Some(wanted)), Some(layer), "{wanted:?}");
        }
    }

    #[test]
    fn takes_the_lowest_when_the_wanted_size_or_every_size_is_unknown() {
        assert_eq!(
            choose(&layers(&[(true, F), (true, H), (true, Q)]), None),
            Some(2)
        );
        assert_eq!(
            choose(&layers(&[(true, None), (true, None), (true, None)]), F),
            Some(2)
        );
        assert_eq!(
            choose(&layers(&[(true, F), (true, None), (false, None)]), None),
            Some(1)
        );
    }

    #[test]
    fn a_silent_layer_gives_way_to_the_best_live_one() {
        assert_eq!(
            choose(&layers(&[(false, F), (true, H), (true, Q)]), F),
            Some(1)
        );
        assert_eq!(
            choose(&layers(&[(false, F), (false, H), (true, Q)]), F),
            Some(2)
        );
        assert_eq!(
            choose(&layers(&[(true, F), (true, H), (false, Q)]), Q),
            Some(1)
        );
        assert_eq!(
            choose(&layers(&[(false, F), (false, H), (false, Q)]), F),
            None
        );
    }

    #[test]
    fn equal_sizes_cost_least_in_the_lower_layer() {
        assert_eq!(choose(&layers(&[(true, F), (true, F)]), F), Some(1));
        assert_eq!(choose(&layers(&[(true, H), (true, H)]), F), Some(0));
    }

    #[test]
    fn sizes_decide_whatever_the_order_of_sdp() {
        let reversed = layers(&[(true, Q), (true, H), (true, F)]);
        assert_eq!(choose(&reversed, None), Some(0));
        assert_eq!(choose(&reversed, H), Some(1));
        assert_eq!(choose(&reversed, F), Some(2));
    }

    /// Three layers of three temporal layers each, the rates of the base and what each adds.
    fn simulcast() -> LayerStates {
        let mut states = layers(&[(true, F), (true, H), (true, Q)]);
        for (state, kbps) in states.iter_mut().zip([1000, 300, 60]) {
            state.top.temporal = 2;
            state.rates.bps[0] = [2 * kbps * 1000, kbps * 1000, kbps * 1000, 0];
        }
        states
    }

    fn rungs(layers: &LayerStates, wanted: Option<Size>) -> Vec<(usize, u8, u8, u64)> {
        let ladder = ladder(layers, wanted);
        let rungs = ladder.rungs().iter();
        rungs
            .map(|Rung { target, bps }| (target.layer, target.spatial, target.temporal, bps / 1000))
            .collect()
    }

    #[test]
    fn the_ladder_climbs_to_what_is_wanted_and_thins_out_only_the_lowest_layer_to_its_base() {
        let lowest = [(2, 0, 0, 120), (2, 0, 1, 180), (2, 0, 2, 240)];
        let all = [
            &lowest[..],
            &[
                (1, 0, 1, 900),
                (1, 0, 2, 1200),
                (0, 0, 1, 3000),
                (0, 0, 2, 4000),
            ],
        ]
        .concat();
        assert_eq!(rungs(&simulcast(), F), all);
        assert_eq!(rungs(&simulcast(), H), all[..5]);
        assert_eq!(rungs(&simulcast(), None), lowest);
        assert_eq!(rungs(&LayerStates::default(), F), []);
    }

    #[test]
    fn spatial_layers_are_rungs_of_their_own() {
        let mut states = layers(&[(true, Q)]);
        states[0].sizes = [Q, H, F, None];
        states[0].top = Sublayer {
            spatial: 2,
            temporal: 1,
        };
        for (rates, kbps) in states[0].rates.bps.iter_mut().zip([50, 200, 700]) {
            *rates = [kbps * 1000, kbps * 1000, 0, 0];
        }
        assert_eq!(
            rungs(&states, F),
            [
                (0, 0, 0, 50),
                (0, 0, 1, 100),
                (0, 1, 0, 250),
                (0, 1, 1, 500),
                (0, 2, 0, 950),
                (0, 2, 1, 1900)
            ]
        );
        assert_eq!(
            super::choose(&states, H),
            Some(Target {
                layer: 0,
                spatial: 1,
                temporal: 1
            })
        );
    }

    #[test]
    fn a_better_choice_that_costs_no_more_replaces_the_lesser_one() {
        let mut states = simulcast();
        // The middle layer shows a still picture, and the top of the highest is empty.
        states[1].rates.bps[0] = [80_000, 50_000, 50_000, 0];
        states[0].rates.bps[0][2] = 0;
        assert_eq!(
            rungs(&states, F),
            [
                (2, 0, 0, 120),
                (1, 0, 1, 130),
                (1, 0, 2, 180),
                (0, 0, 2, 3000)
            ]
        );
    }

    #[test]
    fn without_measured_rates_every_choice_stays() {
        let mut states = layers(&[(true, F), (true, H), (true, Q)]);
        states.iter_mut().for_each(|state| state.top.temporal = 1);
        assert_eq!(rungs(&states, F).len(), 6);
    }
}
