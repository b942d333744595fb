"""What must be true of a call between pages, in the order in which it is shown. Every function takes the world and the
report, asks the pages and notes what it found.

Not here: how a page is asked (page.py), what surrounds the pages (world.py).
"""

import statistics
import time

import synapse
from report import spread, table
from world import LOOP_FRAMES

CAMERA = "m.usermedia"
SCREEN = "m.screenshare"
FREEZE_MAX_MS = 300
# The two ends are not looked at in the same moment.
SHOWN_OF_SENT_MIN = 0.9
# Of a picture that only has to go on, whatever layer it is.
FLOWS_OF_SENT_MIN = 0.5
# The target is 600 ms (docs/figures.md); three browsers on two slow cores were seen to need 950.
FIRST_FRAME_MAX_MS = 1500
# A browser that lacks processor time makes its largest picture a step smaller (960×540), the middle one then, too (480×270).
LARGE_WIDTH = 700


def others(world, page):
    return [other for other in world.pages if other is not page]


def all_decode(world, page, timeout_s=20):
    """Waits until `page` decodes the camera of every other page."""
    names = [other.name for other in others(world, page)]

    def decoding(tiles):
        found = [tiles.get((name, CAMERA)) for name in names]
        return all(tile and tile["inbound"] and tile["inbound"]["framesDecoded"] > 0 for tile in found)

    return page.wait_remote(decoding, f"it decodes {', '.join(names)}", timeout_s)


def remote_tiles(world):
    """What every page receives now, for `pictures_since`."""
    return {page.name: page.stats()["remote"] for page in world.pages}


def pictures_since(world, before):
    """The figures of every camera at every other page: [(then, now)]."""
    now = remote_tiles(world)
    paths = [(page.name, (other.name, CAMERA)) for page in world.pages for other in others(world, page)]
    return [tuple(tiles[name][path]["inbound"] for tiles in (before, now)) for name, path in paths]


def frozen_ms(pictures):
    """How long the picture stood still that stood still longest."""
    return max(1000 * (now["freezeSeconds"] - was["freezeSeconds"]) for was, now in pictures)


def everyone_meets(world, report):
    """The pages come in by different ways to find the focus, and all see all."""
    for page in world.pages:
        all_decode(world, page)
    foci = {tuple(page.state()["focus"].values()) for page in world.pages}
    calls = {page.state()["confId"] for page in world.pages}
    ways = "by the well-known file, by the others' member events, by hand"
    report.check(f"three pages meet, finding the focus {ways}", len(foci) == len(calls) == 1, f"{len(foci)} focus", "1")


def first_frames(world, report, joins):
    """Invite to first decoded frame, of one page that joins again and again."""
    page = world.pages[-1]
    first, every, parts = [], [], {"answer": [], "open": [], "subscribe": [], "offer": []}
    for _ in range(joins):
        page.call("leave()")
        time.sleep(0.7)
        page.call("join()")
        page.wait_connected()
        all_decode(world, page)
        # The figures may still be those from before the leave.
        seen = "weir.state().tiles.filter((tile) => !tile.own && tile.firstFrameAt !== null).length"
        state = page.browser.wait_for(f"{seen} === {len(world.pages) - 1} && weir.state()", "frames are shown")
        times = state["times"]
        shown = [tile["firstFrameAt"] - times["invite"] for tile in state["tiles"] if not tile["own"]]
        first.append(min(shown))
        every.append(max(shown))
        for part, values in parts.items():
            values.append(times[part] - times["invite"])
    report.figures["first_frame_ms"] = {"first": first, "every": every, **parts}
    report.check(
        f"invite to first decoded frame, {joins} joins",
        statistics.median(first) <= FIRST_FRAME_MAX_MS,
        f"{spread(first)} ms",
        f"median of at most {FIRST_FRAME_MAX_MS} ms",
    )
    steps = ", ".join(f"{part} {statistics.median(values):.0f}" for part, values in parts.items())
    print(f"       medians in ms: {steps}, first frame {statistics.median(first):.0f}, of everyone {statistics.median(every):.0f}")


def full_pictures(world, report, seconds):
    """Everybody asks for everybody at 1280×720 and sees the best layer as it is sent: size, frames and the numbers in the
    pictures. How many frames there are, and whether a layer keeps its size, depends on what the machine can encode.

    The pictures are decoded and read, but not drawn on the screen meanwhile: without a graphics card that takes as much
    of a small machine as another page.
    """
    for page in world.pages:
        page.call("setQuality('high')")
        page.draw(False)
    try:
        watch_full_pictures(world, report, seconds)
    finally:
        for page in world.pages:
            page.draw(True)


def watch_full_pictures(world, report, seconds):
    """The measurements of full_pictures."""

    def full(tiles):
        cameras = [tile for (_, purpose), tile in tiles.items() if purpose == CAMERA]
        return len(cameras) == len(world.pages) - 1 and all(is_large(t) for t in cameras)

    waits = {}
    for page in world.pages:
        waits[page.name] = page.wait_remote(full, "all pictures are large", 45)[1]
    report.figures["full_size_after_s"] = waits
    before = {page.name: page.stats() for page in world.pages}
    sizes, sent_sizes, read = watch_pictures(world, seconds)
    after = {page.name: page.stats() for page in world.pages}
    report.figures["full_pictures"] = figures = []
    for page in world.pages:
        seconds_passed = (after[page.name]["at"] - before[page.name]["at"]) / 1000
        for other in others(world, page):
            path = (other.name, CAMERA)
            was, now = before[page.name]["remote"][path]["inbound"], after[page.name]["remote"][path]["inbound"]
            rate = (now["framesDecoded"] - was["framesDecoded"]) / seconds_passed
            sent = best_layer_rate(before[other.name], after[other.name])
            frozen = 1000 * (now["freezeSeconds"] - was["freezeSeconds"])
            name = f"{page.name} sees {other.name}"
            numbers = read[page.name, other.name]
            good = [frame["number"] for _, frame in numbers if frame.get("source") == other.source]
            report.check(
                f"{name}: frames a second over {seconds} s",
                rate >= SHOWN_OF_SENT_MIN * sent,
                f"{rate:.1f} of {sent:.1f} sent",
                f"at least {100 * SHOWN_OF_SENT_MIN:.0f} %",
            )
            seen = size_list(sizes[page.name, other.name])
            figures.append({"who": name, "fps": rate, "sizes": seen, "frozen_ms": frozen})
            best = sent_sizes[other.name]
            # Larger than any lower layer, or a size that the best layer was seen to have: Chromium may make that layer
            # smaller for a moment on a busy machine, between two looks at what it sends.
            as_sent = all(width > LARGE_WIDTH or (width, height) in best for width, height in sizes[page.name, other.name])
            report.check(f"{name}: asked for 1280×720", as_sent, seen, f"the best layer: {size_list(best)}")
            readable = len(good) == len(numbers)
            goes_on = advances(numbers, sent, world.camera_fps)
            report.check(f"{name}: frame numbers", readable and goes_on, f"{len(good)} of {len(numbers)} read", "all, advancing")
    rows = [(row["who"], f"{row['fps']:.1f}", row["sizes"], f"{row['frozen_ms']:.0f}") for row in figures]
    for line in table(("who sees whom", "frames/s", "size", "frozen ms"), rows):
        print(f"       {line}")


def watch_pictures(world, seconds):
    """Looks at every picture about once a second: its size, the sizes of the best layers, and the number in the picture."""
    pairs = [(page, other) for page in world.pages for other in others(world, page)]
    sizes = {(page.name, other.name): set() for page, other in pairs}
    sent_sizes = {page.name: set() for page in world.pages}
    read = {(page.name, other.name): [] for page, other in pairs}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # Before the pictures: what is seen was sent earlier.
        for page in world.pages:
            layer = best_layer(page.stats())
            sent_sizes[page.name].add((layer["width"], layer["height"]))
        for page in world.pages:
            tiles = {tile["userId"][1:].split(":")[0]: tile for tile in page.state()["tiles"] if not tile["own"]}
            for other in others(world, page):
                tile = tiles[other.name]
                sizes[page.name, other.name].add((tile["videoWidth"], tile["videoHeight"]))
                read[page.name, other.name].append((time.monotonic(), page.read_frame(tile["key"])))
        time.sleep(1)
    return sizes, sent_sizes, read


def size_list(sizes):
    """Pairs of width and height, for people."""
    return ", ".join(f"{width}×{height}" for width, height in sorted(sizes))


def is_large(tile):
    """Whether a tile shows the best layer."""
    return bool(tile["inbound"]) and tile["inbound"]["width"] > LARGE_WIDTH


def best_layer(stats):
    """The largest layer that a page sends of its camera."""
    return next(layer for layer in stats["outbound"] if layer["rid"] == "f")


def best_layer_rate(before, after):
    """Frames a second of a page's best layer between two looks at its figures."""
    frames = best_layer(after)["framesEncoded"] - best_layer(before)["framesEncoded"]
    return 1000 * frames / (after["at"] - before["at"])


def sent_rate(before, after):
    """Frames a second of the layer of a page's camera that had most of them between two looks at its figures."""
    frames = {layer["rid"]: layer["framesEncoded"] for layer in before["outbound"]}
    grown = [layer["framesEncoded"] - frames.get(layer["rid"], 0) for layer in after["outbound"]]
    return 1000 * max(grown, default=0) / (after["at"] - before["at"])


def advances(numbers, rate, camera_fps):
    """Whether the numbers move on with the clock: the camera makes as many pictures a second as are encoded, or more up to its
    own rate, of which the encoder leaves out some, and one picture may come half a second late."""
    for (at, frame), (next_at, next_frame) in zip(numbers, numbers[1:]):
        if "number" not in frame or "number" not in next_frame:
            return False
        passed = next_at - at
        moved = (next_frame["number"] - frame["number"]) % LOOP_FRAMES
        late = camera_fps / 2
        least, most = SHOWN_OF_SENT_MIN * rate * passed - late, camera_fps * passed + late
        turns = range(int(most // LOOP_FRAMES) + 1)
        if not any(least <= moved + turn * LOOP_FRAMES <= most for turn in turns):
            return False
    return True


def layer_changes(world, report, times):
    """Grid, spotlight and back: the pictures change their size, and nothing freezes."""
    for page in world.pages:
        page.call("setQuality('auto')")
        page.call("setLayout('grid')")
    page, other = world.pages[0], world.pages[1]
    path = (other.name, CAMERA)
    small = lambda tiles: not is_large(tiles[path])
    large = lambda tiles: is_large(tiles[path])
    page.wait_remote(small, "the grid gets small pictures")
    time.sleep(2)
    waits, frozen, gaps = [], [], []
    for _ in range(times):
        for layout, arrived in (("spotlight", large), ("grid", small)):
            tile = page.stats()["remote"][path]
            page.call("resetGaps()")
            target = f", '{tile['key']}'" if layout == "spotlight" else ""
            page.call(f"setLayout('{layout}'{target})")
            waits.append(1000 * page.wait_remote(arrived, f"the picture of {layout}", 10)[1])
            time.sleep(1.5)
            now = page.stats()["remote"][path]
            frozen.append(1000 * (now["inbound"]["freezeSeconds"] - tile["inbound"]["freezeSeconds"]))
            gaps.append(now["gapMs"])
    report.figures["layer_changes"] = {"wait_ms": waits, "frozen_ms": frozen, "gap_ms": gaps}
    report.check(
        f"grid to spotlight and back, {times} times: freezes by getStats",
        max(frozen) <= FREEZE_MAX_MS,
        f"at most {max(frozen):.0f} ms in one change, {sum(value > 0 for value in frozen)} of {len(frozen)} with any",
        f"none over {FREEZE_MAX_MS} ms",
    )
    print(f"       until the new size is decoded: {spread(waits)} ms; longest gap between shown frames: {spread(gaps)} ms")


def unneeded_layers(world, report):
    """A camera's best layer rests while nobody needs it, and is back when somebody does; the focus says what everybody gets."""
    for page in world.pages:
        page.call("setQuality('low')")
    page, other = world.pages[0], world.pages[1]
    path = (other.name, CAMERA)

    def active():
        layers = [layer for layer in other.stats()["outbound"] if layer["kind"] == "video"]
        return "".join(sorted(layer["rid"] for layer in layers if layer["active"]))

    def waited_for(rids, timeout_s):
        started = time.monotonic()
        while active() != rids and time.monotonic() - started < timeout_s:
            time.sleep(0.1)
        return active(), time.monotonic() - started

    rests, _ = waited_for("q", 15)
    report.check("layers that nobody needs are not sent", rests == "q", f"layers sent: {rests}", "q")
    page.call("setQuality('high')")
    large = lambda tiles: is_large(tiles[path])
    seconds = page.wait_remote(large, "the large picture is back", 10)[1]
    report.figures["layer_returns_s"] = seconds
    report.check("a layer that rested is back when it is wanted", active() == "fhq", f"{seconds:.1f} s, layers {active()}", "fhq")
    flowing = lambda tiles: all((tile["status"]["reason"], tile["why"]) == ("flowing", "") for tile in tiles.values())
    seconds = page.wait_remote(flowing, "the focus says of each picture that all is well", 10)[1]
    report.check("the focus says that all is well again", True, f"{seconds:.1f} s", "within 10 s")
    for each in world.pages:
        each.call("setQuality('auto')")


def mutes(world, report):
    """Camera and microphone off and on: others see the mark, the picture stops, and comes back."""
    page, other = world.pages[1], world.pages[0]
    path = (page.name, CAMERA)
    page.call("muteCamera(true)")
    waited = other.wait_remote(lambda tiles: tiles[path]["videoMuted"], "the camera's mute is seen")[1]
    report.check("camera off is seen by others", waited < 1, f"{1000 * waited:.0f} ms", "under 1 s")
    time.sleep(1)
    stopped = other.stats()["remote"][path]["inbound"]["framesDecoded"]
    time.sleep(1)
    grew = other.stats()["remote"][path]["inbound"]["framesDecoded"] - stopped
    report.check("a camera that is off sends nothing", grew == 0, f"{grew} frames", "0")
    page.call("muteCamera(false)")
    back = lambda tiles: not tiles[path]["videoMuted"] and tiles[path]["inbound"]["framesDecoded"] > stopped + 5
    waited = other.wait_remote(back, "the camera is seen again")[1]
    report.check("camera on is seen by others", waited < 2, f"{1000 * waited:.0f} ms", "under 2 s")

    page.call("muteMicrophone(true)")
    waited = other.wait_remote(lambda tiles: tiles[path]["audioMuted"], "the microphone's mute is seen")[1]
    report.check("microphone off is seen by others", waited < 1, f"{1000 * waited:.0f} ms", "under 1 s")
    time.sleep(0.7)
    energy = heard(other, path, 1.5)
    report.check("a microphone that is off is silent", energy < 1e-5, f"energy {energy:.6f}", "0")
    page.call("muteMicrophone(false)")
    other.wait_remote(lambda tiles: not tiles[path]["audioMuted"], "the microphone is on")
    energy = heard(other, path, 2.5)
    report.check("a microphone that is on is heard", energy > 1e-5, f"energy {energy:.6f}", "more than 0")


def heard(page, path, seconds):
    """How much sound energy arrives in some time."""
    energy = lambda: (page.stats()["remote"][path]["audio"] or {}).get("totalAudioEnergy", 0)
    before = energy()
    time.sleep(seconds)
    return energy() - before


def screens(world, report):
    """A screen shared twice: it appears, moves, and is gone again."""
    page = world.pages[0]
    path = (page.name, SCREEN)
    for turn in ("first", "second"):
        page.browser.click("#screen")
        arrived = lambda tiles: path in tiles and tiles[path]["inbound"] and tiles[path]["inbound"]["framesDecoded"] > 2
        waits = [other.wait_remote(arrived, "the shared screen", 20)[1] for other in others(world, page)]
        sizes = {f"{tile['inbound']['width']}×{tile['inbound']['height']}" for tile in (o.stats()["remote"][path] for o in others(world, page))}
        report.check(f"screen shared, {turn} time: others see it", max(waits) < 5, f"{max(waits):.1f} s, {', '.join(sizes)}", "under 5 s")
        time.sleep(1)
        page.browser.click("#screen")
        waits = [other.wait_remote(lambda tiles: path not in tiles, "the screen is gone")[1] for other in others(world, page)]
        report.check(f"screen taken back, {turn} time", max(waits) < 1, f"{1000 * max(waits):.0f} ms", "under 1 s")
    still_flows(world, report, "after screen sharing")


def leaves_and_returns(world, report):
    """One leaves by the button: gone for the others; and comes back as if nothing had been."""
    page = world.pages[2]
    path = (page.name, CAMERA)
    page.browser.click("#leave")
    waits = [other.wait_remote(lambda tiles: path not in tiles, "the one who left is gone")[1] for other in others(world, page)]
    report.check("leaving is seen by others", max(waits) < 1.5, f"{1000 * max(waits):.0f} ms", "under 1.5 s")
    page.call("join()")
    page.wait_connected()
    waits = [all_decode(world, page)[1] for page in world.pages]
    report.check("coming back: all see all", max(waits) < 5, f"{max(waits):.1f} s", "under 5 s")
    still_flows(world, report, "after coming back")


def still_flows(world, report, when, seconds=3):
    """Every camera reaches every page, without a longer freeze. How fast, is the senders' affair."""
    time.sleep(1)
    before, sent_before = remote_tiles(world), {page.name: page.stats() for page in world.pages}
    time.sleep(seconds)
    pictures = pictures_since(world, before)
    sent = min(sent_rate(sent_before[page.name], page.stats()) for page in world.pages)
    shown = min((now["framesDecoded"] - was["framesDecoded"]) / seconds for was, now in pictures)
    frozen = frozen_ms(pictures)
    flows = shown >= max(1, FLOWS_OF_SENT_MIN * sent) and frozen <= FREEZE_MAX_MS
    seen = f"at least {shown:.0f} fps, at least {sent:.0f} sent; frozen at most {frozen:.0f} ms"
    report.check(f"everyone sees everyone {when}", flows, seen, f"half of what is sent, no freeze over {FREEZE_MAX_MS} ms")


def homeserver_away(world, report, seconds):
    """The homeserver goes away and comes back: the call does not notice, and signalling works again afterwards."""
    before = remote_tiles(world)
    synapse.stop(world.homeserver)
    time.sleep(seconds)
    worst = frozen_ms(pictures_since(world, before))
    report.check(f"homeserver away for {seconds} s: the call does not freeze", worst <= FREEZE_MAX_MS, f"{worst:.0f} ms", "at most 300 ms")
    still_flows(world, report, "without the homeserver")
    world.start_homeserver(fresh=False)
    started = time.monotonic()
    while not world.is_ready() and time.monotonic() < started + 60:
        time.sleep(0.2)
    report.check("homeserver back: the focus is ready", world.is_ready(), f"{time.monotonic() - started:.1f} s", "under 60 s")
    page = world.pages[2]
    page.call("leave()")
    page.call("join()")
    page.wait_connected(30)
    waited = all_decode(world, page, 30)[1]
    report.check("homeserver back: one leaves and joins again", True, f"{waited:.1f} s", "works")


def focus_restarts(world, report):
    """The focus is stopped and started: every page calls again by itself."""
    code = world.stop_focus()
    report.check("focus told to stop: exit code", code == 0, code, "0")
    started = time.monotonic()
    world.start_focus(same_address=True)
    for page in world.pages:
        page.wait_connected(40)
    for page in world.pages:
        all_decode(world, page, 30)
    report.check("focus restarted: all see all again", True, f"{time.monotonic() - started:.1f} s", "by themselves")
