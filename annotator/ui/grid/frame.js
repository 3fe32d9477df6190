// The frame around the cards: headline, status, buttons, side column. Builds and paints; decides nothing.

import { dot, element, setAttribute, setText } from "./dom.js";
import { factsLine, savedLine, unsavedLine } from "./words.js";

const MANY_BUTTONS = 60;

const COMMANDS = [
  ["accept", "Accept", "Enter", "Accept the guess"],
  ["undo", "Undo", "⌫", "Take back the newest answer"],
  ["skip", "Skip", "S", "Skip"],
  ["unsure", "Unsure", "U", "Unsure"],
  ["none", "None", "N", "None of these"],
  ["accept-rest", "Accept the rest", null, "Accept the guess of every open image of this batch"],
  ["flag", "Flag", "F", "Flag with a comment"],
  ["zoom", "Zoom", "Z", "The image in full size"],
  ["help", "Keys", "?", "All keys"],
];
const SHORTCUTS = { "⌫": "Backspace Control+Z" };

export class Frame {
  constructor() {
    this.title = element("h2.title");
    this.why = element("span.why");
    this.saved = element("b.saved");
    this.unsaved = element("span.unsaved");
    this.facts = element("span.facts");
    this.bar = element("span.bar");
    this.notice = element("div.notice", { role: "status", "aria-live": "polite" });
    this.alert = element("div.alert", { role: "alert" });
    this.place = element("div.place");
    this.message = element("div.message", { role: "status" });
    this.classes = element("div.classes", { role: "group", "aria-label": "Classes" });
    const group = { role: "group", "aria-label": "Commands" };
    this.commands = element("div.commands", group, ...COMMANDS.map(commandButton));
    this.news = element("p.news");
    this.background = element("p.background");
    this.curve = element("figure.curve");
    this.element = this.built();
  }

  built() {
    const status = element("span.status", { role: "status", "aria-live": "polite" }, this.saved, " ", this.unsaved);
    const state = element("div.state", {}, status, this.facts);
    const head = element("header.head", {}, this.title, this.why);
    const line = element("div.line", { "aria-hidden": "true" }, this.bar);
    const pills = element("div.pills", {}, this.alert, this.message, this.notice);
    this.foot = element("div.foot", {}, pills, line, state, this.classes, this.commands);
    const main = element("section.main", {}, head, this.place, this.foot);
    this.side = element("aside.side", { "aria-label": "Progress" }, this.news, this.curve, this.background);
    this.columns = element("div.columns", {}, main, this.side);
    const surface = element("div.surface", { "data-ready": "false" }, this.columns);
    surface.style.visibility = "hidden"; // until the style sheet is there, which says otherwise
    return surface;
  }

  paintHead(title, why, status) {
    setText(this.title, title);
    setText(this.why, why);
    setText(this.facts, factsLine(status));
  }

  paintStatus(saved, unsaved, late, durable) {
    const line = unsavedLine(unsaved, late, durable);
    setText(this.saved, savedLine(saved));
    setText(this.unsaved, line);
    setAttribute(this.unsaved, "data-late", late || !durable);
  }

  paintLine(done, of) {
    this.bar.style.transform = `scaleX(${of ? done / of : 0})`;
  }

  paintSide(news, background) {
    setText(this.news, news);
    setText(this.background, background);
  }

  paintMessage(text) {
    setText(this.message, text);
    setAttribute(this.message, "data-shown", Boolean(text));
  }

  buildClasses(classes, many) {
    const buttons = many && classes.length > MANY_BUTTONS ? [] : classes.map(classButton);
    this.classes.replaceChildren(...(many ? [findButton(classes.length)] : []), ...buttons);
    setAttribute(this.classes, "data-many", many);
  }

  notify(text, clearAfter = 2500) {
    setText(this.notice, text);
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => setText(this.notice, ""), clearAfter);
  }

  // Alerts stay until they are dismissed or, where `until` is given, for that many milliseconds.
  showAlert(text, until = null) {
    clearTimeout(this.alertTimer);
    const dismiss = element("button.dismiss", { type: "button", "aria-label": "Dismiss" }, "×");
    dismiss.addEventListener("click", () => this.dismissAlert());
    this.alert.replaceChildren(element("span", {}, text), dismiss);
    if (until !== null) this.alertTimer = setTimeout(() => this.dismissAlert(), until);
  }

  dismissAlert() {
    clearTimeout(this.alertTimer);
    this.alert.replaceChildren();
  }

  stop() {
    clearTimeout(this.noticeTimer);
    this.dismissAlert();
  }
}

function commandButton([command, label, key, title]) {
  const keys = key === null ? null : SHORTCUTS[key] ?? key;
  const attributes = { type: "button", title, "data-command": command, "aria-keyshortcuts": keys };
  return element("button.command", attributes, label, cap(key));
}

function classButton({ id, name, key, colour }) {
  const attributes = { type: "button", title: name, "data-class": name, "data-id": id, "aria-keyshortcuts": key };
  return element("button.class", attributes, dot(colour), element("span.name", {}, name), cap(key?.toUpperCase()));
}

function findButton(n) {
  const attributes = { type: "button", "data-command": "find", "aria-keyshortcuts": "/", title: `Search ${n} classes` };
  return element("button.command.find", attributes, "Find a class", cap("/"));
}

function cap(key) {
  return key ? element("kbd", { "aria-hidden": "true" }, key) : null;
}
