// While the server is gone Streamlit lays a dialog over the page and makes the rest inert. Labeling goes on meanwhile,
// so the dialog is hidden and the page stays alive; what is unsaved is said in the status line. Knows no card.

const DIALOG = '[role="dialog"]';

export class Afloat {
  constructor() {
    this.observer = new MutationObserver(() => this.look());
  }

  start() {
    this.observer.observe(document.body, { childList: true, attributes: true, attributeFilter: ["inert"], subtree: false });
    for (const part of document.body.children) this.observer.observe(part, { attributes: true, attributeFilter: ["inert"] });
    this.look();
  }

  stop() {
    this.observer.disconnect();
  }

  look() {
    const app = document.querySelector('[data-testid="stApp"]');
    if (!app || app.dataset.testConnectionState === "CONNECTED") return;
    const parts = [...document.body.children];
    for (const part of parts) {
      if (!part.contains(app) && part.querySelector(DIALOG)) part.style.display = "none";
      if (part.contains(app) && part.inert) part.inert = false;
    }
  }
}
