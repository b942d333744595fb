"""A hostile participant beside a healthy call: malformed invites, nonsense on its data channel, a flood of garbage on the
media port.

The healthy call must not notice, and the focus must count what it refused.
"""

import os
import pathlib
import random
import re
import socket
import time

import checks
from webdriver import Browser
from world import FOCUS_DEVICE, PASSWORD

# An offer that a browser might make, as a beginning for what it never would.
GOOD_SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:actpass",
        "a=mid:0",
        "a=sctp-port:5000",
        "",
    ]
)


def invite(call, **changes):
    """An invite of mallory to a call with members changed; a member that is None is left out."""
    content = {
        "version": "1",
        "call_id": f"bad{time.monotonic_ns()}",
        "party_id": "MALLORY",
        "conf_id": call,
        "device_id": "MALLORY",
        "sender_session_id": "mallory",
        "dest_session_id": "sfu",
        "lifetime": 60000,
        "offer": {"type": "offer", "sdp": GOOD_SDP},
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def bad_invites(conf_id):
    """Invites that no client would send."""
    sdp = lambda text: {"offer": {"type": "offer", "sdp": text}}
    return [
        {},
        invite(conf_id, offer=None),
        invite(conf_id, offer="v=0"),
        invite(conf_id, offer={"type": "offer"}),
        invite(conf_id, device_id=None),
        invite(conf_id, call_id=7),
        invite(conf_id, conf_id=["x"]),
        invite(conf_id, conf_id="nobody knows this call"),
        invite(conf_id, lifetime=-1),
        invite(conf_id, **sdp("")),
        invite(conf_id, **sdp("v=0\r\n")),
        invite(conf_id, **sdp("\x00\xff" * 2000)),
        invite(conf_id, **sdp(GOOD_SDP.replace("a=fingerprint", "a=nothing"))),
        invite(conf_id, **sdp(GOOD_SDP.replace("a=ice-pwd", "a=nothing"))),
        invite(conf_id, **sdp(GOOD_SDP.replace("AB:", "ZZ:"))),
        invite(conf_id, **sdp(GOOD_SDP.replace("a=mid:0", "a=mid:" + "9" * 5000))),
        invite(conf_id, **sdp(GOOD_SDP + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 500)),
        invite(conf_id, **sdp(GOOD_SDP + "a=extmap:99999999999999999999 urn:x\r\na=rtpmap:x y/z\r\n")),
        invite(conf_id, **{"org.matrix.msc3077.sdp_stream_metadata": {"x": {"tracks": [1, 2], "user_id": {}}}}),
    ]

# Runs in a page of mallory's: joins without media by the page's own modules, then says everything wrong that comes to mind.
CHANNEL_NONSENSE = """
const [baseUrl, password, room, confId, focus] = arguments;
const { MatrixClient } = await import("/js/matrix.js");
const { Leg } = await import("/js/leg.js");
const channels = [];
const create = RTCPeerConnection.prototype.createDataChannel;
RTCPeerConnection.prototype.createDataChannel = function (...given) {
  channels.push(create.apply(this, given));
  return channels[0];
};
const matrix = await MatrixClient.discover(baseUrl);
await matrix.login("mallory", password);
await matrix.startSync(room, []);
const leg = new Leg({ matrix, focus, confId, sessionId: "mallory", iceServers: [] });
matrix.on("todevice", (event) => leg.handleToDevice(event));
const connected = new Promise((resolve, reject) => { leg.on("connected", resolve); leg.on("ended", reject); });
await leg.start([]);
await connected;
const names = ["m.call.negotiate", "m.call.track_subscription", "m.call.sdp_stream_metadata_changed", "m.call.pong", "x.y"];
const contents = [null, 7, "x", [], {}, { subscribe: 7 }, { subscribe: [{}, 1, { stream_id: 1, track_id: {}, width: -1 }] },
  { subscribe: [{ stream_id: "nobody", track_id: "nothing", width: 1e308, height: 0.5 }], unsubscribe: "all" },
  { description: { type: "offer", sdp: "v=0" } }, { description: { type: "answer", sdp: "" } }, { description: { type: "offer" } },
  { sdp_stream_metadata: { a: { user_id: "@alice:localhost", purpose: 4, tracks: { t: { kind: "smell" } } } } }];
const said = [];
for (const type of names) for (const content of contents) said.push(JSON.stringify({ type, content }));
said.push("", "{", "[]", "null", "\\u0000", "x".repeat(200000), '{"type":'.repeat(5000), JSON.stringify({ type: 5 }));
for (const text of said) channels[0].send(text);
channels[0].send(new Uint8Array(5000));
await new Promise((resolve) => setTimeout(resolve, 1000));
leg.hangup();
return said.length + 1;
"""


def beside_a_healthy_call(world, report):
    """Sends it all while three pages talk, then looks at them and at the focus."""
    conf_id = world.pages[0].state()["confId"]
    world.matrix("POST", f"join/{world.room}", {}, "mallory")
    refused_before = refusals(world)
    messages = bad_invites(conf_id)

    def be_hostile():
        for content in messages:
            world.send_to_focus("mallory", "m.call.invite", content)
        for kind in ("m.call.candidates", "m.call.select_answer", "m.call.hangup", "m.call.answer", "m.call.nonsense"):
            world.send_to_focus("mallory", kind, {"call_id": 1, "candidates": [{"candidate": [3]}], "conf_id": conf_id})
        return talk_nonsense(world, conf_id), throw_garbage(udp_ports(world.focus.pid), seconds=5)

    # A fourth browser and a flood take time from the three that show pictures, whether or not they speak to the focus.
    by_itself, _ = frozen_while(world, lambda: be_busy(world))
    worst, (nonsense, sent) = frozen_while(world, be_hostile)
    most = checks.FREEZE_MAX_MS + by_itself
    wanted = f"at most {checks.FREEZE_MAX_MS} ms and the {by_itself:.0f} ms that such a load takes beside the focus"
    report.check("hostile: the healthy call does not freeze", worst <= most, f"{worst:.0f} ms", wanted)
    alive = world.focus.poll() is None and world.is_ready()
    report.check("hostile: the focus is ready", alive, f"{len(messages)} invites, {nonsense} frames, {sent} datagrams", "still ready")
    counted = refusals(world) - refused_before
    report.check("hostile: refusals are counted", counted > 0, f"{counted:.0f}", "more than 0")
    checks.still_flows(world, report, "beside a hostile participant")


def frozen_while(world, act):
    """How long the picture stood still that stood still longest while something was done, in milliseconds, and what that returned."""
    before = checks.remote_tiles(world)
    returned = act()
    time.sleep(1)
    return checks.frozen_ms(checks.pictures_since(world, before)), returned


def be_busy(world):
    """The same work for the machine, with nobody at the other end: another browser, and the flood at a port that nobody has."""
    browser = Browser(world.driver, ["--allow-loopback-in-peer-connection"], (300, 200))
    try:
        browser.open(world.http)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unheard:
            unheard.bind(("127.0.0.1", 0))
            port = unheard.getsockname()[1]
        throw_garbage([port], seconds=5)
    finally:
        browser.close()


def talk_nonsense(world, conf_id):
    """Lets mallory into the call to say wrong things on the data channel; returns how many."""
    browser = Browser(world.driver, ["--allow-loopback-in-peer-connection"], (300, 200))
    try:
        browser.open(world.http)
        focus = {"userId": "@focus:localhost", "deviceId": FOCUS_DEVICE}
        return browser.run(CHANNEL_NONSENSE, world.base_url, PASSWORD, world.room, conf_id, focus)
    finally:
        browser.close()


def refusals(world):
    """The sum of everything that the focus says it refused or dropped."""
    return sum(value for name, value in world.metrics().items() if re.search(r"refus|reject|drop", name))


def throw_garbage(ports, seconds):
    """Datagrams of every kind at ports on this machine, none of them from anybody: returns how many."""
    random.seed(3898)
    if not ports:
        raise OSError("the focus listens on no UDP port")
    thrower = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # STUN request, DTLS handshake, RTP, RTCP, and first bytes of nothing.
    heads = [b"\x00\x01\x00\x08\x21\x12\xa4\x42", b"\x16\xfe\xfd", b"\x80\x60", b"\x90\xe0", b"\x80\xc8", b"\x8f\xce", b"\xff", b""]
    sent = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _ in range(20):
            datagram = random.choice(heads) + random.randbytes(random.choice((0, 1, 7, 20, 90, 1200)))
            try:
                thrower.sendto(datagram, ("127.0.0.1", random.choice(ports)))
            except OSError:
                pass
            sent += 1
        time.sleep(0.01)
    thrower.close()
    return sent


def udp_ports(pid):
    """The IPv4 UDP ports on which a process listens."""
    inodes = set()
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = re.match(r"socket:\[(\d+)\]", os.readlink(descriptor))
        except OSError:
            continue
        if found:
            inodes.add(found[1])
    ports = []
    for line in pathlib.Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes:
            ports.append(int(fields[1].split(":")[1], 16))
    return ports
