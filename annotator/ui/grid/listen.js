// Listening to the keyboard of the whole window, so that no key of a labeling hand reaches anything else. Decides who
// a key is for; what it does is told by keys.js and done by the surface.

import { lookUp, repeats } from "./keys.js";

const BUSY_PAGE = '[role="dialog"], [role="menu"], [data-testid="stPopoverBody"]';

export class Listener {
  constructor(surface, root) {
    this.surface = surface;
    this.root = root;
    this.hear = (event) => this.key(event);
  }

  start() {
    window.addEventListener("keydown", this.hear, true);
  }

  stop() {
    window.removeEventListener("keydown", this.hear, true);
  }

  key(event) {
    const target = event.composedPath()[0];
    const ours = target instanceof Node && this.root.contains(target);
    if (!ours && !isGround(document.activeElement) && !this.surface.afloat.hides(document.activeElement)) return;
    if (pageIsBusy()) return;
    const overlay = this.surface.overlay;
    if (overlay) this.overlaid(event, overlay);
    else if (ours && isPressing(event, target)) this.pressed(event);
    else this.grid(event);
  }

  // What is typed into an input or a dialog of ours is no business of the page's own keys.
  overlaid(event, overlay) {
    event.stopImmediatePropagation();
    if (overlay.key(event)) event.preventDefault();
  }

  // A focused button does what it says, once.
  pressed(event) {
    event.stopImmediatePropagation();
    if (event.repeat) event.preventDefault();
  }

  grid(event) {
    const command = lookUp(event, this.surface.keyboard);
    if (command === null) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!event.repeat || repeats(command)) this.surface.perform(command);
  }
}

function isGround(active) {
  return active === null || active === document.body || active === document.documentElement;
}

function isPressing(event, target) {
  return target.closest?.("button") && (event.key === "Enter" || event.key === " ");
}

function pageIsBusy() {
  return [...document.querySelectorAll(BUSY_PAGE)].some((one) => one.checkVisibility());
}
