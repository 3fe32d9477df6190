// The labeling surface: one annotator's batches, one page at a time. Wires the parts, each in a file of its own, and
// takes in what the server sends. Knows Streamlit only as a function that takes the outbox.

import { Answers } from "./answers.js";
import { Batches } from "./batches.js";
import { Buttons } from "./buttons.js";
import { Commands } from "./commands.js";
import { setAttribute } from "./dom.js";
import { Frame } from "./frame.js";
import { KeyListener } from "./key_listener.js";
import { keyboardOf } from "./keys.js";
import { Navigation } from "./navigation.js";
import { Outbox, browserStorage, randomId } from "./outbox.js";
import { Overlays } from "./overlays.js";
import { PageLayout } from "./page_layout.js";
import { Painter } from "./painter.js";
import { Pointer } from "./pointer.js";
import { ReconnectDialog } from "./reconnect_dialog.js";
import { Sender } from "./sender.js";
import { ShownPage } from "./shown_page.js";
import { Verdicts } from "./verdicts.js";
import { classWords } from "./words.js";

export class Surface {
  constructor(root, { project, annotator }) {
    this.owner = `${project}:${annotator}`;
    this.outbox = new Outbox(project, annotator, randomId(), browserStorage());
    this.batches = new Batches(this.outbox);
    this.frame = new Frame();
    this.verdicts = new Verdicts(this.frame);
    this.buildState(root);
    this.buildInputs(root);
    root.append(this.element);
  }

  get element() {
    return this.frame.element;
  }

  // What is shown, and what paints it.
  buildState(root) {
    const { frame, outbox, batches } = this;
    const data = () => this.data;
    const words = () => this.words;
    const shown = new ShownPage(root, frame, () => this.overlays.follow());
    const layout = new PageLayout(frame, () => shown.page, () => this.data.many);
    const onShown = (round) => this.onShown(round);
    const navigation = new Navigation({ batches, shown, layout, frame, words, onShown });
    const painter = new Painter({ frame, outbox, batches, shown, navigation, data, words });
    const onGive = () => this.overlays.closeFinder();
    const onChange = (n) => this.onChange(n);
    const answers = new Answers({ batches, shown, navigation, frame, onGive, onChange });
    const find = (id) => answers.answer({ outcome: "label", class: id }, shown.chosen);
    const flag = (place, text) => answers.flag(place, text);
    const overlays = new Overlays(frame, shown, { find, flag, words });
    Object.assign(this, { shown, layout, navigation, painter, answers, overlays });
  }

  // What comes from the person and goes to the server.
  buildInputs(root) {
    const { answers, shown, navigation, overlays, layout, painter, frame } = this;
    const commands = new Commands({
      answers, shown, navigation, overlays, layout, data: () => this.data, paint: () => this.paint(),
    });
    const demand = () => ({ pending: this.data.pending, held: this.data.held, open: this.batches.openCount });
    this.sender = new Sender(this.outbox, demand, () => painter.paintStatus());
    this.dialog = new ReconnectDialog();
    this.keys = new KeyListener(root, {
      overlay: () => overlays.open,
      keyboard: () => this.keyboard,
      perform: (command) => commands.perform(command),
      isBehind: (element) => this.dialog.contains(element),
    });
    new Pointer(frame.place, () => shown.page, {
      tap: (place) => shown.tap(place),
      toggle: (place) => shown.toggle(place),
      lasso: (places) => shown.select(places),
      ground: () => shown.select([]),
      hover: (place) => overlays.openPreview(place),
      leave: () => overlays.closePreview(),
    });
    new Buttons(frame.foot, {
      answer: (answer) => commands.answer(answer),
      command: (name) => commands.press(name),
      focus: () => overlays.open ?? shown.focus(),
    });
  }

  // ---- from Streamlit

  start(setStateValue) {
    this.sender.start(setStateValue);
    if (this.running) return;
    this.running = true;
    for (const part of [this.keys, this.dialog, this.layout]) part.start();
  }

  stop() {
    this.running = false;
    for (const part of [this.keys, this.dialog, this.sender, this.layout, this.frame, this.painter]) part.stop();
    this.overlays.closePreview();
  }

  receive(data) {
    const before = this.outbox.size;
    const verdict = this.outbox.settle(data.results);
    this.takeClasses(data);
    this.data = data;
    this.batches.take(data.pages, verdict.stored, this.shown.page?.round);
    this.navigation.settle();
    this.paint();
    this.painter.paintSide();
    this.verdicts.show(verdict);
    this.sender.acknowledged(before - this.outbox.size);
    setAttribute(this.element, "data-ready", true);
    this.navigation.prepareNext();
  }

  takeClasses({ classes, names, many }) {
    const text = JSON.stringify([classes, names, many]);
    if (text === this.classesText) return;
    this.classesText = text;
    if (this.words && this.words.many !== many) this.navigation.rebuild();
    this.words = classWords(classes, names, many);
    this.keyboard = keyboardOf(classes, many);
    this.frame.buildClasses(classes, many);
  }

  // ---- from the parts

  onShown(round) {
    this.answers.startClock();
    this.sender.shown.add(round);
  }

  onChange(n) {
    this.paint();
    if (!n) return;
    this.painter.paintStatusWhenLate();
    this.sender.send();
  }

  paint() {
    this.painter.paint();
    this.overlays.updateZoom();
  }
}
