// SFrame (RFC 9605): the header, the keys, one frame. By WebCrypto. The bytes are those of loadtest/sframe.
//
//   P | header | ciphertext | tag       P: what stays readable of a frame, authenticated as its metadata (§4.4.3)
//
// Not here: whose key is used and which frames have been seen before (media-keys.js).

/** `AES_128_GCM_SHA256_128` (§8.1). */
export const AES_128_GCM = 0x0004;
const SUITES = {
  [AES_128_GCM]: { hash: "SHA-256", keyBytes: 16 },
  0x0005: { hash: "SHA-512", keyBytes: 32 },
};
const TAG_BYTES = 16;
const NONCE_BYTES = 12;

/** A frame that is not decrypted; `reason` is one of those that are counted. */
export class Refused extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

/** Bytes of a frame that stay readable: of VP8 the first, which says whether it is a keyframe (RFC 6386 §9.1); of sound none. */
export const clearBytes = (kind) => (kind === "video" ? 1 : 0);

// ---- header (§4.3) --------------------------------------------------------------------------------------------------

/** Bytes that a number takes behind the first one: none below 8. */
function lengthOf(value) {
  if (value < 8n) return 0;
  return Math.ceil(value.toString(16).length / 2);
}

const nibble = (value) => (lengthOf(value) === 0 ? Number(value) : 0x08 | (lengthOf(value) - 1));

function bigEndian(value, length) {
  return Array.from({ length }, (_, i) => Number((value >> BigInt(8 * (length - 1 - i))) & 0xffn));
}

/** The header of a frame; both are BigInt, of 64 bits at most. */
export function writeHeader({ keyId, counter }) {
  const first = (nibble(keyId) << 4) | nibble(counter);
  return Uint8Array.from([first, ...bigEndian(keyId, lengthOf(keyId)), ...bigEndian(counter, lengthOf(counter))]);
}

/** Reads the header at the start of `bytes`: {keyId, counter, length}. Throws `Refused` where there is none. */
export function readHeader(bytes) {
  if (bytes.length === 0) throw new Refused("malformed");
  let length = 1;
  const number = (half) => {
    if ((half & 0x08) === 0) return BigInt(half);
    const count = (half & 0x07) + 1;
    if (bytes.length < length + count) throw new Refused("malformed");
    let value = 0n;
    for (const byte of bytes.subarray(length, length + count)) value = (value << 8n) | BigInt(byte);
    length += count;
    // One encoding for each header: no sender may use more bytes than it needs.
    if (lengthOf(value) !== count) throw new Refused("malformed");
    return value;
  };
  const keyId = number(bytes[0] >> 4);
  const counter = number(bytes[0] & 0x0f);
  return { keyId, counter, length };
}

// ---- keys and frames (§4.4) -----------------------------------------------------------------------------------------

/** `sframe_key` and `sframe_salt` of one base key and one KID. */
export class FrameKey {
  #keyId;
  #key;
  #salt;

  constructor(keyId, key, salt) {
    this.#keyId = keyId;
    this.#key = key;
    this.#salt = salt;
  }

  /** From a base key's bytes (§4.4.2). */
  static async derive(baseKey, keyId, suite = AES_128_GCM) {
    const { hash, keyBytes } = SUITES[suite];
    const secret = await crypto.subtle.importKey("raw", baseKey, "HKDF", false, ["deriveBits"]);
    const expand = (label, length) => {
      const info = Uint8Array.from([...new TextEncoder().encode(label), ...bigEndian(keyId, 8), ...bigEndian(BigInt(suite), 2)]);
      return crypto.subtle.deriveBits({ name: "HKDF", hash, salt: new Uint8Array(), info }, secret, 8 * length);
    };
    const [bytes, salt] = await Promise.all([
      expand("SFrame 1.0 Secret key ", keyBytes),
      expand("SFrame 1.0 Secret salt ", NONCE_BYTES),
    ]);
    const key = await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);
    return new FrameKey(keyId, key, new Uint8Array(salt));
  }

  /** Readable bytes, header, ciphertext and tag. No counter may come twice under one key. */
  async seal(counter, metadata, frame) {
    const header = writeHeader({ keyId: this.#keyId, counter });
    const sealed = await crypto.subtle.encrypt(this.#parameters(counter, header, metadata), this.#key, frame);
    return joined(metadata, header, new Uint8Array(sealed));
  }

  /** What `seal` was given as `frame`, from what follows its header. Throws `Refused`. */
  async open(counter, header, metadata, sealed) {
    if (sealed.length < TAG_BYTES) throw new Refused("wrong_key");
    try {
      return new Uint8Array(await crypto.subtle.decrypt(this.#parameters(counter, header, metadata), this.#key, sealed));
    } catch {
      throw new Refused("wrong_key");
    }
  }

  #parameters(counter, header, metadata) {
    const iv = Uint8Array.from(this.#salt);
    bigEndian(counter, 8).forEach((byte, i) => (iv[NONCE_BYTES - 8 + i] ^= byte));
    return { name: "AES-GCM", iv, additionalData: joined(header, metadata), tagLength: 8 * TAG_BYTES };
  }
}

/** Bytes one after the other. */
export function joined(...parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
