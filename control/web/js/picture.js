// The picture of the foci on the screen, new each second: asks `/conferences` of where the page came from, and draws it as SVG. Where
// everything is, plan.js says; what is true, connections.js.

import { conferencesOf, formatLost, formatRate, formatTracks, readConnections } from "./connections.js";
import { lineBetween, planPicture } from "./plan.js";

const SVG = "http://www.w3.org/2000/svg";
const EVERY_MS = 1_000;
/** Half the distance between the two lines of a trunk. */
const APART = 5;
const LINE_HEIGHT = 17;

/** Draws into `parent` while it is started. */
export class FociPicture {
  #parent;
  #select = document.createElement("select");
  #note = document.createElement("p");
  #svg = document.createElementNS(SVG, "svg");
  /** What is drawn, by a key of its own, so that what stays is changed and not made anew. */
  #drawn = new Map();
  #touched = new Set();
  #timer = null;

  /** What was drawn last, see connections.js. */
  connections = { foci: [], trunks: [] };

  /** @param {HTMLElement} parent */
  constructor(parent) {
    this.#parent = parent;
    this.#select.hidden = true;
    this.#select.setAttribute("aria-label", "Conference");
    this.#note.className = "foci-note";
    this.#note.setAttribute("role", "status");
    this.#svg.setAttribute("class", "foci-picture");
    this.#svg.setAttribute("role", "img");
    this.#svg.append(arrowHead());
    this.#select.addEventListener("change", () => this.refresh());
  }

  get isStarted() {
    return this.#timer !== null;
  }

  start() {
    if (this.isStarted) return;
    this.#parent.replaceChildren(this.#select, this.#note, this.#svg);
    this.#timer = setInterval(() => document.hidden || this.refresh(), EVERY_MS);
    this.refresh();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#parent.replaceChildren();
  }

  /** Asks, and draws the answer. Without one the last picture stays, and it says so. */
  async refresh() {
    const said = await askForConferences();
    this.#svg.classList.toggle("stale", said.problem !== "");
    this.#note.textContent = said.problem;
    if (said.document) this.draw(said.document);
  }

  /** Draws a document. */
  draw(said) {
    const names = conferencesOf(said).map(({ name }) => name);
    this.#offer(names);
    this.connections = readConnections(said, this.#select.value || names[0]);
    const { foci, trunks } = this.connections;
    const left = foci.reduce((sum, focus) => sum + focus.leftOut, 0);
    if (names.length === 0) this.#note.textContent = "Nobody is in a call.";
    else if (left > 0) this.#note.textContent = `${left} more than are shown`;
    const plan = planPicture(this.connections);
    const { x, y, width, height } = plan.bounds;
    this.#svg.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    const people = foci.reduce((sum, focus) => sum + focus.people.length, 0);
    this.#svg.setAttribute("aria-label", `${foci.length} foci, ${trunks.length} trunks, ${people} participants`);
    this.#touched.clear();
    // Lines first: what comes later lies on top.
    for (const place of plan.people) this.#drawTie(place, plan.foci.get(place.focus));
    for (const trunk of trunks) this.#drawLines(trunk, trunk.ends.map((end) => plan.foci.get(end)));
    for (const focus of foci) this.#drawFocus(focus, plan.foci.get(focus.key));
    for (const place of plan.people) this.#drawPerson(place);
    for (const trunk of trunks) this.#drawLabels(trunk, plan.trunks.get(trunk.key));
    for (const [key, element] of this.#drawn) {
      if (this.#touched.has(key)) continue;
      element.remove();
      this.#drawn.delete(key);
    }
  }

  #offer(names) {
    const shown = [...this.#select.options].map((option) => option.value);
    this.#select.hidden = names.length < 2;
    if ([...names].sort().join() === shown.sort().join()) return;
    const chosen = this.#select.value;
    this.#select.replaceChildren(...names.map((name) => new Option(`conference ${name}`, name)));
    if (names.includes(chosen)) this.#select.value = chosen;
  }

  // ---- what is drawn ------------------------------------------------------------------------------------------------

  #drawTie({ focus, person, box }, at) {
    this.#put(`tie ${focus} ${person?.key}`, "line", { class: "tie", x1: at.x, y1: at.y, x2: box.x, y2: box.y });
  }

  #drawLines({ key, ends, flows, state }, boxes) {
    for (const [index, flow] of flows.entries()) {
      const [from, to] = index === 0 ? boxes : [boxes[1], boxes[0]];
      const moves = state === "up" && flow.packets > 0;
      this.#put(`line ${index} ${key}`, "line", {
        class: `trunk${moves ? " flows" : ""}`,
        "data-state": state,
        "data-from": ends[index],
        "stroke-width": Math.min(7, 1.5 + Math.log10(1 + (flow.bits ?? 0) / 10_000)),
        "marker-end": "url(#arrow)",
        ...lineBetween(from, to, APART),
      });
    }
  }

  #drawFocus({ key, name, userId, state, people }, box) {
    const here = people.length === 1 ? "1 participant" : `${people.length} participants`;
    const what = state === "up" ? here : state;
    this.#drawBox(`focus ${key}`, box, [name, what], { class: "focus", "data-state": state, "data-focus": userId }, userId);
  }

  #drawPerson({ focus, person, more, box }) {
    const attributes = { class: "person", "data-person": person?.userId ?? "" };
    if (person === null) return this.#drawBox(`person ${focus}`, box, ["", `and ${more} more`, ""], attributes);
    const line = (arrow, flow) => [arrow, `${flow.video + flow.audio} tracks`, formatRate(flow.bits)].filter(Boolean).join(" ");
    const details = `${person.userId}: sends ${formatTracks(person.sends)}, gets ${formatTracks(person.gets)}`;
    this.#drawBox(`person ${focus} ${person.key}`, box, [person.name, line("↑", person.sends), line("↓", person.gets)], attributes, details);
  }

  #drawLabels({ key, ends, flows, state, roundTrip }, { flows: boxes, middle }) {
    const nameOf = (end) => this.connections.foci.find((focus) => focus.key === end).name;
    const describe = (index) => {
      const flow = flows[index];
      const packets = flow.packets === null ? "" : `${flow.packets} packets/s`;
      const rate = [formatRate(flow.bits), formatLost(flow.lost)].filter(Boolean).join(", ");
      return [`to ${nameOf(ends[1 - index])}`, formatTracks(flow), packets, rate];
    };
    for (const [index, box] of boxes.entries()) {
      if (box) this.#drawBox(`flow ${index} ${key}`, box, describe(index), { class: "flow", "data-from": ends[index], "data-state": state });
    }
    const round = roundTrip === null ? "" : `, ${roundTrip < 10 ? roundTrip.toFixed(1) : Math.round(roundTrip)} ms`;
    const details = [0, 1].map((index) => describe(index).join(", ")).join("; ");
    this.#drawBox(`middle ${key}`, middle, [`${state}${round}`], { class: "middle", "data-trunk": key, "data-state": state }, details);
  }

  /** A box with lines of text, and words for who points at it. */
  #drawBox(key, { x, y, width, height }, lines, attributes, title = "") {
    const group = this.#put(key, "g", { ...attributes, transform: `translate(${x} ${y})` });
    if (group.childElementCount === 0) group.append(make("title"), make("rect", { rx: 8 }), ...lines.map(() => make("text")));
    const [words, rect, ...texts] = group.children;
    words.textContent = title;
    set(rect, { x: -width / 2, y: -height / 2, width, height });
    for (const [index, text] of texts.entries()) {
      set(text, { y: (index - (lines.length - 1) / 2) * LINE_HEIGHT, "font-weight": index === 0 && lines.length > 1 ? "bold" : "normal" });
      text.textContent = shorten(lines[index], width);
    }
  }

  /** What is drawn already stays where it is among the others. */
  #put(key, name, attributes) {
    if (!this.#drawn.has(key)) {
      this.#drawn.set(key, make(name));
      this.#insert(this.#drawn.get(key));
    }
    this.#touched.add(key);
    return set(this.#drawn.get(key), attributes);
  }

  /** Lines go below boxes. */
  #insert(element) {
    const firstBox = this.#svg.querySelector(":scope > g");
    if (element.localName === "line" && firstBox) firstBox.before(element);
    else this.#svg.append(element);
  }
}

/** A button that shows and hides the picture beside the call. */
export class FociPanel {
  #panel;
  #button;

  /** @param {HTMLElement} panel @param {HTMLButtonElement} button */
  constructor(panel, button) {
    this.#panel = panel;
    this.#button = button;
    this.picture = new FociPicture(panel.querySelector(".foci-place"));
    button.addEventListener("click", () => this.show(panel.hidden));
  }

  /** Shows the button, and the picture. */
  offer() {
    this.#button.hidden = false;
    this.show(true);
  }

  show(shown) {
    this.#panel.hidden = !shown;
    this.#button.setAttribute("aria-pressed", String(shown));
    if (shown) this.picture.start();
    else this.picture.stop();
  }
}

async function askForConferences() {
  try {
    const answer = await fetch("conferences", { cache: "no-store" });
    if (answer.status === 404) return { problem: "This focus does not tell who is connected where (http.conferences)." };
    if (!answer.ok) return { problem: `No picture: ${answer.status} ${(await answer.text()).trim()}` };
    return { problem: "", document: await answer.json() };
  } catch {
    return { problem: "Nobody answers. This is how it was." };
  }
}

const make = (name, attributes = {}) => set(document.createElementNS(SVG, name), attributes);

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const text = typeof value === "number" ? String(Math.round(value * 10) / 10) : value;
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
  return element;
}

function arrowHead() {
  const marker = make("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", markerUnits: "userSpaceOnUse" });
  marker.append(make("path", { d: "M0 0 8 4 0 8Z" }));
  const definitions = make("defs");
  definitions.append(marker);
  return definitions;
}

/** What fits into a box, at about as many units for a character. */
function shorten(text, width) {
  const characters = Math.floor((width - 8) / 6.9);
  return text.length > characters ? `${text.slice(0, characters - 1)}…` : text;
}
