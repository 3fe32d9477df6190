// Mouse and touch over the cards: tap, toggle, long press, lasso, hover. Knows cards by place only.

import { element } from "./dom.js";

const LASSO_PX = 6;
const STILL_PX = 10;
const LONG_PRESS_MS = 450;
const HOVER_MS = 400;

export class Pointer {
  // `on` = {tap(place), toggle(place), lasso(places), ground(), hover(place), leave()}; `page` returns the shown page.
  constructor(stage, page, on) {
    this.stage = stage;
    this.page = page;
    this.on = on;
    this.lasso = element("div.lasso", { "aria-hidden": "true", hidden: true });
    stage.append(this.lasso);
    const listeners = { pointerdown: "down", pointermove: "move", pointerup: "up", pointercancel: "cancel",
      click: "click", contextmenu: "menu", pointerover: "over", pointerleave: "leave" };
    for (const [name, method] of Object.entries(listeners)) {
      stage.addEventListener(name, (event) => this[method](event));
    }
  }

  down(event) {
    this.leave();
    this.swallow = false;
    if (event.button !== 0 || !this.isOnPage(event)) return;
    this.from = { x: event.clientX, y: event.clientY, id: event.pointerId, touch: event.pointerType !== "mouse" };
    const { target } = event; // once the event is over, it only names the whole component
    if (this.from.touch) this.press = setTimeout(() => this.longPress(target), LONG_PRESS_MS);
  }

  longPress(target) {
    this.cancel();
    this.swallow = true;
    const place = this.page().placeOf(target);
    if (place >= 0) this.on.toggle(place);
  }

  move(event) {
    if (!this.from || event.pointerId !== this.from.id) return;
    const far = Math.hypot(event.clientX - this.from.x, event.clientY - this.from.y);
    if (this.from.touch) {
      if (far > STILL_PX) this.cancel();
    } else if (this.boxes || far > LASSO_PX) {
      this.drag(event);
    }
  }

  // Boxes are read once, when the lasso begins; after that there are only writes.
  drag(event) {
    if (!this.boxes) {
      this.stage.setPointerCapture(this.from.id);
      this.ground = this.stage.getBoundingClientRect();
      this.boxes = this.page().faces.map((face) => face.box);
      this.lasso.hidden = false;
    }
    const [left, right] = [this.from.x, event.clientX].sort((a, b) => a - b);
    const [top, bottom] = [this.from.y, event.clientY].sort((a, b) => a - b);
    const { style } = this.lasso;
    style.transform = `translate(${left - this.ground.left}px, ${top - this.ground.top}px)`;
    style.width = `${right - left}px`;
    style.height = `${bottom - top}px`;
    const touched = (box) => box.left < right && box.right > left && box.top < bottom && box.bottom > top;
    this.on.lasso(this.boxes.flatMap((box, place) => (touched(box) ? [place] : [])));
  }

  up() {
    if (this.boxes) this.swallow = true;
    this.cancel();
  }

  cancel() {
    clearTimeout(this.press);
    this.press = null;
    this.from = null;
    this.boxes = null;
    this.lasso.hidden = true;
  }

  click(event) {
    if (!this.isOnPage(event)) return;
    if (this.swallow) {
      this.swallow = false;
      return;
    }
    const place = this.page().placeOf(event.target);
    if (place < 0) this.on.ground();
    else if (event.ctrlKey || event.metaKey) this.on.toggle(place);
    else this.on.tap(place);
  }

  menu(event) {
    if (this.swallow || this.press) event.preventDefault(); // a long press selects
  }

  over(event) {
    if (event.pointerType !== "mouse" || this.boxes) return;
    const place = this.page()?.placeOf(event.target) ?? -1;
    if (place === this.hovered) return;
    this.leave();
    this.hovered = place;
    if (place >= 0) this.hover = setTimeout(() => this.on.hover(place), HOVER_MS);
  }

  leave() {
    clearTimeout(this.hover);
    this.hovered = -1;
    this.on.leave();
  }

  isOnPage(event) {
    return this.page() !== null && !event.target.closest("input, button");
  }
}
