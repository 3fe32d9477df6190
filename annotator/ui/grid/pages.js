// Pages: one batch as a grid of cards that keep their places. Folds events onto the server's cards and paints what
// differs; knows no keys and no server.

import { CardFace } from "./cards.js";
import { element, setAttribute } from "./dom.js";
import { fold } from "./events.js";
import { count } from "./words.js";

export class Page {
  constructor(page) {
    this.round = page.round;
    this.page = page;
    this.cards = page.cards;
    this.views = [];
    this.faces = [];
  }

  // Its elements, made when the page is about to be shown, or a little ahead.
  build(words) {
    if (this.element) return;
    const of = this.cards.length;
    this.faces = this.cards.map((card, at) => new CardFace(card, `card-${this.round}-${at}`, at, of, words));
    this.painted = [];
    const label = `Batch ${this.round}, ${count(of, "image")}`;
    const attributes = { role: "listbox", "aria-multiselectable": "true", tabindex: "0", "aria-label": label };
    this.element = element("div.page", attributes, ...this.faces.map((face) => face.element));
  }

  // Built, painted and its images decoded, before anybody sees it.
  prepare(words) {
    if (this.element) return;
    this.build(words);
    this.paint(words);
    for (const face of this.faces) face.image.decode().catch(() => null); // a broken image shows its name instead
  }

  // Whether this page shows exactly these cards, in this order.
  shows(page) {
    return page.cards.length === this.cards.length && page.cards.every((card, place) => card.q === this.cards[place].q);
  }

  // Newer data for the same cards. One that the server no longer sends stays, with what it has stored of it since.
  update(page, stored, statesOf) {
    const newer = new Map(page.cards.map((card) => [card.q, card]));
    this.cards = this.cards.map((card) => newer.get(card.q) ?? fold(card, stored, statesOf(card.q)));
  }

  fold(events, statesOf) {
    this.views = this.cards.map((card) => fold(card, events, statesOf(card.q)));
  }

  get open() {
    return this.views.map((view) => view.answer === null);
  }

  get openCount() {
    return this.open.filter(Boolean).length;
  }

  // Paint the cards whose view has changed. `words` is a new object whenever classes have changed.
  paint(words) {
    this.views.forEach((view, place) => {
      if (this.painted[place]?.view === view && this.painted[place].words === words) return;
      this.painted[place] = { view, words };
      this.faces[place].paint(view, words);
    });
  }

  // Tell a screen reader which card the cursor is on, if any.
  point(face) {
    if (face) setAttribute(this.element, "aria-activedescendant", face.element.id);
    else this.element?.removeAttribute("aria-activedescendant");
  }

  placeOf(node) {
    const card = node?.closest?.(".card");
    return card ? this.faces.findIndex((face) => face.element === card) : -1;
  }
}
