//! Which packet left under which transport-wide number: a subscriber's feedback names those that did not arrive.

use weir_wire::Seq;

use crate::ids::SubscriptionId;
use crate::limits::DEPARTURES;

/// One packet of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departed {
    /// The subscription's table index, and who must be there.
    pub(crate) subscription: u32,
    pub(crate) id: SubscriptionId,
    /// The number in the subscription's own stream, also of what left as a retransmission.
    pub(crate) seq: Seq,
}

/// The last packets of one transport, by transport-wide number.
#[derive(Debug)]
pub(crate) struct Departures {
    places: Vec<Option<(Seq, Departed)>>,
    /// How many of the last packets were lost, smoothed.
    loss: f32,
}

/// The weight of one packet in `loss`: some seconds of one camera.
const PACKET_WEIGHT: f32 = 1.0 / 256.0;

impl Departures {
    pub(crate) fn new() -> Self {
        Self {
            places: vec![None; DEPARTURES],
            loss: 0.0,
        }
    }

    fn place(&mut self, wide: Seq) -> &mut Option<(Seq, Departed)> {
        let mask = self.places.len() - 1;
        &mut self.places[usize::from(wide.0) & mask]
    }

    pub(crate) fn note(&mut self, wide: Seq, departed: Departed) {
        *self.place(wide) = Some((wide, departed));
    }

    /// How many of the last packets of pictures were lost, as a fraction.
    pub(crate) fn loss(&self) -> f32 {
        self.loss
    }

    /// Feedback says that the packet with this number arrived.
    pub(crate) fn arrived(&mut self, wide: Seq) {
        if self.take(wide).is_some() {
            self.loss -= self.loss * PACKET_WEIGHT;
        }
    }

    /// Feedback says that the packet with this number did not arrive: what it was.
    pub(crate) fn lost(&mut self, wide: Seq) -> Option<Departed> {
        let departed = self.take(wide)?;
        self.loss += (1.0 - self.loss) * PACKET_WEIGHT;
        Some(departed)
    }

    /// What left under this number, once: feedback that says it again says nothing new.
    fn take(&mut self, wide: Seq) -> Option<Departed> {
        let place = self.place(wide);
        let (_, departed) = place.take_if(|(at, _)| *at == wide)?;
        Some(departed)
    }
}

const _: () = assert!(
    DEPARTURES.is_power_of_two(),
    "the place of a number is found by its low bits"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn departed(seq: u16) -> Departed {
        Departed {
            subscription: 3,
            id: SubscriptionId(7),
            seq: Seq(seq),
        }
    }

    #[test]
    fn knows_the_last_ones_and_tells_each_once() {
        let mut departures = Departures::new();
        for wide in 65_000..65_536 + 600u32 {
            departures.note(Seq(wide as u16), departed(wide as u16 ^ 0x5555));
        }
        assert_eq!(departures.take(Seq(65_000)), None, "too long ago");
        assert_eq!(departures.take(Seq(599)), Some(departed(599 ^ 0x5555)));
        assert_eq!(departures.take(Seq(599)), None);
        assert_eq!(departures.take(Seq(600)), None, "not yet");
        assert_eq!(
            departures.take(Seq(65_300)),
            Some(departed(65_300 ^ 0x5555))
        );
    }
}
