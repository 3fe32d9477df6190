// While the server is gone Streamlit lays a dialog over the page and makes the rest inert. Labeling goes on meanwhile,
// so the dialog is hidden and the page stays alive; what is unsaved is said in the status line. Knows no card.

const APP = '[data-testid="stApp"]';
const DIALOG = '[role="dialog"]';

export class ReconnectDialog {
  constructor() {
    this.observer = new MutationObserver(() => this.hide());
  }

  start() {
    const inert = { attributes: true, attributeFilter: ["inert"] };
    this.observer.observe(document.body, { childList: true });
    for (const part of document.body.children) this.observer.observe(part, inert);
    this.hide();
  }

  stop() {
    this.observer.disconnect();
  }

  // Whether an element has the focus only because it stands in the dialog that was hidden.
  contains(element) {
    return !isConnected() && element.closest(DIALOG) !== null;
  }

  hide() {
    const app = document.querySelector(APP);
    if (isConnected()) return;
    const parts = [...document.body.children];
    for (const part of parts) {
      if (!part.contains(app) && part.querySelector(DIALOG)) part.style.display = "none";
      if (part.contains(app) && part.inert) part.inert = false;
    }
  }
}

function isConnected() {
  return (document.querySelector(APP)?.dataset.testConnectionState ?? "CONNECTED") === "CONNECTED";
}
