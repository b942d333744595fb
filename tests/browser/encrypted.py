"""A call whose media is encrypted with a key that the focus does not have: who has it sees and hears, who has not does not, and what the
focus forwards is no picture. Every function takes the world and the report.

Not here: how well it goes on bad networks (quality.py), single frames and keys (modules_encryption.js).
"""

import collections
import pathlib
import time

from checks import CAMERA, FREEZE_MAX_MS, all_decode, remote_tiles
from world import total

KEY = "a media key, only for tests"
OTHER_KEY = "another media key, only for tests"
TAP = (pathlib.Path(__file__).parent / "tap.js").read_text(encoding="utf-8")
# How long the one without the key is watched.
WATCH_SECONDS = 6
# A subscription causes one keyframe every two seconds at most, once it has used up its first six (dataplane/shard/src/limits.rs).
KEYFRAME_WISH_SECONDS = 2
KEYFRAME_WISHES = 6


def media_is_encrypted(world, report):
    """Three pages with one key; then the third has another; then none, and keeps what it gets."""
    everyone_with_a_key(world, report)
    one_with_another_key(world, report)
    what_the_focus_forwards(world, report)
    for page in world.pages:
        page.call("leave()")
    for page in world.pages:
        page.rejoin(key="")


def everyone_with_a_key(world, report):
    """All see and hear all, and no frame is refused."""
    for page in world.pages:
        page.call("leave()")
    for page in world.pages:
        page.rejoin(key=KEY)
    waits = [all_decode(world, page)[1] for page in world.pages]
    before = remote_tiles(world)
    time.sleep(3)
    after = remote_tiles(world)
    paths = [(name, path) for name, tiles in after.items() for path in tiles]
    pictures = [grown(before, after, path, "inbound", "framesDecoded") for path in paths]
    sounds = [grown(before, after, path, "audio", "totalAudioEnergy") for path in paths]
    report.check("with one key: all see all", min(pictures) > 0, f"after {max(waits):.1f} s; at least {min(pictures)} frames in 3 s", "frames")
    report.check("with one key: all hear all", min(sounds) > 1e-5, f"energy at least {min(sounds):.6f}", "more than 0")
    check_counters(report, "with one key", after)


def check_counters(report, name, tiles_by_page):
    """Every frame was one that had been encrypted with the key. Chromium fills the way with frames that came already: they are repeats."""
    ends = [end for tiles in tiles_by_page.values() for tile in tiles.values() for end in tile["encryption"].values() if end]
    decrypted = min((end["decrypted"] for end in ends), default=0)
    refused = sum(foreign(end) for end in ends)
    reasons = collections.Counter()
    for end in ends:
        reasons.update(end["refused"])
    report.figures["encryption"] = {page: {str(path): tile["encryption"] for path, tile in tiles.items()} for page, tiles in tiles_by_page.items()}
    said = f"at least {decrypted} decrypted of each; refused: {', '.join(f'{count} {reason}' for reason, count in reasons.items()) or 'none'}"
    report.check(f"{name}: every frame decrypts", decrypted > 0 and refused == 0, said, "none but replayed")


def foreign(end):
    """Frames that were refused, but for those that had come already."""
    return sum(count for reason, count in end["refused"].items() if reason != "replayed")


def grown(before, after, path, part, figure):
    """By how much a figure of a tile grew: `path` is (page, tile)."""
    page, tile = path
    value = lambda tiles: (tiles[page][tile][part] or {}).get(figure, 0) if tile in tiles[page] else 0
    return value(after) - value(before)


def one_with_another_key(world, report):
    """It sees nothing, and is seen by nobody; the others do not notice, and their encoders hardly."""
    *others, stranger = world.pages
    stranger.rejoin(key=OTHER_KEY)
    said = "the stranger gets frames that it cannot decrypt"
    stranger.wait_remote(lambda tiles: len(tiles) == len(others) and all(foreign_video(tile) > 30 for tile in tiles.values()), said)
    before, requests = remote_tiles(world), keyframe_requests(world)
    started = time.monotonic()
    time.sleep(WATCH_SECONDS)
    after, requests = remote_tiles(world), keyframe_requests(world) - requests
    seconds = time.monotonic() - started
    blind = [(stranger.name, (page.name, CAMERA)) for page in others] + [(page.name, (stranger.name, CAMERA)) for page in others]
    seeing = [(page.name, (other.name, CAMERA)) for page in others for other in others if other is not page]
    decoder = [after[page][tile]["inbound"] or {} for page, tile in blind]
    reached = sum(inbound.get(name, 0) for inbound in decoder for name in ("framesReceived", "framesDecoded", "framesDropped"))
    energy = sum(grown(before, after, path, "audio", "totalAudioEnergy") for path in blind)
    refused = min(foreign_video(after[page][tile]) - foreign_video(before[page][tile]) for page, tile in blind)
    report.check("another key: no frame reaches a decoder, none sounds", reached == 0 and energy < 1e-5, f"{reached} frames, energy {energy:.6f}", "0")
    report.check("another key: the frames are refused, and counted", refused > 0, f"at least {refused} of each picture in {seconds:.0f} s", "more than 0")
    why = {after[page][tile]["why"] for page, tile in blind}
    report.check("another key: the page says so", all(text.startswith("cannot be decrypted") for text in why), ", ".join(why), "cannot be decrypted…")
    pictures = [grown(before, after, path, "inbound", "framesDecoded") for path in seeing]
    frozen = max(1000 * grown(before, after, path, "inbound", "freezeSeconds") for path in seeing)
    said = f"at least {min(pictures)} frames, frozen {frozen:.0f} ms"
    report.check("another key: the others do not notice", min(pictures) > seconds and frozen <= FREEZE_MAX_MS, said, f"no freeze over {FREEZE_MAX_MS} ms")
    # Each of these pictures asks for keyframes as long as it is there.
    most = len(blind) * (KEYFRAME_WISHES + seconds / KEYFRAME_WISH_SECONDS)
    report.figures["another_key"] = {"seconds": seconds, "keyframe_requests": requests, "pictures": len(blind)}
    report.check("another key: keyframes asked of the senders", requests <= most, f"{requests:.0f} in {seconds:.0f} s", f"at most {most:.0f}")


def keyframe_requests(world):
    """How many the focus has sent to publishers."""
    return total(world.metrics(), "weir_shard_keyframe_requests_sent_total")


def foreign_video(tile):
    """Pictures of a tile that could not be decrypted."""
    return foreign(tile["encryption"]["video"]) if tile["encryption"]["video"] else 0


def what_the_focus_forwards(world, report):
    """One without a key keeps every frame as it left the focus: no decoder makes anything of it, but of the same frames when they are opened."""
    *others, tapped = world.pages
    tapped.call("leave()")
    tapped.browser.run(TAP)
    tapped.rejoin(key="")
    enough = "(({ pictures, sounds, keyframes }) => pictures > 60 && sounds > 60 && keyframes > 3)(tap.count())"
    tapped.browser.wait_for(enough, "frames and keyframes come to one without a key")
    senders = [{key: page.state()[key] for key in ("userId", "deviceId")} for page in others]
    seen = tapped.browser.run("return tap.look(arguments[0], arguments[1]);", KEY, senders)
    came, opened = seen["came"], seen["opened"]
    report.figures["forwarded"] = seen
    said = f"{came['decodable']} of {came['keyframes']} keyframes decode, {came['startCodes']} have a start code"
    report.check("what the focus forwards is no VP8", came["startCodes"] == came["decodable"] == 0, said, "none")
    frames = opened["pictures"] + opened["sounds"] + seen["again"]
    whole = 0 < opened["keyframes"] == opened["startCodes"] == opened["decodable"] and frames == came["pictures"] + came["sounds"]
    said = f"{opened['decodable']} of {opened['keyframes']} keyframes decode; {opened['pictures']} pictures, {opened['sounds']} of sound, {seen['again']} again"
    report.check("opened with the key it is", whole, said, f"all {came['pictures']} and {came['sounds']}")
    blind = [page.stats()["remote"][tapped.name, CAMERA] for page in others]
    reached = sum((tile["inbound"] or {}).get("framesDecoded", 0) for tile in blind)
    refused = min(foreign_video(tile) for tile in blind)
    report.check("what comes in the clear is refused", reached == 0 and refused > 0, f"{reached} decoded, at least {refused} refused", "all refused")
