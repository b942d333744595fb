"""One page that sends and one that watches, each behind a relay of its own: what is asked of all of them at once, and the
figures of what was seen meanwhile.

Not here: what must be true of the figures (quality_checks.py), what surrounds the pages (world.py).
"""

import json
import re
import threading
import time

import watched
from checks import CAMERA

# How often pages and focus are asked while something is watched.
SAMPLE_MS = 100
METRICS_SECONDS = 0.2
TOP_WIDTH = 1280
# What the viewer's browser itself says, in the folder for logs.
VIEWER_LOG = "chromium-viewer.log"
DECODE_ERROR = re.compile(r"fail\w* to decode|decod\w* (error|fail)|error\w* decod", re.I)
SENDER_COUNTERS = (
    "framesSent",
    "framesEncoded",
    "keyFramesEncoded",
    "bytesSent",
    "pliCount",
    "firCount",
    "nackCount",
    "retransmittedPacketsSent",
)


# Frames that are in the decoder when it is looked at.
FRAMES_WITHIN = 2


class Stage:
    """The two pages with their relays. Either may be led through its relay or not, see quality.py."""

    def __init__(self, world, sender, viewer, sender_relay, viewer_relay):
        self.world = world
        self.sender, self.viewer = sender, viewer
        self.sender_relay, self.viewer_relay = sender_relay, viewer_relay
        self._watches = 0

    @property
    def path(self):
        """Where the sender's picture is among the viewer's tiles."""
        return (self.sender.name, CAMERA)

    def clear(self):
        """A perfect network for everybody."""
        for relay in (self.sender_relay, self.viewer_relay):
            relay.set()

    def rejoin(self, **fields):
        """Both leave and join again, see `Page.rejoin`; the viewer has a picture then."""
        for page in (self.viewer, self.sender):
            page.call("leave()")
        for page in (self.viewer, self.sender):
            page.rejoin(**fields)
        self.viewer.call("setQuality('high')")
        self.viewer.wait_remote(lambda tiles: width_of(tiles, self.path), "the picture comes again")
        for page in (self.viewer, self.sender):
            page.draw(False)

    def full_picture(self, timeout_s=30):
        """Asks for the full picture and waits for it; returns the seconds that it took."""
        self.viewer.call("setQuality('high')")
        return self.viewer.wait_remote(lambda tiles: width_of(tiles, self.path) == TOP_WIDTH, "the picture is the largest", timeout_s)[1]

    def watch(self):
        """Begins to watch everything."""
        key = self.viewer.stats()["remote"][self.path]["key"]
        self.viewer.browser.run("watch.start(arguments[0], arguments[1]);", key, SAMPLE_MS)
        self.sender.browser.run("watch.start(null, arguments[0]);", SAMPLE_MS)
        self.viewer_relay.watch()
        self.sender_relay.watch()
        self._decode_errors = self._count_decode_errors()
        self._metrics = [(1000 * time.time(), self.world.metrics())]
        self._watching = threading.Event()
        self._watching.set()
        self._poller = threading.Thread(target=self._poll_metrics, daemon=True)
        self._poller.start()

    def _poll_metrics(self):
        while self._watching.is_set():
            time.sleep(METRICS_SECONDS)
            try:
                self._metrics.append((1000 * time.time(), self.world.metrics()))
            except OSError:
                pass

    def _count_decode_errors(self):
        log = self.world.logs / VIEWER_LOG
        return len(DECODE_ERROR.findall(log.read_text(errors="replace"))) if log.exists() else 0

    def seen(self):
        """Ends the watching; returns what was seen, by who saw it."""
        seen = {name: page.browser.run("return watch.stop();") for name, page in (("viewer", self.viewer), ("sender", self.sender))}
        self._watching.clear()
        self._poller.join()
        seen["viewer_relay"], seen["sender_relay"] = self.viewer_relay.stop_watching(), self.sender_relay.stop_watching()
        seen["metrics"] = self._metrics
        seen["decode_errors"] = self._count_decode_errors() - self._decode_errors
        # For whoever has to find out: everything, frame by frame.
        self._watches += 1
        (self.world.logs / f"seen-{self._watches}.json").write_text(json.dumps(seen))
        return seen


def width_of(tiles, path):
    """How wide the picture of a tile is; 0 where there is none."""
    tile = tiles.get(path)
    return tile["inbound"]["width"] if tile and tile["inbound"] else 0


def figures_of(seen):
    """What the viewer saw, what the sender sent, and what the focus counted."""
    metrics = seen["metrics"][-1][1]
    grown = {name: value - seen["metrics"][0][1].get(name, 0) for name, value in metrics.items()}
    return {
        **viewer_figures(seen["viewer"]),
        "decode_errors": seen["decode_errors"],
        "sender": sender_figures(seen),
        "metrics": {name: value for name, value in grown.items() if value},
        "viewer_relay": {way: seen["viewer_relay"][-1][way] for way in ("up", "down")},
        "sender_relay": {way: seen["sender_relay"][-1][way] for way in ("up", "down")},
    }


def viewer_figures(viewer):
    """What was shown, what was lost and mended on the way, what was heard."""
    frames, first, last = viewer["frames"], viewer["samples"][0], viewer["samples"][-1]
    was, now = watched.inbound(first, "video"), watched.inbound(last, "video")
    heard, hears = watched.inbound(first, "audio"), watched.inbound(last, "audio")
    video = lambda name: watched.grown(was, now, name)
    seconds = (last["at"] - first["at"]) / 1000
    again = watched.shown_again(frames)
    return {
        "seconds": seconds,
        "frames_shown": len([frame for frame in frames if first["at"] <= frame[0] <= last["at"]]) - again,
        "frames_decoded": video("framesDecoded"),
        "frames_dropped": video("framesDropped"),
        # Whole frames that the decoder refused, or that never left it. At either end of the watch one may be within it.
        "frames_undecoded": max(0, video("framesReceived") - video("framesDecoded") - FRAMES_WITHIN),
        "frames_again": again,
        "frames_unreadable": watched.unreadable(frames),
        "freezes": video("freezeCount"),
        "frozen_ms": 1000 * video("totalFreezesDuration"),
        "gap_max_ms": watched.longest_gap(frames),
        "gaps_over_250_ms": sum(length > 250 for _, length in watched.gaps(frames)),
        "widths": sorted({frame[2] for frame in frames}),
        "packets_lost": video("packetsLost"),
        "packets_received": video("packetsReceived"),
        "resent_received": video("retransmittedPacketsReceived"),
        "nacks_sent": video("nackCount"),
        "plis_sent": video("pliCount"),
        "keyframes_decoded": video("keyFramesDecoded"),
        "jitter_buffer_ms": 1000 * video("jitterBufferDelay") / max(1, video("jitterBufferEmittedCount")),
        "mean_bps": 8 * video("bytesReceived") / seconds,
        "audio_made_up_ms": watched.concealed_ms(heard, hears),
        "audio_silence_max_ms": watched.silence_max_ms(viewer["samples"]),
    }


def sender_figures(seen):
    """Counters by layer, and the frames of the top layer that were sent while the viewer watched."""
    samples = seen["sender"]["samples"]
    first, last = watched.outbound(samples[0]), watched.outbound(samples[-1])
    counters = {name: {rid: watched.grown(entry, last.get(rid, {}), name) for rid, entry in first.items()} for name in SENDER_COUNTERS}
    # The pages are asked one after the other, some milliseconds apart: counted by the second, that does not matter.
    viewed = seen["viewer"]["samples"][-1]["at"] - seen["viewer"]["samples"][0]["at"]
    top_frames = counters["framesSent"].get("f", 0) * viewed / (samples[-1]["at"] - samples[0]["at"])
    limits = {rid: entry.get("qualityLimitationReason") for rid, entry in last.items()}
    return {"top_frames": top_frames, **counters, "limited_by": limits, "available_bps": watched.available_bps(samples[-1])}
