// Lets Streamlit run the whole script for this page, by pressing a button of the page that nobody sees. Knows no card.

const APP = '[data-testid="stApp"][data-test-connection-state="CONNECTED"]';
const BUTTON = ".st-key-wake button";

export function rerunScript() {
  if (document.querySelector(APP)) document.querySelector(BUTTON)?.click();
}
