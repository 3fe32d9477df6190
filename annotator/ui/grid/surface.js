// The labeling surface: one annotator's batches, one page at a time. Wires cards, keys, pointer, outbox and sender; the
// rules themselves stand in their own files. Knows Streamlit only as a function that takes the outbox.

import { Batches } from "./batches.js";
import { Buttons } from "./buttons.js";
import { Comment } from "./comment.js";
import { lowestOpen, moved, neighbour, nextOpen, range } from "./cursor.js";
import { Afloat } from "./afloat.js";
import { curve } from "./curve.js";
import { mark } from "./dom.js";
import { answerEvent, flagEvent, sameAnswer, undoEvent } from "./events.js";
import { Finder } from "./finder.js";
import { Frame } from "./frame.js";
import { Help } from "./help.js";
import { keyboardOf } from "./keys.js";
import { Listener } from "./listen.js";
import { Outbox, browserStorage, randomId } from "./outbox.js";
import { Pointer } from "./pointer.js";
import { Room } from "./room.js";
import { Sender } from "./sender.js";
import { classWords, count, viewWords, whyLine } from "./words.js";
import { Preview, Zoom } from "./zoom.js";

const LATE_MS = 3000;
const WAIT_MS = 150;
const ALERT_MS = 10000;

export class Surface {
  constructor(root, { project, annotator }) {
    this.root = root;
    this.owner = `${project}:${annotator}`;
    this.outbox = new Outbox(project, annotator, randomId(), browserStorage());
    this.sender = new Sender(this.outbox, () => this.demand, () => this.paintStatus());
    this.batches = new Batches(this.outbox);
    this.page = null;
    this.cursor = -1;
    this.selected = new Set();
    this.looking = false;
    this.keeping = null;
    this.buildParts();
    root.append(this.element);
  }

  buildParts() {
    const refocus = () => this.focus();
    const page = () => this.page;
    this.frame = new Frame();
    this.element = this.frame.element;
    this.room = new Room(this.frame, page, () => this.data.many);
    this.listener = new Listener(this, this.root);
    this.afloat = new Afloat();
    this.zoom = new Zoom(refocus);
    this.help = new Help(refocus);
    this.preview = new Preview();
    this.finder = new Finder((id) => this.answer({ outcome: "label", class: id }, this.chosen), refocus);
    this.comment = new Comment((text) => this.flag(text), refocus);
    this.frame.place.append(this.comment.element);
    this.frame.foot.prepend(this.finder.element);
    this.element.append(this.zoom.element, this.help.element, this.preview.element);
    this.pointer = new Pointer(this.frame.place, page, this.pointerHandlers());
    this.buttons = new Buttons(this.frame.foot, this.buttonHandlers());
  }

  pointerHandlers() {
    return {
      tap: (place) => this.tap(place),
      toggle: (place) => this.toggle(place),
      lasso: (places) => this.select(places),
      ground: () => this.select([]),
      hover: (place) => this.preview.show(this.page.views[place], this.page.faces[place].box),
      leave: () => this.preview.hide(),
    };
  }

  buttonHandlers() {
    return {
      answer: (answer) => this.answer(answer, this.chosen),
      command: (name) => (name === "accept" ? this.accept(this.chosen) : this.perform({ do: name, text: "" })),
      focus: () => this.overlay ?? this.focus(),
    };
  }

  // ---- from Streamlit

  start(setStateValue) {
    this.sender.start(setStateValue);
    if (this.running) return;
    this.running = true;
    this.listener.start();
    this.afloat.start();
    this.room.start();
  }

  stop() {
    this.running = false;
    this.listener.stop();
    this.afloat.stop();
    this.sender.stop();
    this.room.stop();
    this.frame.stop();
    this.preview.hide();
    clearTimeout(this.waitTimer);
    clearTimeout(this.lateTimer);
  }

  receive(data) {
    const before = this.outbox.size;
    const verdict = this.outbox.settle(data.results);
    this.takeClasses(data);
    this.data = data;
    this.batches.take(data.pages, verdict.stored, this.page?.round);
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
    this.words = classWords(classes, names, many);
    this.keyboard = keyboardOf(classes, many);
    this.frame.buildClasses(classes, many);
  }

  // Cards of another shape: they are built again.
  forgetPages() {
    this.page?.element.remove();
    this.page = null;
    this.batches.forget();
  }

  // After new data: stay where the person is, unless there is nothing left to do here.
  settle() {
    if (this.page?.openCount) {
      if (this.cursor < 0) this.moveTo(nextOpen(this.page.open, -1));
    } else if (!(this.page && this.looking) && !this.showLowest() && !this.page && this.batches.rounds.length) {
      this.show(Math.max(...this.batches.rounds), -1);
    }
  }

  buildAhead() {
    const idle = window.requestIdleCallback ?? ((call) => setTimeout(call, 30));
    idle(() => {
      for (const page of this.batches.all) if (page !== this.page && page.openCount) page.prepare(this.words);
    });
  }

  // What is kept for later is said once, until it has changed: the same reason comes with every sending.
  tellVerdict({ refused, kept }) {
    if (refused.length) {
      const more = refused.length > 1 ? ` (${count(refused.length, "answer")} in all)` : "";
      this.frame.warn(`Not stored: ${refused[0]}${more}`, ALERT_MS);
    } else if (kept.length && kept[0] !== this.keeping) {
      this.frame.warn(`Not stored yet, kept in this browser and sent again: ${kept[0]}`);
    } else if (!kept.length && this.keeping !== null) {
      this.frame.calm();
    }
    this.keeping = kept[0] ?? null;
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

  get demand() {
    return { pending: this.data.pending, open: this.batches.openCount };
  }

  get isWaiting() {
    return !this.data.finished && this.batches.openCount === 0;
  }

  // ---- commands

  perform(command) {
    this.preview.hide();
    const places = command.all ? this.chosen : this.here;
    const actions = {
      class: () => this.answer({ outcome: "label", class: command.class }, places),
      top: () => this.answerTop(command.place, places),
      outcome: () => this.answer({ outcome: command.outcome }, places),
      accept: () => this.accept(places),
      "accept-rest": () => this.acceptRest(),
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
    else this.refuse("No such name on this card");
  }

  accept(places) {
    const guessed = places.filter((place) => this.page.views[place].guess !== null);
    if (guessed.length) this.give(guessed.map((place) => [place, this.guessAt(place)]));
    else if (places.length) this.refuse("No guess to accept");
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
    this.finder.close();
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
    this.batches.record(this.page, place, event);
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
    const { newest } = this.batches;
    if (newest === null) {
      this.frame.tell("Nothing to take back");
      return;
    }
    const [page, place] = newest;
    if (page !== this.page) this.show(page.round, place);
    this.record(place, undoEvent(page.views[place]));
    this.looking = false;
    this.select([]);
    this.moveTo(place);
    this.finish(1);
  }

  flag(text) {
    const view = this.page?.views[this.flagging];
    if (!text || !view) return;
    this.record(this.flagging, flagEvent(view, text, randomId()));
    this.finish(1);
  }

  // ---- moving

  arrow(to, extend) {
    if (!this.page) return;
    const place = moved(this.cursor, to, this.page.faces.length, this.room.columns);
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
    this.page?.point(face);
    if (!face) return;
    face.paintCursor(true);
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

  tap(place) {
    this.select([]);
    this.moveTo(place);
    this.focus();
  }

  toggle(place) {
    const without = this.inOrder.filter((other) => other !== place);
    this.select(this.selected.has(place) ? without : [...without, place]);
    this.anchor = place;
    this.moveTo(place);
  }

  // The page before or after this one, to look at; none beyond the first that has open cards.
  look(by) {
    const round = neighbour(this.batches.rounds, this.page?.round ?? 0, by);
    const lowest = lowestOpen(this.batches.open);
    if (round === null || (by > 0 && lowest !== null && round > lowest)) {
      this.frame.tell(by < 0 ? "There is no batch before this one here" : "This is the newest batch");
      return;
    }
    this.show(round);
    this.looking = by < 0;
    this.paint();
  }

  showLowest() {
    this.batches.renew();
    const round = lowestOpen(this.batches.open);
    if (round === null) return false;
    this.show(round);
    return true;
  }

  show(round, cursor = null) {
    const page = this.batches.get(round);
    const focused = this.root.activeElement === this.page?.element;
    this.select([]);
    this.moveTo(-1);
    page.build(this.words);
    page.paint(this.words);
    if (this.page) this.page.element.replaceWith(page.element);
    else this.frame.place.prepend(page.element);
    this.page = page;
    this.room.turn();
    this.looking = false;
    this.since = performance.now();
    this.sender.shown.add(round);
    this.moveTo(cursor ?? nextOpen(page.open, -1));
    if (focused) this.focus();
  }

  focus() {
    this.page?.element.focus({ preventScroll: true });
  }

  // ---- in front of the cards

  refuse(text) {
    this.page?.faces[this.cursor]?.refuse();
    this.frame.tell(text);
  }

  openComment() {
    if (!this.view) return;
    this.flagging = this.cursor;
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
    this.zoom.show(this.view, `${this.view.image} · ${viewWords(this.view, this.words.nameOf)}`);
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
    const labels = this.data.status.labels + this.batches.labelsOnTheirWay;
    const why = this.page ? whyLine(this.page.page, labels) : "";
    const all = this.page?.views.length ?? 0;
    this.frame.paintHead(this.data.title, why, this.data.status);
    this.frame.paintLine(all - (this.page?.openCount ?? 0), all);
  }

  paintStatus() {
    const [oldest] = this.outbox.events;
    const late = oldest !== undefined && Date.now() - oldest.order / 1000 >= LATE_MS;
    this.frame.paintStatus(this.data.status.saved, this.outbox.size, late, this.outbox.durable);
  }

  paintMessage() {
    clearTimeout(this.waitTimer);
    if (this.isWaiting) {
      this.waitTimer = setTimeout(() => this.frame.paintMessage("Choosing the next images …"), WAIT_MS);
    } else {
      this.frame.paintMessage(this.batches.openCount ? "" : "Finished: every image has been asked about.");
    }
  }

  paintMarks() {
    const marks = {
      round: this.page?.round ?? "",
      open: this.page?.openCount ?? 0,
      unsaved: this.outbox.size,
      saved: this.data.status.saved,
      waiting: this.isWaiting,
      looking: this.looking,
      many: this.data.many,
    };
    for (const [name, value] of Object.entries(marks)) mark(this.element, `data-${name}`, value);
  }

  paintSide() {
    this.frame.paintSide(this.data.news, this.data.note);
    const text = JSON.stringify(this.data.curve);
    if (text === this.curveText) return;
    this.curveText = text;
    this.frame.curve.replaceChildren(...curve(this.data.curve));
  }
}
