#!/usr/bin/env python3
"""What a viewer sees on a bad network: two Chromium pages, each behind a relay, through Synapse and the focus.

    tests/browser/quality.py [--full] [--only NAME,…] [--json FILE] [--logs FOLDER]

Needs what run.py needs, and the built binary `weir-relay`. One line per check, all figures as JSON, `N passed, N failed`
at the end. Without --full the runs are short: they show that it works, not how well.
"""

import argparse
import functools
import pathlib
import sys

from world import TARGET, World  # first: it makes tests/synapse.py importable
import hostile
import plot
import quality_checks as checks
from page import WATCH
from relay import Relay
from program import choose, conclude, perform
from stage import VIEWER_LOG, Stage, width_of


def scenario(arguments):
    """The checks by name, in their order."""
    full, targets = arguments.full, checks.FULL if arguments.full else checks.SHORT
    seconds, changes = arguments.seconds or (60 if full else 10), arguments.changes or (100 if full else 10)
    percents = [int(percent) for percent in arguments.loss.split(",")] if arguments.loss else ([0, 2, 5, 10] if full else [5])
    return {
        "top-layer": lambda stage, report: checks.top_layer(stage, targets, report, 5 if full else 1),
        "changes": lambda stage, report: checks.layer_changes(stage, targets, report, changes),
        "loss": lambda stage, report: checks.loss(stage, targets, report, seconds, percents),
        # In short runs shorter than the clear ones: what may differ is seen at once.
        "encrypted": lambda stage, report: checks.encrypted(
            stage, targets, report, arguments.seconds or (60 if full else 6), arguments.changes or (100 if full else 6)
        ),
        "bottleneck": lambda stage, report: checks.bottleneck(stage, targets, report, arguments.stage or (20 if full else 10)),
    }


def watching(relay):
    """The script for a page behind a relay."""
    return WATCH.replace("const RELAY = null", f'const RELAY = "{relay.address}"')


def set_stage(world, sender_relay, viewer_relay):
    """Lets in the page that watches, then the one that sends. Neither draws: on a machine without a graphics card that would
    take as much of it as another page."""
    # The one that watches has a microphone, as most do: without sending anything its browser does not know the round trip.
    flags = ["--enable-logging", f"--log-file={world.logs / VIEWER_LOG}", "--log-level=0", "--vmodule=*/webrtc/*=1"]
    viewer = world.add_page("bob", 2, watching(viewer_relay), flags, camera=0)
    sender = world.add_page("alice", 1, watching(sender_relay))
    for page in (viewer, sender):
        page.draw(False)
    stage = Stage(world, sender, viewer, sender_relay, viewer_relay)
    viewer.call("setQuality('high')")
    viewer.wait_remote(lambda tiles: width_of(tiles, stage.path), "the picture comes")
    return stage


def run(world, report, chosen, relay_binary):
    """Sets the stage, then makes the chosen checks."""
    port = hostile.udp_ports(world.focus.pid)[0]
    relays = [
        Relay(relay_binary, port, world.logs / f"relay-{name}.log", seed, trace_path=world.logs / f"relay-{name}.csv")
        for seed, name in ((1, "sender"), (2, "viewer"))
    ]
    try:
        stage = set_stage(world, *relays)
        world.make_checks({name: functools.partial(check, stage) for name, check in chosen.items()}, report)
    finally:
        for relay in relays:
            relay.close()


def main():
    parser = argparse.ArgumentParser(description="Two Chromium pages on bad networks.")
    parser.add_argument("--full", action="store_true", help="as long as the figures need; about 15 minutes")
    parser.add_argument("--weir", help="the binary (default: debug/weir in the target folder)")
    parser.add_argument("--relay", help="the binary (default: debug/weir-relay in the target folder)")
    parser.add_argument("--logs", type=pathlib.Path, default=TARGET / "quality-test", help="folder for logs")
    parser.add_argument("--json", type=pathlib.Path, help="file for all figures")
    parser.add_argument("--plot", type=pathlib.Path, help="file for a drawing of the bottleneck run")
    parser.add_argument("--only", help="names of checks, with commas: top-layer, changes, loss, encrypted, bottleneck")
    parser.add_argument("--seconds", type=int, help="how long each loss is watched")
    parser.add_argument("--loss", help="percents, with commas")
    parser.add_argument("--changes", type=int, help="how many layer changes")
    parser.add_argument("--stage", type=int, help="seconds of each width of the bottleneck")
    arguments = parser.parse_args()
    every = scenario(arguments)
    chosen = choose(every, arguments.only)

    def make(report):
        with World(arguments.logs, arguments.weir, window=(400, 300)) as world:
            run(world, report, chosen, arguments.relay or TARGET / "debug" / "weir-relay")

    report = perform(arguments, make)
    if arguments.plot and "bottleneck" in report.figures:
        arguments.plot.write_text(plot.draw(report.figures["bottleneck"]), encoding="utf-8")
    return conclude(report)


if __name__ == "__main__":
    sys.exit(main())
