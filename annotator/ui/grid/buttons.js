// The buttons under the cards: what a click on one means. Knows no keys and no cards.

const BOUNCE_MS = 50;
const OUTCOMES = { skip: "skip", unsure: "unsure", none: "none-of-these" };

export class Buttons {
  // `on` = {answer(answer), command(name), focus()}.
  constructor(foot, on) {
    this.on = on;
    foot.addEventListener("mousedown", (event) => this.down(event));
    foot.addEventListener("click", (event) => this.click(event));
  }

  // A button pressed with the mouse leaves the keyboard where it was: with the cards.
  down(event) {
    if (!event.target.closest("button")) return;
    event.preventDefault();
    this.on.focus();
  }

  click(event) {
    const button = event.target.closest("button");
    if (!button || this.isBounce(event, button)) return;
    const { id, command } = button.dataset;
    if (id !== undefined) this.on.answer({ outcome: "label", class: Number(id) });
    else if (command in OUTCOMES) this.on.answer({ outcome: OUTCOMES[command] });
    else if (command) this.on.command(command);
  }

  // The second half of a double click is no second answer.
  isBounce(event, button) {
    const again = event.detail > 1 && button === this.last && event.timeStamp - this.at < BOUNCE_MS;
    this.last = button;
    this.at = event.timeStamp;
    return again;
  }
}
