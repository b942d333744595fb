//! What was measured of foci, and which of them is the best by that.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::participant::FocusAddress;

/// What MSC3898 "Determining the best focus" names, all of one focus. `None` is what was not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measured {
    /// From an invite to its answer, through homeservers.
    pub answer: Option<Duration>,
    /// From a connect to the blip port until it is refused.
    pub blip: Option<Duration>,
    /// From a message on the data channel to what answers it.
    pub channel: Option<Duration>,
    /// What a short burst of media met.
    pub media: Option<MediaMeasured>,
}

/// What a short burst of media met on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaMeasured {
    /// To the focus and back.
    pub round_trip: Duration,
    /// What came through per second, in bits of RTP packets. The way may carry more than a short burst shows.
    pub bandwidth_bps: u64,
}

/// By what foci are compared, the most telling first: media goes where media goes, an answer goes through homeservers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Criterion {
    /// [`Measured::media`]
    Media,
    /// [`Measured::channel`]
    Channel,
    /// [`Measured::blip`]
    Blip,
    /// [`Measured::answer`]
    Answer,
}

impl Criterion {
    /// All, the most telling first.
    pub const ALL: [Criterion; 4] = [
        Criterion::Media,
        Criterion::Channel,
        Criterion::Blip,
        Criterion::Answer,
    ];

    /// What it says of a focus.
    pub fn of(self, measured: &Measured) -> Option<Duration> {
        match self {
            Criterion::Media => measured.media.map(|media| media.round_trip),
            Criterion::Channel => measured.channel,
            Criterion::Blip => measured.blip,
            Criterion::Answer => measured.answer,
        }
    }
}

/// Differences below this are noise. Foci that are so alike are told apart by their ids, so that everybody near takes the same.
const ALIKE: Duration = Duration::from_millis(2);

/// How foci are compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale<'a> {
    pub(super) measured: &'a BTreeMap<FocusAddress, Measured>,
    pub(super) criteria: &'a [Criterion],
    pub(super) bandwidth_min_bps: u64,
}

impl Scale<'_> {
    /// From the best to the worst.
    ///
    /// Times of different criteria say nothing of each other, so that a criterion counts for those that have it: the one that most
    /// foci have, of several the most telling. Who does not have it comes after those, by the same rule, and who has none last.
    pub(super) fn order(&self, foci: Vec<FocusAddress>) -> Vec<FocusAddress> {
        let mut rest = foci;
        rest.sort();
        let mut ordered = Vec::with_capacity(rest.len());
        while let Some(criterion) = self.common(&rest) {
            let (with, without) = rest
                .into_iter()
                .partition(|focus| self.time(focus, criterion).is_some());
            ordered.extend(self.order_by(with, criterion));
            rest = without;
        }
        ordered.extend(rest);
        ordered
    }

    /// How far a focus is, by the most telling that is known.
    pub(super) fn distance(&self, focus: &FocusAddress) -> Option<Duration> {
        let known = |criterion: &Criterion| self.time(focus, *criterion);
        self.criteria.iter().find_map(known)
    }

    fn time(&self, focus: &FocusAddress, criterion: Criterion) -> Option<Duration> {
        criterion.of(self.measured.get(focus)?)
    }

    /// The criterion that most of them have.
    fn common(&self, foci: &[FocusAddress]) -> Option<Criterion> {
        let having = |criterion: Criterion| {
            let with = foci.iter();
            with.filter(|focus| self.time(focus, criterion).is_some())
                .count()
        };
        let mut best = None;
        for criterion in self.criteria.iter().copied() {
            let count = having(criterion);
            if count > best.map_or(0, |(_, count)| count) {
                best = Some((criterion, count));
            }
        }
        best.map(|(criterion, _)| criterion)
    }

    /// By their times, those that are alike by their ids; those that carry too little after all that carry enough.
    fn order_by(&self, mut foci: Vec<FocusAddress>, criterion: Criterion) -> Vec<FocusAddress> {
        foci.sort_by_key(|focus| (self.is_narrow(focus), self.time(focus, criterion)));
        let mut ordered = Vec::with_capacity(foci.len());
        let mut rest = foci.as_slice();
        while let Some(first) = rest.first() {
            let near = |focus: &&FocusAddress| {
                let times = (self.time(focus, criterion), self.time(first, criterion));
                let alike = matches!(times, (Some(time), Some(first)) if time < first + ALIKE);
                alike && self.is_narrow(focus) == self.is_narrow(first)
            };
            let count = rest.iter().take_while(near).count().max(1);
            let (group, others) = rest.split_at(count);
            let mut group = group.to_vec();
            group.sort();
            ordered.extend(group);
            rest = others;
        }
        ordered
    }

    fn is_narrow(&self, focus: &FocusAddress) -> bool {
        let media = self.measured.get(focus).and_then(|of| of.media);
        media.is_some_and(|media| media.bandwidth_bps < self.bandwidth_min_bps)
    }
}
