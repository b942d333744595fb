// The tiles: one per participant's camera and one per shared screen, with name, mute marks and the figures overlay.
// Not here: where a tile stands (layout.js and the style sheet) and where its figures come from (stats.js).

import { layerOf } from "./media.js";
import { SCREENSHARE } from "./metadata.js";
import { formatBitrate } from "./stats.js";
import { trackKey } from "./subscriptions.js";
import { whyNoPicture, whySmaller } from "./why.js";

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent?.append(made);
  return made;
}

/** One picture on the screen. */
export class Tile {
  #video;
  #audio;
  #name;
  #figures;
  #why;
  #avatar;
  #lastFrameAt = null;

  stream = null;
  mid = null;
  audioMid = null;
  figures = null;
  /** What the focus says about the picture. */
  status = null;
  /** What became of encrypted frames: {video, audio}, each {decrypted, refused: {reason: number}} or null. */
  encryption = { video: null, audio: null };
  /** Frames come, and none of them can be decrypted. */
  #refused = false;
  /** Between two frames that were put on the screen, since the last `resetGaps`; in milliseconds. */
  gapMaxMs = 0;
  framesShown = 0;
  firstFrameAt = null;

  /** @param {{key: string, isOwn: boolean, onChosen: (key: string) => void}} options */
  constructor({ key, isOwn, onChosen }) {
    this.key = key;
    this.isOwn = isOwn;
    this.root = element("li", "tile");
    this.root.dataset.key = key;
    const button = element("button", "tile-button", this.root);
    button.type = "button";
    button.addEventListener("click", () => onChosen(key));
    this.#avatar = element("span", "avatar", button);
    this.#video = element("video", "", button);
    Object.assign(this.#video, { autoplay: true, playsInline: true, muted: true, disablePictureInPicture: true });
    this.#audio = isOwn ? null : element("audio", "", this.root);
    if (this.#audio) this.#audio.autoplay = true;
    this.#figures = element("span", "figures", button);
    this.#why = element("span", "why", button);
    this.#why.setAttribute("role", "status");
    this.#name = element("span", "name", button);
    this.button = button;
    if (!isOwn) this.#watchFrames();
  }

  get video() {
    return this.#video;
  }

  /** The name of the track whose picture this is; empty where there is none. */
  videoKey() {
    const video = [...(this.stream?.tracks ?? [])].find(([, { kind }]) => kind === "video");
    return video ? trackKey(this.stream.streamId, video[0]) : "";
  }

  /** What a person is told who looks at a picture that does not move. */
  get why() {
    return this.#why.textContent;
  }

  /** Takes what is known about the stream; `name` is the sender's. */
  describe(stream, name) {
    this.stream = stream;
    const isScreen = stream.purpose === SCREENSHARE;
    const label = isScreen ? `${name} (screen)` : name;
    const marks = [stream.audioMuted && !isScreen ? "🔇" : "", stream.videoMuted ? "🚫" : ""].join("");
    this.#name.textContent = `${label} ${marks}`.trim();
    this.#avatar.textContent = [...name][0]?.toUpperCase() ?? "?";
    const said = [label, stream.audioMuted ? "microphone off" : "", stream.videoMuted ? "camera off" : ""];
    this.button.setAttribute("aria-label", `Show ${said.filter(Boolean).join(", ")} large`);
    this.root.classList.toggle("is-screen", isScreen);
    this.root.classList.toggle("is-own", this.isOwn);
    this.root.classList.toggle("no-video", stream.videoMuted || ![...stream.tracks.values()].some((t) => t.kind === "video"));
  }

  /** Shows and sounds these tracks; null takes one away. */
  setTracks(videoTrack, audioTrack) {
    attach(this.#video, videoTrack, () => (this.#lastFrameAt = null));
    if (this.#audio) attach(this.#audio, audioTrack, () => {});
  }

  /** Asks the browser to play the sound; false where it wants a click of the user first. */
  async playSound() {
    if (!this.#audio?.srcObject) return true;
    return await this.#audio.play().then(
      () => true,
      (error) => error.name !== "NotAllowedError",
    );
  }

  /** Takes the newest counters of encrypted frames. */
  countFrames({ video = null, audio = null }) {
    const was = this.encryption.video;
    this.encryption = { video, audio };
    const refused = foreign(video) > foreign(was);
    const decrypted = (video?.decrypted ?? 0) > (was?.decrypted ?? 0);
    // Between two looks that come close together there may be no frame at all.
    if (refused || decrypted) this.#refused = !decrypted;
  }

  /** Fills the overlay with the figures of what arrives, and says why it is not all. */
  showInbound(inbound, status) {
    const before = this.figures?.packetsReceived ?? 0;
    const seen = {
      gapMs: this.#lastFrameAt === null ? null : performance.now() - this.#lastFrameAt,
      arrives: (inbound?.packetsReceived ?? 0) > before,
      muted: this.root.classList.contains("no-video"),
      refused: this.#refused,
    };
    this.status = status;
    this.#why.textContent = inbound ? whyNoPicture(status, seen) : "";
    const video = [...(this.stream?.tracks.values() ?? [])].find((track) => track.kind === "video");
    const layer = inbound ? layerOf(this.stream.purpose, video?.height, inbound.height) : "";
    this.figures = inbound ? { ...inbound, layer } : null;
    if (!inbound || !inbound.width) {
      this.#figures.textContent = "";
      return;
    }
    const parts = [
      `${inbound.width}×${inbound.height}`,
      `${Math.round(inbound.framesPerSecond)} fps`,
      formatBitrate(inbound.bitrate),
      layer ? `layer ${layer}` : "",
      Number.isInteger(status?.temporal) ? `temporal ≤ ${status.temporal}` : "",
      foreign(this.encryption.video) ? `${foreign(this.encryption.video)} frames refused` : "",
      inbound.freezeCount ? `${inbound.freezeCount} freezes, ${inbound.freezeSeconds.toFixed(1)} s` : "",
    ];
    this.#figures.textContent = [parts.filter(Boolean).join(" · "), whySmaller(status)].filter(Boolean).join("\n");
  }

  /** Fills the overlay with the figures of the layers that are sent, and of what can be received. */
  showOutbound(layers, estimate) {
    const lines = layers
      .filter((layer) => layer.kind === "video" && layer.width > 0)
      .sort((a, b) => b.width - a.width)
      .map((layer) => {
        const rate = `${Math.round(layer.framesPerSecond)} fps · ${formatBitrate(layer.bitrate)}`;
        return `${layer.rid} ${layer.width}×${layer.height} · ${rate}${layer.active ? "" : " · off"}`;
      });
    this.#figures.textContent = [...lines, estimate].filter(Boolean).join("\n");
  }

  /** Forgets the longest gap between frames. */
  resetGaps() {
    this.gapMaxMs = 0;
    this.framesShown = 0;
    this.#lastFrameAt = null;
  }

  /** The longest gap, counting one that has not ended. */
  currentGapMs() {
    const open = this.#lastFrameAt === null ? 0 : performance.now() - this.#lastFrameAt;
    return Math.max(this.gapMaxMs, open);
  }

  remove() {
    this.setTracks(null, null);
    this.root.remove();
  }

  #watchFrames() {
    if (!this.#video.requestVideoFrameCallback) return;
    const shown = (now) => {
      this.firstFrameAt ??= performance.now();
      if (this.#lastFrameAt !== null) this.gapMaxMs = Math.max(this.gapMaxMs, now - this.#lastFrameAt);
      this.#lastFrameAt = now;
      this.framesShown += 1;
      this.#video.requestVideoFrameCallback(shown);
    };
    this.#video.requestVideoFrameCallback(shown);
  }
}

/** Refused frames that say something: resends of frames that had come already are refused as repeated, and cost nothing. */
function foreign(counters) {
  const { replayed = 0, ...others } = counters?.refused ?? {};
  return Object.values(others).reduce((all, count) => all + count, 0);
}

function attach(player, track, onChange) {
  const current = player.srcObject?.getTracks()[0] ?? null;
  if (current === track) return;
  player.srcObject = track ? new MediaStream([track]) : null;
  onChange();
}
