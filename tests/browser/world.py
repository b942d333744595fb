"""What surrounds the pages: a Synapse homeserver, the focus, a room, camera files, browsers. Starts it all, stops it all.

Not here: what the pages do (page.py) and what must be true (checks.py).
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request

from page import Page
from webdriver import Driver, WebDriverError, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")

sys.path.insert(0, str(ROOT / "tests"))
import synapse  # noqa: E402  (found only through the line above)

PASSWORD = "only for tests"
# A camera file's loop: the numbers in the pictures wrap there.
LOOP_FRAMES = 120
# What the files are made for. Played at another rate, they are the same pictures at other times.
FILE_FPS = 30
CAMERA_SIZE = "1280x720"
FOCUS_DEVICE = "WEIRFOCUS"
START_SECONDS_MAX = 30
CALL_TYPES = ["org.matrix.msc3401.call", "org.matrix.msc3401.call.member", "m.call", "m.call.member"]


class WorldError(Exception):
    """What could not be set up, in words for who runs the test."""


class World:
    """Everything that runs, to be used with `with`. `names` are the accounts beside the focus's; with a `federation_port` the
    homeserver federates with others."""

    def __init__(
        self,
        logs,
        weir=None,
        window=(640, 480),
        camera_fps=FILE_FPS,
        camera_size=CAMERA_SIZE,
        names=("alice", "bob", "carol", "mallory"),
        federation_port=None,
    ):
        self.camera_fps, self.camera_size = camera_fps, camera_size
        self.names, self.federation_port = names, federation_port
        self.focus_user = f"@focus:{synapse.server_name(federation_port)}"
        self.logs = pathlib.Path(logs)
        self.weir = pathlib.Path(weir) if weir else TARGET / "debug" / "weir"
        self.window = window
        self.pages = []
        self.homeserver = self.base_url = self.focus = self.driver = self.room = None
        self.accounts = {}

    def __enter__(self):
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.keep_traces()
        self.close()

    def keep_traces(self):
        """What the pages looked like and said at the end, for whoever has to find out."""
        for page in self.pages:
            try:
                page.browser.screenshot(self.logs / f"{page.name}.png")
                lines = [*page.log(), "--- console", *page.browser.console()]
                (self.logs / f"{page.name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
            except (WebDriverError, OSError) as error:
                print(f"no traces of {page.name}: {error}")

    def close(self):
        """Stops what was started, newest first."""
        for page in self.pages:
            page.close()
        if self.driver:
            self.driver.close()
        self.stop_focus()
        if self.homeserver:
            synapse.stop(self.homeserver)

    def _start(self):
        if not self.weir.exists():
            raise WorldError(f"{self.weir} is not there; cargo build --package weir makes it")
        self.homeserver_port = free_port()
        self.start_homeserver(fresh=True)
        self.accounts["focus"] = synapse.register(self.base_url, "focus", PASSWORD)
        for name in self.names:
            self.accounts[name] = synapse.register(self.base_url, name, PASSWORD)
        self.room = self._make_room()
        self.start_focus()
        self.driver = Driver(self.logs / "chromedriver.log")

    def start_homeserver(self, fresh):
        """Starts Synapse, always on the same port."""
        foci = [(self.focus_user, FOCUS_DEVICE)]
        log = self.logs / "synapse.log"
        folder = TARGET / "synapse"
        self.homeserver, self.base_url = synapse.start(
            folder, self.homeserver_port, foci, fresh=fresh, log=log, federation_port=self.federation_port
        )

    def _make_room(self):
        """A room in which everybody may call, with the focus invited: it joins by itself."""
        return self.create_room("public_chat", [self.focus_user])

    def create_room(self, preset, invited):
        """Lets the first of the accounts make a room in which everybody may call; returns its id."""
        body = {
            "preset": preset,
            "name": "Browser test",
            "invite": invited,
            "power_level_content_override": {"events": {kind: 0 for kind in CALL_TYPES}},
        }
        return self.matrix("POST", "createRoom", body, self.names[0])["room_id"]

    def start_focus(self, same_address=False):
        """Writes the focus's configuration and starts it; waits until it is ready."""
        if not same_address:
            self.http = f"http://127.0.0.1:{free_port()}"
        config = self.logs / "weir.toml"
        config.write_text(focus_config(self.base_url, self.focus_user, self.http.removeprefix("http://"), self.logs / "store"))
        with open(self.logs / "weir.log", "ab") as log:
            self.focus = subprocess.Popen([self.weir, "--config", config], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.is_ready():
            if self.focus.poll() is not None or time.monotonic() > deadline:
                raise WorldError(f"the focus did not get ready; see {self.logs / 'weir.log'}")
            time.sleep(0.1)

    def stop_focus(self):
        """Tells the focus to stop; returns its exit code, None if it had to be killed or was not there."""
        if not self.focus:
            return None
        self.focus.terminate()
        try:
            return self.focus.wait(15)
        except subprocess.TimeoutExpired:
            self.focus.kill()
            self.focus.wait()
            return None

    def kill_focus(self):
        """Ends the focus without a chance to say anything."""
        self.focus.kill()
        self.focus.wait()

    def is_ready(self):
        """What the focus says about itself."""
        try:
            with urllib.request.urlopen(f"{self.http}/health/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def metrics(self):
        """The focus's metrics: {"name{labels}": value}."""
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def add_page(self, name, source, first=None, flags=(), **fields):
        """Opens a page that logs in as `name` and goes into the room's call. `first` is a script that runs before its own."""
        page = Page(self.driver, name, source, self._camera(source), self.window, first, flags)
        self.pages.append(page)
        page.open(self.http, homeserver=self.base_url, user=name, password=PASSWORD, room=self.room, join=1, **fields)
        page.wait_connected()
        return page

    def _camera(self, source):
        """A file that Chromium plays as a camera, with the source's number in every picture.

        Uncompressed and with a background that stands still: three Chromium that decode MJPEG and encode a picture that
        moves everywhere do not reach the full frame rate on two cores.
        """
        path = TARGET / "cameras" / f"calm-{self.camera_size}-{source}-{LOOP_FRAMES}-{self.camera_fps}.y4m"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            script = ROOT / "loadtest" / "client" / "clips" / "make.py"
            part = path.with_name(f"part-{source}.y4m")
            seconds = str(LOOP_FRAMES // FILE_FPS)
            arguments = ["--camera", part, "--size", self.camera_size, "--seconds", seconds, "--source", str(source), "--calm"]
            subprocess.run([sys.executable, script, *arguments], check=True, stdout=subprocess.DEVNULL)
            set_rate(part, self.camera_fps)
            part.rename(path)
        return path

    def matrix(self, method, path, body, name):
        """One request to the homeserver in somebody's name."""
        request = urllib.request.Request(
            f"{self.base_url}/_matrix/client/v3/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.accounts[name]['access_token']}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise WorldError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error

    def send_to_focus(self, name, kind, content):
        """A to-device message to the focus, whatever its content."""
        path = f"sendToDevice/{urllib.parse.quote(kind)}/{time.monotonic_ns()}"
        self.matrix("PUT", path, {"messages": {self.focus_user: {FOCUS_DEVICE: content}}}, name)

    def make_checks(self, checks, report):
        """See the function of that name."""
        make_checks([self], checks, report)

    def focus_cpu_seconds(self):
        """Processor time that the focus has used so far; 0 where there is none."""
        if self.focus.poll() is not None:
            return 0
        fields = pathlib.Path(f"/proc/{self.focus.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def total(metrics, name):
    """A metric over all shards."""
    return sum(value for series, value in metrics.items() if series.split("{")[0] == name)


def make_checks(worlds, checks, report):
    """Makes checks by name; one that fails does not keep the next from being made."""
    focus_seconds = lambda: sum(world.focus_cpu_seconds() for world in worlds)
    for name, check in checks.items():
        print(f"-- {name}", flush=True)
        started, cpu = time.monotonic(), focus_seconds()
        try:
            check(report)
        except (WebDriverError, WorldError, KeyError, TypeError, ValueError, IndexError, OSError) as error:
            report.fail(name, error)
            traceback.print_exc(file=sys.stdout)
        spent = time.monotonic() - started
        report.figures.setdefault("seconds", {})[name] = spent
        report.figures.setdefault("focus_cores", {})[name] = max(0, focus_seconds() - cpu) / spent


def focus_config(homeserver, user, http, store):
    """The configuration of a focus for the test: everything on loopback, any media port, the page served."""
    return f"""
[matrix]
homeserver = "{homeserver}"
user = "{user}"
password = "{PASSWORD}"
device_id = "{FOCUS_DEVICE}"
store = "{store}"

[media]
listen = ["127.0.0.1:0"]

[authorisation]
policy = "membership"

[http]
listen = "{http}"
page = true
"""


def set_rate(path, fps):
    """Writes into the head of a camera file at which rate it is played."""
    with path.open("r+b") as file:
        head = file.readline()
        changed = head.replace(b" F%d:1" % FILE_FPS, b" F%d:1" % fps)
        if len(changed) != len(head) or (changed == head and fps != FILE_FPS):
            raise WorldError(f"{path}: no rate of {FILE_FPS} in its head, or one as long as {fps}: {head!r}")
        file.seek(0)
        file.write(changed)
