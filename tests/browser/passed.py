"""What passed the relays, frame by frame, and what of a gap that a viewer saw was there when the sender sent. Pure but for reading.

The tables are those of `weir-relay --trace`; times are the machine's, so the pages' and the relays' can be compared.
"""

import bisect
import collections
import csv

# A frame is shown a moment after its last packet has passed the relay; what passes later, was not it.
DECODE_MS_MAX = 60


def frame_ends(path, direction):
    """When the last packet of each video frame passed, in milliseconds, ascending."""
    streams = collections.defaultdict(lambda: collections.OrderedDict())
    marked = collections.Counter()
    with open(path, encoding="ascii") as table:
        for row in csv.DictReader(table):
            if row["direction"] != direction:
                continue
            key = (row["ssrc"], row["payload_type"])
            marked[key] += int(row["marker"])
            frames = streams[key]
            frames[row["timestamp"]] = int(row["us"]) / 1000
    # Each frame of a video stream has one marker. Sound marks the beginnings of speech, and resends are only some packets.
    video = [frames for key, frames in streams.items() if 0.9 <= marked[key] / len(frames) <= 1.1 and len(frames) > 30]
    return sorted(end for frames in video for end in frames.values())


def sent_gap(sent, received, change):
    """How long the gap of a size change was when its two frames left the sender, in milliseconds; None where they are not found.

    `sent` and `received` are frame ends on the sender's and on the viewer's side, `change` is of `watched.size_changes`."""
    at, length = change[0], change[1]
    old, new = last_before(received, at), last_before(received, at + length)
    if old is None or new is None or new <= old:
        return None
    was, now = last_before(sent, old), last_before(sent, new)
    return None if was is None or now is None else now - was


def of_longest(logs, changes, count=10):
    """The longest gaps at size changes with how long they were when sent: [(ms at the viewer, ms at the sender)]."""
    sent, received = frame_ends(logs / "relay-sender.csv", "up"), frame_ends(logs / "relay-viewer.csv", "down")
    longest = sorted(changes, key=lambda change: -change[1])[:count]
    pairs = [(change[1], sent_gap(sent, received, change)) for change in longest]
    return [pair for pair in pairs if pair[1] is not None]


def last_before(ends, at):
    """The last of the ascending times that is not after `at`, nor much before it."""
    place = bisect.bisect_right(ends, at) - 1
    return ends[place] if place >= 0 and at - ends[place] <= DECODE_MS_MAX else None
