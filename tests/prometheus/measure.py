#!/usr/bin/env python3
"""What scraping a focus costs, and whether its series stay as many: a real Prometheus scrapes it for a while.

    tests/prometheus/measure.py --minutes 5                           # a focus under the load of cargo demo, one process
    tests/prometheus/measure.py --minutes 5 --url http://HOST:PORT    # a focus that runs already, under whatever load it has

Needs Debian's package `prometheus`, and for the demo a build: cargo build --workspace (or --release with --release). Prints a
line every ten seconds: values a scrape had, how long it took Prometheus, and which part of a core the exporter used. Exits with 1
if values came or went, a scrape failed, or the exporter used one per cent of a core or more.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")

# The exporter may use this part of a core.
SHARE_MAX = 0.01
# How long focus and Prometheus may take to come up, participants of the demo included.
PATIENCE_SECONDS = 60
REPORT_SECONDS = 10


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def wait_for(what, check):
    """Calls `check` until it gives something true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if found := check():
                return found
        time.sleep(0.2)
    sys.exit(f"measure.py: not within {PATIENCE_SECONDS} s: {what}")


class Prometheus:
    """A Prometheus with a folder and a port of its own."""

    def __init__(self, target, interval, folder):
        config = {
            "global": {"scrape_interval": f"{interval}s", "scrape_timeout": f"{interval}s", "evaluation_interval": f"{interval}s"},
            "rule_files": [str(ROOT / "docs/prometheus/alerts.yml")],
            "scrape_configs": [{"job_name": "weir", "static_configs": [{"targets": [target]}]}],
        }
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def value(self, expression, default=None):
        """The first value that an expression finds now."""
        query = urllib.parse.urlencode({"query": expression})
        result = json.loads(get(f"{self.url}/api/v1/query?{query}"))["data"]["result"]
        return float(result[0]["value"][1]) if result else default

    def stop(self):
        self.process.terminate()
        self.process.wait()


def start_demo(arguments, seconds):
    """Starts the demo; returns its process and where its focus listens."""
    binary = TARGET / ("release" if arguments.release else "debug") / "weir-demo"
    if not binary.exists():
        sys.exit(f"measure.py: {binary} is not there: cargo build --workspace{' --release' if arguments.release else ''}")
    port = free_port()
    command = [binary, "--participants", str(arguments.participants), "--seconds", str(seconds), "--port", str(port)]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return process, f"127.0.0.1:{port}"


def measure(prometheus, minutes, interval):
    """Prints what is seen, and returns what is wrong."""
    metric = 'scrape_{}{{job="weir"}}'.format
    began = time.monotonic()
    cpu_began = prometheus.value("weir_export_cpu_seconds_total")
    print(f"{'seconds':>8} {'values':>7} {'scrape ms':>10} {'render ms':>10} {'% of a core':>12} {'participants':>13}", flush=True)
    while time.monotonic() - began < 60 * minutes:
        time.sleep(min(REPORT_SECONDS, max(0.1, 60 * minutes - (time.monotonic() - began))))
        window = f"{max(4 * interval, 30)}s"
        row = [
            time.monotonic() - began,
            prometheus.value(metric("samples_scraped"), 0),
            1000 * prometheus.value(f"avg_over_time({metric('duration_seconds')}[{window}])", 0),
            1000 * prometheus.value(f"rate(weir_export_seconds_sum[{window}]) / rate(weir_export_seconds_count[{window}])", 0),
            100 * prometheus.value(f"rate(weir_export_cpu_seconds_total[{window}])", 0),
            prometheus.value("weir_participants", 0),
        ]
        print("{:8.0f} {:7.0f} {:10.2f} {:10.2f} {:12.4f} {:13.0f}".format(*row), flush=True)
    span = f"{int(60 * minutes) + 1}s"
    cpu = prometheus.value("weir_export_cpu_seconds_total") - cpu_began
    share = cpu / (time.monotonic() - began)
    least = prometheus.value(f"min_over_time({metric('samples_scraped')}[{span}])")
    most = prometheus.value(f"max_over_time({metric('samples_scraped')}[{span}])")
    up = prometheus.value(f'avg_over_time(up{{job="weir"}}[{span}])')
    slowest = prometheus.value(f"max_over_time({metric('duration_seconds')}[{span}])")
    print(f"values: {least:.0f} to {most:.0f}; slowest scrape: {1000 * slowest:.1f} ms; scrapes that succeeded: {100 * up:.1f} %")
    print(f"exporter: {cpu:.3f} s of CPU, {100 * share:.4f} % of a core, scraped every {interval} s")
    wrong = []
    if least != most:
        wrong.append("values came or went")
    if up < 1:
        wrong.append("a scrape failed")
    if share >= SHARE_MAX:
        wrong.append(f"the exporter used {100 * share:.2f} % of a core")
    return wrong


def main():
    parser = argparse.ArgumentParser(description="What scraping a focus costs.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--interval", type=int, default=1, help="seconds between scrapes (default 1; usual is 15)")
    parser.add_argument("--url", help="of a focus that runs already, such as http://127.0.0.1:8080")
    parser.add_argument("--participants", type=int, default=4, help="of the demo (default 4)")
    parser.add_argument("--release", action="store_true", help="the demo's release build")
    arguments = parser.parse_args()
    if shutil.which("prometheus") is None:
        sys.exit("measure.py: prometheus is missing: apt-get install prometheus")
    demo = prometheus = None
    with tempfile.TemporaryDirectory(prefix="weir-prometheus-") as folder:
        try:
            if arguments.url:
                target = urllib.parse.urlsplit(arguments.url).netloc
            else:
                demo, target = start_demo(arguments, int(60 * arguments.minutes) + 2 * PATIENCE_SECONDS)
            wait_for(f"a focus on {target}", lambda: get(f"http://{target}/metrics"))
            prometheus = Prometheus(target, arguments.interval, pathlib.Path(folder))
            wait_for("Prometheus has scraped", lambda: prometheus.value('up{job="weir"}'))
            if demo:
                wait_for("everybody has joined", lambda: prometheus.value("weir_participants", 0) >= arguments.participants)
            wrong = measure(prometheus, arguments.minutes, arguments.interval)
        finally:
            if prometheus:
                prometheus.stop()
            if demo:
                # As Ctrl-C does: everybody leaves.
                demo.send_signal(2)
                demo.wait()
    for what in wrong:
        print(f"failed: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
