// Which focus to call (MSC3898 "Choosing a focus"): what others use and prefer, and how fast foci answer. Times are measured by
// calls without media. The rules are those of the synthetic participants; decision 14 has the reasons.

import { Leg } from "./leg.js";

/** @typedef {import("./room.js").Focus} Focus */

/** Times that differ by less are alike; then ids decide, so that everybody near takes the same focus. */
const ALIKE_MS = 2;
/** Foci that are measured, at most: each costs a call. */
const FOCI_MAX = 16;
/** A focus that has not answered by then is left out. */
const ANSWER_WITHIN_MS = 5_000;

/** What tells foci apart. */
export const focusKey = (focus) => `${focus.userId} ${focus.deviceId}`;

const has = (foci, focus) => foci.some((other) => focusKey(other) === focusKey(focus));

/** Each focus once, in its first place. */
export function distinct(foci) {
  const keys = foci.map(focusKey);
  return foci.filter((_, index) => keys.indexOf(keys[index]) === index);
}

/**
 * From the nearest to the farthest. Those without a time come last if nothing was measured of them, and not at all if they did not answer.
 * @param {Focus[]} foci
 * @param {Map<string, number|null>} times by `focusKey`: milliseconds, null for one that does not answer
 */
export function nearestFirst(foci, times) {
  const time = (focus) => times.get(focusKey(focus)) ?? Infinity;
  const byKey = (a, b) => (focusKey(a) < focusKey(b) ? -1 : 1);
  const rest = foci.filter((focus) => times.get(focusKey(focus)) !== null).sort((a, b) => time(a) - time(b) || byKey(a, b));
  const ordered = [];
  while (rest.length > 0) {
    const [first] = rest;
    const alike = rest.filter((focus) => focus === first || time(focus) < time(first) + ALIKE_MS);
    ordered.push(...alike.sort(byKey));
    rest.splice(0, alike.length);
  }
  return ordered;
}

/**
 * What to use, and what to publish as preferred; `focus` is null where there is none.
 * @param {Focus[]} own configured or recommended
 * @param {{active: Focus[], preferred: Focus[]}[]} members the other devices in the call
 * @param {Map<string, number|null>} times see `nearestFirst`
 * @param {Focus|null} used what is used so far
 */
export function chooseFocus(own, members, times, used = null) {
  const active = members.flatMap((member) => member.active);
  const preferred = preferredBy(members);
  const ordered = nearestFirst(distinct([...own, ...active, ...preferred]), times);
  const wished = (focus) => {
    if (focus === null || has(own, focus)) return [];
    const nearer = ordered.findIndex((other) => focusKey(other) === focusKey(focus));
    return ordered.slice(0, nearer === -1 ? ordered.length : nearer).filter((other) => has(own, other));
  };
  if (used !== null) {
    const focus = wished(used).find((other) => has(active, other)) ?? used;
    return { focus, preferred: wished(focus) };
  }
  const first = (wanted) => ordered.find((focus) => has(wanted, focus));
  const focus = first(preferred) ?? first(active) ?? first(own) ?? null;
  return { focus, preferred: wished(focus) };
}

// Who lists nothing prefers what it uses.
const preferredBy = (members) => members.flatMap((member) => (member.preferred.length > 0 ? member.preferred : member.active));

/** The foci of which the first to answer is the choice, see `chooseFocus`. */
export function deciding(own, members) {
  const preferred = preferredBy(members);
  return preferred.length > 0 ? preferred : own;
}

/** What has to be measured: nothing where there is nothing to choose. */
export function toMeasure(own, members) {
  const foci = distinct([...own, ...members.flatMap((member) => [...member.active, ...member.preferred])]);
  return foci.length > 1 ? foci.slice(0, FOCI_MAX) : [];
}

/**
 * How long each focus takes to answer a call without media, all at the same time; by `focusKey`, null for those that do not. Soon after
 * the first answer of one in `enough` it is over: those without an entry are farther away. The homeserver has to be synced with meanwhile.
 * @param {Focus[]} foci
 * @param {{matrix: import("./matrix.js").MatrixClient, confId: string, sessionId: string}} call
 * @param {Focus[]} enough
 */
export async function measureAnswers(foci, call, enough = []) {
  const times = new Map();
  const over = new AbortController();
  const measure = async (focus) => {
    const time = await measureAnswer(focus, call, over.signal);
    if (time !== undefined) times.set(focusKey(focus), time);
    if (time != null && has(enough, focus)) setTimeout(() => over.abort(), ALIKE_MS);
  };
  await Promise.all(foci.map(measure));
  return times;
}

/** One of these; undefined if it was over before. */
async function measureAnswer(focus, { matrix, confId, sessionId }, over) {
  const leg = new Leg({ matrix, focus, confId, sessionId, iceServers: [] });
  const unlisten = matrix.on("todevice", (event) => leg.handleToDevice(event));
  const time = await new Promise((resolve) => {
    leg.on("answered", () => resolve(leg.times.answer - leg.times.invite));
    leg.on("ended", () => resolve(null));
    over.addEventListener("abort", () => resolve(undefined));
    setTimeout(() => resolve(null), ANSWER_WITHIN_MS);
    leg.start([]).catch(() => resolve(null));
  });
  unlisten();
  leg.hangup();
  return time;
}
