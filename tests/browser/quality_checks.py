"""What a viewer must see on a bad network. Every function takes the stage, the targets and the report.

Not here: how it is watched (stage.py, watch.js), how figures are made of it (watched.py).
"""

import dataclasses
import statistics
import time

import passed
import watched
from encrypted import KEY, check_counters
from report import spread
from stage import TOP_WIDTH, figures_of, width_of

# After a change of the network and before watching, so that what is seen is the new one.
SETTLE_SECONDS = 3
# Between two layer changes, so that each can be told from the next.
CHANGE_SECONDS = 0.7
# A queue that has not run over for so long is not the same one any more.
CALM_MS = 2000
HALF_RTT = "delay=25ms"
# The longest time without a packet of sound that is no interruption: what a jitter buffer bridges.
SILENCE_MAX_MS = 300
# What the page gives its top layer at most, see control/web/js/media.js.
TOP_BPS = 1_700_000


@dataclasses.dataclass
class Targets:
    """What must hold. Shares of frames shown and longest gaps between frames are by the percent of loss."""

    frames_shown: dict
    loss_gap_ms: dict
    change_gap_ms: int
    down_ms: int
    up_ms: int
    bottleneck_gap_ms: int
    top_layer_ms: int


# What the figures must show, on a machine that does nothing else.
FULL = Targets({0: 0.99, 2: 0.99, 5: 0.99, 10: 0.97}, {0: 250, 2: 250, 5: 250}, 100, 2000, 8000, 1000, 5000)
# What short runs must show on any machine: that losses are mended and rates followed at all.
SHORT = Targets({0: 0.95, 2: 0.95, 5: 0.95, 10: 0.9}, {0: 1000, 2: 1000, 5: 1000}, 500, 5000, 10_000, 3000, 10_000)


def loss(stage, targets, report, seconds, percents):
    """Random loss both ways at a round trip of 50 ms: first on the viewer's network, then on the sender's."""
    rows = report.figures["loss"] = []
    for where, relay in (("viewer", stage.viewer_relay), ("sender", stage.sender_relay)):
        for percent in percents:
            stage.clear()
            relay.set_both(HALF_RTT)
            stage.full_picture()
            relay.set_both(f"{HALF_RTT}, loss={percent}%")
            time.sleep(SETTLE_SECONDS)
            stage.watch()
            time.sleep(seconds)
            figures = figures_of(stage.seen())
            rows.append({"where": where, "loss_percent": percent, **figures})
            check_loss(targets, report, f"{percent} % loss at the {where}", percent, figures)
    stage.clear()


def check_loss(targets, report, name, percent, figures):
    least, gap_max_ms = targets.frames_shown[percent], targets.loss_gap_ms.get(percent)
    shown, sent, gap_ms = figures["frames_shown"], figures["sender"]["top_frames"], figures["gap_max_ms"]
    share = shown / max(1, sent)
    report.check(f"{name}: frames shown", share >= least, f"{shown} of {sent:.0f} sent, {100 * share:.1f} %", f"{100 * least:.0f} %")
    said = f"longest gap {gap_ms:.0f} ms; by getStats {figures['freezes']} freezes, {figures['frozen_ms']:.0f} ms"
    if gap_max_ms:
        report.check(f"{name}: freezes", gap_ms <= gap_max_ms, said, f"none over {gap_max_ms} ms")
    else:
        print(f"       {said}")
    upstream = sum(figures["sender"]["nackCount"].values())
    print(
        f"       viewer: NACKs {figures['nacks_sent']}, resent {figures['resent_received']}, PLIs {figures['plis_sent']}, "
        f"keyframes {figures['keyframes_decoded']}, jitter buffer {figures['jitter_buffer_ms']:.0f} ms, "
        f"sound made up {figures['audio_made_up_ms']:.0f} ms\n"
        f"       sender: NACKs {upstream}, resent {sum(figures['sender']['retransmittedPacketsSent'].values())}, "
        f"PLIs {sum(figures['sender']['pliCount'].values())}; {figures['mean_bps'] / 1e6:.2f} Mb/s, widths {figures['widths']}"
    )


def layer_changes(stage, targets, report, times):
    """Large, small, large, …: on a clean network nobody notices but for the size."""
    stage.clear()
    stage.full_picture()
    time.sleep(SETTLE_SECONDS)
    stage.watch()
    sizes = (("low", lambda width: 0 < width < TOP_WIDTH), ("high", lambda width: width == TOP_WIDTH))
    moments = []
    for turn in range(times):
        quality, is_there = sizes[turn % 2]
        moments.append(1000 * time.time())
        stage.viewer.call(f"setQuality('{quality}')")
        stage.viewer.wait_remote(lambda tiles: is_there(width_of(tiles, stage.path)), f"the picture of {quality}", 10)
        time.sleep(CHANGE_SECONDS)
    seen = stage.seen()
    figures, frames = figures_of(seen), seen["viewer"]["frames"]
    size_changes = watched.size_changes(frames)
    gaps = [length for _, length, _, _ in size_changes]
    longest = passed.of_longest(stage.world.logs, size_changes)
    arrived = lambda start, is_there: next((at for at, _, width in frames if at > start and is_there(width)), frames[-1][0])
    waits = [arrived(start, sizes[turn % 2][1]) - start for turn, start in enumerate(moments)]
    asked = sum(figures["sender"]["pliCount"].values()) + sum(figures["sender"]["firCount"].values())
    report.figures["layer_changes"] = {"wait_ms": waits, "size_changes": size_changes, "longest_sent": longest, "keyframes_asked": asked, **figures}
    name = f"{times} layer changes"
    most = targets.change_gap_ms
    met = len(gaps) == times and max(gaps) <= most
    report.check(f"{name}: from the last frame of one size to the first of the other", met, f"{spread(gaps)} ms", f"at most {most} ms")
    said = f"{figures['freezes']} of {figures['frozen_ms']:.0f} ms; longest gap at any time {figures['gap_max_ms']:.0f} ms"
    report.check(f"{name}: freezes by getStats", figures["frozen_ms"] <= most, said, f"at most {most} ms in all")
    report.check(f"{name}: keyframes asked of the sender", asked <= times, asked, "at most one a change")
    errors = {key: figures[key] for key in ("decode_errors", "frames_undecoded", "plis_sent", "frames_unreadable")}
    report.check(f"{name}: the decoder is content", not any(errors.values()), ", ".join(f"{k} {v}" for k, v in errors.items()), "all 0")
    print(f"       until the new size is shown: {spread(waits)} ms")
    print("       the longest gaps, and how long they were when sent: " + ", ".join(f"{gap:.0f} ({sent:.0f})" for gap, sent in longest) + " ms")


def encrypted(stage, targets, report, seconds, changes):
    """The same of media that is encrypted with a key of the two pages: layer changes, and loss of 5 % each way."""
    report = report.part("encrypted")
    stage.rejoin(key=KEY)
    layer_changes(stage, targets, report, changes)
    loss(stage, targets, report, seconds, [5])
    check_counters(report, "both pages", {page.name: page.stats()["remote"] for page in (stage.viewer, stage.sender)})
    stage.rejoin(key="")


def bottleneck(stage, targets, report, seconds, kbps=(3000, 500, 3000), queue_ms=300):
    """The viewer's network narrows and widens again."""
    stage.clear()
    stage.viewer_relay.set_both(HALF_RTT)
    stage.full_picture()
    time.sleep(SETTLE_SECONDS)
    rates = "; ".join(f"{n * seconds}s: rate={rate}k" for n, rate in enumerate(kbps))
    stage.watch()
    start = 1000 * time.time()
    stage.viewer_relay.set(HALF_RTT, f"{HALF_RTT}, queue={queue_ms}ms; {rates}")
    time.sleep(seconds * len(kbps))
    seen = stage.seen()
    stage.clear()
    figures, times = figures_of(seen), adaptation(seen, start, seconds)
    profile = [(n * seconds, 1000 * rate) for n, rate in enumerate(kbps)]
    series = {"profile": profile, "series": bottleneck_series(seen, start)}
    report.figures["bottleneck"] = {"queue_ms": queue_ms, **times, **series, **figures}
    check_bottleneck(targets, report, times, figures)


def adaptation(seen, start, seconds):
    """When the viewer's picture followed the network, in milliseconds from its change; None for never."""
    narrow, wide = start + 1000 * seconds, start + 2000 * seconds
    frames = seen["viewer"]["frames"]
    return {
        "smaller_ms": next((at - narrow for at, _, width in frames if at > narrow and width < TOP_WIDTH), None),
        "queue_full_until_ms": queue_full_until(seen, start, narrow, wide),
        "larger_ms": next((at - wide for at, _, width in frames if at > wide and width == TOP_WIDTH), None),
        "gap_after_ms": watched.longest_gap(frames, narrow - 500),
    }


def queue_full_until(seen, start, narrow, wide):
    """How long after the narrowing the queue before it ran over, in milliseconds; a keyframe that does not fit much later is
    another matter."""
    reports = seen["viewer_relay"]
    moments = [(start + 1000 * (r["seconds"] - reports[0]["seconds"]), r["down"]["queue_full"]) for r in reports]
    until = narrow
    for (_, before), (at, now) in zip(moments, moments[1:]):
        if now > before and narrow <= at < min(wide, until + CALM_MS):
            until = at
    return until - narrow


def check_bottleneck(targets, report, times, figures):
    ms = lambda value: "never" if value is None else f"{value:.0f} ms"
    smaller, full, larger, gap = (times[key] for key in ("smaller_ms", "queue_full_until_ms", "larger_ms", "gap_after_ms"))
    down = smaller is not None and max(smaller, full) <= targets.down_ms
    said = f"smaller picture after {ms(smaller)}, queue full until {ms(full)}"
    report.check("bottleneck: adapted down", down, said, f"at most {targets.down_ms} ms")
    up = larger is not None and larger <= targets.up_ms
    report.check("bottleneck: full picture again", up, ms(larger), f"at most {targets.up_ms} ms")
    said = f"longest gap {gap:.0f} ms; by getStats {figures['freezes']} freezes, {figures['frozen_ms']:.0f} ms"
    report.check("bottleneck: freezes", gap <= targets.bottleneck_gap_ms, said, f"none over {targets.bottleneck_gap_ms} ms")
    silent = figures["audio_silence_max_ms"]
    said = f"at most {silent:.0f} ms without a packet, {figures['audio_made_up_ms']:.0f} ms made up"
    report.check("bottleneck: sound goes on", silent <= SILENCE_MAX_MS, said, f"at most {SILENCE_MAX_MS} ms without")


def bottleneck_series(seen, start):
    """What plot.py draws, each as [(seconds, value)]."""
    seconds = lambda points: [(round((at - start) / 1000, 3), value) for at, value in points]
    samples, reports = seen["viewer"]["samples"][::5], seen["viewer_relay"][::5]
    went = [(start + 1000 * (r["seconds"] - reports[0]["seconds"]), r["down"]["delivered_bytes"]) for r in reports]
    names = sorted({name for _, metrics in seen["metrics"] for name in metrics if "estimate" in name})
    return {
        "video_bps": seconds(watched.rates(samples, lambda sample: watched.inbound(sample, "video"))),
        "estimate_bps": seconds([(sample["at"], sample["estimate"]) for sample in seen["viewer"]["samples"] if sample.get("estimate")]),
        "passed_bps": seconds(watched.rates_of(went)),
        "width": seconds([(at, width) for at, _, width in seen["viewer"]["frames"]]),
        "estimates": {name: seconds([(at, metrics.get(name, 0)) for at, metrics in seen["metrics"]]) for name in names},
    }


def top_layer(stage, targets, report, joins):
    """A sender joins on loopback while somebody wants the full picture: when does it send that, and how much could it?"""
    stage.clear()
    rows = report.figures["top_layer"] = []
    for _ in range(joins):
        stage.sender.call("leave()")
        time.sleep(1)
        stage.sender.call("join()")
        stage.sender.wait_connected()
        rows.append(wait_for_top(stage))
    sent = [row["sent_ms"] for row in rows if row["sent_ms"] is not None]
    met = len(sent) == joins and statistics.median(sent) <= targets.top_layer_ms
    report.check(
        f"top layer sent in full after joining, {joins} joins", met, f"{spread(sent)} ms" if sent else "never", f"{targets.top_layer_ms} ms"
    )
    print(f"       the sender's own estimate then: {spread([row['available_bps'] / 1000 for row in rows])} kb/s")


def wait_for_top(stage, timeout_s=30):
    """Until the top layer flows at its full size and rate and the browser's estimate covers all layers, counted from when
    the channel was open."""
    joined = stage.sender.browser.run("return performance.timeOrigin + weir.state().times.open;")
    deadline = time.monotonic() + timeout_s
    before = None
    while time.monotonic() < deadline:
        sample = stage.sender.browser.run("return watch.sample();")
        top = watched.outbound(sample).get("f", {}) if sample else {}
        if before and top:
            rate = 1000 * watched.grown(before["top"], top, "framesSent") / (sample["at"] - before["at"])
            wanted = sum(entry.get("targetBitrate", 0) for entry in watched.outbound(sample).values())
            if rate >= 24 and top.get("frameWidth") == TOP_WIDTH and top.get("targetBitrate", 0) >= 0.95 * TOP_BPS:
                return {"sent_ms": sample["at"] - joined, "available_bps": watched.available_bps(sample), "target_bps": wanted}
        if top:
            before = {"at": sample["at"], "top": top}
        time.sleep(0.2)
    return {"sent_ms": None, "available_bps": watched.available_bps(sample) if sample else 0, "target_bps": 0}
