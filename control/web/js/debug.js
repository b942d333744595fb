// `window.weir`: the page as a test or a curious person at the console sees it. Reads the page and presses its buttons;
// nothing on the page depends on it.

/** Hangs `window.weir` up for an app. */
export function installDebug(app) {
  const { view } = app;

  const tileState = (tile) => ({
    key: tile.key,
    own: tile.isOwn,
    userId: tile.stream.userId,
    deviceId: tile.stream.deviceId,
    streamId: tile.stream.streamId,
    purpose: tile.stream.purpose,
    audioMuted: tile.stream.audioMuted,
    videoMuted: tile.stream.videoMuted,
    published: [...tile.stream.tracks.values()].find((track) => track.kind === "video") ?? null,
    bound: tile.mid !== null,
    large: tile.key === view.largeKey(),
    framesShown: tile.framesShown,
    gapMs: tile.currentGapMs(),
    firstFrameAt: tile.firstFrameAt,
    videoWidth: tile.video.videoWidth,
    videoHeight: tile.video.videoHeight,
    encryption: tile.encryption,
    status: tile.status,
    why: tile.why,
  });

  const receivedState = () => {
    const { estimate, wanted, allocated } = view.status;
    return { estimate, wanted, allocated };
  };

  window.weir = Object.freeze({
    /** What the page shows and in which state the call is. */
    state: () => ({
      state: app.call?.state ?? "idle",
      userId: app.matrix?.userId ?? null,
      deviceId: app.matrix?.deviceId ?? null,
      roomId: app.call?.roomId ?? null,
      confId: app.call?.confId ?? null,
      callId: app.call?.callId ?? null,
      focus: app.call?.focus ?? null,
      mode: view.mode,
      quality: view.quality,
      sharing: Boolean(app.call?.screen),
      times: { ...app.call?.times },
      tiles: view.tiles.map(tileState),
      error: document.getElementById("error").textContent,
    }),

    /** Fresh figures: per tile what arrives (with `layer`), and `outbound` per sent layer, `received` what the focus can send here. In an
     * encrypted call `encryption` says what became of the frames that were sent, and in a tile of those that came. */
    stats: async () => {
      await view.sample();
      const tiles = view.tiles.map((tile) => ({
        ...tileState(tile),
        inbound: tile.figures,
        audio: view.figures?.inbound.get(tile.audioMid) ?? null,
      }));
      return { at: performance.now(), tiles, outbound: view.figures?.outbound ?? [], encryption: view.frames?.sent ?? null, received: receivedState(), roundTripMs: view.figures?.roundTripMs ?? null };
    },

    /** Forgets the longest gaps between frames. */
    resetGaps: () => view.tiles.forEach((tile) => tile.resetGaps()),

    /** The `<video>` of a tile, by its key. */
    video: (key) => view.tiles.find((tile) => tile.key === key)?.video ?? null,

    setLayout: (mode, key = null) => view.setMode(mode, key),
    setQuality: (quality) => view.setQuality(quality),
    muteCamera: (muted) => app.call.setCameraMuted(muted),
    muteMicrophone: (muted) => app.call.setMicrophoneMuted(muted),
    share: (on) => (on ? app.call.startScreen() : app.call.stopScreen()),
    join: () => app.join(),
    leave: () => app.leave(),
    log: () => app.log.entries.map(({ text, kind }) => (kind ? `${kind}: ${text}` : text)),
  });
}
