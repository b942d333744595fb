// The data channel to the focus: one JSON object per text frame, {"type", "content"} (MSC3898, late dialect).

import { Emitter } from "./emitter.js";

export const METADATA_CHANGED = "m.call.sdp_stream_metadata_changed";
export const TRACK_SUBSCRIPTION = "m.call.track_subscription";
export const NEGOTIATE = "m.call.negotiate";
export const ACTIVE_SPEAKER = "org.matrix.msc3898.active_speaker";
export const LAYERS_IN_USE = "org.matrix.msc3898.layers_in_use";
export const STATUS = "org.matrix.msc3898.status";
export const FOLLOW_STATUS = "org.matrix.msc3898.follow_status";
export const ERROR = "org.matrix.msc3898.error";
const PING = "m.call.ping";
const PONG = "m.call.pong";

/**
 * The focus pings at least every 30 s; this much silence means that it is gone. Less than 30 s would hang up on a healthy
 * focus, more keeps a dead call on the screen.
 */
const SILENCE_MAX_MS = 70_000;

/** Events: `open`, `message` ({type, content}), `silent`, `closed`. Answers pings itself. */
export class FocusChannel extends Emitter {
  #channel;
  #watch = null;

  /** @param {RTCPeerConnection} connection gets the channel before its first offer is made */
  constructor(connection) {
    super();
    this.#channel = connection.createDataChannel("datachannel");
    this.#channel.addEventListener("open", () => {
      this.#heard();
      this.emit("open");
    });
    this.#channel.addEventListener("close", () => {
      clearTimeout(this.#watch);
      this.emit("closed");
    });
    this.#channel.addEventListener("message", (event) => this.#handleFrame(event.data));
  }

  get isOpen() {
    return this.#channel.readyState === "open";
  }

  /** Sends one message; returns false where the channel is not open. */
  send(type, content) {
    if (!this.isOpen) return false;
    this.#channel.send(JSON.stringify({ type, content }));
    return true;
  }

  close() {
    clearTimeout(this.#watch);
    this.#channel.close();
  }

  #heard() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.emit("silent"), SILENCE_MAX_MS);
  }

  #handleFrame(data) {
    if (typeof data !== "string") return;
    this.#heard();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message === null || typeof message !== "object" || typeof message.type !== "string") return;
    if (message.type === PING) this.send(PONG, {});
    else if (message.type !== PONG) this.emit("message", { type: message.type, content: message.content ?? {} });
  }
}
