// The call on the screen: keeps the tiles in step with the call's streams and tracks, places them, and tells the call which
// size each picture needs. Not here: buttons and forms (app.js).

import { columnsFor, wantedSize } from "./layout.js";
import { SCREENSHARE } from "./metadata.js";
import { Sampler } from "./stats.js";
import { trackKey } from "./subscriptions.js";
import { Tile } from "./tiles.js";
import { describeEstimate, Status } from "./why.js";

const FIGURES_EVERY_MS = 1_000;

const tileKey = (stream) => `${stream.userId} ${stream.deviceId} ${stream.purpose}`;

/** Draws one call at a time into `list`, an `<ul>`. */
export class CallView {
  #list;
  #call = null;
  #own = { userId: "", deviceId: "" };
  #tiles = new Map();
  #sampler = new Sampler();
  #timer = null;
  #chosen = null;
  #speaker = null;

  mode = "grid";
  quality = "auto";
  /** What the focus says about what it sends here. */
  status = new Status();
  /** The last sample of `Sampler.sample`. */
  figures = null;
  /** What became of encrypted frames, as `Leg.countFrames` says. */
  frames = null;

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list;
    new ResizeObserver(() => this.arrange()).observe(list);
  }

  /** The tiles, in the order of the screen. */
  get tiles() {
    return [...this.#tiles.values()];
  }

  /** Begins to show a call. */
  attach(call, own) {
    this.detach();
    this.#call = call;
    this.#own = own;
    this.#sampler = new Sampler();
    this.status = new Status();
    call.on("status", (content) => this.status.take(content));
    call.on("streams", () => this.#refresh());
    call.on("tracks", () => this.#bindTracks());
    call.on("sources", () => this.#refresh());
    call.on("speakers", (speakers) => this.#showSpeakers(speakers));
    this.#timer = setInterval(() => this.sample(), FIGURES_EVERY_MS);
    this.#refresh();
  }

  /** Forgets the call and empties the screen. */
  detach() {
    clearInterval(this.#timer);
    this.#call = null;
    for (const tile of this.tiles) tile.remove();
    this.#tiles.clear();
    this.figures = null;
  }

  /** Grid, or spotlight on one tile (by key; null lets the view choose). The list gets a `modechange` event. */
  setMode(mode, chosen = null) {
    this.mode = mode;
    this.#chosen = chosen;
    this.arrange();
    this.#list.dispatchEvent(new CustomEvent("modechange", { bubbles: true }));
  }

  /** One of `QUALITIES`. */
  setQuality(quality) {
    this.quality = quality;
    this.arrange();
  }

  /** The key of the large tile in spotlight; null where there is none. */
  largeKey() {
    if (this.mode !== "spotlight") return null;
    if (this.#tiles.has(this.#chosen)) return this.#chosen;
    const others = this.tiles.filter((tile) => !tile.isOwn);
    const screen = others.find((tile) => tile.stream.purpose === SCREENSHARE);
    const speaker = others.find((tile) => tile.key === this.#speaker);
    return (screen ?? speaker ?? others[0] ?? this.tiles[0])?.key ?? null;
  }

  /** Places the tiles and says which sizes are wanted. */
  arrange() {
    const large = this.largeKey();
    const { clientWidth, clientHeight } = this.#list;
    this.#list.dataset.mode = this.mode;
    this.#list.style.setProperty("--columns", columnsFor(this.#tiles.size, clientWidth, clientHeight));
    this.#list.style.setProperty("--others", Math.max(1, this.#tiles.size - 1));
    for (const tile of this.tiles) tile.root.classList.toggle("is-large", tile.key === large);
    this.#sayWants(large);
  }

  #sayWants(large) {
    const sizes = new Map();
    for (const tile of this.tiles) {
      if (tile.isOwn) continue;
      const scale = window.devicePixelRatio || 1;
      const { clientWidth, clientHeight } = tile.root;
      const shape = { isLarge: tile.key === large, width: clientWidth * scale, height: clientHeight * scale };
      const size = wantedSize(this, shape);
      for (const [trackId, { kind }] of tile.stream.tracks) {
        if (kind === "video") sizes.set(trackKey(tile.stream.streamId, trackId), size);
      }
    }
    this.#call?.setSizes(sizes);
  }

  #refresh() {
    if (!this.#call) return;
    const wanted = new Map();
    for (const stream of this.#ownStreams()) wanted.set(tileKey(stream), { stream, isOwn: true });
    for (const stream of this.#call.streams.values()) {
      const isOwn = stream.userId === this.#own.userId && stream.deviceId === this.#own.deviceId;
      if (!isOwn) wanted.set(tileKey(stream), { stream, isOwn });
    }
    for (const tile of this.tiles) {
      if (wanted.has(tile.key)) continue;
      this.#tiles.delete(tile.key);
      tile.remove();
    }
    for (const [key, { stream, isOwn }] of wanted) {
      const tile = this.#tiles.get(key) ?? this.#addTile(key, isOwn);
      tile.describe(stream, isOwn ? "You" : this.#call.room?.displayName(stream.userId) ?? stream.userId);
    }
    this.#bindTracks();
    this.arrange();
  }

  #addTile(key, isOwn) {
    const onChosen = (chosen) => {
      const back = this.mode === "spotlight" && this.largeKey() === chosen;
      this.setMode(back ? "grid" : "spotlight", back ? null : chosen);
    };
    const tile = new Tile({ key, isOwn, onChosen });
    this.#tiles.set(key, tile);
    this.#list.append(tile.root);
    return tile;
  }

  #ownStreams() {
    const sources = [this.#call.user, this.#call.screen].filter(Boolean);
    return sources.map((source) => {
      const tracks = source.stream.getTracks().map((track) => [track.id, { kind: track.kind, ...source.size }]);
      const { purpose, audioMuted, videoMuted } = source;
      return { ...this.#own, streamId: source.stream.id, purpose, audioMuted, videoMuted, tracks: new Map(tracks) };
    });
  }

  #bindTracks() {
    if (!this.#call) return;
    for (const tile of this.tiles) {
      if (tile.isOwn) {
        const source = tile.stream.purpose === SCREENSHARE ? this.#call.screen : this.#call.user;
        tile.setTracks(source?.videoTrack ?? null, null);
        continue;
      }
      const bound = { audio: null, video: null };
      for (const [trackId, { kind }] of tile.stream.tracks) {
        bound[kind] ??= this.#call.tracks.get(trackKey(tile.stream.streamId, trackId)) ?? null;
      }
      tile.mid = bound.video?.mid ?? null;
      tile.audioMid = bound.audio?.mid ?? null;
      tile.setTracks(bound.video?.track ?? null, bound.audio?.track ?? null);
    }
    this.playSound();
  }

  /** Starts the sound of every tile; tells through the `soundblocked` event where the browser wants a click first. */
  async playSound() {
    const played = await Promise.all(this.tiles.map((tile) => tile.playSound()));
    const blocked = played.includes(false);
    this.#list.dispatchEvent(new CustomEvent("soundblocked", { bubbles: true, detail: blocked }));
  }

  #showSpeakers(speakers) {
    const loudest = speakers[0];
    for (const tile of this.tiles) {
      const { userId, deviceId } = tile.stream;
      const speaks = loudest !== undefined && userId === loudest.user_id && deviceId === loudest.device_id;
      tile.root.classList.toggle("speaks", speaks);
      if (speaks && !tile.isOwn && tile.stream.purpose !== SCREENSHARE) this.#speaker = tile.key;
    }
    if (this.mode === "spotlight" && this.#chosen === null) this.arrange();
  }

  /** Reads the figures and shows them. */
  async sample() {
    const report = await this.#call?.getStats();
    const frames = await this.#call?.countFrames();
    if (!report || !this.#call) return;
    this.frames = frames;
    this.figures = this.#sampler.sample(report);
    const { inbound, outbound } = this.figures;
    for (const tile of this.tiles) {
      if (!tile.isOwn) {
        tile.countFrames({ video: frames?.received.get(tile.mid), audio: frames?.received.get(tile.audioMid) });
        tile.showInbound(inbound.get(tile.mid) ?? null, this.status.of(tile.videoKey()));
      } else if (tile.stream.purpose !== SCREENSHARE) {
        const layers = outbound.filter((layer) => layer.mid === firstVideoMid(outbound));
        tile.showOutbound(layers, describeEstimate(this.status));
      }
    }
  }
}

/** The camera's m-section comes before those of shared screens. */
function firstVideoMid(outbound) {
  return outbound.find((layer) => layer.kind === "video")?.mid;
}
