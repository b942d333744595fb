//! Which layer of a track a subscriber gets: a decision over a few numbers, without state.

use crate::ids::Size;
use crate::limits::LAYERS_MAX;

/// What is known about one layer at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LayerState {
    /// Whether packets come, compared with the other layers.
    pub(crate) live: bool,
    /// From the bitstream, else from signalling.
    pub(crate) size: Option<Size>,
}

/// The layers of a track, highest quality first.
pub(crate) type LayerStates = [LayerState; LAYERS_MAX];

/// The smallest live layer that covers `wanted`. Without a wanted size, or when no live layer's size is known: the lowest.
/// When none is large enough: the largest. `None` when no layer is live.
pub(crate) fn choose(layers: &LayerStates, wanted: Option<Size>) -> Option<usize> {
    let lowest = layers.iter().rposition(|layer| layer.live)?;
    let Some(wanted) = wanted else {
        return Some(lowest);
    };
    let sized = || {
        layers
            .iter()
            .enumerate()
            .filter(|(_, l)| l.live)
            .filter_map(|(i, l)| Some((i, l.size?)))
    };
    let area = |size: Size| u32::from(size.width) * u32::from(size.height);
    // Equal areas: the lower quality costs less and looks the same, hence the index in the key.
    let smallest = sized()
        .filter(|(_, size)| size.covers(wanted))
        .min_by_key(|(i, size)| (area(*size), usize::MAX - i));
    let largest = || sized().max_by_key(|(i, size)| (area(*size), usize::MAX - i));
    Some(smallest.or_else(largest).map_or(lowest, |(index, _)| index))
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
            *state = LayerState { live, size };
        }
        states
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
}
