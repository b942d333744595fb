"""The page without a call: its pure modules, and its forms, with what a person reads when something is wrong."""

import pathlib
from urllib.parse import unquote_plus, urlencode

from page import FAKE_DEVICES
from webdriver import Browser


def say_what_is_wrong(world, report):
    """Wrong homeserver, wrong password, unknown room; then a guest reaches the lobby."""
    browser = Browser(world.driver, FAKE_DEVICES, (500, 700))
    try:
        nobody = "http://127.0.0.1:9"
        wrong_places = [
            ({"homeserver": nobody, "user": "alice", "password": "x"}, "No Matrix homeserver answers", "no homeserver there"),
            ({"homeserver": world.base_url, "user": "alice", "password": "wrong"}, "Login failed", "wrong password"),
        ]
        for fields, expected, name in wrong_places:
            said = open_and_read_error(browser, world, fields)
            report.check(f"forms, {name}: the page says so", said.startswith(expected), repr(said), f"{expected}…")
        guest = {"homeserver": world.base_url, "guest": "1", "room": "#nowhere:localhost", "join": "1"}
        said = open_and_read_error(browser, world, guest)
        expected = "Could not join the room"
        report.check("forms, unknown room: the page says so", said.startswith(expected), repr(said), f"{expected}…")
        user = browser.run("return weir.state().userId;")
        report.check("forms, a guest has an account", bool(user), user, "a user id")
        address = browser.run("return location.href;")
        report.check("forms, the address keeps nothing that was given", "#" not in address, address, "no fields")
        media_keys(browser, world, guest, report)
    finally:
        browser.close()


def media_keys(browser, world, guest, report):
    """A media key outlives a reload, and never goes to the web server; without encoded transforms nobody joins with one."""
    key = "a media key, only for tests"
    open_and_read_error(browser, world, {**guest, "key": key})
    browser.run("window.isOld = true; location.reload();")
    field = "!window.isOld && document.getElementById('lobby')?.elements.namedItem('key').value"
    kept = browser.wait_for(f"window.weir && {field}", "the page has the key again")
    said = browser.run("return [location.href, ...weir.log()].join();")
    report.check("forms, a media key outlives a reload", kept == key and key not in unquote_plus(said), f"{len(kept)} characters", "the key, and not in address or log")
    expected = "A media key after ? was sent to the web server"
    address = f"{world.http}/?key=x"
    for turn in ("as it was given", "after a reload"):
        browser.open("about:blank")
        browser.open(f"{address}#{urlencode(guest)}")
        said = browser.wait_for("window.weir?.state().error", "the page complains about the key")
        report.check(f"forms, a media key in front of #, {turn}: the page refuses", said.startswith(expected), repr(said), f"{expected}…")
        address = browser.run("return location.href;")
    browser.run("window.isOld = true; location.hash = arguments[0];", urlencode({"key": key}))
    entered = browser.wait_for(f"window.weir && {field} === '{key}'", "the page takes a key that is entered later")
    report.check("forms, a media key is taken from an address that is entered later", entered, entered, True)
    browser.run_first("delete window.RTCRtpScriptTransform;")
    said = open_and_read_error(browser, world, {**guest, "key": key})
    expected = "This call's media is to be encrypted, but this browser lacks encoded transforms"
    report.check("forms, no encoded transforms: nobody joins with a key", said.startswith(expected), repr(said), f"{expected}…")


def test_modules(world, report):
    """The unit tests of modules.js and modules_*.js, in a page of their own."""
    browser = Browser(world.driver, [], (300, 200))
    try:
        browser.open(world.http)
        for script in sorted(pathlib.Path(__file__).parent.glob("modules*.js")):
            for name, holds, got in browser.run(script.read_text(encoding="utf-8")):
                report.check(f"module: {name}", holds, "holds" if holds else got, "holds")
    finally:
        browser.close()


def open_and_read_error(browser, world, fields):
    """Opens the page afresh and waits until it shows an error; returns it."""
    browser.open("about:blank")
    browser.open(f"{world.http}/#{urlencode(fields)}")
    return browser.wait_for("window.weir?.state().error", f"the page complains about {fields}", 20)
