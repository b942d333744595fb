#!/usr/bin/env python3
"""The browser test: three headless Chromium pages meet through a Synapse homeserver and the focus.

    tests/browser/run.py [--json FILE] [--logs FOLDER] [--only NAME,…]

Needs chromium, chromedriver and ffmpeg (`tests/run browser` installs them), and the built binary `weir`. Prints one line per
check, writes all figures as JSON, and ends with `N passed, N failed`.
"""

import argparse
import functools
import pathlib
import sys

from world import TARGET, World  # first: it makes tests/synapse.py importable
import checks
import encrypted
import forms
import hostile
from program import choose, conclude, perform

FOCUS_FIELDS = {"focus_user": "@focus:localhost", "focus_device": "WEIRFOCUS"}


def scenario(arguments):
    """The checks by name, in their order."""
    return {
        "modules": forms.test_modules,
        "forms": forms.say_what_is_wrong,
        "meet": checks.everyone_meets,
        "first-frames": lambda world, report: checks.first_frames(world, report, arguments.joins),
        "full-pictures": lambda world, report: checks.full_pictures(world, report, arguments.seconds),
        "layers": lambda world, report: checks.layer_changes(world, report, arguments.changes),
        "unneeded": checks.unneeded_layers,
        "mute": checks.mutes,
        "screen": checks.screens,
        "leave": checks.leaves_and_returns,
        "hostile": hostile.beside_a_healthy_call,
        "homeserver-away": lambda world, report: checks.homeserver_away(world, report, arguments.away),
        "restart": checks.focus_restarts,
        "encryption": encrypted.media_is_encrypted,
    }


def run(world, report, chosen):
    """Lets the pages in, then makes the chosen checks."""
    # Each finds the focus in another way: the homeserver's well-known file, the first one's member event, by hand.
    for name, source, fields in (("alice", 1, {}), ("bob", 2, {}), ("carol", 3, FOCUS_FIELDS)):
        world.add_page(name, source, **fields)
    world.make_checks({name: functools.partial(check, world) for name, check in chosen.items()}, report)


def main():
    parser = argparse.ArgumentParser(description="Three Chromium pages meet through Synapse and the focus.")
    parser.add_argument("--weir", help="the binary (default: debug/weir in the target folder)")
    parser.add_argument("--logs", type=pathlib.Path, default=TARGET / "browser-test", help="folder for logs")
    parser.add_argument("--json", type=pathlib.Path, help="file for all figures")
    parser.add_argument("--only", help="names of checks, with commas")
    parser.add_argument("--seconds", type=int, default=20, help="how long full pictures are watched")
    parser.add_argument(
        "--fps", type=int, choices=(15, 30), default=15, help="of the cameras; 30 for figures: on two slow cores three browsers lag behind then"
    )
    parser.add_argument("--joins", type=int, default=10)
    parser.add_argument("--changes", type=int, default=10, help="grid to spotlight and back, this often")
    parser.add_argument("--away", type=int, default=20, help="seconds for which the homeserver is away")
    arguments = parser.parse_args()
    every = scenario(arguments)
    chosen = choose(every, arguments.only)

    def make(report):
        with World(arguments.logs, arguments.weir, camera_fps=arguments.fps) as world:
            run(world, report, chosen)

    return conclude(perform(arguments, make))


if __name__ == "__main__":
    sys.exit(main())
