#!/usr/bin/env python3
"""Two homeservers that federate, a focus and two Chromium pages on each: everybody is in one call, each at the focus of its own side.

    tests/browser/federation.py [--full] [--only NAME,…] [--field NAME=VALUE]… [--json FILE] [--logs FOLDER]

Needs what run.py needs, and openssl. One line per check, all figures as JSON, `N passed, N failed` at the end. Without --full the
runs are short and the times generous: they show that it works, not how well.
"""

import argparse
import functools
import pathlib
import sys

from world import FOCUS_DEVICE, TARGET, World, make_checks  # first: it makes tests/synapse.py importable
import federation_checks as checks
from page import WATCH
from program import choose, conclude, perform
from webdriver import free_port

# By side, the first of each makes or brings what the second finds.
NAMES = (("alice", "anna"), ("bob", "bella"))
# Four pages on two slow cores: small pictures. Chromium makes two layers of this size, itself and half of it.
CAMERA_SIZE = "640x360"
CAMERA_FPS = 15
WINDOW = (420, 320)


class Side(World):
    """A homeserver, its focus and its people. The room is not one side's."""

    def _make_room(self):
        return None

    @property
    def focus_id(self):
        """The focus as a page names it."""
        return {"userId": self.focus_user, "deviceId": FOCUS_DEVICE}


class Federation:
    """Two sides, to be used with `with`. For checks it is a world that has the pages of both. `fields` are added to what every page
    is opened with, see the head of app.js."""

    def __init__(self, logs, weir, fields):
        options = {"weir": weir, "window": WINDOW, "camera_fps": CAMERA_FPS, "camera_size": CAMERA_SIZE}
        self.sides = [
            Side(logs / name, names=names, federation_port=free_port(), **options) for name, names in zip(("near", "far"), NAMES)
        ]
        self.fields = fields
        # By name: the focus that each page used at first.
        self.first_choice = {}

    def __enter__(self):
        entered = []
        try:
            for side in self.sides:
                entered.append(side.__enter__())
        except BaseException:
            for side in entered:
                side.close()
            raise
        return self

    def __exit__(self, *_):
        for side in self.sides:
            side.keep_traces()
        for side in self.sides:
            side.close()

    @property
    def pages(self):
        return [page for side in self.sides for page in side.pages]

    def side_of(self, page):
        """Where a page is at home."""
        return next(side for side in self.sides if page in side.pages)

    def other_side(self, side):
        """The other one."""
        return next(other for other in self.sides if other is not side)

    def let_in(self):
        """Makes the room on the near side, with everybody invited but the foci: those are the pages' to bring. Then opens one page
        after the other, as people come."""
        near = self.sides[0]
        users = [side.accounts[name]["user_id"] for side in self.sides for name in side.names]
        room = near.create_room("private_chat", users[1:])
        for number, (side, name) in enumerate((side, name) for side in self.sides for name in side.names):
            side.room = room
            page = side.add_page(name, number + 1, WATCH, **self.fields)
            self.first_choice[name] = page.state()["focus"]


def scenario(arguments):
    """The checks by name, in their order."""
    full, targets = arguments.full, checks.FULL if arguments.full else checks.SHORT
    seconds, joins = arguments.seconds or (30 if full else 8), arguments.joins or (10 if full else 2)
    return {
        "choose": checks.everyone_is_at_home,
        "pictures": lambda world, report: checks.pictures(world, targets, report, seconds),
        "trunk": lambda world, report: checks.trunk_carries_each_track_once(world, targets, report, seconds),
        "join": lambda world, report: checks.joins(world, targets, report, joins),
        "first-of-a-side": lambda world, report: checks.joins_that_need_a_trunk(world, targets, report, joins),
        "encryption": lambda world, report: checks.media_is_encrypted(world, targets, report, seconds),
        "kill": lambda world, report: checks.focus_killed(world, targets, report, both=full),
    }


def run(federation, report, chosen):
    """Lets the pages in, then makes the chosen checks."""
    federation.let_in()
    checks.wait_until_at_home(federation)
    make_checks(federation.sides, {name: functools.partial(check, federation) for name, check in chosen.items()}, report)


def main():
    parser = argparse.ArgumentParser(description="Pages of two homeservers, each at the focus of its own.")
    parser.add_argument("--full", action="store_true", help="as long as the figures need, and both foci are killed")
    parser.add_argument("--weir", help="the binary (default: debug/weir in the target folder)")
    parser.add_argument("--logs", type=pathlib.Path, default=TARGET / "federation-test", help="folder for logs")
    parser.add_argument("--json", type=pathlib.Path, help="file for all figures")
    parser.add_argument("--only", help="names of checks, with commas: choose, pictures, trunk, join, first-of-a-side, encryption, kill")
    parser.add_argument("--seconds", type=int, help="how long pictures and trunks are watched")
    parser.add_argument("--joins", type=int)
    parser.add_argument("--field", action="append", default=[], metavar="NAME=VALUE", help="for the address of every page")
    arguments = parser.parse_args()
    every = scenario(arguments)
    chosen = choose(every, arguments.only)
    fields = dict(field.split("=", 1) for field in arguments.field)

    def make(report):
        with Federation(arguments.logs, arguments.weir, fields) as federation:
            run(federation, report, chosen)

    return conclude(perform(arguments, make))


if __name__ == "__main__":
    sys.exit(main())
