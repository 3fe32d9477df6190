// Navigation: which batch is shown, and when the next one takes its place. Knows no keys and no events.

import { lowestOpen, neighbour, nextOpen } from "./cursor.js";

export class Navigation {
  // `words` returns what classes are called; `onShown(round)` is called whenever a batch has come on the screen.
  constructor({ batches, shown, layout, frame, words, onShown }) {
    this.batches = batches;
    this.shown = shown;
    this.layout = layout;
    this.frame = frame;
    this.words = words;
    this.onShown = onShown;
    this.isBrowsing = false;
  }

  // Show a batch with the cursor on that place, or on its first open card.
  show(round, cursor = null) {
    const page = this.batches.get(round);
    const focused = this.shown.replace(page, this.words());
    this.layout.updateForNewPage();
    this.isBrowsing = false;
    this.onShown(round);
    this.shown.moveTo(cursor ?? nextOpen(page.open, -1));
    if (focused) this.shown.focus();
  }

  // The lowest round that has open cards. Returns whether there is one.
  showLowest() {
    this.batches.renew();
    const round = lowestOpen(this.batches.open);
    if (round === null) return false;
    this.show(round);
    return true;
  }

  // The card at `from` was answered: go on to the next open card, of the next batch where this one has none.
  advance(from) {
    if (!this.shown.moveToOpen(from) && !this.showLowest()) this.shown.moveTo(-1);
  }

  // The batch before or after this one, to look at; none beyond the first that has open cards.
  browse(by) {
    const round = neighbour(this.batches.rounds, this.shown.page?.round ?? 0, by);
    const lowest = lowestOpen(this.batches.open);
    if (round === null || (by > 0 && lowest !== null && round > lowest)) {
      this.frame.notify(by < 0 ? "There is no batch before this one here" : "This is the newest batch");
      return false;
    }
    this.show(round);
    this.isBrowsing = by < 0;
    return true;
  }

  // After new data: stay where the person is, unless there is nothing left to do here.
  settle() {
    const { page, openCount, cursor } = this.shown;
    if (openCount) {
      if (cursor < 0) this.shown.moveToOpen();
    } else if (!(page && this.isBrowsing) && !this.showLowest() && !page && this.batches.rounds.length) {
      this.show(Math.max(...this.batches.rounds), -1);
    }
  }

  // Build the pages that come next while the browser has nothing else to do.
  prepareNext() {
    const idle = window.requestIdleCallback ?? ((call) => setTimeout(call, 30));
    idle(() => {
      for (const page of this.batches.all) {
        if (page !== this.shown.page && page.openCount) page.prepare(this.words());
      }
    });
  }

  // Cards of another shape: they are built again.
  rebuild() {
    this.shown.remove();
    this.batches.forget();
  }
}
