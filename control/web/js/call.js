// Taking part in a room's call: the room's state on one side, one leg to the focus on the other, and the decision to call
// again when a leg ends. Not here: what is on the screen (app.js, tiles.js).

import { chooseFocus, deciding, distinct, focusKey, measureAnswers, toMeasure } from "./choose.js";
import { MediaEncryption } from "./encryption.js";
import { Emitter, pause, randomString } from "./emitter.js";
import { Leg } from "./leg.js";
import { openScreen, UserMedia } from "./media.js";
import { SCREENSHARE, USERMEDIA } from "./metadata.js";
import { CALL_STATE_TYPES, CALL_TYPE, fociOfWellKnown, MEMBER_LIFETIME_MS, MEMBER_TYPE } from "./room.js";
import { memberDevice, newCall, RoomCalls } from "./room.js";
import { Subscriptions } from "./subscriptions.js";

/** Waits between attempts to call again; the last one is repeated. */
const RETRY_MS = [300, 1_000, 2_000, 4_000, 5_000];
/** A focus that refuses this often in a row will not change its mind. */
const REFUSALS_MAX = 6;
const MEMBER_REFRESH_MS = MEMBER_LIFETIME_MS * 0.75;

/**
 * Events: `state` ("joining", "connecting", "connected", "reconnecting", "left", "failed"), `streams`, `tracks`, `speakers`, `status`,
 * `sources` (what is sent has changed), `log` (text), `problem` (text).
 */
export class Call extends Emitter {
  #matrix;
  #options;
  #sessionId = randomString(10);
  #leg = null;
  #subscriptions = null;
  #sizes = new Map();
  #unlisten = [];
  #refresh = null;
  #attempts = 0;
  #refusals = 0;
  #iceServers = [];
  /** By `focusKey`: how long each focus took to answer. */
  #answerTimes = new Map();
  #preferred = [];
  #encryption = null;

  state = "idle";
  room = null;
  roomId = null;
  confId = null;
  focus = null;
  streams = new Map();
  tracks = new Map();
  user = new UserMedia();
  /** @type {import("./media.js").Source|null} */
  screen = null;

  /**
   * @param {import("./matrix.js").MatrixClient} matrix logged in
   * @param {{room: string, confId?: string, focus?: {userId: string, deviceId: string}, mediaKey?: string}} options with a
   *   `mediaKey` everything that is sent is encrypted with it, and only what is, is received
   */
  constructor(matrix, options) {
    super();
    this.#matrix = matrix;
    this.#options = options;
  }

  /** The moments of the newest leg's join, see `Leg.times`. */
  get times() {
    return this.#leg?.times ?? {};
  }

  get callId() {
    return this.#leg?.callId ?? null;
  }

  /** Joins; resolves when the focus has been called. Throws an error that can be shown. */
  async join() {
    this.#setState("joining");
    try {
      await this.#enterRoom();
      await this.#beginEncryption();
      this.#listen();
      await this.#matrix.startSync(this.roomId, [...CALL_STATE_TYPES, "m.room.member"]);
      await this.#chooseFocus();
      await this.#inviteFocus(this.focus);
    } catch (error) {
      this.#release();
      this.#setState("failed");
      throw error;
    }
    await this.#callFocus();
  }

  /** Leaves; `keepalive` where the page is going away. */
  async leave({ keepalive = false } = {}) {
    if (this.state === "left" || this.state === "idle") return;
    this.#setState("left");
    this.#leg?.hangup({ keepalive });
    const gone = this.#putMember(null, { keepalive });
    this.#release();
    this.#matrix.stopSync();
    this.emit("sources");
    await gone;
  }

  /** Says which video tracks are wanted at which size, see `Subscriptions.setSizes`. */
  setSizes(sizes) {
    this.#sizes = sizes;
    this.#subscriptions?.setSizes(sizes);
  }

  /** Statistics of the current peer connection; null where there is none. */
  async getStats() {
    return this.#leg ? await this.#leg.getStats() : null;
  }

  /** What became of encrypted frames, see `Leg.countFrames`. */
  async countFrames() {
    return (await this.#leg?.countFrames()) ?? null;
  }

  // ---- what is sent -------------------------------------------------------------------------------------------------

  /** Turns the camera on or off. */
  async setCameraMuted(muted) {
    if (muted) {
      if (this.user.videoMuted) return;
      this.user.videoMuted = true;
      this.emit("sources");
      await this.#leg?.muteVideo(this.user);
      if (this.user.videoMuted) this.user.closeCamera();
    } else {
      await this.user.openCamera();
      await this.#leg?.unmuteVideo(this.user);
    }
    this.emit("sources");
  }

  /** Turns the microphone on or off. */
  async setMicrophoneMuted(muted) {
    if (!muted && !this.user.audioTrack) {
      await this.user.openMicrophone();
      this.#leg?.publish(this.user);
    }
    this.user.setMicrophoneMuted(muted);
    this.#leg?.announceMutes();
    this.emit("sources");
  }

  /** Asks the user for a screen and shares it. */
  async startScreen() {
    if (this.screen) return;
    const screen = await openScreen();
    this.screen = screen;
    screen.videoTrack.addEventListener("ended", () => this.#stopScreen(screen));
    this.#leg?.publish(screen);
    this.#writeMember();
    this.emit("sources");
  }

  /** Stops sharing the screen. */
  stopScreen() {
    if (this.screen) this.#stopScreen(this.screen);
  }

  #stopScreen(screen) {
    if (this.screen !== screen) return;
    this.screen = null;
    this.#leg?.unpublish(screen);
    screen.stop();
    this.#writeMember();
    this.emit("sources");
  }

  // ---- the room -----------------------------------------------------------------------------------------------------

  async #enterRoom() {
    const [roomId, iceServers] = await Promise.all([
      this.#matrix.joinRoom(this.#options.room),
      this.#matrix.turnServers(),
    ]);
    this.roomId = roomId;
    this.#iceServers = iceServers;
    this.room = new RoomCalls(await this.#matrix.getState(roomId));
    this.confId = this.#options.confId || this.room.newestCall();
    if (this.confId === null || !this.room.hasCall(this.confId)) await this.#makeCall();
  }

  async #beginEncryption() {
    const { mediaKey } = this.#options;
    if (!mediaKey) return;
    const { userId, deviceId } = this.#matrix;
    this.#encryption = await MediaEncryption.begin(mediaKey, { roomId: this.roomId, confId: this.confId }, { userId, deviceId });
    this.emit("log", "media is encrypted with a key that was shared by hand");
  }

  async #makeCall() {
    const { confId, content } = newCall(Date.now());
    this.confId ??= confId;
    await this.#matrix.putState(this.roomId, CALL_TYPE, this.confId, content).catch((error) => {
      throw new Error(`There is no call in this room, and you may not start one. ${error.message}`);
    });
    this.emit("log", "started a new call in the room");
  }

  /** The own foci: the one that was entered by hand, or those that the homeserver recommends. */
  #ownFoci() {
    const { focus } = this.#options;
    return distinct(focus ? [focus] : fociOfWellKnown(this.#matrix.session.wellKnown));
  }

  #others() {
    return this.room.others(this.confId, this.#matrix.deviceId, Date.now());
  }

  // Who enters a focus by hand means it.
  async #chooseFocus() {
    const [own, others] = [this.#ownFoci(), this.#options.focus ? [] : this.#others()];
    const measured = toMeasure(own, others);
    if (measured.length > 0) {
      const call = { matrix: this.#matrix, confId: this.confId, sessionId: this.#sessionId };
      // Those that others name are in the room already, or not worth an invitation by somebody who does not know them.
      const invited = await Promise.all(own.map((focus) => this.#inviteFocus(focus)));
      // Who has to join the room first answers late, however near it is: only its second answer counts.
      const first = await measureAnswers(own.filter((_, index) => invited[index]), call);
      const answering = measured.filter((focus) => first.get(focusKey(focus)) !== null);
      this.#answerTimes = new Map([...first, ...(await measureAnswers(answering, call, deciding(own, others)))]);
    }
    const { focus, preferred } = chooseFocus(own, others, this.#answerTimes);
    if (focus === null) {
      const why = measured.length > 0 ? "no focus answers" : "nobody in the call uses one, and the homeserver recommends none";
      throw new Error(`No focus is known: ${why}. Enter one by hand.`);
    }
    [this.focus, this.#preferred] = [focus, preferred];
    this.emit("log", `call ${this.confId} through ${focus.userId}`);
  }

  // Somebody may have begun to use a focus that this page prefers.
  #followOthers() {
    if (this.focus === null || this.#options.focus) return;
    const { focus, preferred } = chooseFocus(this.#ownFoci(), this.#others(), this.#answerTimes, this.focus);
    if (focusKey(focus) === focusKey(this.focus)) return;
    [this.focus, this.#preferred] = [focus, preferred];
    this.emit("log", `others use ${focus.userId} now, which is nearer`);
    this.#attempts = 0;
    this.#callFocus();
    this.#writeMember();
  }

  // A focus that checks who is in the room has to be in the room itself. True if it has been invited now.
  async #inviteFocus(focus) {
    if (this.room.hasJoined(focus.userId) || focus.userId === this.#matrix.userId) return false;
    try {
      await this.#matrix.invite(this.roomId, focus.userId);
      this.emit("log", "invited the focus into the room");
      return true;
    } catch (error) {
      this.emit("log", `the focus is not in the room: ${error.message}`);
      return false;
    }
  }

  // Only when the focus has taken the call: before, there is nothing to tell, and the homeserver has the invite to deliver.
  #handleAnswered() {
    if (this.#refresh !== null) return;
    this.#refresh = setInterval(() => this.#writeMember(), MEMBER_REFRESH_MS);
    this.#writeMember();
  }

  #writeMember() {
    const purposes = this.screen ? [USERMEDIA, SCREENSHARE] : [USERMEDIA];
    const own = { deviceId: this.#matrix.deviceId, sessionId: this.#sessionId };
    const { focus } = this;
    const device = memberDevice({ ...own, purposes, focus, preferred: this.#preferred, now: Date.now() });
    this.#putMember(device);
  }

  async #putMember(device, options) {
    if (!this.confId) return;
    const { userId, deviceId } = this.#matrix;
    const content = this.room.memberContent(userId, this.confId, deviceId, device, Date.now());
    try {
      await this.#matrix.putState(this.roomId, MEMBER_TYPE, userId, content, options);
    } catch (error) {
      this.emit("problem", `others in the room cannot see that you are in the call: ${error.message}`);
    }
  }

  #listen() {
    this.#unlisten = [
      this.#matrix.on("todevice", (event) => this.#leg?.handleToDevice(event)),
      this.#matrix.on("state", ({ roomId, event }) => {
        if (roomId !== this.roomId) return;
        this.room.apply(event);
        this.#followOthers();
      }),
      this.#matrix.on("sync", (up) => this.emit("log", up === "up" ? "homeserver is back" : "homeserver does not answer")),
    ];
  }

  #release() {
    for (const unlisten of this.#unlisten) unlisten();
    this.#unlisten = [];
    clearInterval(this.#refresh);
    this.#refresh = null;
    this.#dropLeg();
    this.#encryption?.close();
    this.#encryption = null;
    this.user.stop();
    this.user = new UserMedia();
    this.screen?.stop();
    this.screen = null;
  }

  // ---- the leg ------------------------------------------------------------------------------------------------------

  async #callFocus() {
    this.#dropLeg();
    this.#setState(this.#attempts === 0 ? "connecting" : "reconnecting");
    const { focus, confId } = this;
    const call = { matrix: this.#matrix, confId, sessionId: this.#sessionId, encryption: this.#encryption };
    const leg = new Leg({ ...call, focus, iceServers: this.#iceServers });
    this.#leg = leg;
    this.#subscriptions = new Subscriptions(
      (type, content) => {
        const sent = leg.send(type, content);
        if (sent) leg.times.subscribe ??= performance.now();
        return sent;
      },
      (key) => this.tracks.has(key),
    );
    this.#subscriptions.setSizes(this.#sizes);
    leg.on("answered", () => this.#handleAnswered());
    leg.on("connected", () => this.#handleConnected());
    leg.on("streams", (streams) => this.#handleStreams(streams));
    leg.on("tracks", (tracks) => {
      this.tracks = tracks;
      this.emit("tracks", tracks);
    });
    leg.on("speakers", (speakers) => this.emit("speakers", speakers));
    leg.on("status", (status) => this.emit("status", status));
    leg.on("problem", (text) => this.emit("problem", text));
    leg.on("ended", (end) => this.#handleEnded(leg, end));
    const sources = this.screen ? [this.user, this.screen] : [this.user];
    await leg.start(sources).catch((error) => this.#handleEnded(leg, { reason: error.message, refused: error.status === 403 }));
  }

  #dropLeg() {
    this.#subscriptions?.stop();
    this.#subscriptions = null;
    this.#leg?.hangup();
    this.#leg = null;
    this.#handleStreams(new Map());
    this.tracks = new Map();
    this.emit("tracks", this.tracks);
  }

  #handleConnected() {
    this.#attempts = 0;
    this.#refusals = 0;
    this.#subscriptions.sayNow();
    this.#setState("connected");
  }

  #handleStreams(streams) {
    this.streams = streams;
    this.emit("streams", streams);
    this.#subscriptions?.setStreams(streams);
  }

  async #handleEnded(leg, { reason, refused }) {
    if (leg !== this.#leg || this.state === "left") return;
    this.emit("problem", reason);
    this.#dropLeg();
    this.#refusals = refused ? this.#refusals + 1 : 0;
    if (this.#refusals >= REFUSALS_MAX) {
      await this.#putMember(null);
      this.#release();
      this.#matrix.stopSync();
      this.#setState("failed");
      return;
    }
    const wait = RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)];
    this.#attempts += 1;
    this.#setState("reconnecting");
    await pause(wait);
    if (this.state === "reconnecting" && this.#leg === null) await this.#callFocus();
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", state);
  }
}
