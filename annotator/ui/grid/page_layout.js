// Lays the cards out in the room there is: when a page is shown or the room changes, never because of an answer. Sizes
// are pixels; those of what stands around the images are the style sheet's.

import { layout } from "./cursor.js";

const WIDE_PX = 900;
const BETWEEN_PX = 28;
const HEAD_PX = 44;
const TOP_PX = 200;
const BELOW_PX = 33;
const BELOW_MANY_PX = 107;
const REASON_PX = 20;

export class PageLayout {
  // `page` returns the shown page or null, `many` whether each card names its most probable classes.
  constructor(frame, page, many) {
    this.frame = frame;
    this.page = page;
    this.many = many;
    this.columns = 1;
    this.observer = new ResizeObserver(() => requestAnimationFrame(() => this.update()));
  }

  start() {
    for (const part of [this.frame.columns, this.frame.foot]) this.observer.observe(part);
  }

  stop() {
    this.observer.disconnect();
  }

  update() {
    const page = this.page();
    if (page === null) return;
    const { columns, size } = layout(page.cards.length, this.free);
    const { style } = this.frame.element;
    this.columns = columns;
    this.laidOut = shape(page);
    style.setProperty("--columns", columns);
    style.setProperty("--card", `${size}px`);
    style.setProperty("--foot", `${this.frame.foot.offsetHeight}px`);
  }

  // Another page has come: one with as many cards of the same height needs no other layout.
  updateForNewPage() {
    if (shape(this.page()) !== this.laidOut) this.update();
  }

  get free() {
    const { columns, side, foot } = this.frame;
    const wide = columns.clientWidth;
    const beside = wide >= WIDE_PX ? side.offsetWidth + BETWEEN_PX : 0;
    const top = Math.min(Math.max(columns.getBoundingClientRect().top, 0), TOP_PX);
    const height = window.innerHeight - top - HEAD_PX - foot.offsetHeight;
    const reason = hasReasons(this.page()) ? REASON_PX : 0;
    return { width: wide - beside, height, below: (this.many() ? BELOW_MANY_PX : BELOW_PX) + reason };
  }
}

// All cards of a page have a line for why they were picked, or none has.
function hasReasons(page) {
  return page.cards.some((card) => card.reason != null);
}

function shape(page) {
  return `${page.cards.length} ${hasReasons(page)}`;
}
