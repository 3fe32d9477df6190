// The page that is shown, with the cursor and the selection on it. Knows cards by their places, no keys and no events.

import { moved, nextOpen, range } from "./cursor.js";
import { setAttribute } from "./dom.js";

export class ShownPage {
  // `root` is asked what has the focus; `onMove` is called whenever the cursor has been moved.
  constructor(root, frame, onMove) {
    this.root = root;
    this.frame = frame;
    this.onMove = onMove;
    this.page = null;
    this.cursor = -1;
    this.selected = new Set();
  }

  // The card under the cursor as it stands by now, or null.
  get view() {
    return this.page?.views[this.cursor] ?? null;
  }

  get openCount() {
    return this.page?.openCount ?? 0;
  }

  // Where a click on a button answers: the selection where there is one, else the cursor.
  get chosen() {
    return this.selected.size ? inOrder(this.selected) : this.here;
  }

  get here() {
    return this.cursor < 0 ? [] : [this.cursor];
  }

  // Show another page, and leave nothing of the cursor behind on the one before; the focus goes along.
  replace(page, words) {
    const focused = this.root.activeElement !== null && this.root.activeElement === this.page?.element;
    this.select([]);
    this.moveTo(-1);
    page.build(words);
    page.paint(words);
    if (this.page) this.page.element.replaceWith(page.element);
    else this.frame.place.prepend(page.element);
    this.page = page;
    return focused;
  }

  remove() {
    this.page?.element.remove();
    this.page = null;
  }

  // Move the cursor; -1 takes it away, so that a late key changes nothing.
  moveTo(place) {
    if (this.cursor !== place) this.page?.faces[this.cursor]?.paintCursor(false);
    this.cursor = place;
    const face = this.page?.faces[place];
    this.page?.point(face);
    if (face) {
      face.paintCursor(true);
      requestAnimationFrame(() => face.element.scrollIntoView({ block: "nearest" }));
    }
    this.onMove();
  }

  // To the next open card after `from`. Returns whether there is one.
  moveToOpen(from = -1) {
    const next = nextOpen(this.page.open, from);
    if (next >= 0) this.moveTo(next);
    return next >= 0;
  }

  // By an arrow key; `extend` takes what lies between into the selection.
  arrow(to, extend, columns) {
    if (!this.page) return;
    const place = moved(this.cursor, to, this.page.faces.length, columns);
    if (extend) {
      this.anchor = this.selected.size ? this.anchor : Math.max(0, this.cursor);
      this.select(range(this.anchor, place));
    }
    this.moveTo(place);
  }

  select(places) {
    const wanted = new Set(places);
    for (const place of this.selected) if (!wanted.has(place)) this.page?.faces[place]?.paintSelected(false);
    for (const place of wanted) if (!this.selected.has(place)) this.page.faces[place].paintSelected(true);
    this.selected = wanted;
    setAttribute(this.frame.element, "data-selected", wanted.size);
  }

  tap(place) {
    this.select([]);
    this.moveTo(place);
    this.focus();
  }

  toggle(place) {
    const others = inOrder(this.selected).filter((other) => other !== place);
    this.select(this.selected.has(place) ? others : [...others, place]);
    this.anchor = place;
    this.moveTo(place);
  }

  // Nothing was done: the card under the cursor shakes, and the notice says why.
  refuse(text) {
    this.page?.faces[this.cursor]?.refuse();
    this.frame.notify(text);
  }

  focus() {
    this.page?.element.focus({ preventScroll: true });
  }
}

function inOrder(places) {
  return [...places].sort((a, b) => a - b);
}
