// The table of all keys, behind "?". Knows no card.

import { element, keyCaps } from "./dom.js";
import { keyTable } from "./keys.js";

export class Help {
  constructor(onClose) {
    this.body = element("div.tables");
    const done = element("button.done", { type: "button", autofocus: true }, "Close", element("kbd", {}, "Esc"));
    done.addEventListener("click", () => this.close());
    this.element = element("dialog.help", { "aria-label": "Keys" }, this.body, done);
    this.element.addEventListener("close", onClose);
    this.element.addEventListener("click", (event) => event.target === this.element && this.close());
  }

  get isOpen() {
    return this.element.open;
  }

  show(classes, many) {
    this.body.replaceChildren(...keyTable(classes, many).map(table));
    this.element.showModal();
  }

  close() {
    if (this.isOpen) this.element.close();
  }

  key(event) {
    const closes = event.key === "Escape" || event.key === "?";
    if (closes) this.close();
    return closes;
  }
}

function table({ title, rows }) {
  const lines = rows.map(([what, keys]) =>
    element("tr", {}, element("th", { scope: "row" }, what), element("td", {}, ...spaced(keyCaps(...keys)))));
  return element("table", {}, element("caption", {}, title), element("tbody", {}, ...lines));
}

function spaced(parts) {
  return parts.flatMap((part) => [part, " "]);
}
