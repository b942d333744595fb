// The one way modules of this page tell each other that something happened.

/** A list of listeners per event name; a listener that throws does not keep the others from hearing. */
export class Emitter {
  #listeners = new Map();

  /**
   * Calls `listener` with the value of every later `emit(name, value)`.
   * @returns {() => void} removes the listener again
   */
  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => this.#listeners.get(name)?.delete(listener);
  }

  /** Tells every listener of `name`, in the order in which they were added. */
  emit(name, value) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        console.error(`a listener of "${name}" failed`, error);
      }
    }
  }
}

/** Resolves after `ms` milliseconds. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** `length` random characters out of letters and digits; for identifiers, not for secrets of long life. */
export function randomString(length) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => alphabet[byte % alphabet.length]).join("");
}
