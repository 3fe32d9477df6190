// Says what the server has made of the events it was sent. Knows no card.

import { count } from "./words.js";

const ALERT_MS = 10000;

export class Verdicts {
  constructor(frame) {
    this.frame = frame;
    this.keptBecause = null;
  }

  // What is kept for later is said once, until the reason has changed: the same one comes with every sending.
  show({ refused, kept }) {
    if (refused.length) {
      const more = refused.length > 1 ? ` (${count(refused.length, "answer")} in all)` : "";
      this.frame.showAlert(`Not stored: ${refused[0]}${more}`, ALERT_MS);
    } else if (kept.length && kept[0] !== this.keptBecause) {
      this.frame.showAlert(`Not stored yet, kept in this browser and sent again: ${kept[0]}`);
    } else if (!kept.length && this.keptBecause !== null) {
      this.frame.dismissAlert();
    }
    this.keptBecause = kept[0] ?? null;
  }
}
