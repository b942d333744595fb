// Whose key a frame has, and which frames have been seen: the two ends of an encrypted call. Pure but for WebCrypto.
//
// What hands out keys is one small object: `keys.session(sender, keyId)` gives a function from a counter to a promise of its `FrameKey`, or
// throws `Refused`. Here it is `SharedKey`: one key that people give each other by hand, for tests. Keys of `m.room_key` messages
// (docs/encryption.md), where every counter has its own, would be another such object; nothing else here would change.

import { clearBytes, FrameKey, joined, readHeader, Refused } from "./sframe.js";

/** Frames so far behind the newest are still decrypted, as in loadtest/sframe: 3.6 s of three layers and a microphone. */
export const LATE_MAX = 512;
/** Sessions kept of one sender: it has a new one each time that it joins. */
const SESSIONS_MAX = 8;
const SENDERS_MAX = 4096;
/** The last counter, as megolm has it. */
const COUNTER_MAX = 2 ** 32 - 2;
/** Bits of a session's random number. So many that it does not come twice: then a counter would, under one key. */
const KEY_ID_BYTES = 6;
/** Fewer characters are no key but a word. */
const SHARED_KEY_LENGTH_MIN = 16;

/** @typedef {{userId: string, deviceId: string}} Sender */

/** Base keys for every sender and session of one call, out of one key that all have. */
export class SharedKey {
  #secret;
  #call;

  /** @param {{roomId: string, confId: string}} call */
  constructor(secret, call) {
    this.#secret = secret;
    this.#call = call;
  }

  /** Takes the text that people gave each other, for `new SharedKey`; it cannot be read out again. Throws what can be shown. */
  static async import(text) {
    if (text.length < SHARED_KEY_LENGTH_MIN) throw new Error(`A media key has at least ${SHARED_KEY_LENGTH_MIN} characters.`);
    return await crypto.subtle.importKey("raw", new TextEncoder().encode(text), "HKDF", false, ["deriveBits"]);
  }

  /** The key of a sender's session: the same for all its frames. */
  session(sender, keyId) {
    const key = this.#derive(sender, keyId);
    return () => key;
  }

  async #derive({ userId, deviceId }, keyId) {
    const { roomId, confId } = this.#call;
    // JSON keeps the four apart whatever they contain.
    const info = new TextEncoder().encode(`weir shared media key ${JSON.stringify([roomId, confId, userId, deviceId])}`);
    const parameters = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info };
    return await FrameKey.derive(await crypto.subtle.deriveBits(parameters, this.#secret, 256), keyId);
  }
}

/** Counts a frame that was not encrypted, or not decrypted, by reason. */
export function countRefused({ refused }, error) {
  const reason = error instanceof Refused ? error.reason : "failed";
  refused[reason] = (refused[reason] ?? 0) + 1;
}

/** Encrypts all frames of this page's streams, with one counter for all. */
export class FrameSender {
  #keyOf;
  #next = 0;

  counters = { encrypted: 0, refused: {} };

  constructor(keys, own, keyId = randomKeyId()) {
    this.#keyOf = keys.session(own, keyId);
  }

  /** Throws for a frame that cannot be encrypted; it must not be sent. */
  async encrypt(kind, frame) {
    try {
      return await this.#encrypt(kind, frame);
    } catch (error) {
      countRefused(this.counters, error);
      throw error;
    }
  }

  async #encrypt(kind, frame) {
    const clear = clearBytes(kind);
    if (frame.length < clear) throw new Refused("empty");
    if (this.#next > COUNTER_MAX) throw new Refused("exhausted");
    const counter = BigInt(this.#next);
    this.#next += 1;
    const key = await this.#keyOf(counter);
    const sealed = await key.seal(counter, frame.subarray(0, clear), frame.subarray(clear));
    this.counters.encrypted += 1;
    return sealed;
  }
}

/** Decrypts everybody's frames, each once. */
export class FrameReceiver {
  #keys;
  /** By sender: a list of sessions, oldest first. */
  #senders = new Map();

  constructor(keys) {
    this.#keys = keys;
  }

  /**
   * Decrypts a frame that, by the signalling, `sender` has sent; null where that is not known. Throws `Refused`; no frame is used up then.
   * @param {Sender|null} sender
   */
  async decrypt(sender, kind, frame) {
    const clear = clearBytes(kind);
    const sealed = frame.subarray(clear);
    const { keyId, counter, length } = readHeader(sealed);
    if (counter > COUNTER_MAX) throw new Refused("malformed");
    if (sender === null) throw new Refused("unknown_session");
    const session = this.#session(sender, keyId);
    session.window.check(Number(counter));
    const key = await session.keyOf(counter);
    const metadata = frame.subarray(0, clear);
    const opened = await key.open(counter, sealed.subarray(0, length), metadata, sealed.subarray(length));
    // Another stream of this sender may have brought the same frame meanwhile.
    session.window.take(Number(counter));
    session.used = true;
    return joined(metadata, opened);
  }

  #session(sender, keyId) {
    const name = JSON.stringify([sender.userId, sender.deviceId]);
    if (!this.#senders.has(name) && this.#senders.size >= SENDERS_MAX) throw new Refused("unknown_session");
    const sessions = this.#senders.get(name) ?? [];
    const known = sessions.find((session) => session.keyId === keyId);
    if (known) return known;
    const keyOf = this.#keys.session(sender, keyId);
    this.#senders.set(name, sessions);
    if (sessions.length >= SESSIONS_MAX) {
      const idle = sessions.findIndex((session) => !session.used);
      sessions.splice(Math.max(idle, 0), 1);
    }
    const session = { keyId, keyOf, window: new ReplayWindow(), used: false };
    sessions.push(session);
    return session;
  }
}

/** Which counters of a session were used, `LATE_MAX` back. */
export class ReplayWindow {
  #newest = -1;
  #used = new Set();

  /** Throws `Refused` for a counter that cannot be used any more. */
  check(counter) {
    if (this.#used.has(counter)) throw new Refused("replayed");
    if (counter < this.#newest - LATE_MAX) throw new Refused("too_late");
  }

  /** The same, and uses it. */
  take(counter) {
    this.check(counter);
    this.#used.add(counter);
    this.#newest = Math.max(this.#newest, counter);
    if (this.#used.size <= 2 * LATE_MAX) return;
    for (const used of this.#used) if (used < this.#newest - LATE_MAX) this.#used.delete(used);
  }
}

function randomKeyId() {
  const bytes = crypto.getRandomValues(new Uint8Array(KEY_ID_BYTES));
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}
