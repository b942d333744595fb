//! What a metric is: single-writer numbers and histograms of them, and the words that go with each.
//!
//! Not an exporter: that reads all this through [`Sink`] from its own thread, while the writer goes on. Writing costs a load and
//! a store, and nothing here allocates.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread writes and others may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds `n`. A load and a store instead of a locked addition: there is one writer.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// How often values of each size were seen. Bounds are powers of two: the first bucket ends with 2 to the power of `FIRST`, each
/// of the others at twice the one before, and behind the last of `BUCKETS` is one more without an end.
#[derive(Debug)]
pub struct Histogram<const FIRST: u32, const BUCKETS: usize> {
    buckets: [Counter; BUCKETS],
    above: Counter,
    sum: Counter,
}

impl<const FIRST: u32, const BUCKETS: usize> Histogram<FIRST, BUCKETS> {
    /// Counts one value.
    pub fn record(&self, value: u64) {
        let doublings = u64::BITS - value.saturating_sub(1).leading_zeros();
        let place = doublings.saturating_sub(FIRST) as usize;
        self.buckets.get(place).unwrap_or(&self.above).add(1);
        self.sum.add(value);
    }

    /// For whoever exports it.
    pub fn view(&self) -> HistogramView<'_> {
        HistogramView {
            first: FIRST,
            buckets: &self.buckets,
            above: &self.above,
            sum: &self.sum,
        }
    }
}

impl<const FIRST: u32, const BUCKETS: usize> Default for Histogram<FIRST, BUCKETS> {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Counter::default()),
            above: Counter::default(),
            sum: Counter::default(),
        }
    }
}

/// A [`Histogram`] of any size.
#[derive(Clone, Copy, Debug)]
pub struct HistogramView<'a> {
    first: u32,
    buckets: &'a [Counter],
    above: &'a Counter,
    sum: &'a Counter,
}

impl HistogramView<'_> {
    /// Upper bounds, which belong to their buckets, with how many values were in each, in order; then `None` with those above.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounded = self.buckets.iter().zip(self.first..);
        let above = std::iter::once((None, self.above.get()));
        bounded
            .map(|(count, log2)| (Some(1 << log2), count.get()))
            .chain(above)
    }

    /// Of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets().map(|(_, count)| count).sum()
    }
}

/// The ways to read a metric's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// A level.
    Gauge,
    /// Values by size.
    Histogram,
}

/// One metric, whatever its labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// By the conventions of Prometheus: base units, `_total` behind counters.
    pub name: &'static str,
    /// How to read it.
    pub kind: Kind,
    /// What it counts.
    pub help: &'static str,
    /// What to make of it when it rises.
    pub rises: &'static str,
    /// How many of the numbers' units make one of the name's.
    pub per_unit: f64,
}

/// Label names with their values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// What takes metrics to export them.
pub trait Sink {
    /// Takes a counter or a gauge.
    fn number(&mut self, family: &'static Family, labels: Labels<'_>, value: u64);

    /// Takes a histogram.
    fn histogram(&mut self, family: &'static Family, labels: Labels<'_>, of: HistogramView<'_>);
}

/// Makes a struct of metrics, with `new`-less [`Default`] and a method `export` that hands all of them to a [`Sink`].
///
/// A field is a `counter`, a `gauge` or a `histogram`, one for each value of an enum of [`labelled!`](crate::labelled) where one
/// is named. A histogram says where its first bucket ends (as a power of two) and how many there are. `/` says how many of the
/// numbers' units make one of the name's. The documentation is the metric's help; the last text says what to do when it rises.
#[macro_export]
macro_rules! metrics {
    (
        $(#[$meta:meta])*
        $vis:vis struct $struct:ident {$(
            $(#[doc = $help:literal])+
            $field:ident: $kind:ident $([$of:ty; $label:literal])? $(($first:literal, $buckets:literal))? $(/ $per_unit:literal)?
                = $name:literal, $rises:literal;
        )*}
        $($(#[doc = $more_help:literal])+ + $more:ident: $more_type:ty;)*
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $struct {
            $($(#[doc = $help])+ pub $field: $crate::metrics!(@type $kind [$($of)?] $(($first, $buckets))?),)*
            $($(#[doc = $more_help])+ $more: $more_type,)*
        }

        impl Default for $struct {
            fn default() -> Self {
                Self {
                    $($field: $crate::metrics!(@new [$($of)?]),)*
                    $($more: Default::default(),)*
                }
            }
        }

        impl $struct {
            /// Hands every metric with its labels to `sink`, and no series twice.
            pub fn export(&self, sink: &mut dyn $crate::metrics::Sink) {
                $({
                    static FAMILY: $crate::metrics::Family = $crate::metrics::Family {
                        name: $name,
                        kind: $crate::metrics!(@kind $kind),
                        help: concat!($($help),+).trim_ascii(),
                        rises: $rises,
                        per_unit: $crate::metrics!(@per_unit $($per_unit)?),
                    };
                    $crate::metrics!(@export $kind [$($of)?] [$($label)?] self.$field, sink);
                })*
                $(self.$more.export(sink);)*
            }
        }
    };

    (@type histogram [] ($first:literal, $buckets:literal)) => { $crate::metrics::Histogram<$first, $buckets> };
    (@type histogram [$of:ty] ($first:literal, $buckets:literal)) => {
        [$crate::metrics::Histogram<$first, $buckets>; <$of>::ALL.len()]
    };
    (@type $kind:ident []) => { $crate::metrics::Counter };
    (@type $kind:ident [$of:ty]) => { [$crate::metrics::Counter; <$of>::ALL.len()] };

    (@new []) => { Default::default() };
    (@new [$of:ty]) => { std::array::from_fn(|_| Default::default()) };

    (@kind counter) => { $crate::metrics::Kind::Counter };
    (@kind gauge) => { $crate::metrics::Kind::Gauge };
    (@kind histogram) => { $crate::metrics::Kind::Histogram };

    (@per_unit) => { 1.0 };
    (@per_unit $per_unit:literal) => { $per_unit };

    (@export histogram [] [] $self:ident.$field:ident, $sink:ident) => {
        $sink.histogram(&FAMILY, &[], $self.$field.view())
    };
    (@export histogram [$of:ty] [$label:literal] $self:ident.$field:ident, $sink:ident) => {
        for of in <$of>::ALL {
            $sink.histogram(&FAMILY, &[($label, of.label())], $self.$field[of as usize].view());
        }
    };
    (@export $kind:ident [] [] $self:ident.$field:ident, $sink:ident) => {
        $sink.number(&FAMILY, &[], $self.$field.get())
    };
    (@export $kind:ident [$of:ty] [$label:literal] $self:ident.$field:ident, $sink:ident) => {
        for of in <$of>::ALL {
            $sink.number(&FAMILY, &[($label, of.label())], $self.$field[of as usize].get());
        }
    };
}

/// Makes an enum whose values have a label each, for metrics and messages.
#[macro_export]
macro_rules! labelled {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident => $label:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All there are.
            pub const ALL: [$name; [$($label),*].len()] = [$($name::$variant),*];

            /// As a metric label, and on the wire.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_the_bucket_whose_bound_they_do_not_exceed() {
        let histogram = Histogram::<3, 3>::default();
        for value in [0, 1, 8, 9, 16, 17, 32, 33, u64::MAX / 2] {
            histogram.record(value);
        }
        let buckets: Vec<_> = histogram.view().buckets().collect();
        assert_eq!(
            buckets,
            [(Some(8), 3), (Some(16), 2), (Some(32), 2), (None, 2)]
        );
        assert_eq!(histogram.view().count(), 9);
        assert_eq!(histogram.view().sum(), 116 + u64::MAX / 2);
    }

    #[test]
    fn the_first_bucket_may_end_with_one() {
        let histogram = Histogram::<0, 2>::default();
        for value in [0, 1, 2, 3] {
            histogram.record(value);
        }
        let buckets: Vec<_> = histogram.view().buckets().collect();
        assert_eq!(buckets, [(Some(1), 2), (Some(2), 1), (None, 1)]);
    }
}
