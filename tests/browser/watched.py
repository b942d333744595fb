"""What a watched page saw, turned into figures. Pure: lists in, numbers out.

A frame is [ms, number in the picture or -1, width]; a sample is {"at": ms, "stats": [entries of getStats]}; see watch.js.
Times are the machine's, so those of two pages can be compared.
"""

from world import LOOP_FRAMES


def gaps(frames):
    """The gaps between frames that follow each other: [(ms when it began, how many ms)]."""
    return [(one[0], two[0] - one[0]) for one, two in zip(frames, frames[1:])]


def longest_gap(frames, start=0, end=float("inf")):
    """The longest gap that ends after `start` and begins before `end`, in milliseconds; a frame that never comes counts."""
    inside = [length for at, length in gaps(frames) if at + length >= start and at < end]
    last = end - frames[-1][0] if frames and end != float("inf") else 0
    return max([*inside, last], default=0)


def size_changes(frames):
    """Each time that the size changes: [(ms of the last frame of one size, ms until the first of the other, both widths)]."""
    return [(one[0], two[0] - one[0], one[2], two[2]) for one, two in zip(frames, frames[1:]) if one[2] != two[2]]


def unreadable(frames):
    """How many pictures had no readable number."""
    return sum(frame[1] < 0 for frame in frames)


def shown_again(frames):
    """How many pictures came again or after a later one. The numbers wrap; half a loop is the most that can be told. Chromium
    plays a camera file's first picture twice, each time it begins anew."""
    numbers = [frame[1] for frame in frames if frame[1] >= 0]
    steps = [((two - one) % LOOP_FRAMES, two) for one, two in zip(numbers, numbers[1:])]
    return sum((step == 0 and number != 0) or step > LOOP_FRAMES // 2 for step, number in steps)


def inbound(sample, kind):
    """The entry of what is received of a kind; {} where there is none. Of several the one that is alive."""
    entries = [entry for entry in sample["stats"] if entry["type"] == "inbound-rtp" and entry.get("kind") == kind]
    return max(entries, key=lambda entry: entry.get("lastPacketReceivedTimestamp", 0), default={})


def outbound(sample):
    """The entries of the sent video layers by rid."""
    entries = [entry for entry in sample["stats"] if entry["type"] == "outbound-rtp" and entry.get("kind") == "video"]
    return {entry.get("rid", ""): entry for entry in entries}


def available_bps(sample):
    """What the browser believes it can send."""
    pairs = [entry for entry in sample["stats"] if entry["type"] == "candidate-pair"]
    return max((pair.get("availableOutgoingBitrate", 0) for pair in pairs), default=0)


def grown(before, after, name):
    """By how much a counter grew."""
    return after.get(name, 0) - before.get(name, 0)


def rates(samples, entry_of, name="bytesReceived"):
    """A counter of bytes as bits a second between samples: [(ms, bits a second)]."""
    return rates_of([(sample["at"], entry_of(sample).get(name, 0)) for sample in samples])


def rates_of(points):
    """[(ms, bytes so far)] as bits a second."""
    pairs = zip(points, points[1:])
    return [(at, 8000 * (count - before) / (at - was)) for (was, before), (at, count) in pairs if at > was and count >= before]


def silence_max_ms(samples):
    """The longest time without a packet of sound, as far as the samples can tell."""
    longest, since, last = 0, None, None
    for sample in samples:
        packets = inbound(sample, "audio").get("packetsReceived", 0)
        if packets != last:
            last, since = packets, sample["at"]
        longest = max(longest, sample["at"] - since)
    return longest


def concealed_ms(before, after):
    """How much sound had to be made up, in milliseconds."""
    return (grown(before, after, "concealedSamples") - grown(before, after, "silentConcealedSamples")) / 48
