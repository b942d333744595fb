//! What a real Prometheus gets of a focus with a call, while participants come and go.
//!
//! Tests that need `prometheus` and `promtool` (Debian's package `prometheus`) run only when asked for: `tests/run prometheus`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use weir_client::Participant;

use crate::site::{SMALL, Site, until_media_flows, until_some};

#[tokio::test(flavor = "multi_thread")]
async fn series_stay_the_same_while_participants_come_and_go() {
    let site = Site::start(1, "127.0.0.1:0").await;
    let before = site.metrics().await.names();
    assert!(before.len() > 300, "{} series", before.len());
    let stayed = come_and_go(&site).await;
    let during = site.metrics().await;
    assert_eq!(before, during.names());
    for participant in stayed {
        participant.leave().await;
    }
    site.until_empty().await;
    // A closed transport is a leave, whichever of it and `m.call.hangup` arrives first.
    let after = site.metrics().await;
    let ended = |reason| after.get(&format!("weir_calls_ended_total{{reason=\"{reason}\"}}"));
    assert_eq!(ended("left") + ended("removed"), 4.0);
    assert_eq!(after.refusals("unknown_call"), 0.0);
    assert_eq!(before, site.metrics().await.names());
    site.stop(vec![]).await;
}

/// Two meet, a third one comes and leaves, and a fourth. Gives the first two, who are still there.
async fn come_and_go(site: &Site) -> [Participant; 2] {
    let call = site.call().await;
    let alice = site.join(&call, "alice", SMALL).await;
    let bob = site.join(&call, "bob", SMALL).await;
    until_media_flows(&[&alice, &bob]).await;
    for name in ["carol", "dave"] {
        let guest = site.join(&call, name, SMALL).await;
        until_media_flows(&[&alice, &bob, &guest]).await;
        guest.leave().await;
    }
    [alice, bob]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and promtool: tests/run prometheus"]
async fn prometheus_understands_all_and_dashboard_and_rules_find_what_they_ask_for() {
    let site = Site::start(1, "127.0.0.1:0").await;
    let prometheus = Prometheus::start(site.http_address());
    let up = "up{job=\"weir\"} == 1";
    until_some("the focus is scraped", async || prometheus.value(up)).await;
    let stayed = come_and_go(&site).await;

    let expected = [
        ("weir_shard_rtp_forwarded_total", 100.0),
        ("sum(weir_shard_packets_total{stage=\"sealed\"})", 100.0),
        ("max_over_time(weir_participants[5m])", 3.0),
        ("weir_invites_total{result=\"accepted\"}", 4.0),
        ("weir_dtls_handshakes_total{result=\"completed\"}", 4.0),
        ("weir_dtls_handshake_seconds_count", 4.0),
        ("weir_to_device_lag_seconds_count", 4.0),
        ("weir_offers_sent_total{result=\"answered\"}", 4.0),
        ("weir_shard_start_wait_seconds_count", 4.0),
        ("weir_shard_loss_ratio_count{direction=\"up\"}", 4.0),
        ("weir_shard_loss_ratio_count{direction=\"down\"}", 4.0),
        ("weir_shard_round_trip_seconds_count", 4.0),
        ("weir_shard_estimate_bytes_per_second_count", 4.0),
        ("weir_shard_send_segments_count", 100.0),
        ("weir_shard_batch_datagrams_count", 100.0),
        ("weir_ring_batch_seconds_count", 100.0),
        ("weir_ring_step_seconds_count{step=\"seal\"}", 4.0),
        (
            "weir_thread_cpu_seconds_total{thread=\"shard-0\",mode=\"user\"}",
            0.01,
        ),
        ("process_resident_memory_bytes", 1e6),
    ];
    for (expression, at_least) in expected {
        let what = format!("{expression} is at least {at_least}");
        until_some(&what, async || {
            let value = prometheus.value(expression)?;
            (value >= at_least).then_some(())
        })
        .await;
    }
    let samples = "scrape_samples_scraped{job=\"weir\"}";
    let [least, most] =
        ["min", "max"].map(|which| prometheus.value(&format!("{which}_over_time({samples}[10m])")));
    assert_eq!(least, most, "series come or go");
    let all = "{job=\"weir\",__name__=~\"(weir|process)_.*\"}";
    assert_eq!(
        prometheus.value(&format!("count({all})")),
        prometheus.value(&format!("count(last_over_time({all}[10m]))")),
        "there are series that are not there any more"
    );
    let recorded = prometheus.value("weir:shard_cpu:rate1m");
    assert!(recorded.is_some(), "the rules are evaluated");
    check_dashboard(&prometheus);
    check_text(&site.metrics_text().await);
    site.stop(stayed.into()).await;
}

/// Every expression of the dashboard means something to Prometheus, and nearly all find series; those that show only what is wrong
/// find none.
fn check_dashboard(prometheus: &Prometheus) {
    let dashboard = std::fs::read_to_string(repository("docs/grafana/weir.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let expressions: Vec<_> = targets
        .flatten()
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(expressions.len() > 50);
    for expression in expressions {
        let plain = expression
            .replace("$__rate_interval", "5m")
            .replace("$job", "weir")
            .replace("$instance", ".*")
            .replace("$shard", ".*");
        assert!(
            !plain.contains('$'),
            "a variable that nobody replaces: {expression}"
        );
        let found = prometheus.query(&plain);
        assert!(
            !found.is_empty() || expression.ends_with("> 0"),
            "the dashboard asks for what there is not: {expression}"
        );
    }
}

/// The text keeps the conventions.
fn check_text(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let Output {
        status,
        stdout,
        stderr,
    } = promtool.wait_with_output().unwrap();
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        status.success() && said.is_empty(),
        "promtool: {status} {said}"
    );
}

/// A Prometheus of its own, with a port and a folder of its own. Ends with its value.
struct Prometheus {
    child: Child,
    url: String,
    folder: PathBuf,
}

impl Prometheus {
    /// Scrapes a focus every second, with the rules of the repository.
    fn start(focus: SocketAddr) -> Prometheus {
        let folder = std::env::temp_dir().join(format!("weir-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let rules = repository("docs/prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: weir, static_configs: [{{targets: ['{focus}']}}]}}]\n",
            rules.display()
        );
        let config_file = folder.join("prometheus.yml");
        std::fs::write(&config_file, config).unwrap();
        // Free now; nobody else takes a port on loopback that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus, of Debian's package of that name");
        Prometheus {
            child,
            url: format!("http://{address}"),
            folder,
        }
    }

    /// What an expression finds now. An expression that Prometheus does not understand is a fault.
    fn query(&self, expression: &str) -> Vec<Value> {
        let output = Command::new("promtool")
            .args(["query", "instant", "--format=json", &self.url, expression])
            .output()
            .expect("promtool, of Debian's package prometheus");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{expression}: {said}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        found.as_array().cloned().unwrap_or_default()
    }

    /// The first value that an expression finds now; `None` without one, or while Prometheus does not answer yet.
    fn value(&self, expression: &str) -> Option<f64> {
        let output = Command::new("promtool")
            .args(["query", "instant", "--format=json", &self.url, expression])
            .output()
            .expect("promtool, of Debian's package prometheus");
        let found: Value = serde_json::from_slice(&output.stdout).ok()?;
        found.get(0)?["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself, and the system removes what is left of the folder.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            eprintln!("prometheus said:\n{log}");
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn repository(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap().join(file)
}
