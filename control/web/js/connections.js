// Who is connected where, read from `/conferences` (docs/operating.md): the foci of one conference, who is at each, and the trunks
// between them, each with what both of its ends say. Pure.

/** From good to bad: of two ends that see a trunk differently, the worse one is shown. */
const STATES = ["up", "wanted", "connecting", "calling", "lost"];

/**
 * @typedef {{audio: number, video: number, packets: number|null, bits: number|null, lost: number|null}} Flow tracks; packets and bits a
 *   second; the part that was lost of the worst stream. Null is what is not known (yet)
 * @typedef {{key: string, name: string, userId: string, sends: Flow, gets: Flow}} Person
 * @typedef {{key: string, name: string, userId: string, state: "up"|"gone"|"elsewhere", people: Person[], leftOut: number}} ShownFocus
 * @typedef {{key: string, ends: [string, string], flows: [Flow, Flow], state: string, roundTrip: number|null}} Trunk `ends` are the keys of
 *   its foci, `flows` what goes from the first to the second, and back
 * @typedef {{foci: ShownFocus[], trunks: Trunk[]}} Connections
 */

const list = (value) => (Array.isArray(value) ? value.filter((of) => of !== null && typeof of === "object") : []);
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
const key = (of) => `${of.user_id} ${of.device_id}`;

/** `@alice:example.org` is `alice` in a picture. */
export const shortName = (userId) => String(userId).replace(/^@/, "").split(":")[0];

/** The conferences of a document, the one with most people first: name and number of people. */
export function conferencesOf(document) {
  const sizes = new Map();
  for (const conference of list(document?.foci).flatMap((focus) => list(focus.conferences))) {
    const name = String(conference.conference);
    sizes.set(name, (sizes.get(name) ?? 0) + list(conference.participants).length);
  }
  return [...sizes].map(([name, people]) => ({ name, people })).sort((a, b) => b.people - a.people || (a.name < b.name ? -1 : 1));
}

/**
 * @param {object} document as `/conferences` says it
 * @param {string|undefined} name of the conference; without it, foci alone are shown
 * @returns {Connections}
 */
export function readConnections(document, name) {
  const foci = new Map();
  const trunks = new Map();
  for (const said of list(document?.foci)) {
    const conference = list(said.conferences).find((of) => of.conference === name) ?? {};
    const people = list(conference.participants).map(readPerson);
    const state = said.state === "gone" ? "gone" : "up";
    foci.set(key(said), { ...describe(said), state, people, leftOut: number(said.left_out) ?? 0 });
    for (const trunk of list(conference.trunks)) noteEnd(trunks, key(said), trunk);
  }
  // A focus that nobody asked is known by its trunks alone.
  for (const { other } of trunks.values()) {
    if (!foci.has(key(other))) foci.set(key(other), { ...describe(other), state: "elsewhere", people: [], leftOut: 0 });
  }
  const isGone = (focus) => foci.get(focus).state === "gone";
  return { foci: [...foci.values()], trunks: [...trunks.values()].map((trunk) => readTrunk(trunk, isGone)) };
}

const describe = (of) => ({ key: key(of), name: shortName(of.user_id), userId: String(of.user_id) });

// What goes to a person, it gets.
const readPerson = (said) => ({ ...describe(said), sends: readFlow(said.from), gets: readFlow(said.to) });

function readFlow(said) {
  const { packets_per_second: packets, bits_per_second: bits, lost, audio, video } = said ?? {};
  return { audio: number(audio) ?? 0, video: number(video) ?? 0, packets: number(packets), bits: number(bits), lost: number(lost) };
}

/** Puts the two ends of a trunk together, under the key of both. */
function noteEnd(trunks, here, said) {
  const there = key(said);
  const ends = [here, there].sort();
  const id = ends.join(" – ");
  const trunk = trunks.get(id) ?? { id, ends, said: new Map(), other: said };
  trunk.said.set(here, said);
  trunks.set(id, trunk);
}

function readTrunk({ id, ends, said }, isGone) {
  const [one, other] = ends.map((end) => (isGone(end) ? undefined : said.get(end)));
  const states = [one, other].filter(Boolean).map((end) => STATES.indexOf(end.state));
  // A state that is new here is no good one.
  const worst = states.includes(-1) ? "lost" : (STATES[Math.max(...states)] ?? "lost");
  const round = [one, other].map((end) => number(end?.round_trip_ms)).find((value) => value !== null);
  return {
    key: id,
    ends,
    flows: [flowBetween(one, other), flowBetween(other, one)],
    state: ends.some(isGone) ? "lost" : worst,
    roundTrip: round ?? null,
  };
}

/** What goes over a trunk is known to who sends it; what is lost, to who gets it. */
function flowBetween(sender, receiver) {
  const [sent, received] = [readFlow(sender?.to), readFlow(receiver?.from)];
  const flow = sender ? sent : received;
  return { ...flow, lost: received.lost ?? sent.lost };
}

/** `850 kbit/s`, `1.2 Mbit/s`; nothing for what is not known. */
export function formatRate(bits) {
  if (bits === null) return "";
  const kilobits = bits / 1_000;
  return kilobits < 1_000 ? `${Math.round(kilobits)} kbit/s` : `${(kilobits / 1_000).toFixed(1)} Mbit/s`;
}

/** `0 % lost`, `2.4 % lost`; nothing for what is not known. */
export function formatLost(lost) {
  if (lost === null) return "";
  const percent = lost * 100;
  return `${percent === 0 || percent >= 10 ? Math.round(percent) : percent.toFixed(1)} % lost`;
}

/** `3 video, 2 audio`. */
export const formatTracks = ({ video, audio }) => `${video} video, ${audio} audio`;
