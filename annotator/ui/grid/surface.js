// The labeling surface: one annotator's batches, one page at a time. Wires cards, keys, pointer, outbox and sender; the
// rules themselves stand in their own files. Knows Streamlit only as a function that takes the outbox.

import { curve } from "./curve.js";
import { Comment } from "./comment.js";
import { layout, lowestOpen, moved, neighbour, nextOpen, range } from "./cursor.js";
import { mark } from "./dom.js";
import { answerEvent, apply, flagEvent, labelsOnTheirWay, newestAnswer, sameAnswer, undoEvent } from "./events.js";
import { Finder } from "./finder.js";
import { Frame } from "./frame.js";
import { Help } from "./help.js";
import { keyboardOf } from "./keys.js";
import { Listener } from "./listen.js";
import { Outbox } from "./outbox.js";
import { Page } from "./pages.js";
import { Pointer } from "./pointer.js";
import { Sender } from "./sender.js";
import { answerWords, count, guessWords, percent, whyLine } from "./words.js";
import { Preview, Zoom } from "./zoom.js";

const LATE_MS = 3000;
const WAIT_MS = 150;
const ALERT_MS = 10000;
const BOUNCE_MS = 50;
const COLUMN_GAP_PX = 28;
const HEAD_PX = 44;
const BELOW_PX = 33;
const BELOW_MANY_PX = 107;
const OUTCOMES = { skip: "skip", unsure: "unsure", none: "none-of-these" };

export class Surface {
  constructor(root, { project, annotator }) {
    this.root = root;
    this.owner = `${project}:${annotator}`;
    this.outbox = new Outbox(project, annotator, random(), storage());
    this.sender = new Sender(this.outbox, () => this.demand, () => this.paintStatus());
    this.states = new Map();
    this.pages = new Map();
    this.page = null;
    this.cursor = -1;
    this.columns = 1;
    this.selected = new Set();
    this.looking = false;
    this.buildParts();
    root.append(this.element);
  }

  buildParts() {
    const refocus = () => this.focus();
    this.frame = new Frame();
    this.element = this.frame.element;
    this.listener = new Listener(this, this.root);
    this.zoom = new Zoom(refocus);
    this.help = new Help(refocus);
    this.preview = new Preview();
    this.finder = new Finder((id) => this.answer({ outcome: "label", class: id }, this.chosen), refocus);
    this.comment = new Comment((text) => this.flag(text), refocus);
    this.pointer = new Pointer(this.frame.place, () => this.page, this.pointerHandlers());
    this.frame.place.append(this.comment.element);
    this.frame.foot.prepend(this.finder.element);
    this.element.append(this.zoom.element, this.help.element, this.preview.element);
    const { foot } = this.frame;
    foot.addEventListener("mousedown", (event) => this.keepFocus(event));
    foot.addEventListener("click", (event) => this.clicked(event));
    this.sizes = new ResizeObserver(() => this.arrange());
  }

  // ---- from Streamlit

  start(setStateValue) {
    this.listener.start();
    for (const part of [this.frame.columns, this.frame.foot]) this.sizes.observe(part);
    this.sender.start(setStateValue);
  }

  stop() {
    this.listener.stop();
    this.sender.stop();
    this.sizes.disconnect();
    this.frame.stop();
    this.preview.hide();
    clearTimeout(this.waitTimer);
    clearTimeout(this.lateTimer);
  }

  receive(data) {
    const before = this.outbox.size;
    const verdict = this.outbox.settle(data.results ?? {});
    this.takeClasses(data);
    this.data = data;
    this.takePages(data.pages);
    this.settle();
    this.paint();
    this.paintSide();
    this.tellVerdict(verdict);
    this.sender.heard(before - this.outbox.size);
    mark(this.element, "data-ready", true);
    this.buildAhead();
  }

  takeClasses({ classes, names, many }) {
    const text = JSON.stringify([classes, names, many]);
    if (text === this.classesText) return;
    this.classesText = text;
    if (this.words && this.words.many !== many) this.forgetPages();
    const byId = new Map(classes.map((one) => [one.id, one]));
    this.words = {
      many,
      nameOf: (id) => byId.get(id)?.name ?? names[id] ?? `class ${id}`,
      colourOf: (id) => byId.get(id)?.colour ?? "var(--st-border-color)",
    };
    this.keyboard = keyboardOf(classes, many);
    this.frame.buildClasses(classes, many);
  }

  // Cards of another shape: they are built again.
  forgetPages() {
    this.page?.element.remove();
    this.page = null;
    this.pages.clear();
  }

  takePages(pages) {
    const rounds = new Set(pages.map((page) => page.round));
    for (const round of this.pages.keys()) {
      if (!rounds.has(round) && round !== this.page?.round) this.pages.delete(round);
    }
    for (const page of pages) this.takePage(page);
    for (const page of this.pages.values()) page.fold(this.outbox.events, this.states);
  }

  takePage(page) {
    const known = this.pages.get(page.round);
    if (known && (known === this.page || known.shows(page))) known.update(page);
    else this.pages.set(page.round, new Page(page));
  }

  // After new data: stay where the person is, unless there is nothing left to do here.
  settle() {
    if (this.page?.openCount) {
      if (this.cursor < 0) this.moveTo(nextOpen(this.page.open, -1));
      return;
    }
    if (this.page && this.looking) return;
    if (!this.showLowest() && !this.page && this.pages.size) this.show(Math.max(...this.pages.keys()), -1);
  }

  buildAhead() {
    const idle = window.requestIdleCallback ?? ((call) => setTimeout(call, 30));
    idle(() => {
      for (const page of this.pages.values()) {
        if (page !== this.page && page.openCount) page.prepare(this.words);
      }
    });
  }

  tellVerdict({ refused, kept }) {
    if (refused.length) {
      const more = refused.length > 1 ? ` (${count(refused.length, "answer")} in all)` : "";
      this.frame.warn(`Not stored: ${refused[0]}${more}`, ALERT_MS);
    } else if (kept !== null) {
      this.frame.warn(`Not stored yet, kept in this browser and sent again: ${kept}`);
    } else if (this.keptBefore) {
      this.frame.calm();
    }
    this.keptBefore = kept !== null;
  }

  // ---- what there is

  get overlay() {
    return [this.finder, this.comment, this.help].find((part) => part.isOpen) ?? null;
  }

  get view() {
    return this.page?.views[this.cursor] ?? null;
  }

  // Where a click on a button answers: the selection where there is one, else the cursor.
  get chosen() {
    return this.selected.size ? this.inOrder : this.here;
  }

  get here() {
    return this.cursor < 0 ? [] : [this.cursor];
  }

  get inOrder() {
    return [...this.selected].sort((a, b) => a - b);
  }

  get openRounds() {
    return [...this.pages.values()].map((page) => [page.round, page.openCount]);
  }

  get demand() {
    const open = this.openRounds.reduce((sum, [, count]) => sum + count, 0);
    return { pending: Boolean(this.data?.pending), open };
  }

  get isWaiting() {
    return !this.data.finished && this.demand.open === 0;
  }

  // ---- commands

  perform(command) {
    this.preview.hide();
    const places = command.all && this.selected.size ? this.inOrder : this.here;
    const actions = {
      class: () => this.answer({ outcome: "label", class: command.class }, places),
      top: () => this.answerTop(command.place, places),
      outcome: () => this.answer({ outcome: command.outcome }, places),
      accept: () => this.accept(places),
      undo: () => this.undo(),
      move: () => this.arrow(command.to, command.extend),
      page: () => this.look(command.by),
      flag: () => this.openComment(),
      zoom: () => this.toggleZoom(),
      help: () => this.help.show(this.data.classes, this.data.many),
      find: () => this.openFinder(command.text),
      escape: () => (this.zoom.isOpen ? this.zoom.close() : this.select([])),
      nothing: () => {},
    };
    actions[command.do]();
  }

  answer(answer, places) {
    this.give(places.map((place) => [place, answer]));
  }

  answerTop(rank, places) {
    const ids = this.view?.top ?? [];
    if (rank < ids.length) this.answer({ outcome: "label", class: ids[rank] }, places);
    else this.refuse("no such name on this card");
  }

  accept(places) {
    const guessed = places.filter((place) => this.page.views[place].guess !== null);
    if (guessed.length) this.give(guessed.map((place) => [place, this.guessAt(place)]));
    else this.refuse("No guess to accept");
  }

  acceptRest() {
    const views = this.page?.views ?? [];
    const places = views.flatMap((view, place) => (view.answer === null && view.guess !== null ? [place] : []));
    if (places.length) this.accept(places);
    else this.refuse("No guess to accept");
  }

  guessAt(place) {
    return { outcome: "label", class: this.page.views[place].guess.class };
  }

  // Store answers [[place, answer], ...]; one that says what stands already is left out.
  give(answers) {
    if (!answers.length) return;
    const ms = performance.now() - this.since;
    const wasOpen = this.page.openCount > 0;
    const news = answers.filter(([place, answer]) => !sameAnswer(this.page.views[place].answer, answer));
    for (const [place, answer] of news) this.record(place, answerEvent(this.page.views[place], answer, ms));
    this.since = performance.now();
    this.select([]);
    if (wasOpen) this.advance(answers[answers.length - 1][0]);
    this.finish(news.length);
  }

  record(place, event) {
    const entry = this.outbox.add(event);
    this.page.views[place] = apply(this.page.views[place], entry, this.states);
  }

  finish(changed) {
    this.paint();
    if (!changed) return;
    clearTimeout(this.lateTimer);
    this.lateTimer = setTimeout(() => this.paintStatus(), LATE_MS + 50);
    this.sender.send();
  }

  advance(from) {
    const next = nextOpen(this.page.open, from);
    if (next >= 0) this.moveTo(next);
    else if (!this.showLowest()) this.moveTo(-1);
  }

  undo() {
    const all = [...this.pages.values()].flatMap((page) => page.views);
    const card = newestAnswer(all);
    if (card === null) {
      this.frame.tell("Nothing to take back");
      return;
    }
    const page = [...this.pages.values()].find((one) => one.views.includes(card));
    const place = page.views.indexOf(card);
    if (page !== this.page) this.show(page.round, place);
    this.record(place, undoEvent(card));
    this.looking = false;
    this.select([]);
    this.moveTo(place);
    this.finish(1);
  }

  flag(text) {
    const place = this.flagged;
    if (!text || !this.page.views[place]) return;
    this.record(place, flagEvent(this.page.views[place], text, random()));
    this.finish(1);
  }

  // ---- moving

  arrow(to, extend) {
    if (!this.page) return;
    const place = moved(this.cursor, to, this.page.faces.length, this.columns);
    if (extend) {
      this.anchor = this.selected.size ? this.anchor : Math.max(0, this.cursor);
      this.select(range(this.anchor, place));
    }
    this.moveTo(place);
  }

  // Move the cursor; -1 takes it away, so that a late key changes nothing.
  moveTo(place) {
    if (this.cursor !== place) this.page?.faces[this.cursor]?.paintCursor(false);
    this.cursor = place;
    this.comment.close();
    const face = this.page?.faces[place];
    if (!face) {
      this.page?.element.removeAttribute("aria-activedescendant");
      return;
    }
    face.paintCursor(true);
    mark(this.page.element, "aria-activedescendant", face.element.id);
    requestAnimationFrame(() => face.element.scrollIntoView({ block: "nearest" }));
    if (this.zoom.isOpen) this.showZoom();
  }

  select(places) {
    const wanted = new Set(places);
    for (const place of this.selected) if (!wanted.has(place)) this.page?.faces[place]?.paintSelected(false);
    for (const place of wanted) if (!this.selected.has(place)) this.page.faces[place].paintSelected(true);
    this.selected = wanted;
    mark(this.element, "data-selected", wanted.size);
  }

  toggle(place) {
    const without = this.inOrder.filter((other) => other !== place);
    this.select(this.selected.has(place) ? without : [...without, place]);
    this.anchor = place;
    this.moveTo(place);
  }

  // The page before or after this one, to look at.
  look(by) {
    const round = neighbour([...this.pages.keys()], this.page?.round ?? 0, by);
    if (round === null) {
      this.frame.tell(by < 0 ? "There is no batch before this one here" : "This is the newest batch");
      return;
    }
    if (by > 0 && round > (lowestOpen(this.openRounds) ?? round)) return;
    this.show(round);
    this.looking = by < 0;
    this.paint();
  }

  showLowest() {
    this.renewPage();
    const round = lowestOpen(this.openRounds);
    if (round === null) return false;
    this.show(round);
    return true;
  }

  // Cards that were exchanged while their page was shown come in when it is left.
  renewPage() {
    if (!this.page || this.page.isCurrent) return;
    const renewed = new Page(this.page.page);
    renewed.fold(this.outbox.events, this.states);
    this.pages.set(renewed.round, renewed);
  }

  show(round, cursor = null) {
    const page = this.pages.get(round);
    const focused = this.root.activeElement === this.page?.element;
    this.select([]);
    this.moveTo(-1);
    page.build(this.words);
    page.paint(this.words);
    if (this.page) this.page.element.replaceWith(page.element);
    else this.frame.place.prepend(page.element);
    this.page = page;
    this.looking = false;
    if (page.cards.length !== this.arranged) this.arrange();
    this.arranged = page.cards.length;
    this.since = performance.now();
    this.sender.shown.add(round);
    this.moveTo(cursor ?? nextOpen(page.open, -1));
    if (focused) this.focus();
  }

  // Lay the page out for the room there is, when it is shown and when the room changes; answers change nothing here.
  arrange() {
    if (!this.page) return;
    const { columns, side, foot } = this.frame;
    const beside = side.offsetTop === 0 || side.offsetLeft > 0 ? side.offsetWidth + COLUMN_GAP_PX : 0;
    const footHeight = foot.offsetHeight;
    const top = columns.getBoundingClientRect().top + document.documentElement.scrollTop;
    const height = window.innerHeight - Math.min(Math.max(top, 0), 200) - footHeight - HEAD_PX;
    const below = this.data.many ? BELOW_MANY_PX : BELOW_PX;
    const room = { width: columns.clientWidth - beside, height, below };
    const { columns: n, size } = layout(this.page.cards.length, room);
    this.columns = n;
    this.element.style.setProperty("--columns", n);
    this.element.style.setProperty("--card", `${size}px`);
    this.element.style.setProperty("--foot", `${footHeight}px`);
  }

  focus() {
    this.page?.element.focus({ preventScroll: true });
  }

  // ---- overlays

  refuse(text) {
    this.page?.faces[this.cursor]?.refuse();
    this.frame.tell(text);
  }

  openComment() {
    if (!this.view) return;
    this.flagged = this.cursor;
    this.comment.show(this.page.faces[this.cursor].element, this.view.flag ?? "");
  }

  openFinder(text) {
    if (this.chosen.length) this.finder.show(this.data.classes, this.view?.top ?? [], text);
  }

  toggleZoom() {
    if (this.zoom.isOpen) this.zoom.close();
    else if (this.view) this.showZoom();
  }

  showZoom() {
    const { view } = this;
    const said = answerWords(view.answer, this.words.nameOf) ?? guessWords(view, this.words.nameOf);
    const share = view.answer === null && view.guess ? ` ${percent(view.guess.p)}` : "";
    this.zoom.show(view, `${view.image} · ${said}${share}`);
  }

  // ---- mouse and touch

  pointerHandlers() {
    return {
      tap: (place) => {
        this.select([]);
        this.moveTo(place);
        this.focus();
      },
      toggle: (place) => this.toggle(place),
      lasso: (places) => this.select(places),
      ground: () => this.select([]),
      hover: (place) => this.preview.show(this.page.views[place], this.page.faces[place].element.getBoundingClientRect()),
      leave: () => this.preview?.hide(),
    };
  }

  // A button pressed with the mouse leaves the keyboard where it was: with the cards.
  keepFocus(event) {
    if (!event.target.closest("button")) return;
    event.preventDefault();
    if (!this.overlay) this.focus();
  }

  clicked(event) {
    const button = event.target.closest("button");
    if (!button || this.isBounce(event, button)) return;
    if (button.dataset.id !== undefined) {
      this.answer({ outcome: "label", class: Number(button.dataset.id) }, this.chosen);
      return;
    }
    this.clickedCommand(button.dataset.command);
  }

  clickedCommand(command) {
    if (command in OUTCOMES) this.answer({ outcome: OUTCOMES[command] }, this.chosen);
    else if (command === "accept") this.accept(this.chosen);
    else if (command === "accept-rest") this.acceptRest();
    else if (command) this.perform({ do: command, text: "" });
  }

  // The second half of a double click is no second answer.
  isBounce(event, button) {
    const again = event.detail > 1 && button === this.button && event.timeStamp - this.clickedAt < BOUNCE_MS;
    this.button = button;
    this.clickedAt = event.timeStamp;
    return again;
  }

  // ---- painting

  paint() {
    this.page?.paint(this.words);
    this.paintHead();
    this.paintStatus();
    this.paintMessage();
    this.paintMarks();
    if (this.zoom.isOpen && this.view) this.showZoom();
  }

  paintHead() {
    const pairs = [...this.pages.values()].flatMap((page) => page.cards.map((card, place) => [card, page.views[place]]));
    const labels = this.data.status.labels + labelsOnTheirWay(pairs);
    this.frame.paintHead(this.data.title, this.page ? whyLine(this.page.page, labels) : "", this.data.status);
    const all = this.page?.views.length ?? 0;
    this.frame.paintLine(all - (this.page?.openCount ?? 0), all);
  }

  paintStatus() {
    const [oldest] = this.outbox.events;
    const late = oldest !== undefined && Date.now() - oldest.order / 1000 >= LATE_MS;
    this.frame.paintStatus(this.data.status.saved, this.outbox.size, late, this.outbox.durable);
  }

  paintMessage() {
    clearTimeout(this.waitTimer);
    if (this.data.finished && this.demand.open === 0) {
      this.frame.paintMessage("Finished: every image has been asked about.");
    } else if (!this.isWaiting) {
      this.frame.paintMessage("");
    } else {
      this.waitTimer = setTimeout(() => this.frame.paintMessage("Choosing the next images …"), WAIT_MS);
    }
  }

  paintMarks() {
    mark(this.element, "data-round", this.page?.round ?? "");
    mark(this.element, "data-open", this.page?.openCount ?? 0);
    mark(this.element, "data-unsaved", this.outbox.size);
    mark(this.element, "data-saved", this.data.status.saved);
    mark(this.element, "data-waiting", this.isWaiting);
    mark(this.element, "data-looking", this.looking);
    mark(this.element, "data-many", this.data.many);
  }

  paintSide() {
    this.frame.paintSide(this.data.news, this.data.note);
    const text = JSON.stringify(this.data.curve);
    if (text === this.curveText) return;
    this.curveText = text;
    this.frame.curve.replaceChildren(...curve(this.data.curve));
  }
}

function random() {
  return [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The browser's storage, or null where it cannot be used.
function storage() {
  try {
    const probe = "annotator:probe";
    localStorage.setItem(probe, "");
    localStorage.removeItem(probe);
    return localStorage;
  } catch {
    return null;
  }
}
