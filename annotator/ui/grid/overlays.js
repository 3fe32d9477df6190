// What lies over the cards: finder, comment, help, zoom, preview. At most one of the first three takes the keys.

import { Comment } from "./comment.js";
import { Finder } from "./finder.js";
import { Help } from "./help.js";
import { viewWords } from "./words.js";
import { Preview, Zoom } from "./zoom.js";

export class Overlays {
  // `on` = {find(class id), flag(place, text), words()}: what was chosen or written, and what classes are called.
  constructor(frame, shown, on) {
    const refocus = () => shown.focus();
    this.shown = shown;
    this.words = on.words;
    this.zoom = new Zoom(refocus);
    this.help = new Help(refocus);
    this.preview = new Preview();
    this.finder = new Finder(on.find, refocus);
    this.comment = new Comment((text) => on.flag(this.flagging, text), refocus);
    frame.place.append(this.comment.element);
    frame.foot.prepend(this.finder.element);
    frame.element.append(this.zoom.element, this.help.element, this.preview.element);
  }

  // The one that the keys are for, or null.
  get open() {
    return [this.finder, this.comment, this.help].find((part) => part.isOpen) ?? null;
  }

  openFinder(classes, text) {
    if (this.shown.chosen.length) this.finder.show(classes, this.shown.view?.top ?? [], text);
  }

  closeFinder() {
    this.finder.close();
  }

  openComment() {
    const { view, page, cursor } = this.shown;
    if (!view) return;
    this.flagging = cursor;
    this.comment.show(page.faces[cursor].element, view.flag ?? "");
  }

  openHelp(classes, many) {
    this.help.show(classes, many);
  }

  openPreview(place) {
    const { page } = this.shown;
    this.preview.show(page.views[place], page.faces[place].box);
  }

  closePreview() {
    this.preview.hide();
  }

  toggleZoom() {
    if (!this.closeZoom()) this.showZoom();
  }

  // Returns whether it was open.
  closeZoom() {
    const { isOpen } = this.zoom;
    this.zoom.close();
    return isOpen;
  }

  // Another card may be under the cursor, or it may have been answered.
  updateZoom() {
    if (this.zoom.isOpen) this.showZoom();
  }

  // The cursor has been moved: a comment belongs to the card it was opened on.
  follow() {
    this.comment.close();
    this.updateZoom();
  }

  showZoom() {
    const { view } = this.shown;
    if (view) this.zoom.show(view, `${view.image} · ${viewWords(view, this.words().nameOf)}`);
  }
}
