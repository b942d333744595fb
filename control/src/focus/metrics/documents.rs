//! Holds documents against what is exported: `docs/metrics.md` is made from it, and dashboard, alerts and other documents may name
//! only what there is.
//!
//! `WEIR_SNAPSHOT=write cargo test -p weir documents` writes `docs/metrics.md` anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use weir_shard::metrics::{Family, Kind};

use super::tests::exporter;

const INTRODUCTION: &str = "\
# Metrics

What `/metrics` says, in the text format of Prometheus. How to scrape it and what to look at first is in
[operating.md](operating.md); a dashboard is in [grafana/weir.json](grafana/weir.json), alerts are in
[prometheus/alerts.yml](prometheus/alerts.yml).

Every series is there from the start, and no label holds anything that a user chose: how many there are depends on the number of
shards alone. Nothing is gathered before somebody asks. Histograms count in buckets that double in size; what is measured in
steps of a batch is measured in every 17th batch, so that shares are right and sums are not.

This page is made from the code; a test compares them.
";

/// Sections of the page: what the names in them begin with.
const SECTIONS: &[(&str, &str, &str)] = &[
    (
        "weir_shard_",
        "Shards: packets",
        "Label `shard` is the number of the shard. What flows, what is lost, and how good the ways are.",
    ),
    (
        "weir_ring_",
        "Shards: threads and rings",
        "Label `shard` is the number of the shard. How busy its thread is, and its exchange with the kernel and with control.",
    ),
    (
        "weir_appservice_",
        "Application service",
        "All zero unless the focus is one.",
    ),
    ("weir_export_", "The exporter itself", ""),
    ("weir_build_", "Build", ""),
    ("weir_thread_", "Threads", ""),
    ("process_", "Process", "The standard names."),
    ("weir_", "Calls and signalling", ""),
];

/// One metric with all label values that it has.
struct Metric {
    family: &'static Family,
    labels: BTreeMap<String, BTreeSet<String>>,
    /// Bounds of a histogram's buckets.
    bounds: Vec<String>,
}

/// Everything that a focus exports, by name.
fn exported() -> BTreeMap<&'static str, Metric> {
    let (exporter, _, _) = exporter(1);
    let own = exporter.0.own.lock().unwrap();
    let text = exporter.gather(&own.0, &own.1);
    let metric = |(family, series): (&'static Family, &str)| {
        let mut metric = Metric {
            family,
            labels: BTreeMap::new(),
            bounds: Vec::new(),
        };
        for line in series.lines() {
            let Some((_, labels)) = line.split_once('{') else {
                continue;
            };
            let labels = labels.rsplit_once('}').unwrap().0;
            for label in labels.split(',') {
                let (name, value) = label.split_once('=').unwrap();
                let value = value.trim_matches('"').to_owned();
                if name != "le" {
                    metric
                        .labels
                        .entry(name.to_owned())
                        .or_default()
                        .insert(value);
                } else if value != "+Inf" && !metric.bounds.contains(&value) {
                    metric.bounds.push(value);
                }
            }
        }
        (family.name, metric)
    };
    text.families().map(metric).collect()
}

fn section(name: &str) -> &'static str {
    let found = SECTIONS
        .iter()
        .find(|(prefix, _, _)| name.starts_with(prefix));
    found.expect("a section for every name").1
}

/// The page.
fn page(metrics: &BTreeMap<&'static str, Metric>) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (_, title, about) in SECTIONS.iter().rev() {
        page.push_str(&format!("\n## {title}\n\n"));
        if !about.is_empty() {
            page.push_str(&format!("{about}\n\n"));
        }
        page += "| metric | type | labels | what it is | when it rises |\n|---|---|---|---|---|\n";
        for (name, metric) in metrics.iter().filter(|(name, _)| section(name) == *title) {
            let Family { help, rises, .. } = metric.family;
            page.push_str(&format!(
                "| `{name}` | {} | {} | {} | {} |\n",
                kind(metric),
                labels(metric),
                help.replace('|', "\\|"),
                rises.replace('|', "\\|"),
            ));
        }
    }
    page
}

fn kind(metric: &Metric) -> String {
    match (metric.family.kind, metric.bounds.as_slice()) {
        (Kind::Counter, _) => "counter".into(),
        (Kind::Gauge, _) => "gauge".into(),
        (Kind::Histogram, [first, .., last]) => {
            format!(
                "histogram, {first} to {last} in {} buckets",
                metric.bounds.len()
            )
        }
        (Kind::Histogram, _) => panic!("{} has too few buckets", metric.family.name),
    }
}

fn labels(metric: &Metric) -> String {
    let label = |(name, values): (&String, &BTreeSet<String>)| match name.as_str() {
        "shard" => None,
        "version" => Some("`version`".to_owned()),
        "thread" => Some("`thread`: `shard-0` and so on, `control`".to_owned()),
        name => {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            Some(format!("`{name}`: {}", values.join(", ")))
        }
    };
    let labels: Vec<_> = metric.labels.iter().filter_map(label).collect();
    labels.join("; ")
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

#[test]
fn the_page_of_metrics_says_what_is_exported() {
    let (path, page) = (docs().join("metrics.md"), page(&exported()));
    if std::env::var_os("WEIR_SNAPSHOT").is_some_and(|how| how == "write") {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let first = page
        .lines()
        .zip(written.lines())
        .find(|(new, old)| new != old);
    assert!(
        written == page,
        "docs/metrics.md is not what the code says; write it with WEIR_SNAPSHOT=write. First difference: {first:?}"
    );
}

#[test]
fn names_follow_the_conventions() {
    for (name, metric) in exported() {
        let Family {
            kind, help, rises, ..
        } = metric.family;
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        for suffix in ["_sum", "_count", "_bucket"] {
            assert!(
                !name.ends_with(suffix),
                "{name}: {suffix} belongs to histograms"
            );
        }
        for unit in ["ms", "us", "ns", "bps", "bits", "kb", "percent", "mille"] {
            let named = name.split('_').any(|word| word == unit);
            assert!(!named, "{name}: base units only");
        }
        assert!(
            help.ends_with('.') || help.ends_with(".)"),
            "{name}: {help}"
        );
        assert!(rises.ends_with('.'), "{name}: {rises}");
    }
}

// ── Who names metrics ──────────────────────────────────────────────────────────────────────────────────────────────────

/// The metric of a name in an expression, without what histograms append.
fn base<'a>(name: &'a str, metrics: &BTreeMap<&'static str, Metric>) -> &'a str {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
        let base = name.strip_suffix(suffix)?;
        (metrics.get(base)?.family.kind == Kind::Histogram).then_some(base)
    });
    histogram.unwrap_or(name)
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Names of metrics in a text, each with what follows it. Names of crates (`weir_shard::…`) and of recorded series (`weir:…`) are
/// none; what only begins a name, such as `weir_shard_…`, is none either.
fn named(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for prefix in ["weir_", "process_"] {
        for (at, _) in text.match_indices(prefix) {
            if text[..at].ends_with(|before: char| is_word(before) || before == ':') {
                continue;
            }
            let rest = &text[at..];
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            if !behind.starts_with("::") && !name.ends_with('_') {
                found.push((name, behind));
            }
        }
    }
    found
}

/// What is wrong with the label matchers that follow a name.
fn wrong_matcher(metric: &Metric, behind: &str) -> Option<String> {
    let matchers = behind.strip_prefix('{')?.split_once('}')?.0;
    for matcher in matchers
        .split(',')
        .filter(|matcher| !matcher.trim().is_empty())
    {
        let end = matcher.find(['=', '!']).unwrap_or(matcher.len());
        let (label, value) = matcher.split_at(end);
        let (label, value) = (
            label.trim(),
            value.trim_start_matches(['=', '!', '~']).trim(),
        );
        if ["instance", "job", "le"].contains(&label) {
            continue;
        }
        let Some(values) = metric.labels.get(label) else {
            return Some(format!("no label {label}"));
        };
        let any = ["shard", "thread", "version"].contains(&label);
        let plain =
            |value: &&str| value.chars().all(|c| is_word(c) || c == '-') && !value.is_empty();
        let wrong = value
            .trim_matches('"')
            .split('|')
            .filter(plain)
            .find(|value| !any && !values.contains(*value));
        if let Some(wrong) = wrong {
            return Some(format!("{label} is never {wrong}"));
        }
    }
    None
}

/// Everything that is wrong in a text that names metrics.
fn mistakes(text: &str, metrics: &BTreeMap<&'static str, Metric>) -> Vec<String> {
    let mistake = |(name, behind): (&str, &str)| match metrics.get(base(name, metrics)) {
        None => Some(format!("{name} is not exported")),
        Some(metric) => wrong_matcher(metric, behind).map(|wrong| format!("{name}: {wrong}")),
    };
    named(text).into_iter().filter_map(mistake).collect()
}

/// Labels that results are grouped by.
fn grouped_by(text: &str) -> BTreeSet<&str> {
    let mut labels = BTreeSet::new();
    for keyword in ["by (", "without (", "on (", "by(", "without(", "on("] {
        for (at, _) in text.match_indices(keyword) {
            if !text[..at].ends_with(is_word) {
                let list = &text[at + keyword.len()..];
                let list = list.split_once(')').map_or("", |(list, _)| list);
                labels.extend(
                    list.split(',')
                        .map(str::trim)
                        .filter(|label| !label.is_empty()),
                );
            }
        }
    }
    labels
}

/// All texts in a JSON document, without their escapes.
fn texts(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Array(of) => of.iter().for_each(|value| texts(value, found)),
        serde_json::Value::Object(of) => of.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

#[test]
fn dashboard_and_alerts_name_only_what_is_exported() {
    let metrics = exported();
    let dashboard = fs::read_to_string(docs().join("grafana/weir.json")).unwrap();
    let mut dashboards = Vec::new();
    texts(&serde_json::from_str(&dashboard).unwrap(), &mut dashboards);
    let dashboard = dashboards.join("\n");
    let rules = fs::read_to_string(docs().join("prometheus/alerts.yml")).unwrap();
    let known: BTreeSet<&str> = metrics
        .values()
        .flat_map(|metric| metric.labels.keys().map(String::as_str))
        .chain(["le", "instance", "job"])
        .collect();
    for (file, text) in [("weir.json", &dashboard), ("alerts.yml", &rules)] {
        assert_eq!(mistakes(text, &metrics), Vec::<String>::new(), "{file}");
        assert!(named(text).len() > 20, "{file} names metrics");
        let strange: Vec<_> = grouped_by(text).difference(&known).copied().collect();
        assert_eq!(
            strange,
            Vec::<&str>::new(),
            "{file}: labels that no metric has"
        );
        for (at, _) in text.match_indices("weir:") {
            let name = &text[at..];
            let end = name.find(|c| !is_word(c) && c != ':').unwrap_or(name.len());
            let recorded = format!("record: {}\n", &name[..end]);
            assert!(
                rules.contains(&recorded),
                "{file}: {} is not recorded",
                &name[..end]
            );
        }
    }
}

#[test]
fn documents_name_only_what_is_exported() {
    let metrics = exported();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(docs()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            seen += named(&text).len();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            wrong.extend(
                mistakes(&text, &metrics)
                    .into_iter()
                    .map(|of| format!("{name}: {of}")),
            );
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen > 100);
}

#[test]
fn mistakes_are_found() {
    let metrics = exported();
    let found = |text: &str| mistakes(text, &metrics);
    assert_eq!(
        found("rate(weir_shard_packets_total{stage=\"sealed\"}[1m])"),
        [""; 0]
    );
    assert_eq!(
        found("weir_shard_loss_ratio_bucket{le=\"1\",direction=~\"up|down\"}"),
        [""; 0]
    );
    assert_eq!(found("see weir_shard::Shard and weir_shard_*"), [""; 0]);
    assert_eq!(
        found("weir_conferences_count"),
        ["weir_conferences_count is not exported"]
    );
    assert_eq!(
        found("weir_shard_packets_total{stage=\"boiled\"}"),
        ["weir_shard_packets_total: stage is never boiled"]
    );
    assert_eq!(
        found("weir_shard_packets_total{stages=\"sealed\"}"),
        ["weir_shard_packets_total: no label stages"]
    );
    assert_eq!(
        grouped_by("sum by (le, shard) (x)")
            .into_iter()
            .collect::<Vec<_>>(),
        ["le", "shard"]
    );
}
