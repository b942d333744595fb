// Unit tests of the page's pure modules; runs in the page, returns [[name, holds, what came out], …].

const { chooseFocus, deciding, nearestFirst, toMeasure } = await import("/js/choose.js");
const { columnsFor, stepFor, wantedSize } = await import("/js/layout.js");
const { layerOf } = await import("/js/media.js");
const { readStreams, writeStreams } = await import("/js/metadata.js");
const { fociOfWellKnown, memberDevice, RoomCalls } = await import("/js/room.js");
const { msidByMid } = await import("/js/sdp.js");
const { Subscriptions } = await import("/js/subscriptions.js");
const { describeEstimate, Status, whyNoPicture, whySmaller } = await import("/js/why.js");

const results = [];
const expect = (name, got, wanted) => {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  results.push([name, a === b, a]);
};

expect("a tile asks for the smallest step that covers it", stepFor(330, 180), { width: 640, height: 360 });
expect("a tile larger than all steps asks for the largest", stepFor(4000, 2000), { width: 1920, height: 1080 });
const spotlight = { mode: "spotlight", quality: "auto" };
expect("spotlight asks for 1280×720", wantedSize(spotlight, { isLarge: true, width: 200, height: 100 }), { width: 1280, height: 720 });
expect("beside the spotlight is small", wantedSize(spotlight, { isLarge: false, width: 900, height: 500 }), { width: 320, height: 180 });
expect("four tiles in a wide window", columnsFor(4, 1600, 900), 2);
expect("three tiles in a very wide window", columnsFor(3, 1800, 400), 3);
expect("two tiles in a tall window", columnsFor(2, 400, 900), 1);

expect("a camera's layers by height", [720, 360, 180].map((height) => layerOf("m.usermedia", 720, height)), ["f", "h", "q"]);
expect("a screen's layers by height", [1080, 720, 360].map((height) => layerOf("m.screenshare", 1080, height)), ["f", "h", "q"]);
expect("no layer without a size", layerOf("m.usermedia", null, 360), "");

const word = new Status();
word.take({ estimate_bps: 600_000, wanted_bps: 1_700_000, tracks: [{ stream_id: "s", track_id: "t", reason: "little_bandwidth", rid: "q" }] });
word.take({ tracks: [{ stream_id: "s", track_id: "u", reason: "waiting_to_start" }] });
const moving = { gapMs: 30, arrives: true, muted: false };
const frozen = { gapMs: 3_000, arrives: true, muted: false };
expect("a picture that moves needs no words", whyNoPicture(word.of("s t"), moving), "");
expect("a frozen one is told why", whyNoPicture(word.of("s t"), frozen), "frozen for 3 s: smaller: too little bandwidth to you");
expect("one that waits to start says so at once", whyNoPicture(word.of("s u"), { ...moving, gapMs: null }), "waits for the sender's first whole picture");
expect("without a word from the focus what is seen here counts", whyNoPicture(null, { ...frozen, arrives: false }), "frozen for 3 s: nothing arrives from the focus");
expect("a muted picture is not frozen", whyNoPicture(null, { ...frozen, muted: true }), "");
expect("a smaller picture is told why", [whySmaller(word.of("s t")), whySmaller(null)], ["smaller: too little bandwidth to you", ""]);
expect("no estimate, no words", [describeEstimate(word), describeEstimate({ estimate: 2_000_000, wanted: 1_000_000 })], ["", "to you 2.0 Mb/s"]);

const metadata = {
  s: { user_id: "@a:b", device_id: "D", purpose: "m.screenshare", video_muted: true, tracks: { t: { kind: "video", width: 640, height: -1 }, u: { kind: "smell" } } },
  odd: 7,
};
const read = readStreams({ "org.matrix.msc3077.sdp_stream_metadata": metadata });
expect("metadata that makes no sense is left out", [...read.keys()], ["s"]);
expect("a track without a usable size has none", [...read.get("s").tracks], [["t", { kind: "video", width: 640, height: null }]]);
expect("no snapshot is not an empty one", [readStreams({}), readStreams({ sdp_stream_metadata: {} }).size], [null, 0]);
const own = { streamId: "s", purpose: "m.usermedia", audioMuted: false, videoMuted: true, tracks: [{ trackId: "t", kind: "video", width: 1280, height: 720 }] };
expect("own metadata carries kind and size", writeStreams([own], "@a:b", "D").s.tracks, { t: { kind: "video", width: 1280, height: 720 } });

const sdp = "v=0\r\nm=audio 9 X 0\r\na=mid:0\r\na=sendonly\r\na=msid:S T1\r\nm=video 9 X 0\r\na=mid:1\r\na=msid:S T2\r\na=inactive\r\nm=video 9 X 0\r\na=mid:2\r\na=recvonly\r\n";
expect("msid and direction by mid", [...msidByMid(sdp)], [
  ["0", { streamId: "S", trackId: "T1", sends: true }],
  ["1", { streamId: "S", trackId: "T2", sends: false }],
]);

const device = (device_id, focus, expires_ts) => ({ device_id, expires_ts, "org.matrix.msc3898.foci.active": [{ user_id: focus, device_id: "F" }] });
const member = (user, devices) => ({ type: "org.matrix.msc3401.call.member", state_key: user, content: { "m.calls": [{ "m.call_id": "C", "m.devices": devices }] } });
const joined = (user) => ({ type: "m.room.member", state_key: user, content: { membership: "join" } });
const room = new RoomCalls([
  ...["@a:b", "@c:b"].map(joined),
  { type: "org.matrix.msc3401.call", state_key: "old", origin_server_ts: 1, content: {} },
  { type: "m.call", state_key: "C", origin_server_ts: 2, content: {} },
  { type: "org.matrix.msc3401.call", state_key: "ended", origin_server_ts: 3, content: { "m.terminated": "call_ended" } },
  member("@a:b", [device("A1", "@f:b", 2000), device("A2", "@late:b", 500)]),
  member("@c:b", [{ ...device("C1", "@g:b", 2000), "m.foci.preferred": [{ user_id: "@h:b", device_id: "F" }, { user_id: "@h:b" }] }]),
  member("@left:b", [device("L1", "@left-focus:b", 2000)]),
]);
expect("the newest call that has not ended", room.newestCall(), "C");
const f = (name) => ({ userId: `@${name}:b`, deviceId: "F" });
expect("foci in use, without those of members that are gone", room.others("C", "X", 1000), [
  { active: [f("f")], preferred: [] },
  { active: [f("g")], preferred: [f("h")] },
]);
expect("the own device is no other", room.others("C", "A1", 1000).length, 1);
const listed = memberDevice({ deviceId: "D", sessionId: "s", purposes: [], focus: f("f"), preferred: [f("h")], now: 0 });
expect("active and preferred foci are listed under both names", ["org.matrix.msc3898.foci.", "m.foci."].map((name) => [listed[`${name}active`], listed[`${name}preferred`]]), [
  [[{ user_id: "@f:b", device_id: "F" }], [{ user_id: "@h:b", device_id: "F" }]],
  [[{ user_id: "@f:b", device_id: "F" }], [{ user_id: "@h:b", device_id: "F" }]],
]);

const [ny, lon, ber] = ["ny", "lon", "ber"].map(f);
const fromLondon = new Map([["@lon:b F", 5], ["@ny:b F", 80]]);
const on = (active, preferred = []) => ({ active: [active], preferred });
expect("the first from London goes where all others are", chooseFocus([lon], [on(ny), on(ny)], fromLondon), { focus: ny, preferred: [lon] });
expect("the second from London sees what the first would prefer", chooseFocus([lon], [on(ny, [lon]), on(ny)], fromLondon), { focus: lon, preferred: [] });
expect("the first follows when London is in use", chooseFocus([lon], [on(ny), on(lon)], fromLondon, ny), { focus: lon, preferred: [] });
expect("who uses its own focus stays", chooseFocus([lon], [on(ny), on(ny)], fromLondon, lon), { focus: lon, preferred: [] });
expect("nobody else: the nearest of the own ones", chooseFocus([ny, lon], [], fromLondon), { focus: lon, preferred: [] });
expect("a focus that does not answer is left out", chooseFocus([lon], [on(ny)], new Map([["@ny:b F", null], ["@lon:b F", 9]])), { focus: lon, preferred: [] });
expect("the first answer of a focus that others prefer decides", deciding([lon], [on(ny, [ber]), on(ny)]), [ber, ny]);
expect("where nobody else is, the first answer of an own one does", deciding([lon, ber], []), [lon, ber]);
const onlyNear = new Map([["@lon:b F", 5]]);
expect("what had not answered by then is farther away", chooseFocus([lon], [on(ny), on(lon)], onlyNear), { focus: lon, preferred: [] });
expect("no focus at all", chooseFocus([], [], new Map()), { focus: null, preferred: [] });
expect("the nearest first, those alike by name, those not measured last", nearestFirst([ny, f("x"), lon, ber], new Map([...fromLondon, ["@ber:b F", 6]])), [ber, lon, ny, f("x")]);
expect("nothing is measured where there is nothing to choose", [toMeasure([lon], [on(lon)]), toMeasure([lon], [on(ny, [lon])])], [[], [lon, ny]]);
expect("leaving keeps the user's other devices", room.memberContent("@a:b", "C", "A1", null, 100)["m.calls"][0]["m.devices"].length, 1);
expect("leaving as the last device leaves no call", room.memberContent("@c:b", "C", "C1", null, 100), { "m.calls": [] });
expect("foci of the well-known file", fociOfWellKnown({ "org.matrix.msc3898.foci": [{ user_id: "@f:b", device_id: "F" }, 3] }), [{ userId: "@f:b", deviceId: "F" }]);

const said = [];
const bound = new Set();
const subscriptions = new Subscriptions((_, content) => said.push(content), (key) => bound.has(key));
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const info = (tracks) => new Map([["s", { tracks: new Map(tracks) }]]);
subscriptions.setStreams(info([["a", { kind: "audio" }], ["v", { kind: "video" }]]));
await wait(60);
expect("audio is always wanted, a picture only with a size", said.pop(), {
  subscribe: [{ stream_id: "s", track_id: "a" }],
  unsubscribe: [{ stream_id: "s", track_id: "v" }],
});
subscriptions.setSizes(new Map([["s v", { width: 320, height: 180 }]]));
subscriptions.setStreams(info([["a", { kind: "audio" }], ["v", { kind: "video" }]]));
await wait(60);
expect("changes that come together are said once", said.map((content) => content.subscribe.length), [2]);
subscriptions.schedule();
await wait(60);
expect("what was said is not said again", said.length, 1);
bound.add("s a");
await wait(3300);
expect("a track that has no place yet is asked for again", said.length, 2);
subscriptions.stop();

return results;
