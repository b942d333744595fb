// The page: forms and buttons, and which of the three screens (log in, lobby, call) is shown.
//
// Every field can be filled from the address, after `?` or (so that it never travels to the web server) after `#`:
//   homeserver, user, password, guest=1, room, call, focus_user, focus_device, camera=0, microphone=0, join=1, foci=1
// and `key`, the call's media key, after `#` only. It is kept as long as its tab, so that a reload does not send in the clear.
// `join=1` goes into the call without a click, `foci=1` shows beside it who is connected where. What was given is taken out of the address bar again.

import { Call } from "./call.js";
import { installDebug } from "./debug.js";
import { requireEncryption } from "./encryption.js";
import { EventLog } from "./log.js";
import { MatrixClient } from "./matrix.js";
import { FociPanel } from "./picture.js";
import { CALL_STATE_TYPES } from "./room.js";
import { CallView } from "./view.js";

const SESSION_KEY = "weir.session";
const MEDIA_KEY = "weir.media-key";
const STATES = {
  joining: "Joining…",
  connecting: "Calling the focus…",
  connected: "Connected",
  reconnecting: "Connection lost; calling again…",
  left: "You left",
  failed: "The call could not be made",
};

const $ = (id) => document.getElementById(id);

class App {
  #given = readAddress();
  #log = new EventLog($("events"));
  #wanted = { camera: true, microphone: true };

  matrix = null;
  call = null;
  view = new CallView($("tiles"));
  foci = new FociPanel($("foci"), $("foci-button"));

  async start() {
    installDebug(this);
    this.#fill("login", this.#given);
    this.#fill("lobby", this.#given);
    this.#keepMediaKey(this.#given.key ?? sessionStorage.getItem(MEDIA_KEY) ?? "");
    this.#wire();
    if (this.#given.foci === "1") this.foci.offer();
    const saved = readSession();
    const other = this.#given.homeserver && saved?.baseUrl !== this.#given.homeserver.replace(/\/+$/, "");
    if (saved && !other && !this.#given.user) return await this.#enter(new MatrixClient(saved));
    this.#show("login");
    if (this.#given.guest === "1") await this.#login(true);
    else if (this.#given.user && this.#given.password) await this.#login(false);
  }

  get log() {
    return this.#log;
  }

  #fill(formId, values) {
    for (const [name, value] of Object.entries(values)) {
      const field = $(formId).elements.namedItem(name);
      if (field?.type === "checkbox") field.checked = value !== "0";
      else if (field) field.value = value;
    }
  }

  #keepMediaKey(key) {
    $("lobby").elements.namedItem("key").value = key;
    if (key) sessionStorage.setItem(MEDIA_KEY, key);
    else sessionStorage.removeItem(MEDIA_KEY);
  }

  #wire() {
    const act = (id, name, action) => $(id).addEventListener(name, (event) => this.#attempt(action, event));
    act("login", "submit", (event) => (event.preventDefault(), this.#login(false)));
    act("guest", "click", () => this.#login(true));
    act("logout", "click", () => this.#logout());
    act("lobby", "submit", (event) => (event.preventDefault(), this.join()));
    act("new-room", "click", () => this.#makeRoom());
    act("microphone", "click", () => this.call.setMicrophoneMuted(!this.call.user.audioMuted));
    act("camera", "click", () => this.call.setCameraMuted(!this.call.user.videoMuted));
    act("screen", "click", () => (this.call.screen ? this.call.stopScreen() : this.call.startScreen()));
    act("spotlight", "click", () => this.view.setMode(this.view.mode === "grid" ? "spotlight" : "grid"));
    act("quality", "change", (event) => this.view.setQuality(event.target.value));
    act("figures", "click", () => $("tiles").classList.toggle("plain"));
    act("sound", "click", () => this.view.playSound());
    act("leave", "click", () => this.leave());
    $("controls").addEventListener("click", () => this.#showControls());
    $("tiles").addEventListener("modechange", () => this.#showControls());
    $("tiles").addEventListener("soundblocked", (event) => ($("sound").hidden = !event.detail));
    // To a browser, another part after # is the same page; to whoever enters it, it is another call or another key.
    window.addEventListener("hashchange", () => location.reload());
    window.addEventListener("pagehide", () => this.call?.leave({ keepalive: true }));
  }

  /** Runs what a button does; a failure is shown, not thrown. */
  async #attempt(action, event) {
    this.#showError("");
    try {
      await action(event);
    } catch (error) {
      this.#showError(error.message);
      this.#log.add(error.message, "problem");
    }
    this.#showControls();
  }

  // ---- log in -------------------------------------------------------------------------------------------------------

  async #login(asGuest) {
    const form = new FormData($("login"));
    await this.#attempt(async () => {
      const matrix = await MatrixClient.discover(form.get("homeserver"));
      if (asGuest) await matrix.loginAsGuest();
      else if (!form.get("user") || !form.get("password")) throw new Error("Enter a user name and a password.");
      else await matrix.login(form.get("user"), form.get("password"));
      $("login").elements.namedItem("password").value = "";
      await this.#enter(matrix);
    });
  }

  async #enter(matrix) {
    this.matrix = matrix;
    sessionStorage.setItem(SESSION_KEY, JSON.stringify(matrix.session));
    matrix.on("loggedout", () => this.#forget("The homeserver has ended this session. Log in again."));
    this.#log.add(`logged in as ${matrix.userId}`);
    this.#show("lobby");
    if (this.#given.join !== "1") return;
    this.#given.join = "";
    await this.#attempt(() => this.join());
  }

  async #logout() {
    await this.leave();
    await this.matrix.logout();
    this.#keepMediaKey("");
    this.#forget("");
  }

  #forget(message) {
    sessionStorage.removeItem(SESSION_KEY);
    this.matrix?.stopSync();
    this.matrix = null;
    this.#show("login");
    this.#showError(message);
  }

  // ---- the call -----------------------------------------------------------------------------------------------------

  async #makeRoom() {
    const focusUser = $("lobby").elements.namedItem("focus_user").value.trim();
    const invite = focusUser ? [focusUser] : [];
    $("lobby").elements.namedItem("room").value = await this.matrix.createRoom("Call", invite, CALL_STATE_TYPES);
    await this.join();
  }

  /** Joins the call that the lobby's form describes. */
  async join() {
    const form = new FormData($("lobby"));
    const text = (name) => (form.get(name) ?? "").trim();
    if (Boolean(text("focus_user")) !== Boolean(text("focus_device"))) throw new Error("A focus has a user and a device.");
    if (this.#given.keyWasSent) throw new Error("A media key after ? was sent to the web server, which must not have it. Take a new one, after #.");
    const mediaKey = text("key");
    if (mediaKey) requireEncryption();
    this.#keepMediaKey(mediaKey);
    const focus = text("focus_user") ? { userId: text("focus_user"), deviceId: text("focus_device") } : undefined;
    this.#wanted = { camera: form.has("camera"), microphone: form.has("microphone") };
    this.call = new Call(this.matrix, { room: text("room"), confId: text("call") || undefined, focus, mediaKey });
    this.#follow(this.call);
    this.#show("call");
    try {
      await this.#openDevices();
      this.#showControls();
      this.view.attach(this.call, { userId: this.matrix.userId, deviceId: this.matrix.deviceId });
      await this.call.join();
    } catch (error) {
      this.call.user.stop();
      this.view.detach();
      this.#show("lobby");
      throw error;
    }
    const encrypted = mediaKey ? " · media encrypted with a shared key" : "";
    $("where").textContent = (this.call.room.name || this.call.roomId) + encrypted;
  }

  #follow(call) {
    call.on("log", (text) => this.#log.add(text));
    call.on("problem", (text) => this.#log.add(text, "problem"));
    call.on("sources", () => this.#showControls());
    call.on("state", (state) => {
      if (call !== this.call) return;
      this.#log.add(STATES[state] ?? state);
      this.#showState(state);
      if (state !== "failed") return;
      this.view.detach();
      this.#show("lobby");
      this.#showError("The focus refuses this call. The events below say why.");
    });
  }

  // A missing camera or microphone keeps nobody from seeing and hearing the others.
  async #openDevices() {
    const open = [];
    if (this.#wanted.camera) open.push(this.call.user.openCamera());
    if (this.#wanted.microphone) open.push(this.call.user.openMicrophone());
    for (const { status, reason } of await Promise.allSettled(open)) {
      if (status === "rejected") this.#log.add(reason.message, "problem");
      if (status === "rejected") this.#showError(reason.message);
    }
  }

  /** Leaves the call and goes back to the lobby. */
  async leave() {
    const call = this.call;
    this.view.detach();
    this.#show("lobby");
    await call?.leave();
  }

  // ---- what is shown ------------------------------------------------------------------------------------------------

  #show(screen) {
    for (const id of ["login", "lobby", "call"]) $(id).hidden = id !== screen;
    $("logout").hidden = screen === "login";
    if (screen !== "call") $("where").textContent = this.matrix?.userId ?? "";
    if (screen !== "call") this.#showState("");
    this.#showControls();
  }

  #showState(state) {
    $("state").dataset.state = state;
    $("state").textContent = STATES[state] ?? "";
  }

  #showError(message) {
    $("error").textContent = message;
    $("error").hidden = message === "";
  }

  #showControls() {
    const press = (id, pressed) => $(id).setAttribute("aria-pressed", String(Boolean(pressed)));
    press("microphone", this.call && !this.call.user.audioMuted);
    press("camera", this.call && !this.call.user.videoMuted);
    press("screen", this.call?.screen);
    press("spotlight", this.view.mode === "spotlight");
    press("figures", !$("tiles").classList.contains("plain"));
  }
}

function readAddress() {
  const keyWasSent = new URLSearchParams(location.search).has("key");
  const given = {
    ...Object.fromEntries(new URLSearchParams(location.search)),
    ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))),
    keyWasSent,
  };
  // A password must not stay where it can be read over a shoulder or copied with the link.
  // A media key that has been sent is refused after a reload, too.
  if (location.search || location.hash) history.replaceState(null, "", location.pathname + (keyWasSent ? "?key" : ""));
  return given;
}

function readSession() {
  try {
    const session = JSON.parse(sessionStorage.getItem(SESSION_KEY));
    return session?.accessToken ? session : null;
  } catch {
    return null;
  }
}

new App().start();
