// Type to find a class: an input with the list of what it means. Answers nothing itself.

import { dot, element } from "./dom.js";
import { rank } from "./filter.js";

export class Finder {
  constructor(onChoose, onClose) {
    this.onChoose = onChoose;
    this.onClose = onClose;
    this.input = element("input", {
      type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder: "type to find a class",
      "aria-label": "Type to find a class", "aria-expanded": "true", "aria-controls": "found",
    });
    this.list = element("div.found", { role: "listbox", id: "found", "aria-label": "Classes" });
    this.element = element("div.finder", { hidden: true }, this.list, this.input);
    this.input.addEventListener("input", () => this.find());
    this.input.addEventListener("blur", () => this.hide()); // the focus has gone elsewhere and stays there
    this.list.addEventListener("mousedown", (event) => event.preventDefault()); // the input keeps the focus
    this.list.addEventListener("click", (event) => this.clicked(event));
  }

  get isOpen() {
    return !this.element.hidden;
  }

  show(classes, top, text) {
    this.classes = classes;
    this.top = top;
    this.element.hidden = false;
    this.input.value = text;
    this.input.focus();
    this.find();
  }

  close() {
    if (!this.isOpen) return;
    this.hide();
    this.onClose();
  }

  hide() {
    this.element.hidden = true;
  }

  find() {
    this.found = rank(this.classes, this.top, this.input.value);
    this.list.replaceChildren(...this.found.map(option));
    this.choose(0);
    if (!this.found.length) this.list.append(element("div.nothing", {}, "no class of this name"));
  }

  choose(at) {
    this.at = Math.max(0, Math.min(this.found.length - 1, at));
    [...this.list.children].forEach((child, place) => child.setAttribute("aria-selected", place === this.at));
    this.list.children[this.at]?.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", this.found.length ? `found-${this.at}` : "");
  }

  // Whether the key was meant for the list; others are text.
  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.isComposing) return false;
    if (event.key === "Escape") this.close();
    else if (event.key === "Enter") this.take(event.repeat ? null : this.found[this.at]);
    else if (event.key in steps) this.choose(this.at + steps[event.key]);
    else return false;
    return true;
  }

  clicked(event) {
    const chosen = event.target.closest(".option");
    if (chosen) this.take(this.found[[...this.list.children].indexOf(chosen)]);
  }

  take(one) {
    if (!one) return;
    this.close();
    this.onChoose(one.id);
  }
}

function option(one, at) {
  const attributes = { role: "option", id: `found-${at}` };
  return element("div.option", attributes, dot(one.colour), element("span.name", {}, one.name));
}
