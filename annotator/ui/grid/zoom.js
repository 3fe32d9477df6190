// The image in full size: as an overlay, and as a preview beside the card under the mouse. Knows no keys, no answers.

import { element } from "./dom.js";

const PREVIEW_PX = 360;
const GAP_PX = 12;

export class Zoom {
  constructor(onClose) {
    this.image = element("img");
    this.caption = element("div.zoom-caption");
    this.element = element("dialog.zoom", { "aria-label": "The image in full size" }, this.image, this.caption);
    this.element.addEventListener("click", () => this.close());
    this.element.addEventListener("close", onClose);
  }

  get isOpen() {
    return this.element.open;
  }

  // `said` is what stands under the image: its name and its guess or answer.
  show(view, said) {
    if (this.image.getAttribute("src") !== view.full) this.image.src = view.full;
    this.image.alt = view.image;
    this.image.classList.toggle("pixelated", view.pixelated);
    this.caption.textContent = said;
    if (!this.isOpen) this.element.showModal();
  }

  close() {
    if (this.isOpen) this.element.close();
  }
}

// Larger than the card, beside it, never in its way; on devices with a mouse only.
export class Preview {
  constructor() {
    this.image = element("img", { alt: "" });
    this.element = element("div.preview", { popover: "manual", "aria-hidden": "true" }, this.image);
  }

  show(view, box) {
    const size = Math.min(PREVIEW_PX, innerWidth - GAP_PX, innerHeight - 2 * GAP_PX);
    const right = box.right + GAP_PX + size <= innerWidth;
    if (!right && box.left - GAP_PX - size < 0) return;
    const left = right ? box.right + GAP_PX : box.left - GAP_PX - size;
    const top = Math.min(Math.max(GAP_PX, box.top + box.height / 2 - size / 2), innerHeight - size - GAP_PX);
    this.element.style.cssText = `left: ${left}px; top: ${top}px; width: ${size}px; height: ${size}px`;
    this.image.classList.toggle("pixelated", view.pixelated);
    this.image.src = view.full;
    if (this.element.isConnected && !this.element.matches(":popover-open")) this.element.showPopover();
  }

  hide() {
    if (this.element.matches(":popover-open")) this.element.hidePopover();
  }
}
