"""A small client of the W3C WebDriver protocol: just enough to drive Chromium by chromedriver, on the standard library.

Not here: what the pages are asked to do (page.py).
"""

import base64
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time

# Chromium on a machine with two cores and a closed network: no look-ups of its own, nothing put to sleep because its
# window is hidden, no card to draw with.
CHEAP = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-features=Translate,MediaRouter,OptimizationHints,CalculateNativeWinOcclusion,WebRtcHideLocalIpsWithMdns",
    "--force-color-profile=srgb",
    "--log-level=3",
]


class WebDriverError(Exception):
    """What chromedriver answered instead of a value."""


def free_port():
    """A TCP port on loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_chromium():
    """Paths of chromium and chromedriver; None for what is not installed."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return chromium, shutil.which("chromedriver")


class Driver:
    """One chromedriver process; makes any number of browsers."""

    def __init__(self, log_path):
        self.port = free_port()
        self._log = open(log_path, "ab")
        _, chromedriver = find_chromium()
        command = [chromedriver, f"--port={self.port}", "--log-level=WARNING"]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._wait_until_ready()

    def _wait_until_ready(self):
        for _ in range(100):
            try:
                if self.request("GET", "/status")["ready"]:
                    return
            except OSError:
                time.sleep(0.1)
        raise WebDriverError("chromedriver does not answer")

    def request(self, method, path, body=None, timeout_s=60):
        """One command; returns its value, raises WebDriverError for an error answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value and "message" in value:
            raise WebDriverError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._log.close()


class Browser:
    """One Chromium with its own profile and one page."""

    def __init__(self, driver, arguments, size=(800, 600)):
        self.driver = driver
        self.profile = tempfile.mkdtemp(prefix="weir-browser-")
        chromium, _ = find_chromium()
        window = f"--window-size={size[0]},{size[1]}"
        options = {"binary": chromium, "args": [*CHEAP, f"--user-data-dir={self.profile}", window, *arguments]}
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 60_000, "pageLoad": 30_000},
        }
        answer = driver.request("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.path = f"/session/{answer['sessionId']}"
        self.version = answer["capabilities"]["browserVersion"]

    def run_first(self, script):
        """Runs a script in every page from now on, before the page's own."""
        command = {"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": script}}
        self.driver.request("POST", f"{self.path}/goog/cdp/execute", command)

    def open(self, url):
        """Goes to an address and waits until it has loaded."""
        self.driver.request("POST", f"{self.path}/url", {"url": url})

    def run(self, script, *arguments):
        """Runs the body of a function in the page; what it returns, if a promise then what it resolves to."""
        body = {"script": script, "args": list(arguments)}
        return self.driver.request("POST", f"{self.path}/execute/sync", body, timeout_s=90)

    def wait_for(self, condition, what, timeout_s=20, every_s=0.1):
        """Asks until the expression is true; returns its value, raises WebDriverError with `what` otherwise."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = self.run(f"return ({condition});")
            if value:
                return value
            if time.monotonic() > deadline:
                raise WebDriverError(f"not within {timeout_s} s: {what}")
            time.sleep(every_s)

    def console(self):
        """What the page has written to the console since the last question, as lines."""
        entries = self.driver.request("POST", f"{self.path}/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def screenshot(self, path):
        """Writes a PNG of the page."""
        with open(path, "wb") as out:
            out.write(base64.b64decode(self.driver.request("GET", f"{self.path}/screenshot")))

    def click(self, selector):
        """A real click of a user (some things, screen sharing among them, need one)."""
        found = self.driver.request("POST", f"{self.path}/element", {"using": "css selector", "value": selector})
        element = next(iter(found.values()))
        self.driver.request("POST", f"{self.path}/element/{element}/click", {})

    def close(self):
        try:
            self.driver.request("DELETE", self.path)
        except (WebDriverError, OSError):
            pass
        shutil.rmtree(self.profile, ignore_errors=True)
