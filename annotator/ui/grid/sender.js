// The sender: hands the outbox to Streamlit at once, again, and while a batch is being chosen. Knows no card.

import { nextDelay } from "./outbox.js";
import { rerunScript } from "./rerun.js";

const AFTER_MOUNT_MS = 50;
const PATIENCE_MS = 1000;
const SILENT_TRIES = 3;
const SILENT_POLLS = 8;

export class Sender {
  // `state` returns {pending, open} of this moment; `onTick` is called whenever something was sent by the clock.
  constructor(outbox, state, onTick) {
    this.outbox = outbox;
    this.state = state;
    this.onTick = onTick;
    this.n = 0;
    this.tries = 0;
    this.polls = 0;
    this.waitingFor = 0;
    this.owed = false;
    this.answered = true;
    this.postedAt = 0;
    this.shown = new Set();
    this.carried = new Set();
  }

  start(setStateValue) {
    this.setStateValue = setStateValue;
    if (this.running) return;
    this.running = true;
    this.later(this.outbox.size ? AFTER_MOUNT_MS : this.delay());
  }

  stop() {
    this.running = false;
    clearTimeout(this.timer);
  }

  // A new event: everything goes out at once, or when the server has answered the last message.
  send() {
    this.tries = 0;
    this.owed = true;
    if (this.patience > 0) this.later(this.delay());
    else this.post();
  }

  // Newer data came from the server, acknowledging `settled` events.
  acknowledged(settled) {
    this.polls = 0;
    this.answered = true;
    this.carried.clear();
    if (settled) this.tries = 0;
    if (!this.running) return;
    if (this.owed) this.post();
    else this.later(this.delay());
  }

  // A message interrupts the server in its work on the one before, and its answer would never come: how long to wait.
  get patience() {
    return this.answered ? 0 : Math.max(0, this.postedAt + PATIENCE_MS - performance.now());
  }

  // `shown` goes along until the server is heard of: a message may be lost on its way.
  post() {
    for (const round of this.shown) this.carried.add(round);
    this.shown.clear();
    this.n = Math.max(this.n + 1, Date.now());
    this.owed = false;
    this.answered = false;
    this.postedAt = performance.now();
    this.later(this.delay());
    this.setStateValue("outbox", { n: this.n, events: this.outbox.messages(), shown: [...this.carried] });
  }

  // A server that was started anew knows nothing of this page until the whole script has run for it.
  resend() {
    this.tries += 1;
    this.polls += 1;
    if (this.tries >= SILENT_TRIES || this.polls >= SILENT_POLLS) rerunScript();
    this.post();
    this.onTick();
  }

  delay() {
    if (this.owed) return this.patience;
    const due = nextDelay({ unsaved: this.outbox.size, tries: this.tries, polls: this.polls, ...this.state() });
    return due === null ? null : Math.max(due, this.patience);
  }

  later(delay) {
    clearTimeout(this.timer);
    if (delay !== null) this.timer = setTimeout(() => this.resend(), delay);
  }
}
