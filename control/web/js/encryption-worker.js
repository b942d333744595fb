// The thread through which all encoded frames of an encrypted call go, on their way to the network and from it.
//
// Messages in: {begin: {secret, call, own}} first, {senders: [[name, sender or null], …]}, {count: number}.
// Messages out: {begun: true}, {counted: number, sent, received}. Each transform has a name; see encryption.js.
//
// A frame that is not encrypted, or not decrypted, goes no further.

import { countRefused, FrameReceiver, FrameSender, SharedKey } from "./media-keys.js";

let frames = null;
/** By name of a transform: who sends what comes through it. */
const senders = new Map();
/** By name of a transform: {decrypted, refused: {reason: number}}. */
const received = new Map();

self.addEventListener("message", ({ data }) => {
  if (data.begin) {
    const { secret, call, own } = data.begin;
    const keys = new SharedKey(secret, call);
    frames = { sender: new FrameSender(keys, own), receiver: new FrameReceiver(keys) };
    self.postMessage({ begun: true });
  }
  for (const [name, sender] of data.senders ?? []) senders.set(name, sender);
  if (data.count !== undefined) {
    self.postMessage({ counted: data.count, sent: frames.sender.counters, received: [...received] });
  }
});

self.addEventListener("rtctransform", ({ transformer }) => {
  const { name, way, kind } = transformer.options;
  const change = way === "out" ? encrypting(kind) : decrypting(name, kind);
  // A stream that ends, ends with its connection.
  transformer.readable.pipeThrough(new TransformStream({ transform: change })).pipeTo(transformer.writable).catch(() => {});
});

function encrypting(kind) {
  return async (frame, controller) => {
    const sealed = await frames.sender.encrypt(kind, new Uint8Array(frame.data)).catch(() => null);
    if (sealed) pass(frame, sealed, controller);
  };
}

function decrypting(name, kind) {
  const counters = { decrypted: 0, refused: {} };
  received.set(name, counters);
  return async (frame, controller) => {
    // A packet of sound without payload: Chromium sends them to find out what the way carries, where it has no pictures to do it with.
    if (kind === "audio" && frame.data.byteLength === 0) return controller.enqueue(frame);
    try {
      const opened = await frames.receiver.decrypt(senders.get(name) ?? null, kind, new Uint8Array(frame.data));
      counters.decrypted += 1;
      pass(frame, opened, controller);
    } catch (error) {
      countRefused(counters, error);
    }
  };
}

function pass(frame, bytes, controller) {
  frame.data = bytes.buffer;
  controller.enqueue(frame);
}
