// The outbox: events that are not yet acknowledged, in the order they were made, each also an entry of the browser's
// storage, so that a reload, a closed tab or a dead server loses none. Knows no card and no server.

const LATER_MS = [1000, 2000, 4000];
const LATEST_MS = 5000;
const HASTY_MS = 150;
const CALM_MS = 700;
const HELD_MS = 10000;
const FEW_OPEN = 3;

export class Outbox {
  // `storage` is localStorage or its like, or null; `tab` names this mount, `now` gives milliseconds since 1970.
  constructor(project, annotator, tab, storage, now = Date.now) {
    this.prefix = `annotator:${project}:${annotator}:`;
    this.tab = tab;
    this.storage = storage;
    this.now = now;
    this.events = [];
    this.durable = storage !== null;
    this.refused = new Map();
    this.last = 0;
    this.join();
  }

  get size() {
    return this.events.length;
  }

  // Take in what this or another tab has left in the storage.
  join() {
    const known = new Set(this.events.map((event) => event.key));
    const found = stored(this.storage, this.prefix).filter((event) => !known.has(event.key));
    this.events = [...this.events, ...found].sort((one, other) => one.order - other.order);
    this.last = Math.max(this.last, ...found.map((event) => event.order));
  }

  // Give the event its key and running number, keep it, and return it.
  add(event) {
    const entry = { key: this.keyOf(event.id), ...event, order: this.nextOrder() };
    this.events.push(entry);
    this.write(entry);
    return entry;
  }

  // Drop what was stored or refused. Returns the events stored, and the reasons for what was refused or kept for later.
  settle(results) {
    const verdict = { stored: [], refused: [], kept: [] };
    this.events = this.events.filter((event) => {
      const result = results[event.key];
      if (result === undefined || !(result.status in verdict)) return true;
      verdict[result.status].push(result.status === "stored" ? event : result.reason);
      if (result.status === "kept") return true;
      this.drop(event, result.status);
      return false;
    });
    return verdict;
  }

  // What is sent: everything, in order, without the running number.
  messages() {
    return this.events.map(({ order, ...event }) => event);
  }

  // A refused event's key is not used again: its old verdict may still arrive once more.
  keyOf(id) {
    const times = this.refused.get(id) ?? 0;
    return times ? `${this.tab}-${times + 1}:${id}` : `${this.tab}:${id}`;
  }

  drop(event, status) {
    if (status === "refused") this.refused.set(event.id, (this.refused.get(event.id) ?? 0) + 1);
    try {
      this.storage?.removeItem(this.prefix + event.key);
    } catch {
      this.durable = false;
    }
  }

  write(entry) {
    try {
      this.storage?.setItem(this.prefix + entry.key, JSON.stringify(entry));
    } catch {
      this.durable = false;
    }
  }

  nextOrder() {
    this.last = Math.max(this.now() * 1000, this.last + 1);
    return this.last;
  }
}

function stored(storage, prefix) {
  const found = [];
  try {
    for (let at = 0; at < (storage?.length ?? 0); at += 1) {
      const name = storage.key(at);
      if (name.startsWith(prefix)) found.push(parsed(storage.getItem(name), name.slice(prefix.length)));
    }
  } catch {
    return [];
  }
  return found.filter(Boolean);
}

function parsed(text, key) {
  try {
    const event = JSON.parse(text);
    return event?.key === key && Number.isFinite(event.order) && typeof event.id === "string" ? event : null;
  } catch {
    return null;
  }
}

// Milliseconds until all of it is sent again, or null: nothing is unacknowledged. `tries` counts the times since the
// newest event or the newest acknowledgement.
export function resendDelay(unsaved, tries) {
  return unsaved ? LATER_MS[tries] ?? LATEST_MS : null;
}

// Milliseconds until the server is asked for the batch that is being chosen, or null: none is. A new message interrupts
// a server that is still at work on the last one, so one that has stayed silent after `polls` of them gets more time.
export function pollDelay(pending, open, polls) {
  if (!pending) return null;
  const base = open <= FEW_OPEN ? HASTY_MS : CALM_MS;
  return Math.max(base, Math.min(CALM_MS, HASTY_MS * 2 ** Math.max(0, polls - 2)));
}

// The soonest, or null. Images that are `held` by others may come back, or be answered there.
export function nextDelay({ unsaved, pending, held, open, tries, polls }) {
  const known = [resendDelay(unsaved, tries), pollDelay(pending, open, polls), held && !open ? HELD_MS : null];
  const delays = known.filter((delay) => delay !== null);
  return delays.length ? Math.min(...delays) : null;
}

// The browser's storage, or null where it cannot be used.
export function browserStorage() {
  try {
    const probe = "annotator:probe";
    localStorage.setItem(probe, "");
    localStorage.removeItem(probe);
    return localStorage;
  } catch {
    return null;
  }
}

// Twelve hexadecimal digits; unlike crypto.randomUUID also where the page is not served securely.
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
