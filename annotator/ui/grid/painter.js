// Paints everything around the cards: headline, status, message, side column, and the marks that tests look at. Reads
// all and changes nothing.

import { curve } from "./curve.js";
import { setAttribute } from "./dom.js";
import { whyLine } from "./words.js";

const LATE_MS = 3000;
const WAIT_MS = 150;
const FINISHED = "Finished: every image has been asked about.";

export class Painter {
  // `data` and `words` return the newest ones.
  constructor({ frame, outbox, batches, shown, navigation, data, words }) {
    Object.assign(this, { frame, outbox, batches, shown, navigation, data, words });
  }

  paint() {
    this.shown.page?.paint(this.words());
    this.paintHead();
    this.paintStatus();
    this.paintMessage();
    this.paintMarks();
  }

  paintHead() {
    const { title, status } = this.data();
    const labels = status.labels + this.batches.labelsOnTheirWay;
    const { page } = this.shown;
    const all = page?.views.length ?? 0;
    this.frame.paintHead(title, page ? whyLine(page.page, labels) : "", status);
    this.frame.paintLine(all - this.shown.openCount, all);
  }

  paintStatus() {
    const [oldest] = this.outbox.events;
    const late = oldest !== undefined && Date.now() - oldest.order / 1000 >= LATE_MS;
    this.frame.paintStatus(this.data().status.saved, this.outbox.size, late, this.outbox.durable);
  }

  // Once more when what was just made has not been stored for so long that it has to be explained.
  paintStatusWhenLate() {
    clearTimeout(this.lateTimer);
    this.lateTimer = setTimeout(() => this.paintStatus(), LATE_MS + 50);
  }

  paintMessage() {
    clearTimeout(this.waitTimer);
    if (this.isWaiting) {
      this.waitTimer = setTimeout(() => this.frame.paintMessage("Choosing the next images …"), WAIT_MS);
    } else {
      this.frame.paintMessage(this.batches.openCount ? "" : this.data().held || FINISHED);
    }
  }

  get isWaiting() {
    return !this.data().finished && !this.data().held && this.batches.openCount === 0;
  }

  paintMarks() {
    const { status, many } = this.data();
    const marks = {
      round: this.shown.page?.round ?? "",
      open: this.shown.openCount,
      unsaved: this.outbox.size,
      saved: status.saved,
      waiting: this.isWaiting,
      browsing: this.navigation.isBrowsing,
      many,
    };
    for (const [name, value] of Object.entries(marks)) setAttribute(this.frame.element, `data-${name}`, value);
  }

  paintSide() {
    const { news, background, curve: figures } = this.data();
    this.frame.paintSide(news, background);
    const text = JSON.stringify(figures);
    if (text === this.curveText) return;
    this.curveText = text;
    this.frame.curve.replaceChildren(...curve(figures));
  }

  stop() {
    clearTimeout(this.waitTimer);
    clearTimeout(this.lateTimer);
  }
}
