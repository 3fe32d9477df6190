// Listens to the keyboard of the whole window, so that no key of a labeling hand reaches anything else. Decides who a
// key is for; which command it is stands in keys.js, what that does in commands.js.

import { lookUp, repeats } from "./keys.js";

const BUSY_PAGE = '[role="dialog"], [role="menu"], [data-testid="stPopoverBody"]';

export class KeyListener {
  // `to` = {overlay(), keyboard(), perform(command), isBehind(element)}; `isBehind` says whether an element outside has
  // the focus only because it stands in something that was hidden.
  constructor(root, to) {
    this.root = root;
    this.to = to;
    this.onKeydown = (event) => this.key(event);
  }

  start() {
    window.addEventListener("keydown", this.onKeydown, true);
  }

  stop() {
    window.removeEventListener("keydown", this.onKeydown, true);
  }

  key(event) {
    const target = event.composedPath()[0];
    const ours = target instanceof Node && this.root.contains(target);
    if (!ours && !isPageItself(document.activeElement) && !this.to.isBehind(document.activeElement)) return;
    if (pageIsBusy()) return;
    const overlay = this.to.overlay();
    if (overlay) this.keyOfOverlay(event, overlay);
    else if (ours && isPressing(event, target)) this.keyOfButton(event);
    else this.keyOfCards(event);
  }

  // What is typed into an input or a dialog of ours is no business of the page's own keys.
  keyOfOverlay(event, overlay) {
    event.stopImmediatePropagation();
    if (overlay.key(event)) event.preventDefault();
  }

  // A focused button does what it says, once.
  keyOfButton(event) {
    event.stopImmediatePropagation();
    if (event.repeat) event.preventDefault();
  }

  keyOfCards(event) {
    const command = lookUp(event, this.to.keyboard());
    if (command === null) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!event.repeat || repeats(command)) this.to.perform(command);
  }
}

function isPageItself(active) {
  return active === null || active === document.body || active === document.documentElement;
}

function isPressing(event, target) {
  return target.closest?.("button") && (event.key === "Enter" || event.key === " ");
}

function pageIsBusy() {
  return [...document.querySelectorAll(BUSY_PAGE)].some((one) => one.checkVisibility());
}
