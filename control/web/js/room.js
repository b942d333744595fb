// A room's call as its state events say it (MSC3401): which calls there are, who takes part, and through which focus.
// Reads the stable and the unstable names, writes the unstable ones.

import { randomString } from "./emitter.js";

const CALL = "org.matrix.msc3401.call";
const MEMBER = "org.matrix.msc3401.call.member";
const CALL_NAMES = [CALL, "m.call"];
const MEMBER_NAMES = [MEMBER, "m.call.member"];
const FOCI_ACTIVE = "org.matrix.msc3898.foci.active";
const FOCI_PREFERRED = "org.matrix.msc3898.foci.preferred";

/** The state event types that a call needs to see, and those that its members need to be allowed to send. */
export const CALL_STATE_TYPES = [...CALL_NAMES, ...MEMBER_NAMES];

/** A member that does not refresh its entry within this time is taken for gone. */
export const MEMBER_LIFETIME_MS = 60 * 60 * 1000;

const list = (value) => (Array.isArray(value) ? value : []);

/** @typedef {{userId: string, deviceId: string}} Focus */

function readFocus(raw) {
  const named = typeof raw?.user_id === "string" && typeof raw?.device_id === "string";
  return named ? { userId: raw.user_id, deviceId: raw.device_id } : null;
}

/** Lists of foci come from anybody and may be of any length. */
const FOCI_PER_LIST_MAX = 8;

const readFoci = (raw) => list(raw).slice(0, FOCI_PER_LIST_MAX).map(readFocus).filter(Boolean);

/** One room's state, kept up to date by `apply`. */
export class RoomCalls {
  #calls = new Map();
  #members = new Map();
  #joined = new Set();
  #names = new Map();

  /** @param {object[]} events state events, in the order in which they were sent where that is known */
  constructor(events) {
    this.name = "";
    for (const event of events) this.apply(event);
  }

  /** Takes one more state event. */
  apply(event) {
    const { type, state_key: key, content = {} } = event;
    if (CALL_NAMES.includes(type)) this.#calls.set(key, { content, at: event.origin_server_ts ?? 0 });
    else if (MEMBER_NAMES.includes(type)) this.#members.set(key, content);
    else if (type === "m.room.name") this.name = content.name ?? "";
    else if (type === "m.room.member") this.#applyMembership(key, content);
  }

  #applyMembership(userId, content) {
    if (content.membership === "join") this.#joined.add(userId);
    else this.#joined.delete(userId);
    if (content.displayname) this.#names.set(userId, content.displayname);
  }

  /** Whether a user is in the room (not only invited). */
  hasJoined(userId) {
    return this.#joined.has(userId);
  }

  /** What to call a user on the screen. */
  displayName(userId) {
    return this.#names.get(userId) ?? userId.replace(/^@([^:]+):.*$/, "$1");
  }

  /** The id of the newest call that has not ended; null where there is none. */
  newestCall() {
    let newest = null;
    for (const [id, call] of this.#calls) {
      if ("m.terminated" in call.content) continue;
      if (newest === null || call.at > this.#calls.get(newest).at) newest = id;
    }
    return newest;
  }

  /** Whether the room knows the call and it has not ended. */
  hasCall(confId) {
    const call = this.#calls.get(confId);
    return call !== undefined && !("m.terminated" in call.content);
  }

  /**
   * The other devices in this call, that of the earliest member first: the foci that each uses, and those that it would rather use.
   * Left out are those whose entry has expired, and users who are not in the room.
   * @returns {{active: Focus[], preferred: Focus[]}[]}
   */
  others(confId, ownDeviceId, now) {
    const others = [];
    for (const [userId, content] of this.#members) {
      if (!this.hasJoined(userId)) continue;
      for (const device of devicesOf(content, confId)) {
        if (device.device_id === ownDeviceId || !(device.expires_ts > now)) continue;
        const active = readFoci(device[FOCI_ACTIVE] ?? device["m.foci.active"]);
        others.push({ active, preferred: readFoci(device[FOCI_PREFERRED] ?? device["m.foci.preferred"]) });
      }
    }
    return others;
  }

  /** The member event with which `device` (from `memberDevice`) takes part in the call; keeps the user's other devices. */
  memberContent(userId, confId, ownDeviceId, device, now) {
    const calls = [];
    for (const call of list(this.#members.get(userId)?.["m.calls"])) {
      const others = list(call["m.devices"]).filter((d) => d.device_id !== ownDeviceId && d.expires_ts > now);
      if (others.length > 0) calls.push({ ...call, "m.devices": others });
    }
    if (device) {
      let call = calls.find((c) => c["m.call_id"] === confId);
      if (!call) calls.push((call = { "m.call_id": confId, "m.devices": [] }));
      call["m.devices"].push(device);
    }
    return { "m.calls": calls };
  }
}

function devicesOf(content, confId) {
  return list(content?.["m.calls"])
    .filter((call) => call?.["m.call_id"] === confId)
    .flatMap((call) => list(call["m.devices"]));
}

/** This page's entry in a member event. */
export function memberDevice({ deviceId, sessionId, purposes, focus, preferred, now }) {
  const writeFocus = ({ userId, deviceId }) => ({ user_id: userId, device_id: deviceId });
  const active = [writeFocus(focus)];
  const wished = preferred.map(writeFocus);
  return {
    device_id: deviceId,
    session_id: sessionId,
    expires_ts: now + MEMBER_LIFETIME_MS,
    feeds: purposes.map((purpose) => ({ purpose })),
    [FOCI_ACTIVE]: active,
    "m.foci.active": active,
    [FOCI_PREFERRED]: wished,
    "m.foci.preferred": wished,
  };
}

/** A new call: its id and the content of its state event. */
export function newCall(now) {
  return { confId: `${now}${randomString(16)}`, content: { "m.intent": "m.room", "m.type": "m.video" } };
}

/** The name of the state event of a call, and of a member. */
export const CALL_TYPE = CALL;
export const MEMBER_TYPE = MEMBER;

/**
 * The foci that a homeserver recommends in its well-known file.
 * @returns {Focus[]}
 */
export function fociOfWellKnown(wellKnown) {
  const raw = wellKnown?.["org.matrix.msc3898.foci"] ?? wellKnown?.["m.foci"];
  return readFoci(raw);
}
