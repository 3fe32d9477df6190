// The batches that this tab knows, by round, and what newer data and own events make of them. Knows no cursor, no keys.

import { apply, labelsOnTheirWay, newestAnswer } from "./events.js";
import { Page } from "./pages.js";

const NO_PAGE = { cards: [] };

export class Batches {
  constructor(outbox) {
    this.outbox = outbox;
    this.states = new Map();
    this.pages = new Map();
    this.exchanged = null;
    this.statesOf = (q) => this.states.get(q) ?? this.states.set(q, new Map()).get(q);
  }

  get(round) {
    return this.pages.get(round);
  }

  get all() {
    return [...this.pages.values()];
  }

  get rounds() {
    return [...this.pages.keys()];
  }

  // [[round, how many of its cards are open], ...]
  get open() {
    return this.all.map((page) => [page.round, page.openCount]);
  }

  get openCount() {
    return this.open.reduce((sum, [, count]) => sum + count, 0);
  }

  // Labels made here that the server has not counted yet.
  get labelsOnTheirWay() {
    return labelsOnTheirWay(this.all.flatMap((page) => page.cards.map((card, place) => [card, page.views[place]])));
  }

  // Where the newest answer stands: [page, place], or null.
  get newest() {
    const card = newestAnswer(this.all.flatMap((page) => page.views));
    const page = this.all.find((one) => one.views.includes(card));
    return page ? [page, page.views.indexOf(card)] : null;
  }

  // Newer data, and the events it says are stored. The `shown` page stays, whatever the data say.
  take(pages, stored, shown) {
    const newer = new Map(pages.map((page) => [page.round, page]));
    for (const round of this.rounds) if (!newer.has(round) && round !== shown) this.pages.delete(round);
    this.exchanged = null;
    for (const page of pages) if (!this.get(page.round)?.shows(page)) this.exchange(page, shown);
    for (const page of this.all) {
      page.update(newer.get(page.round) ?? NO_PAGE, stored, this.statesOf);
      page.fold(this.outbox.events, this.statesOf);
    }
    this.forgetStates();
  }

  // Hours of labeling leave nothing behind: only cards that are known have a past.
  forgetStates() {
    const known = new Set(this.all.flatMap((page) => page.cards.map((card) => card.q)));
    for (const q of this.states.keys()) if (!known.has(q)) this.states.delete(q);
  }

  // Other cards come in at once, or when the page that is shown is left: none vanishes under one's eyes.
  exchange(page, shown) {
    if (page.round === shown) this.exchanged = page;
    else this.pages.set(page.round, new Page(page));
  }

  // The shown page is done with: let the cards in that were exchanged meanwhile.
  renew() {
    if (!this.exchanged) return;
    const renewed = new Page(this.exchanged);
    renewed.fold(this.outbox.events, this.statesOf);
    this.pages.set(renewed.round, renewed);
    this.exchanged = null;
  }

  // An event that was made just now, put where it will not be lost and onto its card.
  record(page, place, event) {
    const entry = this.outbox.add(event);
    page.views[place] = apply(page.views[place], entry, this.statesOf(event.q));
  }

  forget() {
    this.pages.clear();
    this.exchanged = null;
  }
}
