// Unit tests of the page's media encryption, by the browser's own WebCrypto; runs in the page, returns [[name, holds, what came out], …].
// The expected bytes are those of RFC 9605, or of loadtest/sframe's tests, and so of another implementation.

const { FrameReceiver, FrameSender, LATE_MAX, ReplayWindow, SharedKey } = await import("/js/media-keys.js");
const { clearBytes, FrameKey, readHeader, writeHeader } = await import("/js/sframe.js");

const results = [];
const expect = (name, got, wanted) => {
  const text = (value) => JSON.stringify(value, (_, part) => (typeof part === "bigint" ? String(part) : part));
  results.push([name, text(got) === text(wanted), text(got)]);
};
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const utf8 = (text) => new TextEncoder().encode(text);
const reasonOf = (act) => act.then(() => "taken", (error) => error.reason ?? String(error));
const readReason = (bytes) => reasonOf((async () => readHeader(Uint8Array.from(bytes)))());

// ---- RFC 9605, Appendix C.1: the numbers at which an encoding becomes longer, and what each half becomes

const EDGES = [
  [0n, 0x0, ""],
  [1n, 0x1, ""],
  [255n, 0x8, "ff"],
  [256n, 0x9, "0100"],
  [65535n, 0x9, "ffff"],
  [65536n, 0xa, "010000"],
  [16777215n, 0xa, "ffffff"],
  [16777216n, 0xb, "01000000"],
  [4294967295n, 0xb, "ffffffff"],
  [4294967296n, 0xc, "0100000000"],
  [1099511627775n, 0xc, "ffffffffff"],
  [1099511627776n, 0xd, "010000000000"],
  [281474976710655n, 0xd, "ffffffffffff"],
  [281474976710656n, 0xe, "01000000000000"],
  [72057594037927935n, 0xe, "ffffffffffffff"],
  [72057594037927936n, 0xf, "0100000000000000"],
  [18446744073709551615n, 0xf, "ffffffffffffffff"],
];
const wrong = [];
for (const [keyId, high, keyIdBytes] of EDGES) {
  for (const [counter, low, counterBytes] of EDGES) {
    const expected = hex([(high << 4) | low]) + keyIdBytes + counterBytes;
    const read = readHeader(unhex(`${expected}ee`));
    const same = read.keyId === keyId && read.counter === counter && read.length === expected.length / 2;
    if (hex(writeHeader({ keyId, counter })) !== expected || !same) wrong.push(expected);
  }
}
expect("SFrame: all headers of the RFC are written and read", wrong, []);
expect("SFrame: a header as it stands in the RFC", hex(writeHeader({ keyId: 0x123n, counter: 0x4567n })), "9901234567");
const whole = writeHeader({ keyId: 2n ** 64n - 1n, counter: 2n ** 64n - 1n });
const cut = await Promise.all(Array.from(whole, (_, length) => readReason(whole.subarray(0, length))));
expect("SFrame: a header cut short is none, at every length", [whole.length, [...new Set(cut)]], [17, ["malformed"]]);
const tooLong = [[0x08, 7], [0x80, 7], [0x09, 0, 255], [0xf0, 0, 0, 0, 0, 0, 0, 0, 1]];
const overlong = await Promise.all(tooLong.map(readReason));
expect("SFrame: a number that takes more bytes than it needs is none", [...new Set(overlong)], ["malformed"]);

// ---- RFC 9605, Appendix C.3

const BASE_KEY = unhex("000102030405060708090a0b0c0d0e0f");
const METADATA = utf8("IETF SFrame WG");
const PLAINTEXT = utf8("draft-ietf-sframe-enc");
for (const [suite, sealed] of [
  [0x0004, "9901234567b7412c2513a1b66dbb48841bbaf17f598751176ad847681a69c6d0b091c07018ce4adb34eb"],
  [0x0005, "990123456794f509d36e9beacb0e261d99c7d1e972f1fed787d4049f17ca21353c1cc24d56ceabced279"],
]) {
  const key = await FrameKey.derive(BASE_KEY, 0x123n, suite);
  expect(`SFrame: suite ${suite} seals as the RFC does`, hex(await key.seal(0x4567n, METADATA, PLAINTEXT)), hex(METADATA) + sealed);
  const bytes = unhex(sealed);
  const opened = await key.open(0x4567n, bytes.subarray(0, 5), METADATA, bytes.subarray(5));
  expect(`SFrame: suite ${suite} opens what the RFC sealed`, hex(opened), hex(PLAINTEXT));
}
const rfcKey = await FrameKey.derive(BASE_KEY, 0x123n);
const rfcFrame = (await rfcKey.seal(0x4567n, METADATA, PLAINTEXT)).subarray(METADATA.length);
const open = (frame, metadata) => reasonOf(rfcKey.open(0x4567n, frame.subarray(0, 5), metadata, frame.subarray(5)));
const changed = await Promise.all(
  Array.from({ length: 8 * rfcFrame.length }, (_, bit) => {
    const frame = rfcFrame.slice();
    frame[bit >> 3] ^= 1 << (bit & 7);
    return open(frame, METADATA);
  }),
);
expect("SFrame: every changed bit is refused", [...new Set(changed), await open(rfcFrame, utf8("IETF SFrame WH"))], ["wrong_key", "wrong_key"]);

// ---- the layout of a frame, as loadtest/sframe's tests have it (`seals_a_picture_behind_its_readable_byte`)

const vp8 = unhex("1002009d012a0005d002");
const participant = await FrameKey.derive(BASE_KEY, 3n);
const clear = clearBytes("video");
expect(
  "a picture is sealed behind its readable byte",
  hex(await participant.seal(300n, vp8.subarray(0, clear), vp8.subarray(clear))),
  "1039012c76b1a80d845bf33f9d9fe7684ea68df8cf2ebc2c03c696bc88",
);
// A key for every counter, as the ratchet of a session gives it.
const perFrame = { session: (_, keyId) => (counter) => FrameKey.derive(counter === 300n ? BASE_KEY : METADATA, keyId) };
const fromParticipant = unhex("1039012c76b1a80d845bf33f9d9fe7684ea68df8cf2ebc2c03c696bc88");
const ann = { userId: "@ann:x", deviceId: "DEVICE" };
expect("and is opened by whoever has its keys, whatever hands them out", hex(await new FrameReceiver(perFrame).decrypt(ann, "video", fromParticipant)), hex(vp8));

// ---- one key for all

const call = { roomId: "!room:x", confId: "call" };
const shared = async (text, of = call) => new SharedKey(await SharedKey.import(text), of);
const keys = await shared("a shared key of some length");
// Made by another implementation of HKDF and AES-GCM.
const sound = unhex("d8a1b2c3d4e5f6095a1661572fe7ca68c9c605d3976dad3abdf69307b1");
expect("a shared key gives the keys that it gives anywhere", hex(await new FrameReceiver(keys).decrypt(ann, "audio", sound)), hex(utf8("sound")));
expect("a short key is refused", await SharedKey.import("123456789012345").catch((error) => error.message), "A media key has at least 16 characters.");

const sender = new FrameSender(keys, ann);
const first = await sender.encrypt("video", vp8);
const second = await sender.encrypt("audio", vp8);
expect("of a picture the first byte stays readable, and of sound nothing", [first[0], readHeader(first.subarray(1)).counter, readHeader(second).counter], [0x10, 0n, 1n]);
const again = await new FrameSender(keys, ann).encrypt("audio", vp8);
expect("who comes again has another session, so no counter comes twice", readHeader(again).keyId !== readHeader(second).keyId, true);
expect("an empty picture is not sent", [await reasonOf(sender.encrypt("video", new Uint8Array())), sender.counters], ["empty", { encrypted: 2, refused: { empty: 1 } }]);

const receiver = new FrameReceiver(keys);
const decrypt = (from, kind, frame, by = receiver) => reasonOf(by.decrypt(from, kind, frame));
const forged = first.slice();
forged[forged.length - 1] ^= 1;
expect("a forged frame is refused and uses up nothing", [await decrypt(ann, "video", forged), await decrypt(ann, "video", first)], ["wrong_key", "taken"]);
expect("a frame is decrypted once", await decrypt(ann, "video", first), "replayed");
expect("also when it comes twice at once", (await Promise.all([decrypt(ann, "audio", second), decrypt(ann, "audio", second)])).sort(), ["replayed", "taken"]);
expect("two sessions of one sender do not mix", await decrypt(ann, "audio", again), "taken");
const others = [
  ["another device's name", decrypt({ ...ann, deviceId: "OTHER" }, "video", first)],
  ["another user's name", decrypt({ ...ann, userId: "@bob:x" }, "video", first)],
  ["nobody's name", decrypt(null, "video", first)],
  ["another key", decrypt(ann, "video", first, new FrameReceiver(await shared("another key of some length")))],
  ["another call", decrypt(ann, "video", first, new FrameReceiver(await shared("a shared key of some length", { ...call, confId: "other" })))],
  ["a picture taken for sound", decrypt(ann, "audio", first, new FrameReceiver(keys))],
  ["a picture in the clear", decrypt(ann, "video", vp8)],
  ["nothing", decrypt(ann, "audio", new Uint8Array())],
];
const refused = await Promise.all(others.map(async ([name, act]) => [name, (await act) !== "taken"]));
expect("frames that are not the sender's are refused", refused.filter(([, holds]) => !holds), []);

const take = (window, counter) => {
  try {
    window.take(counter);
    return "taken";
  } catch ({ reason }) {
    return reason;
  }
};
const window_ = new ReplayWindow();
const order = [5, 3, 5, 3, 4, 10_000, 10_000 - LATE_MAX, 10_000 - LATE_MAX - 1, 10_000 - LATE_MAX, 4];
expect("late frames are taken, each once, so far back", order.map((counter) => take(window_, counter)), [
  "taken", "taken", "replayed", "replayed", "taken", "taken", "taken", "too_late", "replayed", "replayed",
]);
const long = new ReplayWindow();
const reasons = new Set();
for (let counter = 0; counter < 10 * LATE_MAX; counter += 1) reasons.add(take(long, counter)).add(`again ${take(long, Math.max(0, counter - 1))}`);
expect("a long stream is all taken, and nothing of it twice", [...reasons], ["taken", "again replayed"]);
expect("what is long past is too late", take(long, 7), "too_late");

return results;
