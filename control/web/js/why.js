// Why a picture is not (all) there: what the focus says, and what can be seen here, as a person reads it. Pure.

import { trackKey } from "./subscriptions.js";
import { formatBitrate } from "./stats.js";

/** A picture that has not moved for this long is called frozen. The slowest layer of a screen share has 3 frames a second. */
const FROZEN_MS = 1_000;

/** The focus's words, where nothing is seen because of them. */
const NOTHING = {
  never_sent: "nothing has been sent yet",
  publisher_silent: "the sender has stopped sending",
  not_connected: "the way from the focus is not open",
  codec_not_taken: "this browser does not take the sender's codec",
  no_bandwidth: "paused: too little bandwidth to you",
  waiting_to_start: "waits for the sender's first whole picture",
};

/** And where less is seen than was asked for. */
const LESS = {
  waiting_to_switch: "changes the layer with the next whole picture",
  little_bandwidth: "smaller: too little bandwidth to you",
  layer_silent: "smaller: the sender does not send the larger one",
};

/** What the focus has said about what it sends here. */
export class Status {
  /** Bits per second, or null. */
  estimate = null;
  wanted = 0;
  allocated = 0;
  #tracks = new Map();

  /** Takes a message: it names the tracks that have changed. */
  take(content) {
    const number = (value) => (Number.isFinite(value) ? value : null);
    this.estimate = number(content.estimate_bps);
    this.wanted = number(content.wanted_bps) ?? 0;
    this.allocated = number(content.allocated_bps) ?? 0;
    for (const track of Array.isArray(content.tracks) ? content.tracks : []) {
      this.#tracks.set(trackKey(track.stream_id, track.track_id), track);
    }
  }

  /** The newest word about a track: {reason, rid?, width?, height?, temporal?}, or null. */
  of(key) {
    return this.#tracks.get(key) ?? null;
  }
}

/**
 * What is wrong with a picture, in a few words; empty where nothing is.
 * @param {{reason: string}|null} status what the focus says
 * @param {{gapMs: number|null, arrives: boolean, muted: boolean, refused?: boolean}} seen `gapMs` since the last frame that was shown,
 *   null before the first; `arrives`: packets come; `refused`: frames come, but not with this call's key
 */
export function whyNoPicture(status, { gapMs, arrives, muted, refused = false }) {
  const reason = status?.reason ?? "";
  if (muted || reason === "muted") return "";
  // The focus's word may be half a second old: what can be seen to move goes first.
  if (gapMs !== null && gapMs < FROZEN_MS) return "";
  if (refused) return "cannot be decrypted: the sender has another media key, or none";
  if (NOTHING[reason]) return NOTHING[reason];
  if (gapMs === null) return "";
  const since = `frozen for ${(gapMs / 1000).toFixed(0)} s`;
  if (LESS[reason]) return `${since}: ${LESS[reason]}`;
  return `${since}: ${arrives ? "packets come, but parts of the picture are lost" : "nothing arrives from the focus"}`;
}

/** Why a picture is smaller than was asked for; empty where it is not. */
export function whySmaller(status) {
  return LESS[status?.reason] ?? "";
}

/** What the focus can send here, and what it would send. */
export function describeEstimate({ estimate, wanted }) {
  if (estimate === null) return "";
  const carried = `to you ${formatBitrate(estimate)}`;
  return wanted > estimate ? `${carried} of ${formatBitrate(wanted)} wanted` : carried;
}
