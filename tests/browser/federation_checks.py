"""What must be true of a call over two homeservers with a focus each. Every function takes the federation and the report.

Not here: what surrounds the pages (federation.py, world.py), how a page is asked (page.py).
"""

import dataclasses
import statistics
import time

import watched
from checks import CAMERA, all_decode, others, remote_tiles
from encrypted import KEY, check_counters, grown
from report import spread, table
from webdriver import WebDriverError
from world import total

# Layers by what a page asks for, see layout.js: 320×180 for its small tiles, or more than the camera has.
LAYER_OF = {"auto": "h", "high": "f"}
# What AES-GCM adds to an RTP packet (RFC 7714).
TAG_BYTES = 16
# What waits for homeservers, browsers and keyframes on a slow machine.
PATIENCE_S = 40
# A picture of a new size is there; what was asked before has run out.
SETTLE_S = 2
# Pictures are watched so long before a focus is killed, to compare with.
BEFORE_S = 5
# For how long a killed focus is away.
AWAY_S = 5
# Between joins of one page: each is two invites to its focus, and limits.invites_per_user_per_second is 1.
BETWEEN_JOINS_S = 2
# Nothing entered by hand: the page chooses.
NO_FOCUS = {"userId": "", "deviceId": ""}
# How often the pages take figures while they watch.
SAMPLE_MS = 1000


@dataclasses.dataclass
class Targets:
    """What must hold. `trunk_of_asked` is the share of bytes, `local_gap_ms` what frames may be apart beyond what they were before."""

    shown_of_sent: float
    trunk_of_asked: float
    first_frame_ms: int
    back_s: float
    local_gap_ms: int


# What the figures must show, on a machine that does nothing else.
FULL = Targets(0.9, 1.1, 1500, 10, 100)
# What short runs must show on any machine.
SHORT = Targets(0.5, 1.1, 4500, 30, 1000)


def wait_until_at_home(federation):
    """Waits until every page is at the focus of its own homeserver and decodes everybody."""
    for side in federation.sides:
        for page in side.pages:
            at_home = f"weir.state().focus?.userId === '{side.focus_user}' && weir.state().state === 'connected'"
            wait_until(page, at_home, "it is at the focus of its homeserver")
    for page in federation.pages:
        all_decode(federation, page, PATIENCE_S)


def go_home(federation):
    """Puts everybody at the focus of its homeserver, for checks that are about something else: who has measured that another one is
    nearer uses that, and on a busy machine all are alike."""
    for side in federation.sides:
        for page in side.pages:
            if page.state()["focus"]["userId"] != side.focus_user:
                rejoin_at_home(side, page)
    wait_until_at_home(federation)


def rejoin_at_home(side, page, **fields):
    """Joins again by the focus of its homeserver, entered by hand, with other values in the lobby's form."""
    time.sleep(BETWEEN_JOINS_S)
    page.rejoin(focus_user=side.focus_id["userId"], focus_device=side.focus_id["deviceId"], **fields)
    fill_focus(page, NO_FOCUS)


def wait_until(page, condition, what):
    """Waits until an expression is true in a page; says what the page says if it does not come true."""
    try:
        page.browser.wait_for(condition, what, PATIENCE_S)
    except WebDriverError as error:
        raise WebDriverError(f"{page.name}: {error}; the page says {page.log()[-6:]}") from error


def everyone_is_at_home(federation, report):
    """Who is alone on its side goes where the others are; with a second one, both move to the focus that is near (MSC3898)."""
    near, far = (side.focus_id for side in federation.sides)
    alice, anna, bob, bella = (federation.first_choice[page.name] for page in federation.pages)
    report.check("the first two are at the focus of their homeserver", alice == anna == near, describe(alice, anna), describe(near))
    report.check("the first of another homeserver goes where they are", bob == near, describe(bob), describe(near))
    report.check("the second one goes to the focus that the first would prefer", bella == far, describe(bella), describe(far))
    focus = federation.pages[2].state()["focus"]
    report.check("the first one follows", focus == far, describe(focus), describe(far))


def describe(*foci):
    """Foci for people."""
    return ", ".join(focus["userId"] for focus in foci)


def ask(federation, wishes):
    """Lets each page ask for everybody in a quality, by page, and waits until the pictures have the size of what crosses or is
    best: a focus gets the largest that anybody at it wants of the other side."""
    for page, quality in wishes.items():
        page.call(f"setQuality('{quality}')")
    for page in wishes:
        paths = [(other, (other.name, CAMERA)) for other in others(federation, page)]

        def arrived(tiles):
            layers = {other: tiles[path]["inbound"]["layer"] for other, path in paths if tiles.get(path) and tiles[path]["inbound"]}
            return len(layers) == len(paths) and all(layer == layer_for(federation, page, of, wishes) for of, layer in layers.items())

        page.wait_remote(arrived, "pictures have the sizes asked for", PATIENCE_S)
    time.sleep(SETTLE_S)


def layer_for(federation, page, other, wishes):
    """The layer in which `page` gets `other`: its own wish, or over the trunk the largest of all on its side."""
    side = federation.side_of(page)
    wished = [wishes[page]] if other in side.pages else [wishes[of] for of in side.pages]
    return LAYER_OF["high" if "high" in wished else "auto"]


def pictures(federation, targets, report, seconds):
    """Everybody decodes everybody in the size asked for, large and small; each picture is of whom the tile says."""
    rows = report.figures["pictures"] = []
    for quality in LAYER_OF:
        ask(federation, {page: quality for page in federation.pages})
        before = {page: page.stats() for page in federation.pages}
        time.sleep(seconds)
        after = {page: page.stats() for page in federation.pages}
        for page in federation.pages:
            for other in others(federation, page):
                row = seen(before[page], after[page], before[other], after[other], other, LAYER_OF[quality])
                rows.append({"who": f"{page.name} sees {other.name}", **row})
                report.check(
                    f"{page.name} sees {other.name} at {quality} quality",
                    row["size"] == row["sent_size"] and row["fps"] >= targets.shown_of_sent * row["sent_fps"] > 0,
                    f"{row['size']}, {row['fps']:.1f} frames/s of {row['sent_fps']:.1f} sent, {row['frozen_ms']:.0f} ms frozen",
                    f"{row['sent_size']}, at least {100 * targets.shown_of_sent:.0f} % of the frames",
                )
    for page in federation.pages:
        sources = {other.name: (other.source, source_in_picture(page, other)) for other in others(federation, page)}
        right = all(expected == found for expected, found in sources.values())
        report.check(f"{page.name} sees who it should", right, {name: found for name, (_, found) in sources.items()}, "their own numbers")


def seen(before, after, sender_before, sender_after, sender, rid):
    """The figures of one picture between two looks at it, beside those of the layer that it should be."""
    was, now = (stats["remote"][sender.name, CAMERA]["inbound"] for stats in (before, after))
    layer_was, layer = (layer_of(stats, rid) for stats in (sender_before, sender_after))
    return {
        "size": f"{now['width']}×{now['height']}",
        "sent_size": f"{layer['width']}×{layer['height']}",
        "fps": 1000 * (now["framesDecoded"] - was["framesDecoded"]) / (after["at"] - before["at"]),
        "sent_fps": 1000 * (layer["framesEncoded"] - layer_was["framesEncoded"]) / (sender_after["at"] - sender_before["at"]),
        "frozen_ms": 1000 * (now["freezeSeconds"] - was["freezeSeconds"]),
    }


def layer_of(stats, rid):
    """What a page sends of its camera in a layer."""
    return next(layer for layer in stats["outbound"] if layer["rid"] == rid)


def source_in_picture(page, other, attempts=10):
    """The number in a picture of who made it; None where it cannot be read."""
    for _ in range(attempts):
        key = page.stats()["remote"][other.name, CAMERA]["key"]
        found = page.read_frame(key).get("source")
        if found is not None:
            return found
        time.sleep(0.2)
    return None


def trunk_carries_each_track_once(federation, targets, report, seconds):
    """What crosses is what was asked for, once, though two pages at the other side watch it; also where they want different sizes."""
    rows = report.figures["trunk"] = []
    bella = federation.pages[-1]
    for wish in (*LAYER_OF, "mixed"):
        wishes = {page: "high" if wish == "mixed" else wish for page in federation.pages}
        if wish == "mixed":
            wishes[bella] = "auto"
        ask(federation, wishes)
        before = look(federation)
        time.sleep(seconds)
        after = look(federation)
        for side in federation.sides:
            row = crossed(federation, side, wishes, before, after)
            rows.append({"wish": wish, "from": side.focus_user, **row})
            report.check(
                f"{wish} quality, from {side.focus_user}: bytes on the trunk of those asked for",
                row["of_asked"] <= targets.trunk_of_asked,
                f"{row['of_asked']:.3f}: {8e-3 * row['carried']:.0f} of {8e-3 * row['asked']:.0f} kb/s",
                f"at most {targets.trunk_of_asked}",
            )
    for side in federation.sides:
        metrics = side.metrics()
        pages, far = len(side.pages), len(federation.other_side(side).pages)
        # Camera and microphone of everybody; each page gets those of all others, and what is published here crosses once.
        expected = {"weir_shard_tracks": 2 * (pages + far), "weir_shard_subscriptions": 2 * (pages * (pages - 1 + far) + pages)}
        found = {name: total(metrics, name) for name in expected}
        report.check(f"each track crosses once, seen at {side.focus_user}", found == expected, found, expected)
        trunks = total(metrics, "weir_trunks")
        report.check(f"one trunk at {side.focus_user}", trunks == 1, f"{trunks:.0f}", "1")
    heads = ("quality", "from", "payload kb/s", "asked for", "on the trunk", "of asked", "datagrams/s")
    kbps = lambda bytes_per_second: f"{8e-3 * bytes_per_second:.0f}"
    cells = [
        (row["wish"], row["from"], kbps(row["payload"]), kbps(row["asked"]), kbps(row["carried"]), f"{row['of_asked']:.3f}", f"{row['datagrams']:.0f}")
        for row in rows
    ]
    for line in table(heads, cells):
        print(f"       {line}")


def look(federation):
    """Everybody's counters, each with the time of the look."""
    pages = {page: page.stats() for page in federation.pages}
    return {"pages": pages, "foci": {side: (time.monotonic(), side.metrics()) for side in federation.sides}}


def crossed(federation, side, wishes, before, after):
    """What went from one side to the other between two looks, in bytes a second: the `payload` of what was asked for, as its publishers
    sent it; the RTP of the same tracks, as one viewer got it, on average, which is what was `asked` for; and what was `carried`,
    everything but connectivity checks counted. Publishers' packets are no measure: Chromium counts among them what it pads."""
    (began, metrics_before), (ended, metrics_after) = (at["foci"][side] for at in (before, after))
    grown = lambda name: (total(metrics_after, name) - total(metrics_before, name)) / (ended - began)
    viewers = federation.other_side(side).pages

    def rate(page, count):
        was, now = (at["pages"][page] for at in (before, after))
        return 1000 * (count(now) - count(was)) / (now["at"] - was["at"])

    def sent(stats, rid):
        streams = [stream for stream in stats["outbound"] if stream["kind"] == "audio" or stream["rid"] == rid]
        return sum(stream["bytesSent"] for stream in streams)

    def received(stats):
        tiles = [stats["remote"][page.name, CAMERA] for page in side.pages]
        streams = [stream for tile in tiles for stream in (tile["inbound"], tile["audio"])]
        return sum(stream["bytesReceived"] + stream["headerBytesReceived"] + TAG_BYTES * stream["packetsReceived"] for stream in streams)

    asked = statistics.mean(rate(page, received) for page in viewers)
    carried = grown("weir_shard_trunk_sent_bytes_total")
    return {
        "payload": sum(rate(page, lambda stats: sent(stats, layer_for(federation, viewers[0], page, wishes))) for page in side.pages),
        "asked": asked,
        "carried": carried,
        "of_asked": carried / asked,
        "datagrams": grown("weir_shard_trunk_sent_datagrams_total"),
    }


def joins(federation, targets, report, times):
    """One leaves and joins again, where another one of its side has stayed: the trunk is there."""
    page = federation.pages[-1]
    shown = []
    for _ in range(times):
        leave(federation, page)
        time.sleep(BETWEEN_JOINS_S)
        shown.append(join(federation, page))
    note_joins(report, targets, "join", f"click to first frame from the other side, {times} joins", shown)
    go_home(federation)


def joins_that_need_a_trunk(federation, targets, report, times):
    """One is alone on its side and names its own focus by hand: the trunk comes about with it."""
    side = federation.sides[1]
    *away, page = side.pages
    shown = []
    for other in away:
        leave(federation, other)
    fill_focus(page, side.focus_id)
    for _ in range(times):
        leave(federation, page)
        wait_for_trunks(federation, 0)
        time.sleep(BETWEEN_JOINS_S)
        shown.append(join(federation, page))
    note_joins(report, targets, "join_with_trunk", f"the same with a trunk that is not there yet, {times} joins", shown)
    fill_focus(page, NO_FOCUS)
    for other in away:
        join(federation, other)
    go_home(federation)


def fill_focus(page, focus):
    """Fills in the focus in the page's lobby."""
    script = "const { elements } = document.getElementById('lobby'); elements.focus_user.value = arguments[0]; elements.focus_device.value = arguments[1];"
    page.browser.run(script, focus["userId"], focus["deviceId"])


def wait_for_trunks(federation, count):
    """Waits until both foci have so many trunks."""
    deadline = time.monotonic() + PATIENCE_S
    for side in federation.sides:
        while total(side.metrics(), "weir_trunks") != count:
            if time.monotonic() > deadline:
                raise WebDriverError(f"not {count} trunks at {side.focus_user} within {PATIENCE_S} s")
            time.sleep(0.1)


def leave(federation, page):
    """Leaves by the button, and waits until nobody sees it."""
    page.browser.click("#leave")
    for other in others(federation, page):
        if other.state()["state"] == "connected":
            other.wait_remote(lambda tiles: (page.name, CAMERA) not in tiles, f"{page.name} is gone", PATIENCE_S)


def join(federation, page):
    """Joins by the button; gives when the first pictures came, in milliseconds from the click: {"first", "every"} of the other side's
    publishers, and the steps of the call."""
    names = [other.name for other in federation.other_side(federation.side_of(page)).pages]
    clicked = page.browser.run("const at = performance.now(); document.querySelector('#lobby [type=submit]').click(); return at;")
    page.wait_connected(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        state = page.state()
        tiles = [tile for tile in state["tiles"] if tile["userId"][1:].split(":")[0] in names]
        shown = [tile["firstFrameAt"] for tile in tiles]
        if len(shown) == len(names) and None not in shown:
            steps = {step: at - clicked for step, at in state["times"].items()}
            return {"first": min(shown) - clicked, "every": max(shown) - clicked, **steps}
        if time.monotonic() > deadline:
            raise WebDriverError(f"{page.name} does not see the other side; it says {page.log()[-6:]}")
        time.sleep(0.05)


def note_joins(report, targets, key, name, shown):
    """Figures and check of some joins."""
    report.figures[key] = shown
    first = [of["first"] for of in shown]
    holds = statistics.median(first) <= targets.first_frame_ms
    report.check(name, holds, f"{spread(first)} ms", f"median of at most {targets.first_frame_ms} ms")
    middle = lambda step: f"{step} {statistics.median(of.get(step, 0) for of in shown):.0f}"
    steps = ("invite", "answer", "open", "subscribe", "offer", "first", "every")
    print(f"       medians in ms: {', '.join(middle(step) for step in steps)}")


def media_is_encrypted(federation, targets, report, seconds):
    """The pictures again, with a media key that neither focus has; sound, too, and no frame is refused."""
    report = report.part("encrypted")
    for page in federation.pages:
        leave(federation, page)
    for page in federation.pages:
        rejoin_at_home(federation.side_of(page), page, key=KEY)
    wait_until_at_home(federation)
    pictures(federation, targets, report, seconds)
    tiles = remote_tiles(federation)
    time.sleep(2)
    later = remote_tiles(federation)
    heard = min(grown(tiles, later, (name, path), "audio", "totalAudioEnergy") for name, remote in tiles.items() for path in remote)
    report.check("everybody hears everybody", heard > 1e-5, f"energy at least {heard:.6f}", "more than 0")
    check_counters(report, "over two foci", later)
    for page in federation.pages:
        leave(federation, page)
    for page in federation.pages:
        rejoin_at_home(federation.side_of(page), page, key="")
    wait_until_at_home(federation)


def focus_killed(federation, targets, report, both):
    """A focus dies: the other side's own pictures go on. It starts again: its pages come back by themselves, and all see all."""
    for side in reversed(federation.sides) if both else federation.sides[1:]:
        kill_and_restart(federation, targets, report, side)


def kill_and_restart(federation, targets, report, side):
    """The same for the focus of one side."""
    other = federation.other_side(side)
    calls = {page: page.state()["callId"] for page in side.pages}
    watch(other)
    time.sleep(BEFORE_S)
    side.kill_focus()
    killed_at = 1000 * time.time()
    time.sleep(AWAY_S)
    for page in other.pages:
        page.call("resetGaps()")
    started = time.monotonic()
    side.start_focus(same_address=True)
    ready = time.monotonic() - started
    for page in side.pages:
        again = f"weir.state().state === 'connected' && weir.state().callId !== '{calls[page]}'"
        wait_until(page, again, "it has called again")
    called = time.monotonic() - started
    for page in side.pages:
        all_decode(federation, page, PATIENCE_S)
    back = time.monotonic() - started
    for page in other.pages:
        moves = lambda tiles: all(tiles.get((of.name, CAMERA), {}).get("framesShown") for of in side.pages)
        page.wait_remote(moves, f"{page.name} sees the other side again", PATIENCE_S)
    seen_again = time.monotonic() - started
    gaps = local_gaps(other, killed_at)
    figures = {"ready_s": ready, "called_s": called, "back_s": back, "seen_again_s": seen_again, "local_gaps_ms": gaps}
    report.figures.setdefault("kill", {})[side.focus_user] = figures
    note_killed(report, targets, side.focus_user, figures)


def note_killed(report, targets, focus, figures):
    """The checks of a focus that was killed and started again."""
    for name, (before, after) in figures["local_gaps_ms"].items():
        report.check(
            f"{focus} killed: {name} goes on",
            after <= before + targets.local_gap_ms,
            f"longest gap {after:.0f} ms, before {before:.0f}",
            f"at most {targets.local_gap_ms} ms longer",
        )
    report.check(
        f"{focus} killed and started: its pages see everybody",
        figures["back_s"] <= targets.back_s,
        f"{figures['back_s']:.1f} s after the start (ready {figures['ready_s']:.1f}, called again {figures['called_s']:.1f})",
        f"at most {targets.back_s} s",
    )
    report.check(
        f"{focus} killed and started: the other side sees its people",
        figures["seen_again_s"] <= targets.back_s,
        f"{figures['seen_again_s']:.1f} s after the start",
        f"at most {targets.back_s} s",
    )


def watch(side):
    """Begins to watch, at each page of a side, the picture of the next one of the same side."""
    for page, other in zip(side.pages, [*side.pages[1:], side.pages[0]]):
        key = page.stats()["remote"][other.name, CAMERA]["key"]
        page.browser.run("watch.start(arguments[0], arguments[1]);", key, SAMPLE_MS)


def local_gaps(side, killed_at):
    """The longest gaps between decoded frames since `watch`, before the killing and after: {who: (before, after)}, in milliseconds."""
    gaps = {}
    for page, other in zip(side.pages, [*side.pages[1:], side.pages[0]]):
        end = 1000 * time.time()
        frames = page.browser.run("return watch.stop();")["frames"]
        before, after = watched.longest_gap(frames, 0, killed_at), watched.longest_gap(frames, killed_at, end)
        gaps[f"{other.name} at {page.name}"] = (before, after)
    return gaps
