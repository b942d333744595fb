// The part of Matrix's Client-Server API that a call needs, over fetch: log in, rooms, state, to-device messages, sync.
// Not here: anything about calls, and end-to-end encryption (calls speak to a focus in plain to-device messages).

import { Emitter, pause, randomString } from "./emitter.js";

/** How long the homeserver may hold a sync open. More saves requests, less notices a dead connection sooner. */
const SYNC_TIMEOUT_MS = 30_000;
/** The longest wait between two attempts while the homeserver is away. */
const BACK_OFF_MAX_MS = 10_000;

/** What the homeserver answered instead of what was asked for; `message` can be shown to a person. */
export class MatrixError extends Error {
  constructor(status, body, what) {
    const reason = body?.error ?? (status ? `HTTP status ${status}` : "no answer");
    super(`${what}: ${reason}`);
    this.name = "MatrixError";
    this.status = status;
    this.errcode = body?.errcode ?? "";
    this.retryAfterMs = body?.retry_after_ms ?? 0;
    this.body = body ?? {};
  }
}

/** Turns what a person typed ("matrix.example.org", "http://localhost:8008/") into a URL without a trailing slash. */
function toBaseUrl(input) {
  const text = input.trim().replace(/\/+$/, "");
  if (!text) throw new Error("Enter the address of a homeserver.");
  const url = new URL(/^https?:\/\//i.test(text) ? text : `https://${text}`);
  return url.href.replace(/\/+$/, "");
}

async function readWellKnown(baseUrl) {
  try {
    const response = await fetch(`${baseUrl}/.well-known/matrix/client`);
    return response.ok ? await response.json() : {};
  } catch {
    return {};
  }
}

/**
 * One device of one user on one homeserver.
 *
 * Events: `todevice` (a to-device event), `state` ({roomId, event}), `sync` ("up" or "down"), `loggedout`.
 */
export class MatrixClient extends Emitter {
  /** @param {{baseUrl: string, userId?: string, deviceId?: string, accessToken?: string, wellKnown?: object}} session */
  constructor(session) {
    super();
    this.session = session;
    this.#abort = new AbortController();
  }

  #abort;
  #since = null;
  #syncing = false;

  /** Finds the homeserver behind what the user typed, asking its well-known file for the real address. */
  static async discover(input) {
    const typed = toBaseUrl(input);
    const wellKnown = await readWellKnown(typed);
    const named = wellKnown["m.homeserver"]?.base_url;
    const baseUrl = named ? toBaseUrl(named) : typed;
    const client = new MatrixClient({ baseUrl, wellKnown });
    try {
      await client.request("GET", "/_matrix/client/versions", { what: "No Matrix homeserver answers there" });
    } catch (error) {
      if (error instanceof TypeError) throw new Error(`No Matrix homeserver answers at ${baseUrl}.`);
      throw error;
    }
    return client;
  }

  get userId() {
    return this.session.userId;
  }

  get deviceId() {
    return this.session.deviceId;
  }

  /** Logs in with a password; makes a new device. */
  async login(user, password) {
    const body = {
      type: "m.login.password",
      identifier: { type: "m.id.user", user },
      password,
      initial_device_display_name: "Weir web page",
    };
    this.#adopt(await this.request("POST", "/_matrix/client/v3/login", { body, what: "Login failed" }));
  }

  /**
   * Gets an account that nobody has to remember: a guest where the homeserver has them, else a fresh account where it
   * lets anybody register.
   */
  async loginAsGuest() {
    const what = "This homeserver takes no guests";
    const body = { initial_device_display_name: "Weir web page" };
    try {
      return this.#adopt(await this.request("POST", "/_matrix/client/v3/register?kind=guest", { body, what }));
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
    }
    const account = { ...body, username: `guest-${randomString(10).toLowerCase()}`, password: randomString(32) };
    try {
      this.#adopt(await this.#register(account, what));
    } catch (error) {
      throw error.status === 401 ? new Error(`${what}: it wants more than a name to register.`) : error;
    }
  }

  async #register(account, what) {
    const path = "/_matrix/client/v3/register";
    try {
      return await this.request("POST", path, { body: account, what });
    } catch (error) {
      // The first answer names the steps of registration and a session; only the empty step can be done unattended.
      if (error.status !== 401 || !error.body.session) throw error;
      const auth = { type: "m.login.dummy", session: error.body.session };
      return await this.request("POST", path, { body: { ...account, auth }, what });
    }
  }

  #adopt(answer) {
    this.session.userId = answer.user_id;
    this.session.deviceId = answer.device_id;
    this.session.accessToken = answer.access_token;
  }

  /** Ends the session on the homeserver; the access token is of no use afterwards. */
  async logout() {
    this.stopSync();
    await this.request("POST", "/_matrix/client/v3/logout", { body: {}, what: "Logout failed" });
  }

  /** Joins a room by id or alias; returns its id. */
  async joinRoom(roomIdOrAlias) {
    const path = `/_matrix/client/v3/join/${encodeURIComponent(roomIdOrAlias)}`;
    return (await this.request("POST", path, { body: {}, what: "Could not join the room" })).room_id;
  }

  /** Makes a public room in which everyone may take part in calls; returns its id. */
  async createRoom(name, invite, callTypes) {
    const events = Object.fromEntries(callTypes.map((type) => [type, 0]));
    const body = {
      name,
      invite,
      preset: "public_chat",
      // Whoever comes from another homeserver may bring the focus of that one.
      power_level_content_override: { events, invite: 0 },
      initial_state: [{ type: "m.room.guest_access", state_key: "", content: { guest_access: "can_join" } }],
    };
    return (await this.request("POST", "/_matrix/client/v3/createRoom", { body, what: "Could not make a room" })).room_id;
  }

  /** Invites a user to a room. */
  async invite(roomId, userId) {
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/invite`;
    await this.request("POST", path, { body: { user_id: userId }, what: "Could not invite" });
  }

  /** The whole current state of a room, as a list of state events. */
  async getState(roomId) {
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/state`;
    return await this.request("GET", path, { what: "Could not read the room" });
  }

  /** Writes one state event. `keepalive` lets the request outlive the page. */
  async putState(roomId, type, stateKey, content, { keepalive = false } = {}) {
    const parts = [roomId, "state", type, stateKey].map(encodeURIComponent);
    const path = `/_matrix/client/v3/rooms/${parts.join("/")}`;
    await this.request("PUT", path, { body: content, keepalive, what: `Could not write ${type}`, patient: true });
  }

  /** Sends one to-device message, unencrypted. */
  async sendToDevice(userId, deviceId, type, content, { keepalive = false } = {}) {
    const path = `/_matrix/client/v3/sendToDevice/${encodeURIComponent(type)}/${randomString(16)}`;
    const body = { messages: { [userId]: { [deviceId]: content } } };
    await this.request("PUT", path, { body, keepalive, what: `Could not send ${type}`, patient: true });
  }

  /** TURN servers of the homeserver as `RTCIceServer`s; an empty list where there are none. */
  async turnServers() {
    try {
      const answer = await this.request("GET", "/_matrix/client/v3/voip/turnServer", { what: "No TURN servers" });
      if (!answer.uris?.length) return [];
      return [{ urls: answer.uris, username: answer.username, credential: answer.password }];
    } catch {
      return [];
    }
  }

  /** Makes one request; throws `MatrixError` for an answer that is not 2xx, `TypeError` where nothing answered. */
  async request(method, path, { body, signal, keepalive = false, what, patient = false }) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.session.accessToken) headers.Authorization = `Bearer ${this.session.accessToken}`;
    const init = { method, headers, signal, keepalive, body: body && JSON.stringify(body) };
    for (let attempt = 0; ; attempt += 1) {
      const response = await fetch(this.session.baseUrl + path, init);
      // An answer that breaks off, or that was given up in its middle, is none.
      if (response.ok) return await response.json();
      const answer = await response.json().catch(() => ({}));
      const error = new MatrixError(response.status, answer, what);
      if (error.errcode === "M_UNKNOWN_TOKEN") this.emit("loggedout", error);
      const again = patient && attempt < 4 && (response.status === 429 || response.status >= 500);
      if (!again) throw error;
      await pause(error.retryAfterMs || 500 * 2 ** attempt);
    }
  }

  /**
   * Starts following one room's call state and this device's messages. Resolves when the first answer is in, so that
   * what is sent afterwards finds the sync waiting.
   */
  async startSync(roomId, stateTypes) {
    if (this.#syncing) return;
    this.#syncing = true;
    this.#abort = new AbortController();
    const filter = syncFilter(roomId, stateTypes);
    try {
      if (this.#since === null) await this.#syncOnce(filter, 0);
    } catch (error) {
      this.#syncing = false;
      throw error;
    }
    this.#syncLoop(filter);
  }

  /** Stops following; the place is kept, so that a later `startSync` misses no message. */
  stopSync() {
    this.#syncing = false;
    this.#abort.abort();
  }

  async #syncLoop(filter) {
    const abort = this.#abort;
    let failures = 0;
    while (!abort.signal.aborted) {
      try {
        await this.#syncOnce(filter, SYNC_TIMEOUT_MS);
        if (failures > 0) this.emit("sync", "up");
        failures = 0;
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error.errcode === "M_UNKNOWN_TOKEN") return;
        failures += 1;
        if (failures === 1) this.emit("sync", "down");
        await pause(Math.max(error.retryAfterMs ?? 0, Math.min(BACK_OFF_MAX_MS, 500 * 2 ** failures)));
      }
    }
  }

  async #syncOnce(filter, timeoutMs) {
    const query = new URLSearchParams({ timeout: timeoutMs, filter, set_presence: "offline" });
    if (this.#since !== null) query.set("since", this.#since);
    const what = "Lost contact with the homeserver";
    // The browser itself may never give up on a connection whose other end is gone.
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(timeoutMs + 15_000)]);
    const answer = await this.request("GET", `/_matrix/client/v3/sync?${query}`, { signal, what });
    this.#since = answer.next_batch;
    for (const event of answer.to_device?.events ?? []) this.emit("todevice", event);
    for (const [roomId, room] of Object.entries(answer.rooms?.join ?? {})) {
      const events = [...(room.state?.events ?? []), ...(room.timeline?.events ?? [])];
      for (const event of events) if (event.state_key !== undefined) this.emit("state", { roomId, event });
    }
  }
}

/** Only what a call needs: a busy account should not have to download its rooms. */
function syncFilter(roomId, stateTypes) {
  const nothing = { types: [] };
  const room = {
    rooms: [roomId],
    state: { types: stateTypes },
    timeline: { types: stateTypes, limit: 50 },
    ephemeral: nothing,
    account_data: nothing,
  };
  return JSON.stringify({ presence: nothing, account_data: nothing, room });
}
