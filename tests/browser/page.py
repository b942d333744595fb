"""One participant: the focus's web page in a browser of its own, and what a test asks of it.

Not here: what must be true of the answers (checks.py).
"""

import pathlib
import time
from urllib.parse import urlencode

from webdriver import Browser, WebDriverError

PATTERN_READER = (pathlib.Path(__file__).parent / "pattern.js").read_text(encoding="utf-8")
# For pages whose frames are watched one by one: a script that runs before the page's own.
WATCH = (pathlib.Path(__file__).parent / "watch.js").read_text(encoding="utf-8")

# A camera that plays a file, a microphone that beeps, and a screen that draws itself; no questions to the user. Loopback as
# a network, because the focus of the test listens on nothing else.
FAKE_DEVICES = [
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
]


class Page:
    """A browser that shows the page."""

    def __init__(self, driver, name, source, camera, size, first=None, flags=()):
        self.name = name
        self.source = source
        self.browser = Browser(driver, [*FAKE_DEVICES, f"--use-file-for-fake-video-capture={camera}", *flags], size)
        if first:
            self.browser.run_first(first)

    def open(self, base_url, **fields):
        """Opens the page with its forms filled, see the head of app.js."""
        self.browser.open(f"{base_url}/#{urlencode(fields)}")

    def rejoin(self, **fields):
        """Joins the call (again), with other values in the lobby's form."""
        self.call("leave()")
        for name, value in fields.items():
            self.browser.run("document.getElementById('lobby').elements.namedItem(arguments[0]).value = arguments[1];", name, value)
        self.call("join()")
        self.wait_connected()

    def wait_connected(self, timeout_s=20):
        """Waits until the data channel to the focus is open; says what the page says if it is not."""
        try:
            self.browser.wait_for("window.weir?.state().state === 'connected'", f"{self.name} is connected", timeout_s)
        except WebDriverError as error:
            raise WebDriverError(f"{error}; the page says: {self.log()[-6:]} {self.state().get('error', '')}") from error

    def state(self):
        return self.browser.run("return window.weir ? weir.state() : {};")

    def log(self):
        return self.browser.run("return window.weir ? weir.log() : ['the page did not start'];")

    def stats(self):
        """Fresh figures, with the tiles of others by sender's localpart and purpose: ("bob", "m.usermedia")."""
        stats = self.browser.run("return weir.stats();")
        stats["remote"] = {
            (tile["userId"][1:].split(":")[0], tile["purpose"]): tile for tile in stats["tiles"] if not tile["own"]
        }
        return stats

    def call(self, expression):
        """Calls something on `window.weir` and waits until it is done."""
        return self.browser.run(f"return weir.{expression};")

    def draw(self, drawn):
        """Whether the page draws its pictures; they are decoded all the same."""
        display = "" if drawn else "none"
        self.browser.run("for (const video of document.querySelectorAll('video')) video.style.display = arguments[0];", display)

    def read_frame(self, key):
        """The frame number in a tile's picture now: {"number", "source"}, or {"refused": why}."""
        return self.browser.run(PATTERN_READER, key)

    def wait_remote(self, condition, what, timeout_s=20):
        """Waits until `condition(remote tiles)` is true; returns (what it returned, seconds waited)."""
        started = time.monotonic()
        while True:
            value = condition(self.stats()["remote"])
            waited = time.monotonic() - started
            if value:
                return value, waited
            if waited > timeout_s:
                raise WebDriverError(f"{self.name}: not within {timeout_s} s: {what}; the page says {self.log()[-4:]}")
            time.sleep(0.05)

    def close(self):
        self.browser.close()
