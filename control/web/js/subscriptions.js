// What this page wants to receive: the whole set of tracks with their sizes, said to the focus whenever it changes.

import { TRACK_SUBSCRIPTION } from "./channel.js";

/** Changes that come this close together are said once. */
const GATHER_MS = 15;
/** A wanted track that still has no place in the peer connection after this time is asked for again. */
const ASK_AGAIN_MS = 3_000;

/** The name of a track across modules. */
export const trackKey = (streamId, trackId) => `${streamId} ${trackId}`;

/** Says one leg's wishes; a new leg needs a new one. */
export class Subscriptions {
  #send;
  #isBound;
  #streams = new Map();
  #sizes = new Map();
  #said = "";
  #timer = null;
  #watch = null;

  /**
   * @param {(type: string, content: object) => boolean} send false where it cannot be sent yet
   * @param {(key: string) => boolean} isBound whether a track has its place in the peer connection
   */
  constructor(send, isBound) {
    this.#send = send;
    this.#isBound = isBound;
  }

  /** Takes the newest metadata snapshot. */
  setStreams(streams) {
    this.#streams = streams;
    this.schedule();
  }

  /**
   * Takes the wanted size per video track key: {width, height}, or null for "not now". A track without an entry is not
   * wanted yet; audio always is.
   */
  setSizes(sizes) {
    this.#sizes = sizes;
    this.schedule();
  }

  /** Says the set soon, if it differs from what was said last. */
  schedule() {
    this.#timer ??= setTimeout(() => this.sayNow(), GATHER_MS);
  }

  /** The same without waiting for more changes: for the moment in which the channel opens. */
  sayNow() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#say(false);
  }

  stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
  }

  #say(again) {
    const content = this.#wanted();
    const text = JSON.stringify(content);
    if (text === this.#said && !again) return;
    if (content.subscribe.length === 0 && content.unsubscribe.length === 0 && this.#said === "") return;
    if (!this.#send(TRACK_SUBSCRIPTION, content)) return;
    this.#said = text;
    this.#watchOver(content);
  }

  #wanted() {
    const subscribe = [];
    const unsubscribe = [];
    for (const [streamId, stream] of this.#streams) {
      for (const [trackId, { kind }] of stream.tracks) {
        const name = { stream_id: streamId, track_id: trackId };
        const size = this.#sizes.get(trackKey(streamId, trackId));
        if (kind === "audio") subscribe.push(name);
        else if (size) subscribe.push({ ...name, width: size.width, height: size.height });
        else unsubscribe.push(name);
      }
    }
    return { subscribe, unsubscribe };
  }

  // An offer that crossed one of ours is dropped, and a track may come later than its metadata: asking again costs one
  // message and is never wrong.
  #watchOver(content) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      const missing = content.subscribe.some(({ stream_id, track_id }) => !this.#isBound(trackKey(stream_id, track_id)));
      if (missing) this.#say(true);
    }, ASK_AGAIN_MS);
  }
}
