// The small list of events at the foot of the page; also what a test or a bug report reads.

const LINES_MAX = 200;

/** Keeps the newest lines, on the screen and in `entries`. */
export class EventLog {
  #list;
  entries = [];

  /** @param {HTMLElement} list an `<ol>` */
  constructor(list) {
    this.#list = list;
  }

  /** Adds a line; `kind` is "" or "problem". */
  add(text, kind = "") {
    this.entries.push({ at: Date.now(), text, kind });
    const line = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = new Date().toLocaleTimeString();
    line.append(time, text);
    if (kind) line.className = kind;
    this.#list.append(line);
    line.scrollIntoView({ block: "nearest" });
    while (this.entries.length > LINES_MAX) {
      this.entries.shift();
      this.#list.firstChild.remove();
    }
  }
}
