// A flag's comment: a small input under the card. Stores nothing itself.

import { element } from "./dom.js";

export class Comment {
  constructor(onStore, onClose) {
    this.onStore = onStore;
    this.onClose = onClose;
    this.input = element("input", {
      type: "text", maxlength: "500", autocomplete: "off", placeholder: "why is it flagged?",
      "aria-label": "Comment to the flag",
    });
    const store = element("button", { type: "button" }, "Flag");
    store.addEventListener("click", () => this.store());
    this.element = element("div.comment", { hidden: true }, this.input, store);
  }

  get isOpen() {
    return !this.element.hidden;
  }

  // Under the card, wherever there is room; nothing moves for it.
  show(card, text) {
    const { offsetLeft, offsetTop, offsetWidth, offsetHeight, offsetParent } = card;
    const wide = Math.min(280, offsetParent.clientWidth);
    const left = Math.max(0, Math.min(offsetLeft + offsetWidth / 2 - wide / 2, offsetParent.clientWidth - wide));
    this.element.style.cssText = `left: ${left}px; top: ${offsetTop + offsetHeight + 4}px; width: ${wide}px`;
    this.element.hidden = false;
    this.input.value = text;
    this.input.focus();
    this.element.scrollIntoView({ block: "nearest" });
  }

  close() {
    if (!this.isOpen) return;
    this.element.hidden = true;
    this.onClose();
  }

  key(event) {
    if (event.isComposing || event.target === null) return false;
    if (event.key === "Escape") this.close();
    else if (event.key === "Enter" && !event.repeat) this.store();
    else return false;
    return true;
  }

  store() {
    const text = this.input.value.trim();
    this.close();
    this.onStore(text);
  }
}
