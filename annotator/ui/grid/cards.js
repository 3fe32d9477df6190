// One card: its elements, and painting them for a view of the card. Knows no other card and answers nothing.

import { dot, element, setAttribute, setText } from "./dom.js";
import { TOP } from "./keys.js";
import { answerWords, cardLabel, guessWords, percent } from "./words.js";

export class CardFace {
  // `words` says what classes are called and which colour they have: {nameOf(id), colourOf(id), many}.
  constructor(card, id, place, of, words) {
    this.place = place;
    this.of = of;
    this.image = picture(card);
    this.dot = dot(null);
    this.name = element("span.name");
    this.share = element("span.share");
    this.flag = element("span.flagged", { "aria-hidden": "true" }, "⚑");
    this.top = words.many ? topList() : null;
    this.reason = card.reason == null ? null : element("span.reason", { title: card.reason }, card.reason);
    const frame = element("span.frame", {}, this.image, element("span.check", { "aria-hidden": "true" }), this.flag);
    this.chip = element("span.chip", {}, words.many ? cap(1) : null, this.dot, this.name, this.share);
    const marks = { "data-image": card.image, "data-cursor": "false", "aria-selected": "false" };
    this.element = element("div.card", { id, role: "option", ...marks }, frame, this.chip, this.top, this.reason);
  }

  paint(view, words) {
    const { answer } = view;
    const of = answer === null ? view.guess?.class ?? null : answer.class;
    setAttribute(this.element, "data-state", answer === null ? "open" : answer.outcome);
    setAttribute(this.element, "data-class", answer?.class == null ? "" : words.nameOf(answer.class));
    setAttribute(this.element, "aria-label", cardLabel(view, words.nameOf, this.place + 1, this.of));
    setAttribute(this.element, "data-flagged", Boolean(view.flag));
    this.flag.title = view.flag ?? "";
    setText(this.name, answerWords(answer, words.nameOf) ?? guessWords(view, words.nameOf));
    setText(this.share, answer === null && view.guess ? percent(view.guess.p) : "");
    this.dot.hidden = of === null;
    this.chip.style.setProperty("--colour", of === null ? "var(--edge)" : words.colourOf(of));
    this.paintSource(view);
    if (this.top) paintTop(this.top, view.top, words);
    setAttribute(this.element, "data-guess", view.guess !== null);
  }

  // A signed address is renewed now and then; an image that is there already is not loaded again.
  paintSource(view) {
    const failed = this.image.complete && this.image.naturalWidth === 0;
    if (failed && this.image.getAttribute("src") !== view.src) this.image.src = view.src;
  }

  paintCursor(here) {
    setAttribute(this.element, "data-cursor", here);
  }

  paintSelected(selected) {
    setAttribute(this.element, "aria-selected", selected);
  }

  get box() {
    return this.element.getBoundingClientRect();
  }

  // A short shake: nothing was done.
  refuse() {
    this.element.classList.remove("refused");
    requestAnimationFrame(() => this.element.classList.add("refused"));
  }
}

function picture(card) {
  const attributes = { alt: card.image, width: card.w, height: card.h, draggable: "false", decoding: "sync" };
  const image = element(card.pixelated ? "img.pixelated" : "img", attributes);
  image.src = card.src;
  return image;
}

// The first of the most probable classes is the guess on the chip; here are the others.
function topList() {
  const rows = Array.from({ length: TOP - 1 }, (_, at) => element("span", {}, cap(at + 2), element("b")));
  return element("span.top", { "aria-hidden": "true" }, ...rows);
}

function cap(digit) {
  return element("kbd", { "aria-hidden": "true" }, String(digit));
}

function paintTop(list, top, words) {
  [...list.children].forEach((row, at) => {
    const known = at + 1 < top.length;
    row.classList.toggle("empty", !known);
    setText(row.lastChild, known ? words.nameOf(top[at + 1]) : "type to find a class");
  });
}
