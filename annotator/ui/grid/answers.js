// Answers: what a person does to cards becomes events, and the cursor goes on. Knows no keys and no server.

import { answerEvent, flagEvent, sameAnswer, undoEvent } from "./events.js";
import { randomId } from "./outbox.js";

export class Answers {
  // `onGive()` is called before answers are stored, `onChange(n)` when n events were made, or none were needed.
  constructor({ batches, shown, navigation, frame, onGive, onChange }) {
    this.batches = batches;
    this.shown = shown;
    this.navigation = navigation;
    this.frame = frame;
    this.onGive = onGive;
    this.onChange = onChange;
  }

  // From now on it counts how long an answer takes.
  startClock() {
    this.since = performance.now();
  }

  // The same answer for each of these places.
  answer(answer, places) {
    this.give(places.map((place) => [place, answer]));
  }

  // The class of that rank among the most probable ones of the card under the cursor.
  answerTop(rank, places) {
    const ids = this.shown.view?.top ?? [];
    if (rank < ids.length) this.answer({ outcome: "label", class: ids[rank] }, places);
    else this.shown.refuse("No such name on this card");
  }

  accept(places) {
    const { views } = this.shown.page ?? {};
    const guessed = places.filter((place) => views[place].guess !== null);
    if (guessed.length) this.give(guessed.map((place) => [place, guessOf(views[place])]));
    else if (places.length) this.shown.refuse("No guess to accept");
  }

  acceptRest() {
    const views = this.shown.page?.views ?? [];
    const places = views.flatMap((view, place) => (view.answer === null && view.guess !== null ? [place] : []));
    if (places.length) this.accept(places);
    else this.shown.refuse("No guess to accept");
  }

  // Store answers [[place, answer], ...]; one that says what stands already is left out.
  give(answers) {
    if (!answers.length) return;
    this.onGive();
    const { page } = this.shown;
    const wasOpen = page.openCount > 0;
    const news = answers.filter(([place, answer]) => !sameAnswer(page.views[place].answer, answer));
    const ms = (performance.now() - this.since) / news.length; // one decision on several cards: each takes its share
    for (const [place, answer] of news) this.batches.record(page, place, answerEvent(page.views[place], answer, ms));
    this.startClock();
    this.shown.select([]);
    if (wasOpen) this.navigation.advance(answers[answers.length - 1][0]);
    this.onChange(news.length);
  }

  // Take back the newest answer, wherever it stands.
  undo() {
    const { newest } = this.batches;
    if (newest === null) {
      this.frame.notify("Nothing to take back");
      return;
    }
    const [page, place] = newest;
    if (page !== this.shown.page) this.navigation.show(page.round, place);
    this.batches.record(page, place, undoEvent(page.views[place]));
    this.navigation.isBrowsing = false;
    this.shown.select([]);
    this.shown.moveTo(place);
    this.onChange(1);
  }

  flag(place, text) {
    const { page } = this.shown;
    const view = page?.views[place];
    if (!text || !view) return;
    this.batches.record(page, place, flagEvent(view, text, randomId()));
    this.onChange(1);
  }
}

function guessOf(view) {
  return { outcome: "label", class: view.guess.class };
}
