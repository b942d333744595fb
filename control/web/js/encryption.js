// Media encryption as the page sees it: every sender and every receiver of a call gets an encoded transform in one worker.
// docs/encryption.md has the whole; the frames are in sframe.js and media-keys.js.
//
// A call either has this and nothing leaves the page in the clear, or it does not have it. There is no third way.

import { SharedKey } from "./media-keys.js";

/** Throws, in words that can be shown, where this browser cannot encrypt. */
export function requireEncryption() {
  const missing = [
    [globalThis.RTCRtpScriptTransform, "encoded transforms (RTCRtpScriptTransform)"],
    [globalThis.crypto?.subtle, "WebCrypto, which pages get only over https or from localhost"],
    [globalThis.Worker, "workers"],
  ].filter(([there]) => !there);
  if (missing.length === 0) return;
  const names = missing.map(([, name]) => name).join(" and ");
  throw new Error(`This call's media is to be encrypted, but this browser lacks ${names}. No media was sent.`);
}

/** The encryption of one call, over all its legs: its counters go on when the focus is called again. */
export class MediaEncryption {
  #worker = new Worker(new URL("./encryption-worker.js", import.meta.url), { type: "module" });
  #names = new WeakMap();
  #nextName = 0;
  #counts = new Map();
  #nextCount = 0;

  /**
   * @param {string} key what everybody in the call was given
   * @param {{roomId: string, confId: string}} call
   * @param {import("./media-keys.js").Sender} own
   */
  static async begin(key, call, own) {
    requireEncryption();
    const secret = await SharedKey.import(key);
    const encryption = new MediaEncryption();
    await encryption.#begin({ secret, call, own });
    return encryption;
  }

  async #begin(begin) {
    const begun = new Promise((resolve, reject) => {
      this.#worker.addEventListener("message", resolve, { once: true });
      this.#worker.addEventListener("error", () => reject(new Error("The page's encryption could not be started.")), { once: true });
    });
    this.#worker.postMessage({ begin });
    await begun;
    this.#worker.addEventListener("message", ({ data }) => this.#handleCounted(data));
  }

  /** Encrypts what a sender sends. Must be called before anything is negotiated. */
  protectSender(sender, kind) {
    sender.transform = this.#transform(sender, "out", kind);
  }

  /** Decrypts what a receiver receives. Must be called in the event in which its track appears. */
  protectReceiver(receiver) {
    if (this.#names.has(receiver)) return;
    receiver.transform = this.#transform(receiver, "in", receiver.track.kind);
  }

  /** Says whose frames come through which receiver: [[receiver, sender or null], …]. */
  nameSenders(pairs) {
    const named = pairs.filter(([receiver]) => this.#names.has(receiver));
    this.#worker.postMessage({ senders: named.map(([receiver, sender]) => [this.#names.get(receiver), sender]) });
  }

  /**
   * What became of the frames: `sent` {encrypted, refused}, `received` (receiver) => {decrypted, refused}, null without any. `refused` is by reason.
   */
  async count() {
    const number = this.#nextCount++;
    const { sent, received } = await new Promise((resolve) => {
      this.#counts.set(number, resolve);
      this.#worker.postMessage({ count: number });
    });
    const byName = new Map(received);
    return { sent, received: (receiver) => byName.get(this.#names.get(receiver)) ?? null };
  }

  /** Ends the worker, and with it whatever still goes through it. */
  close() {
    this.#worker.terminate();
    for (const resolve of this.#counts.values()) resolve({ sent: { encrypted: 0, refused: {} }, received: [] });
    this.#counts.clear();
  }

  #transform(end, way, kind) {
    const name = this.#nextName++;
    this.#names.set(end, name);
    return new RTCRtpScriptTransform(this.#worker, { name, way, kind });
  }

  #handleCounted({ counted, sent, received }) {
    this.#counts.get(counted)?.({ sent, received });
    this.#counts.delete(counted);
  }
}
