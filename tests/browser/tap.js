// Goes into a page before it joins, for the checks of encryption: keeps the encoded frames that arrive, as the focus forwarded them.
//
// The page itself knows nothing of it: it is the browser's own class that is wrapped. A page with a media key has transforms of its
// own; this is for one without.

(() => {
  const FRAMES_MAX = 2000;
  const Real = window.RTCPeerConnection;

  /** [{kind, bytes}] of everything that came. */
  const frames = [];

  window.RTCPeerConnection = function (options) {
    const connection = new Real({ ...options, encodedInsertableStreams: true });
    connection.addEventListener("track", ({ receiver }) => {
      const { readable, writable } = receiver.createEncodedStreams();
      const keep = (frame, controller) => {
        if (frames.length < FRAMES_MAX) frames.push({ kind: receiver.track.kind, bytes: new Uint8Array(frame.data).slice() });
        controller.enqueue(frame);
      };
      readable.pipeThrough(new TransformStream({ transform: keep })).pipeTo(writable).catch(() => {});
    });
    // With this option nothing is sent without them.
    const addTransceiver = connection.addTransceiver.bind(connection);
    connection.addTransceiver = (...of) => {
      const transceiver = addTransceiver(...of);
      const { readable, writable } = transceiver.sender.createEncodedStreams();
      readable.pipeTo(writable).catch(() => {});
      return transceiver;
    };
    return connection;
  };
  window.RTCPeerConnection.prototype = Real.prototype;

  // A keyframe of VP8 (RFC 6386 §9.1): its first bit is 0, and three bytes later a start code comes.
  const isKeyframe = (bytes) => bytes.length > 0 && (bytes[0] & 1) === 0;
  const hasStartCode = (bytes) => bytes[3] === 0x9d && bytes[4] === 0x01 && bytes[5] === 0x2a;

  /** How many of these pictures a decoder of VP8 makes something of, each taken for the first that it sees. */
  async function decodable(pictures) {
    let decoded = 0;
    for (const { bytes } of pictures) {
      const decoder = new VideoDecoder({ output: (picture) => ((decoded += 1), picture.close()), error: () => {} });
      decoder.configure({ codec: "vp8" });
      try {
        decoder.decode(new EncodedVideoChunk({ type: "key", timestamp: 0, data: bytes }));
        await decoder.flush();
      } catch {
        // It is no keyframe, or one that cannot be decoded.
      }
      if (decoder.state !== "closed") decoder.close();
    }
    return decoded;
  }

  /** Opens frames with the call's key, as whose of the senders they are: {open, again}, of which `again` had come already. */
  async function opened(of, key, senders) {
    const { FrameReceiver, SharedKey } = await import("/js/media-keys.js");
    const { roomId, confId } = window.weir.state();
    const receiver = new FrameReceiver(new SharedKey(await SharedKey.import(key), { roomId, confId }));
    const open = [];
    let again = 0;
    for (const { kind, bytes } of of) {
      for (const sender of senders) {
        const taken = await receiver.decrypt(sender, kind, bytes).catch(({ reason }) => reason);
        if (taken instanceof Uint8Array) open.push({ kind, bytes: taken });
        if (taken === "replayed") again += 1;
      }
    }
    return { open, again };
  }

  const keyframesOf = (of) => of.filter(({ kind, bytes }) => kind === "video" && isKeyframe(bytes));

  const counts = (of) => ({
    pictures: of.filter(({ kind }) => kind === "video").length,
    sounds: of.filter(({ kind }) => kind === "audio").length,
    keyframes: keyframesOf(of).length,
  });

  const summary = async (of) => {
    const keyframes = keyframesOf(of);
    return {
      ...counts(of),
      startCodes: keyframes.filter(({ bytes }) => hasStartCode(bytes)).length,
      decodable: await decodable(keyframes),
    };
  };

  window.tap = {
    /** How many frames have come: {pictures, sounds, keyframes}. */
    count: () => counts(frames),
    /**
     * What came, and what of it opens with a key, if it is of one of these senders [{userId, deviceId}]: {came, opened, again}, the first two
     * {pictures, sounds, keyframes, startCodes, decodable}.
     */
    look: async (key, senders) => {
      const of = [...frames];
      const { open, again } = await opened(of, key, senders);
      return { came: await summary(of), opened: await summary(open), again };
    },
  };
})();
