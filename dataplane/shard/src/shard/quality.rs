//! How good the ways are: the worst of all streams now, for whoever looks at the metrics first, how all of them were, and what
//! has gone over one transport, for whoever asks.

use std::time::Instant;

use crate::counters::Counters;
use crate::event::Event;
use crate::ids::TransportId;
use crate::publisher::Source;
use crate::reason::Direction;
use crate::shard::Shard;
use crate::status::{Flow, Traffic};
use crate::subscription::Subscription;
use crate::transport::Transport;

/// Counts what the focus has just reported to a publisher of one stream.
pub(super) fn count_way_up(source: &Source, counters: &Counters) {
    let up = Direction::Up as usize;
    let lost = source.reception.fraction_lost();
    counters.loss[up].record(u64::from(lost));
    let jitter = microseconds(source.reception.jitter(), source.clock_rate);
    counters.jitter[up].record(jitter);
}

impl Shard {
    /// Counts what a subscriber has just reported of one stream.
    pub(super) fn count_way_down(&self, subscription: u32) {
        let Some(of) = self.subscriptions.get(subscription) else {
            return;
        };
        let down = Direction::Down as usize;
        let lost = of.reports.fraction_lost;
        self.counters.loss[down].record(u64::from(lost));
        self.counters.jitter[down].record(self.jitter_down_us(of));
    }

    fn jitter_down_us(&self, of: &Subscription) -> u64 {
        let codec = self
            .tracks
            .get(of.track)
            .and_then(|track| track.codecs.first());
        let clock_rate = codec.map_or(90_000, |codec| codec.clock_rate);
        microseconds(of.reports.jitter, clock_rate)
    }

    /// Tells what has gone over a transport.
    pub(super) fn measure_transport(&mut self, id: TransportId, now: Instant) {
        let Some(of) = self.transport(id).and_then(|at| self.transports.get(at)) else {
            return;
        };
        let traffic = Traffic {
            at: now,
            sent: Flow {
                lost: self.lost_down(of),
                ..of.sent
            },
            received: Flow {
                lost: self.lost_up(of),
                ..of.received
            },
            round_trip: of.round_trip.smoothed(),
        };
        if self.may_tell() {
            self.event(Event::TransportMeasured { id, traffic });
        }
    }

    /// The most that the participant has reported lost of one of its subscriptions.
    fn lost_down(&self, of: &Transport) -> Option<u8> {
        let subscriptions = of.subscriptions.iter();
        let reports = subscriptions.filter_map(|at| Some(&self.subscriptions.get(*at)?.reports));
        let reported = reports.filter(|reports| reports.highest.is_some());
        reported.map(|reports| reports.fraction_lost).max()
    }

    /// The most that was lost of one of the streams that it sends.
    fn lost_up(&self, of: &Transport) -> Option<u8> {
        let tracks = of.tracks.iter().filter_map(|at| self.tracks.get(*at));
        let layers = tracks.flat_map(|track| &track.layers);
        let sources = layers.filter_map(|layer| self.sources.get(layer.source?));
        sources.map(|source| source.reception.fraction_lost()).max()
    }

    /// Sets the gauges of loss, jitter and round trip.
    pub(super) fn count_quality(&mut self) {
        let (mut round_trip, mut lost_down, mut jitter_down) = (0, 0, 0);
        for index in 0..self.transports.end() {
            let of = self.transports.get(index);
            let trip = of.and_then(|of| of.round_trip.smoothed());
            round_trip = round_trip.max(trip.map_or(0, |trip| trip.as_micros() as u64));
        }
        for index in 0..self.subscriptions.end() {
            let Some(of) = self.subscriptions.get(index) else {
                continue;
            };
            lost_down = lost_down.max(of.reports.fraction_lost);
            jitter_down = jitter_down.max(self.jitter_down_us(of));
        }
        let (mut lost_up, mut jitter_up) = (0, 0);
        for index in 0..self.sources.end() {
            let Some(of) = self.sources.get(index) else {
                continue;
            };
            lost_up = lost_up.max(of.reception.fraction_lost());
            jitter_up = jitter_up.max(microseconds(of.reception.jitter(), of.clock_rate));
        }
        let counters = &self.counters;
        counters.round_trip_us_max.set(round_trip);
        counters.lost_down_per_mille_max.set(per_mille(lost_down));
        counters.lost_up_per_mille_max.set(per_mille(lost_up));
        counters.jitter_down_us_max.set(jitter_down);
        counters.jitter_up_us_max.set(jitter_up);
    }
}

/// A fraction in 256ths.
fn per_mille(fraction: u8) -> u64 {
    u64::from(fraction) * 1000 / 256
}

fn microseconds(units: u32, clock_rate: u32) -> u64 {
    u64::from(units) * 1_000_000 / u64::from(clock_rate.max(1))
}
