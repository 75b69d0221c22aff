/* What the page keeps in the browser: over a reload (the session) or for good (the choices). A browser may
 * refuse it storage; the values then last as long as the page. */

class Memory {
  /* open(): the Storage; may throw. */
  constructor(open) {
    this.values = new Map();
    try {
      this.storage = open();
    } catch {
      this.storage = null;
    }
  }

  get(key) {
    try {
      return this.storage?.getItem(key) ?? this.values.get(key) ?? null;
    } catch {
      return this.values.get(key) ?? null;
    }
  }

  set(key, value) {
    this.values.set(key, value);
    try {
      this.storage?.setItem(key, value);
    } catch {
      /* full, or switched off: it stands in values */
    }
  }
}

export const choices = new Memory(() => window.localStorage);
export const session = new Memory(() => window.sessionStorage);
