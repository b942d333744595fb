"""What a viewer must see on a bad network: one page that sends, one that watches, each behind a relay of its own.

Not here: what surrounds the pages (quality.py, world.py), how figures are made of what was watched (watched.py).
"""

import statistics
import threading
import time

import watched
from checks import CAMERA
from report import spread

# How often pages and focus are asked while something is watched.
SAMPLE_MS = 100
SETTLE_SECONDS = 3
TOP_WIDTH = 1280

# Figures that must hold, by the loss in percent: (share of frames shown, longest freeze in ms).
LOSS_TARGETS = {0: (0.99, 250), 2: (0.99, 250), 5: (0.99, 250), 10: (0.97, None)}


class Stage:
    """The two pages with their relays, and what is asked of all of them at once."""

    def __init__(self, world, sender, viewer, sender_relay, viewer_relay):
        self.world, self.sender, self.viewer = world, sender, viewer
        self.sender_relay, self.viewer_relay = sender_relay, viewer_relay

    @property
    def path(self):
        return (self.sender.name, CAMERA)

    def clear(self):
        """A perfect network for everybody."""
        for relay in (self.sender_relay, self.viewer_relay):
            relay.set()

    def tile(self):
        """The sender's picture as the viewer sees it."""
        return self.viewer.stats()["remote"][self.path]

    def full_picture(self, timeout_s=30):
        """Asks for the full picture and waits for it; returns the seconds that it took."""
        self.viewer.call("setQuality('high')")
        full = lambda tiles: self.path in tiles and tiles[self.path]["inbound"] and tiles[self.path]["inbound"]["width"] == TOP_WIDTH
        return self.viewer.wait_remote(full, "the picture is the largest", timeout_s)[1]

    def watch(self):
        """Begins to watch everything."""
        self.viewer.browser.run("watch.start(arguments[0], arguments[1]);", self.tile()["key"], SAMPLE_MS)
        self.sender.browser.run("watch.start(null, arguments[0]);", SAMPLE_MS)
        self.viewer_relay.watch()
        self.sender_relay.watch()
        self._metrics = [(1000 * time.time(), self.world.metrics())]
        self._watching = threading.Event()
        self._watching.set()
        self._poller = threading.Thread(target=self._poll_metrics, daemon=True)
        self._poller.start()

    def _poll_metrics(self):
        while self._watching.is_set():
            time.sleep(0.2)
            try:
                self._metrics.append((1000 * time.time(), self.world.metrics()))
            except OSError:
                pass

    def seen(self):
        """Ends the watching; returns {"viewer", "sender", "viewer_relay", "sender_relay", "metrics"}."""
        seen = {"viewer": self.viewer.browser.run("return watch.stop();"), "sender": self.sender.browser.run("return watch.stop();")}
        self._watching.clear()
        self._poller.join()
        seen["viewer_relay"], seen["sender_relay"] = self.viewer_relay.stop_watching(), self.sender_relay.stop_watching()
        seen["metrics"] = self._metrics
        return seen


def view_figures(seen):
    """What the viewer saw and what the sender sent, in figures."""
    viewer, sender = seen["viewer"], seen["sender"]
    frames, first, last = viewer["frames"], viewer["samples"][0], viewer["samples"][-1]
    was, now = watched.inbound(first, "video"), watched.inbound(last, "video")
    heard, hears = watched.inbound(first, "audio"), watched.inbound(last, "audio")
    layers = {rid: (entry, watched.outbound(sender["samples"][-1]).get(rid, {})) for rid, entry in watched.outbound(sender["samples"][0]).items()}
    per_layer = lambda name: {rid: watched.grown(before, after, name) for rid, (before, after) in layers.items()}
    # The pages are asked one after the other, some milliseconds apart: counted per second, that does not matter.
    seconds = (last["at"] - first["at"]) / 1000
    sent_seconds = (sender["samples"][-1]["at"] - sender["samples"][0]["at"]) / 1000
    sent = per_layer("framesSent").get("f", 0) / sent_seconds * seconds
    shown = len([frame for frame in frames if first["at"] <= frame[0] <= last["at"]])
    metrics = {name: seen["metrics"][-1][1][name] - seen["metrics"][0][1].get(name, 0) for name in seen["metrics"][-1][1]}
    return {
        "seconds": seconds,
        "frames_sent": sent,
        "frames_shown": shown,
        "frames_decoded": watched.grown(was, now, "framesDecoded"),
        "frames_dropped": watched.grown(was, now, "framesDropped"),
        "unreadable": watched.unreadable(frames),
        "out_of_order": watched.out_of_order(frames),
        "freezes": watched.grown(was, now, "freezeCount"),
        "frozen_ms": 1000 * watched.grown(was, now, "totalFreezesDuration"),
        "longest_gap_ms": watched.longest_gap(frames),
        "gaps_over_250_ms": sum(length > 250 for _, length in watched.gaps(frames)),
        "packets_lost": watched.grown(was, now, "packetsLost"),
        "packets_received": watched.grown(was, now, "packetsReceived"),
        "resent_received": watched.grown(was, now, "retransmittedPacketsReceived"),
        "nacks_sent": watched.grown(was, now, "nackCount"),
        "plis_sent": watched.grown(was, now, "pliCount"),
        "jitter_buffer_ms": 1000 * watched.grown(was, now, "jitterBufferDelay") / max(1, watched.grown(was, now, "jitterBufferEmittedCount")),
        "keyframes_decoded": watched.grown(was, now, "keyFramesDecoded"),
        "widths": sorted({frame[2] for frame in frames}),
        "mean_bps": 8 * watched.grown(was, now, "bytesReceived") / seconds,
        "audio_concealed_ms": watched.concealed_ms(heard, hears),
        "audio_silence_ms": watched.silences(viewer["samples"]),
        "sender": {
            name: per_layer(name) for name in ("framesSent", "framesEncoded", "keyFramesEncoded", "bytesSent", "pliCount", "firCount", "nackCount", "retransmittedPacketsSent")
        },
        "sender_limit": {rid: after.get("qualityLimitationReason") for rid, (_, after) in layers.items()},
        "sender_available_bps": watched.available_bps(sender["samples"][-1]),
        "metrics": {name: grown for name, grown in metrics.items() if grown},
        "viewer_relay": {way: seen["viewer_relay"][-1][way] for way in ("up", "down")},
        "sender_relay": {way: seen["sender_relay"][-1][way] for way in ("up", "down")},
    }


def loss(stage, report, seconds, rates, half_rtt_ms=25):
    """Random loss at 50 ms round trip: first on the viewer's network, then on the sender's."""
    rows = report.figures["loss"] = []
    for where, relay in (("viewer", stage.viewer_relay), ("sender", stage.sender_relay)):
        for percent in rates:
            stage.clear()
            relay.set_both(f"delay={half_rtt_ms}ms")
            stage.full_picture()
            relay.set_both(f"delay={half_rtt_ms}ms, loss={percent}%")
            time.sleep(SETTLE_SECONDS)
            stage.watch()
            time.sleep(seconds)
            figures = view_figures(stage.seen())
            rows.append({"where": where, "loss_percent": percent, **figures})
            check_loss(report, f"{percent} % loss at the {where}", percent, figures)
    stage.clear()


def check_loss(report, name, percent, figures):
    share_min, freeze_max_ms = LOSS_TARGETS[percent]
    share = figures["frames_shown"] / max(1, figures["frames_sent"])
    shown = f"{figures['frames_shown']} of {figures['frames_sent']:.0f}, {100 * share:.1f} %"
    report.check(f"{name}: frames shown of those sent", share >= share_min, shown, f"{100 * share_min:.0f} %")
    longest = f"longest gap {figures['longest_gap_ms']:.0f} ms, {figures['freezes']} freezes of {figures['frozen_ms']:.0f} ms by getStats"
    if freeze_max_ms:
        report.check(f"{name}: freezes", figures["longest_gap_ms"] <= freeze_max_ms, longest, f"none over {freeze_max_ms} ms")
    else:
        print(f"       {longest}")
    print(
        f"       resent {figures['resent_received']}, NACKs {figures['nacks_sent']}, PLIs {figures['plis_sent']}, "
        f"keyframes {figures['keyframes_decoded']}, jitter buffer {figures['jitter_buffer_ms']:.0f} ms, "
        f"audio made up {figures['audio_concealed_ms']:.0f} ms, {figures['mean_bps'] / 1e6:.2f} Mb/s, widths {figures['widths']}"
    )


def layer_changes(stage, report, times):
    """Large, small, large, …: on a clean network nobody notices but for the size."""
    stage.clear()
    stage.full_picture()
    time.sleep(SETTLE_SECONDS)
    stage.watch()
    waits, moments = [], []
    for turn in range(times):
        quality, arrived = (("low", lambda w: w < TOP_WIDTH), ("high", lambda w: w == TOP_WIDTH))[turn % 2]
        moments.append(1000 * time.time())
        stage.viewer.call(f"setQuality('{quality}')")
        there = lambda tiles: arrived(tiles[stage.path]["inbound"]["width"])
        waits.append(1000 * stage.viewer.wait_remote(there, f"the picture of {quality}", 10)[1])
        time.sleep(0.7)
    seen = stage.seen()
    figures = view_figures(seen)
    frames = seen["viewer"]["frames"]
    ends = [*moments[1:], 1000 * time.time()]
    gaps = [watched.longest_gap(frames, start, min(end, frames[-1][0])) for start, end in zip(moments, ends)]
    asked = sum(figures["sender"]["pliCount"].values()) + sum(figures["sender"]["firCount"].values())
    report.figures["layer_changes"] = {"wait_ms": waits, "gap_ms": gaps, "keyframes_asked": asked, **figures}
    report.check(f"{times} layer changes: longest gap between frames", max(gaps) <= 100, f"{spread(gaps)} ms", "at most 100 ms")
    report.check(f"{times} layer changes: keyframes asked for", asked <= times, f"{asked}", "at most one a change")
    errors = figures["plis_sent"] + figures["unreadable"] + figures["frames_dropped"]
    said = f"{figures['plis_sent']} PLIs of the viewer, {figures['frames_dropped']} frames dropped, {figures['unreadable']} pictures unreadable"
    report.check(f"{times} layer changes: the decoder is content", errors == 0, said, "0")
    print(f"       until the new size is decoded: {spread(waits)} ms; freezes by getStats: {figures['freezes']}")


def bottleneck(stage, report, seconds, rates=("3M", "500k", "3M"), queue_ms=300):
    """The viewer's network narrows and widens again."""
    stage.clear()
    stage.full_picture()
    down = "; ".join(f"{n * seconds}s: rate={rate}" for n, rate in enumerate(rates))
    stage.viewer_relay.set("delay=25ms", f"delay=25ms, queue={queue_ms}ms; {down}")
    stage.watch()
    start = 1000 * time.time()
    time.sleep(seconds * len(rates))
    seen = stage.seen()
    figures = view_figures(seen)
    stage.clear()
    narrow, wide = start + 1000 * seconds, start + 2000 * seconds
    frames = seen["viewer"]["frames"]
    smaller = next((at - narrow for at, _, width in frames if at > narrow and width < TOP_WIDTH), None)
    larger = next((at - wide for at, _, width in frames if at > wide and width == TOP_WIDTH), None)
    full = queue_drops(seen, start, narrow, wide)
    longest = watched.longest_gap(frames, narrow - 1000)
    report.figures["bottleneck"] = {
        "down_ms": smaller, "queue_full_until_ms": full, "up_ms": larger, "longest_gap_after_ms": longest,
        "series": bottleneck_series(seen, start), **figures,
    }
    down_ms = None if smaller is None else max(smaller, full)
    report.check("bottleneck: adapted down", down_ms is not None and down_ms <= 2000, f"smaller picture after {smaller}, queue full until {full} ms", "2 s")
    report.check("bottleneck: back to the full picture", larger is not None and larger <= 8000, f"{larger} ms", "8 s")
    report.check("bottleneck: longest gap between frames", longest <= 1000, f"{longest:.0f} ms", "at most 1 s")
    silent = figures["audio_silence_ms"]
    report.check("bottleneck: audio goes on", silent <= 500, f"longest without a packet {silent:.0f} ms, made up {figures['audio_concealed_ms']:.0f} ms", "at most 500 ms")


def queue_drops(seen, start, narrow, wide):
    """How long after the narrowing the queue before it still ran over, in milliseconds."""
    reports = seen["viewer_relay"]
    first = reports[0]["seconds"]
    moments = [(start + 1000 * (r["seconds"] - first), r["down"]["queue_full"]) for r in reports]
    drops = [at for (_, before), (at, now) in zip(moments, moments[1:]) if now > before and narrow <= at < wide]
    return max(drops, default=narrow) - narrow


def bottleneck_series(seen, start):
    """What the plot shows, each as [(seconds, value)]."""
    seconds = lambda points: [(round((at - start) / 1000, 2), value) for at, value in points]
    video = lambda sample: watched.inbound(sample, "video")
    audio = lambda sample: watched.inbound(sample, "audio")
    reports = seen["viewer_relay"]
    went = [(r["seconds"] - reports[0]["seconds"], r["down"]["delivered_bytes"]) for r in reports]
    passed = [(round(b[0], 2), 8 * (b[1] - a[1]) / (b[0] - a[0])) for a, b in zip(went[::5], went[5::5]) if b[0] > a[0]]
    names = {name for _, metrics in seen["metrics"] for name in metrics if "estimate" in name}
    return {
        "video_bps": seconds(watched.rates(seen["viewer"]["samples"][::5], video)),
        "audio_bps": seconds(watched.rates(seen["viewer"]["samples"][::5], audio)),
        "width": seconds([(at, width) for at, _, width in seen["viewer"]["frames"]][::5]),
        "passed_bps": passed,
        "estimates": {name: seconds([(at, metrics.get(name, 0)) for at, metrics in seen["metrics"]]) for name in sorted(names)},
    }


def top_layer(stage, report, joins):
    """A sender joins on loopback while somebody wants the full picture: when does it send that?"""
    stage.clear()
    waits, parts = [], []
    for _ in range(joins):
        stage.sender.call("leave()")
        time.sleep(1)
        stage.sender.call("join()")
        stage.sender.wait_connected()
        joined = stage.sender.state()["times"]["open"]
        seen = wait_for_top(stage, joined)
        waits.append(seen["top_ms"])
        parts.append(seen)
    report.figures["top_layer"] = parts
    good = [wait for wait in waits if wait is not None]
    report.check(
        f"top layer sent after joining, {joins} joins",
        len(good) == joins and statistics.median(good) <= 5000,
        f"{spread(good)} ms" if good else "never",
        "5 s",
    )
    estimates = [part["available_bps"] for part in parts]
    print(f"       the browser's own estimate then: {spread([value / 1000 for value in estimates])} kb/s; viewer sees it after {spread([p['seen_ms'] or 1e6 for p in parts])} ms")


def wait_for_top(stage, joined, timeout_s=30):
    """Until the top layer flows at its full size and rate, counted in the sender's own time from when its channel was open."""
    deadline = time.monotonic() + timeout_s
    origin = stage.sender.browser.run("return performance.timeOrigin;") + joined
    top_ms = seen_ms = None
    last = {}
    while time.monotonic() < deadline and (top_ms is None or seen_ms is None):
        sample = stage.sender.browser.run("return watch.sample();")
        entry = watched.outbound(sample).get("f", {}) if sample else {}
        rate = 0
        if last and entry:
            rate = 1000 * watched.grown(last["entry"], entry, "framesSent") / (sample["at"] - last["at"])
        if top_ms is None and rate >= 20 and entry.get("frameWidth") == TOP_WIDTH:
            top_ms = last["at"] - origin
        if entry:
            last = {"entry": entry, "at": sample["at"]}
        tile = stage.viewer.stats()["remote"].get(stage.path)
        if seen_ms is None and tile and tile["inbound"] and tile["inbound"]["width"] == TOP_WIDTH:
            seen_ms = 1000 * time.time() - origin
        time.sleep(0.2)
    return {"top_ms": top_ms, "seen_ms": seen_ms, "available_bps": watched.available_bps(sample), "target_bps": last["entry"].get("targetBitrate", 0)}
