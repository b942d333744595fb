// One call to the focus, from invite to hangup: a peer connection, its data channel and the to-device messages around them.
//
//   invite ──to-device──► focus          after the channel is open, both sides offer over it
//   ◄────────────── answer               (m.call.negotiate). This side is the impolite one: an offer of the focus that
//   candidates ─────────►                crosses ours is dropped, the focus answers ours and offers again.
//   select_answer ──────►
//
// Not here: when to call again after an end (call.js), what to subscribe to (subscriptions.js).

import { ACTIVE_SPEAKER, ERROR, FocusChannel, FOLLOW_STATUS, LAYERS_IN_USE, METADATA_CHANGED, NEGOTIATE, STATUS } from "./channel.js";
import { Emitter, randomString } from "./emitter.js";
import { encodingsFor } from "./media.js";
import { readStreams, STABLE_KEY, UNSTABLE_KEY, writeStreams } from "./metadata.js";
import { msidByMid } from "./sdp.js";
import { trackKey } from "./subscriptions.js";

const INVITE_LIFETIME_MS = 60_000;
/** Without an answer to the invite; then the focus is taken for unreachable. */
const ANSWER_TIMEOUT_MS = 15_000;
/** Without an answer to an offer over the channel; then the offer is rolled back and made again. */
const NEGOTIATE_TIMEOUT_MS = 10_000;
/** How long ICE may be disconnected before the call is given up. A short gap heals itself. */
const DISCONNECTED_MAX_MS = 8_000;
/** Time for others to learn of a mute before the picture stops, so that no one sees a frozen tile. */
const MUTE_LEAD_MS = 120;

/**
 * Events: `answered`, `connected` (the channel is open), `streams` (Map of StreamInfo: a full snapshot), `tracks` (Map of track key to
 * {mid, track}), `speakers` (list), `status` (what the focus says about what it sends here), `problem` (text), `ended` ({reason, refused}).
 */
export class Leg extends Emitter {
  #matrix;
  #focus;
  #confId;
  #sessionId;
  #callId = `${Date.now()}${randomString(16)}`;
  #seq = 0;
  #connection;
  #channel;
  #publications = [];
  #encryption;
  /** By stream id: whose it is. */
  #senders = new Map();
  #focusParty = null;
  #earlyCandidates = [];
  #ownCandidates = [];
  #wantsCandidates = false;
  #queue = Promise.resolve();
  #offerWanted = false;
  /** By mid: the rids that the focus has named last. */
  #layersInUse = new Map();
  #offerTimer = null;
  #answerTimer = null;
  #disconnectedTimer = null;
  #closed = false;

  /** The moments of the join in `performance.now()` milliseconds, for those who measure. */
  times = {};

  constructor({ matrix, focus, confId, sessionId, iceServers, encryption }) {
    super();
    this.#matrix = matrix;
    this.#focus = focus;
    this.#confId = confId;
    this.#sessionId = sessionId;
    this.#encryption = encryption;
    this.#connection = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers });
    this.#connection.addEventListener("icecandidate", (event) => this.#handleOwnCandidate(event.candidate));
    this.#connection.addEventListener("track", ({ receiver }) => this.#encryption?.protectReceiver(receiver));
    this.#connection.addEventListener("iceconnectionstatechange", () => this.#handleIceState());
    this.#channel = new FocusChannel(this.#connection);
    this.#channel.on("open", () => this.#handleOpen());
    this.#channel.on("message", (message) => this.#handleMessage(message));
    this.#channel.on("silent", () => this.#end("the focus fell silent", { hangup: "keep_alive_timeout" }));
    this.#channel.on("closed", () => this.#end("the focus closed the channel", { hangup: "user_hangup" }));
  }

  get callId() {
    return this.#callId;
  }

  get isOpen() {
    return this.#channel.isOpen;
  }

  /** Statistics of the peer connection, as `RTCPeerConnection.getStats` gives them. */
  getStats() {
    return this.#connection.getStats();
  }

  /** What became of encrypted frames: `sent`, and `received` by mid; null where the call is not encrypted. */
  async countFrames() {
    if (!this.#encryption) return null;
    const { sent, received } = await this.#encryption.count();
    const byMid = this.#connection.getTransceivers().map(({ mid, receiver }) => [mid, received(receiver)]);
    return { sent, received: new Map(byMid.filter(([, counters]) => counters)) };
  }

  /** Sends one message over the data channel; false where it is not open. */
  send(type, content) {
    return this.#channel.send(type, content);
  }

  /** Calls the focus with what `sources` have to send. Must be called once, first. */
  async start(sources) {
    for (const source of sources) this.#publish(source);
    await this.#connection.setLocalDescription();
    this.times.invite = performance.now();
    this.#answerTimer = setTimeout(() => this.#end("the focus did not answer", { hangup: "invite_timeout" }), ANSWER_TIMEOUT_MS);
    await this.#sendToFocus("m.call.invite", {
      lifetime: INVITE_LIFETIME_MS,
      invitee: this.#focus.userId,
      capabilities: { "m.call.transferee": false, "m.call.dtmf": false },
      offer: { type: "offer", sdp: this.#connection.localDescription.sdp },
      [UNSTABLE_KEY]: this.#ownMetadata(),
    });
  }

  /** Sends one more source, or the tracks that a source has got since it was first sent. */
  publish(source) {
    this.#publish(source);
    this.#wantOffer();
  }

  /** Stops sending a source and takes it out of the metadata. */
  unpublish(source) {
    const publication = this.#publications.find((p) => p.source === source);
    if (!publication) return;
    this.#publications = this.#publications.filter((p) => p !== publication);
    for (const transceiver of Object.values(publication.transceivers)) {
      transceiver.direction = "inactive";
      transceiver.sender.replaceTrack(null).catch(() => {});
    }
    this.#announce();
    this.#wantOffer();
  }

  /** Tells the others what is muted now. */
  announceMutes() {
    this.#announce();
  }

  /** Tells the others, then stops the picture of a source; its place in the connection stays. */
  async muteVideo(source) {
    source.videoMuted = true;
    this.#announce();
    await new Promise((resolve) => setTimeout(resolve, MUTE_LEAD_MS));
    const sender = this.#transceiver(source, "video")?.sender;
    if (source.videoMuted && sender) await sender.replaceTrack(null);
  }

  /** Sends a source's new video track, in the old place where it has one. */
  async unmuteVideo(source) {
    const transceiver = this.#transceiver(source, "video");
    if (!transceiver) return this.publish(source);
    await transceiver.sender.replaceTrack(source.videoTrack);
    this.#announce();
  }

  /** Ends the call, telling the focus. `keepalive` lets the message outlive the page. */
  hangup({ keepalive = false } = {}) {
    this.#end("left", { hangup: "user_hangup", keepalive, silent: true });
  }

  // ---- to-device messages -------------------------------------------------------------------------------------------

  #sendToFocus(type, extra, options) {
    const content = {
      version: "1",
      call_id: this.#callId,
      party_id: this.#matrix.deviceId,
      conf_id: this.#confId,
      device_id: this.#matrix.deviceId,
      sender_session_id: this.#sessionId,
      dest_session_id: "sfu",
      seq: this.#seq,
      "org.matrix.msgid": crypto.randomUUID?.() ?? randomString(32),
      ...extra,
    };
    this.#seq += 1;
    return this.#matrix.sendToDevice(this.#focus.userId, this.#focus.deviceId, type, content, options);
  }

  /** Takes a to-device event; ignores those that are not for this call. */
  handleToDevice({ type, sender, content = {} }) {
    const ours =
      sender === this.#focus.userId &&
      content.call_id === this.#callId &&
      content.conf_id === this.#confId &&
      content.dest_session_id === this.#sessionId;
    if (!ours || this.#closed) return;
    if (type === "m.call.answer") this.#enqueue(() => this.#handleAnswer(content));
    else if (type === "m.call.candidates") this.#enqueue(() => this.#handleCandidates(content));
    else if (type === "m.call.hangup") this.#end(`the focus hung up (${content.reason ?? "no reason"})`);
    else if (type === "m.call.reject") this.#end(`the focus refused (${content.reason ?? "no reason"})`, { refused: true });
  }

  async #handleAnswer(content) {
    if (this.#focusParty !== null || typeof content.answer?.sdp !== "string") return;
    this.#focusParty = content.party_id ?? "";
    this.times.answer = performance.now();
    clearTimeout(this.#answerTimer);
    this.#takeStreams(content);
    try {
      await this.#connection.setRemoteDescription({ type: "answer", sdp: content.answer.sdp });
    } catch (error) {
      this.#end(`the focus's answer makes no sense to this browser: ${error.message}`, { hangup: "unknown_error" });
      return;
    }
    this.emit("answered");
    for (const candidates of this.#earlyCandidates) await this.#handleCandidates(candidates);
    // A focus of ICE-lite never checks anybody's addresses; it learns them from the checks that it is sent.
    this.#wantsCandidates = !/^a=ice-lite\r?$/m.test(content.answer.sdp);
    this.#flushCandidates();
    const chosen = { selected_party_id: this.#focusParty };
    this.#sendToFocus("m.call.select_answer", chosen).catch((error) => this.emit("problem", error.message));
  }

  async #handleCandidates(content) {
    if (this.#focusParty === null) {
      this.#earlyCandidates.push(content);
      return;
    }
    if (content.party_id !== this.#focusParty) return;
    for (const candidate of content.candidates ?? []) {
      await this.#connection.addIceCandidate(candidate).catch((error) => this.emit("problem", `candidate: ${error.message}`));
    }
  }

  #handleOwnCandidate(candidate) {
    if (!candidate || this.#closed) return;
    this.#ownCandidates.push(candidate.toJSON());
    if (this.#wantsCandidates && this.#ownCandidates.length === 1) setTimeout(() => this.#flushCandidates(), 200);
  }

  #flushCandidates() {
    if (this.#ownCandidates.length === 0 || this.#closed || !this.#wantsCandidates) return;
    const candidates = this.#ownCandidates.splice(0);
    this.#sendToFocus("m.call.candidates", { candidates }).catch((error) => this.emit("problem", error.message));
  }

  // ---- data channel -------------------------------------------------------------------------------------------------

  #handleOpen() {
    this.times.open = performance.now();
    this.#channel.send(FOLLOW_STATUS, {});
    this.emit("connected");
    this.#enqueue(() => this.#offerIfWanted());
  }

  #handleMessage({ type, content }) {
    if (type === METADATA_CHANGED) this.#enqueue(() => this.#takeStreams(content));
    else if (type === NEGOTIATE) this.#enqueue(() => this.#handleNegotiate(content));
    else if (type === ACTIVE_SPEAKER) this.emit("speakers", content.speakers ?? []);
    else if (type === STATUS) this.emit("status", content);
    else if (type === LAYERS_IN_USE) this.#enqueue(() => this.#useLayers(content.tracks));
    else if (type === ERROR) this.#enqueue(() => this.#handleError(content));
  }

  #takeStreams(content) {
    const streams = readStreams(content);
    if (!streams || this.#closed) return;
    for (const { streamId, userId, deviceId } of streams.values()) this.#senders.set(streamId, { userId, deviceId });
    this.emit("streams", streams);
  }

  async #handleNegotiate(content) {
    // Metadata first: whoever draws must know a stream before its tracks arrive.
    this.#takeStreams(content);
    const { type, sdp } = content.description ?? {};
    if (type === "offer") await this.#handleOffer(sdp);
    else if (type === "answer" && this.#connection.signalingState === "have-local-offer") {
      clearTimeout(this.#offerTimer);
      await this.#connection.setRemoteDescription({ type, sdp });
    }
    this.#emitTracks();
    await this.#applyLayersInUse();
    await this.#offerIfWanted();
  }

  async #handleOffer(sdp) {
    if (this.#connection.signalingState !== "stable") {
      this.emit("problem", "two offers crossed; waiting for the focus to offer again");
      return;
    }
    this.times.offer ??= performance.now();
    await this.#connection.setRemoteDescription({ type: "offer", sdp });
    // Before the focus learns that it may send.
    this.#nameSenders();
    await this.#connection.setLocalDescription();
    this.#sendDescription();
  }

  async #handleError(content) {
    this.emit("problem", `the focus says: ${content.error ?? content.errcode ?? "an error"}`);
    const refusedOffer = content.in_reply_to?.type === NEGOTIATE && this.#connection.signalingState === "have-local-offer";
    if (refusedOffer) {
      clearTimeout(this.#offerTimer);
      await this.#connection.setLocalDescription({ type: "rollback" });
    }
  }

  #sendDescription() {
    const { type, sdp } = this.#connection.localDescription;
    this.#channel.send(NEGOTIATE, { description: { type, sdp }, [STABLE_KEY]: this.#ownMetadata() });
  }

  #announce() {
    this.#channel.send(METADATA_CHANGED, { [STABLE_KEY]: this.#ownMetadata() });
  }

  #wantOffer() {
    this.#offerWanted = true;
    this.#enqueue(() => this.#offerIfWanted());
  }

  async #offerIfWanted() {
    if (!this.#offerWanted || !this.isOpen || this.#connection.signalingState !== "stable") return;
    this.#offerWanted = false;
    await this.#connection.setLocalDescription();
    this.#sendDescription();
    this.#offerTimer = setTimeout(() => this.#enqueue(() => this.#offerAgain()), NEGOTIATE_TIMEOUT_MS);
  }

  async #offerAgain() {
    if (this.#connection.signalingState !== "have-local-offer") return;
    this.emit("problem", "the focus did not answer an offer; offering again");
    await this.#connection.setLocalDescription({ type: "rollback" });
    this.#offerWanted = true;
    await this.#offerIfWanted();
  }

  /** Descriptions and candidates are handled strictly one after the other: each step waits for the browser. */
  #enqueue(step) {
    this.#queue = this.#queue
      .then(() => (this.#closed ? undefined : step()))
      .catch((error) => this.emit("problem", `negotiation: ${error.message}`));
  }

  // ---- media --------------------------------------------------------------------------------------------------------

  #publish(source) {
    let publication = this.#publications.find((p) => p.source === source);
    if (!publication) this.#publications.push((publication = { source, transceivers: {} }));
    for (const kind of ["audio", "video"]) {
      const track = kind === "audio" ? source.audioTrack : source.videoTrack;
      if (!track || publication.transceivers[kind]) continue;
      const init = { direction: "sendonly", streams: [source.stream] };
      if (kind === "video") init.sendEncodings = encodingsFor(source.purpose);
      const transceiver = this.#connection.addTransceiver(track, init);
      this.#encryption?.protectSender(transceiver.sender, kind);
      if (kind === "video") preferVp8(transceiver, { only: Boolean(this.#encryption) });
      publication.transceivers[kind] = transceiver;
    }
  }

  // Layers that nobody needs are not encoded; they come back the moment that somebody wants them.
  async #useLayers(tracks) {
    for (const { mid, rids } of Array.isArray(tracks) ? tracks : []) {
      if (Array.isArray(rids)) this.#layersInUse.set(mid, rids);
    }
    await this.#applyLayersInUse();
  }

  // Again after every remote description: Chromium takes its simulcast line for a wish to resume everything.
  async #applyLayersInUse() {
    for (const { mid, sender } of this.#connection.getTransceivers()) {
      const rids = this.#layersInUse.get(mid);
      const parameters = sender.getParameters();
      const layers = parameters.encodings?.filter((encoding) => encoding.rid) ?? [];
      if (!rids || !layers.some(({ rid }) => rids.includes(rid))) continue;
      if (layers.every(({ rid, active }) => active === rids.includes(rid))) continue;
      for (const layer of layers) layer.active = rids.includes(layer.rid);
      // It saves the sender's bandwidth, no more: the call goes on without.
      await sender.setParameters(parameters).catch((error) => this.emit("problem", `layers stay as they are: ${error.message}`));
    }
  }

  #transceiver(source, kind) {
    return this.#publications.find((p) => p.source === source)?.transceivers[kind];
  }

  #ownMetadata() {
    const names = msidByMid(this.#connection.localDescription?.sdp ?? "");
    const streams = this.#publications.map(({ source, transceivers }) => {
      const tracks = [];
      for (const [kind, transceiver] of Object.entries(transceivers)) {
        const name = names.get(transceiver.mid);
        if (name) tracks.push({ trackId: name.trackId, kind, ...(kind === "video" ? source.size : {}) });
      }
      const { purpose, audioMuted, videoMuted } = source;
      return { streamId: source.stream.id, purpose, audioMuted, videoMuted, tracks };
    });
    return writeStreams(streams, this.#matrix.userId, this.#matrix.deviceId);
  }

  /** What arrives where: the m-sections on which the focus sends, by the names that it gave them. */
  #emitTracks() {
    const names = msidByMid(this.#connection.remoteDescription?.sdp ?? "");
    const tracks = new Map();
    for (const { mid, receiver } of this.#connection.getTransceivers()) {
      const name = names.get(mid);
      if (name?.sends) tracks.set(trackKey(name.streamId, name.trackId), { mid, track: receiver.track });
    }
    this.emit("tracks", tracks);
  }

  #nameSenders() {
    if (!this.#encryption) return;
    const names = msidByMid(this.#connection.remoteDescription?.sdp ?? "");
    const pairs = this.#connection.getTransceivers().map(({ mid, receiver }) => {
      return [receiver, this.#senders.get(names.get(mid)?.streamId) ?? null];
    });
    this.#encryption.nameSenders(pairs);
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  #handleIceState() {
    clearTimeout(this.#disconnectedTimer);
    const state = this.#connection.iceConnectionState;
    if (state === "connected") this.times.ice ??= performance.now();
    const lost = () => this.#end("the way to the focus is lost", { hangup: "ice_failed" });
    if (state === "failed") lost();
    else if (state === "disconnected") this.#disconnectedTimer = setTimeout(lost, DISCONNECTED_MAX_MS);
  }

  #end(reason, { hangup = null, refused = false, keepalive = false, silent = false } = {}) {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of [this.#answerTimer, this.#offerTimer, this.#disconnectedTimer]) clearTimeout(timer);
    // A focus that never answered may still do so: it must know that nobody waits.
    if (hangup) this.#sendToFocus("m.call.hangup", { reason: hangup }, { keepalive }).catch(() => {});
    this.#channel.close();
    this.#connection.close();
    if (!silent) this.emit("ended", { reason, refused });
  }
}

/** VP8 first: the focus changes layers of VP8 without a freeze. `only`: of encrypted frames, those of VP8 alone can be forwarded. */
function preferVp8(transceiver, { only }) {
  const codecs = RTCRtpReceiver.getCapabilities?.("video")?.codecs ?? [];
  const isVp8 = ({ mimeType }) => mimeType.toLowerCase() === "video/vp8";
  const isResend = ({ mimeType }) => mimeType.toLowerCase() === "video/rtx";
  const ordered = [...codecs.filter(isVp8), ...codecs.filter((codec) => !isVp8(codec) && (!only || isResend(codec)))];
  if (ordered.length > 0) transceiver.setCodecPreferences?.(ordered);
}
