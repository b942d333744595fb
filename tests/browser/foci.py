#!/usr/bin/env python3
"""The picture of the foci: `weir-demo --foci 3` runs, a browser shows who is connected where, another one joins the call, and a focus
is killed.

    tests/browser/foci.py [--json FILE] [--logs FOLDER] [--participants N] [--figure FILE]

Needs chromium, chromedriver and ffmpeg (`tests/run browser` installs them), and the built binary `weir-demo`. One line per check,
`N passed, N failed` at the end.
"""

import argparse
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

from page import FAKE_DEVICES
from program import conclude, perform
from webdriver import Browser, Driver, WebDriverError
from world import TARGET, WorldError

FOCI = 3
# Everything starts, joins and is seen by everybody.
START_SECONDS_MAX = 120
# The foci are asked once a second.
SHOWN_SECONDS_MAX = 30

# What the picture shows, by what is drawn.
DRAWN = """
const texts = (selector) => [...document.querySelectorAll(selector)].map((box) => [...box.querySelectorAll("text")].map((text) => text.textContent));
const count = (selector) => document.querySelectorAll(selector).length;
return {
  up: count(".focus[data-state=up]"), gone: count(".focus[data-state=gone]"), people: texts(".person").map(([name]) => name).sort(),
  trunksUp: count(".middle[data-state=up]"), trunksLost: count(".middle[data-state=lost]"), flowing: count(".trunk.flows"),
  labels: texts(".flow"), trunks: texts(".middle").flat(), note: document.querySelector(".foci-note").textContent,
};
"""
# Whether no two boxes of the picture cover each other, and each text is inside its own.
TIDY = """
const boxes = [...document.querySelectorAll(".focus, .person, .flow, .middle")];
const of = (element) => element.getBoundingClientRect();
const cover = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const names = (box) => box.textContent;
const clash = boxes.flatMap((box, at) => boxes.slice(0, at).filter((other) => cover(of(box.querySelector("rect")), of(other.querySelector("rect")))).map(names));
const outside = boxes.filter((box) => [...box.querySelectorAll("text")].some((text) => of(text).width > of(box.querySelector("rect")).width)).map(names);
return [...clash, ...outside];
"""
# The picture as a file of its own: with the rules that are for it, and their colours as they are here.
FIGURE = """
const svg = document.querySelector(".foci-picture").cloneNode(true);
const colours = getComputedStyle(document.documentElement);
const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]).filter((rule) => rule.selectorText && !/^#foci|foci-note|stale/.test(rule.selectorText));
const drawn = rules.filter((rule) => svg.querySelector(rule.selectorText.replaceAll(".foci-picture ", "")));
const text = drawn.map((rule) => rule.cssText.replaceAll(".foci-picture ", "").replace(/var\\((--[a-z-]+)\\)/g, (_, name) => colours.getPropertyValue(name).trim()));
const style = document.createElementNS(svg.namespaceURI, "style");
style.textContent = `text { font-family: system-ui, sans-serif; } ${text.join(" ")}`;
const [x, y, width, height] = svg.getAttribute("viewBox").split(" ");
const ground = document.createElementNS(svg.namespaceURI, "rect");
for (const [name, value] of Object.entries({ x, y, width, height, style: `fill: ${colours.getPropertyValue("--background")}; stroke: none` })) ground.setAttribute(name, value);
svg.prepend(style, ground);
return new XMLSerializer().serializeToString(svg);
"""


class Demo:
    """The running program. Its process is its own to end, and so are the foci, which it names."""

    def __init__(self, binary, participants, logs):
        if not binary.exists():
            raise WorldError(f"{binary} is not there; cargo build --package weir-loadtest makes it")
        self.lines = []
        self._said = threading.Condition()
        command = [binary, "--foci", str(FOCI), "--participants", str(participants)]
        self._log = open(logs / "demo.log", "wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self._said:
                # The table comes again and again.
                self.lines = [*self.lines, line.strip()][-1000:]
                self._said.notify_all()
        with self._said:
            self._said.notify_all()

    def wait_for(self, pattern):
        """The first line that matches."""
        found = lambda: next(filter(None, (re.fullmatch(pattern, line) for line in self.lines)), None)
        ended = lambda: self.process.poll() is not None
        with self._said:
            self._said.wait_for(lambda: found() or ended(), START_SECONDS_MAX)
            match = found()
        if match is None:
            raise WorldError(f"the demo did not say {pattern!r}: {self.lines[-5:]}")
        return match

    def stop(self):
        """Interrupts it as a person does; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None
        finally:
            self._log.close()


def watch(browser, report, what, holds, expected):
    """Looks at the picture until it is as expected; notes what it was at last."""
    try:
        browser.wait_for(f"(() => {{ const drawn = (() => {{ {DRAWN} }})(); return {holds}; }})()", what, SHOWN_SECONDS_MAX, 0.5)
        held = True
    except WebDriverError:
        held = False
    drawn = browser.run(DRAWN)
    return report.check(what, held, drawn, expected)


def run(driver, demo, arguments, report):
    logs, participants = arguments.logs, arguments.participants
    picture_address = demo.wait_for(r"(http://\S+/foci\.html)").group(1)
    page_address = demo.wait_for(r"(http://\S+/#\S+)").group(1)
    focus, pid = demo.wait_for(rf"(@focus{FOCI}:localhost)  (\d+)").groups()

    picture = Browser(driver, [], (1280, 800))
    page = None
    try:
        picture.open(picture_address)
        trunks = FOCI * (FOCI - 1) // 2
        everything = f"drawn.up === {FOCI} && drawn.trunksUp === {trunks} && drawn.people.length === {participants} && drawn.flowing === {2 * trunks}"
        watch(picture, report, "foci: all, each with its participants, each connected with each, and packets on every trunk both ways", everything,
              f"{FOCI} foci, {participants} participants, {trunks} trunks up, {2 * trunks} directions flow")
        rates = "drawn.labels.length === 6 && drawn.labels.every(([, tracks, packets, rate]) => /^[1-9]\\d* video, [1-9]\\d* audio$/.test(tracks) && parseInt(packets) > 0 && /bit/.test(rate))"
        watch(picture, report, "foci: each direction says what crosses", rates, "video and audio, packets and bits per second")
        report.check("foci: nothing covers anything", not (untidy := picture.run(TIDY)), untidy, "[]")
        picture.screenshot(logs / "foci.png")
        if arguments.figure:
            arguments.figure.write_text(picture.run(FIGURE) + "\n", encoding="utf-8")

        page = Browser(driver, FAKE_DEVICES, (1200, 700))
        page.open(f"{page_address}&join=1")
        page.wait_for("window.weir?.state().state === 'connected'", "the page has joined", 40)
        chosen = page.run("return weir.state().focus.userId;")
        report.check("foci: the page has chosen one of them", chosen.startswith("@focus"), chosen, "one of the foci")
        playing = f"weir.state().tiles.filter((tile) => !tile.own && tile.framesShown > 0).length === {participants}"
        page.wait_for(playing, "pictures of everybody", 40)
        report.check("foci: the page shows everybody, wherever they are", True, f"{participants} pictures", f"{participants} pictures")
        watch(page, report, "foci: the picture beside the call has the page's participant", "drawn.people.includes('guest1')", "guest1")
        page.screenshot(logs / "foci-page.png")
        page.close()
        page = None

        os.kill(int(pid), signal.SIGKILL)
        gone = f"drawn.gone === 1 && drawn.up === {FOCI - 1} && drawn.trunksLost === {FOCI - 1} && drawn.trunksUp === {trunks - FOCI + 1}"
        watch(picture, report, f"foci: {focus} is killed, and shown as gone with its trunks lost", gone, f"one gone, {FOCI - 1} trunks lost")
        picture.screenshot(logs / "foci-gone.png")
    finally:
        if page:
            page.close()
        picture.close()


def look(arguments, report):
    """Starts the demo and a browser, and makes all checks."""
    arguments.logs.mkdir(parents=True)
    demo = driver = None
    try:
        demo = Demo(TARGET / "debug" / "weir-demo", arguments.participants, arguments.logs)
        driver = Driver(arguments.logs / "chromedriver.log")
        run(driver, demo, arguments, report)
    finally:
        if driver:
            driver.close()
        if demo:
            code = demo.stop()
            report.check("foci: the demo stops", code == 0, code, 0)


def main():
    parser = argparse.ArgumentParser(description="A browser looks at three foci.")
    parser.add_argument("--logs", type=pathlib.Path, default=TARGET / "browser-foci", help="folder for logs and screenshots")
    parser.add_argument("--json", type=pathlib.Path, help="file for all figures")
    parser.add_argument("--participants", type=int, default=FOCI, help="synthetic participants in all")
    parser.add_argument("--figure", type=pathlib.Path, help="file for the picture, as SVG")
    arguments = parser.parse_args()
    return conclude(perform(arguments, functools.partial(look, arguments), "foci"))


if __name__ == "__main__":
    sys.exit(main())
