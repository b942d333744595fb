//! The text that Prometheus reads (its exposition format 0.0.4).

use std::collections::HashMap;
use std::fmt::Write as _;

use weir_shard::metrics::{Family, HistogramView, Kind, Labels, Sink};

/// A text under way. All series of a metric stand together, in whatever order they come.
#[derive(Default)]
pub(super) struct Text {
    families: Vec<(&'static Family, String)>,
    places: HashMap<&'static str, usize>,
    /// A label of all that comes from now on, with a comma behind it.
    common: String,
    samples: u64,
}

impl Text {
    /// All that comes from now on has this label, until [`Text::unlabel`].
    pub(super) fn label(&mut self, name: &str, value: impl std::fmt::Display) {
        self.common = format!("{name}=\"{value}\",");
    }

    /// What comes from now on has only its own labels.
    pub(super) fn unlabel(&mut self) {
        self.common.clear();
    }

    /// How many lines with a value there are.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// What there is so far: each metric with its series.
    #[cfg(test)]
    pub(super) fn families(&self) -> impl Iterator<Item = (&'static Family, &str)> {
        self.families
            .iter()
            .map(|(family, series)| (*family, series.as_str()))
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        let mut text = String::with_capacity(64 * self.samples as usize);
        for (family, series) in self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
            let name = family.name;
            // Writing to a string cannot fail; so below.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{series}");
        }
        text
    }

    fn line(&mut self, family: &'static Family, suffix: &str, labels: Labels<'_>, value: f64) {
        self.samples += 1;
        let place = *self.places.entry(family.name).or_insert_with(|| {
            self.families.push((family, String::new()));
            self.families.len() - 1
        });
        let text = &mut self.families[place].1;
        let _ = write!(text, "{}{suffix}", family.name);
        if !labels.is_empty() || !self.common.is_empty() {
            text.push('{');
            text.push_str(&self.common);
            for (name, label) in labels {
                let _ = write!(text, "{name}=\"{label}\",");
            }
            // The last comma.
            text.pop();
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

impl Sink for Text {
    fn number(&mut self, family: &'static Family, labels: Labels<'_>, value: u64) {
        self.line(family, "", labels, value as f64 / family.per_unit);
    }

    fn histogram(&mut self, family: &'static Family, labels: Labels<'_>, of: HistogramView<'_>) {
        let mut so_far = 0;
        for (bound, count) in of.buckets() {
            so_far += count;
            let bound = match bound {
                Some(bound) => (bound as f64 / family.per_unit).to_string(),
                None => "+Inf".to_owned(),
            };
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain([("le", bound.as_str())])
                .collect();
            self.line(family, "_bucket", &labels, so_far as f64);
        }
        self.line(family, "_sum", labels, of.sum() as f64 / family.per_unit);
        // Not counted anew: a value that came since would make the text contradict itself.
        self.line(family, "_count", labels, so_far as f64);
    }
}

#[cfg(test)]
mod tests {
    use weir_shard::metrics::Histogram;

    use super::*;

    static BYTES: Family = Family {
        name: "bytes_total",
        kind: Kind::Counter,
        help: "Bytes,\nwith a \\.",
        rises: "",
        per_unit: 1.0,
    };
    static SECONDS: Family = Family {
        name: "wait_seconds",
        kind: Kind::Histogram,
        help: "Wait.",
        rises: "",
        per_unit: 1e9,
    };

    #[test]
    fn series_of_a_metric_stand_together_and_buckets_add_up() {
        let histogram = Histogram::<9, 2>::default();
        [500, 1000, 1000, 1_000_000]
            .iter()
            .for_each(|value| histogram.record(*value));
        let mut text = Text::default();
        text.label("shard", 0);
        text.number(&BYTES, &[], 7);
        text.histogram(&SECONDS, &[], histogram.view());
        text.label("shard", 1);
        text.number(&BYTES, &[("stage", "sealed")], 8);
        text.unlabel();
        text.number(&BYTES, &[], u64::from(u32::MAX));
        assert_eq!(text.samples(), 8);
        assert_eq!(
            text.finish(),
            "# HELP bytes_total Bytes,\\nwith a \\\\.\n\
             # TYPE bytes_total counter\n\
             bytes_total{shard=\"0\"} 7\n\
             bytes_total{shard=\"1\",stage=\"sealed\"} 8\n\
             bytes_total 4294967295\n\
             # HELP wait_seconds Wait.\n\
             # TYPE wait_seconds histogram\n\
             wait_seconds_bucket{shard=\"0\",le=\"0.000000512\"} 1\n\
             wait_seconds_bucket{shard=\"0\",le=\"0.000001024\"} 3\n\
             wait_seconds_bucket{shard=\"0\",le=\"+Inf\"} 4\n\
             wait_seconds_sum{shard=\"0\"} 0.0010025\n\
             wait_seconds_count{shard=\"0\"} 4\n"
        );
    }
}
