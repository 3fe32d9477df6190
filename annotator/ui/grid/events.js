// Events: how they are made, and what they do to a card. Knows no page, no browser, no storage.
//
// A card's view is the server's card with the events of the outbox applied in order. What a card was before an answer
// is remembered by that answer's id in the card's `states`, a `Map` that outlives the events, so that an undo brings it
// back: a state is {answer, order, below}, `order` the running number of an answer made here, `below` the one before.

import { answerId, changeId, flagId, undoId } from "./event_ids.js";

export const OPEN = { answer: null, order: null, below: null };

export function sameAnswer(one, other) {
  return one?.outcome === other?.outcome && (one?.class ?? null) === (other?.class ?? null);
}

// The first answer to an open card, else a change of the one that stands.
export function answerEvent(card, { outcome, class: of = null }, ms) {
  const first = card.answer === null;
  const id = first ? answerId(card.q, card.n_events) : changeId(card.head, outcome, of);
  return {
    ...blank(card, first ? "answer" : "change", id, first ? null : card.head),
    outcome,
    class: of,
    ms: Math.max(0, Math.round(ms)),
    guess: card.guess !== null,
  };
}

export function undoEvent(card) {
  return blank(card, "undo", undoId(card.head), card.head);
}

export function flagEvent(card, text, random) {
  return { ...blank(card, "flag", flagId(card.q, random), null), text: shortened(text) };
}

// Never half of a character that takes two units, which could not be stored.
function shortened(text) {
  return [...text].slice(0, 500).join("");
}

function blank(card, kind, id, of) {
  const { image, q } = card;
  return { kind, id, of, image, q, outcome: null, class: null, ms: null, guess: null, text: null };
}

// The server's card with these events applied, those of other cards being left out.
export function fold(card, events, states) {
  let view = { ...card, order: states.get(card.head)?.order ?? null };
  for (const event of events) {
    if (event.q === card.q) view = apply(view, event, states);
  }
  return view;
}

export function apply(view, event, states) {
  if (event.kind === "flag") return { ...view, flag: event.text };
  if (!fits(view, event)) return view;
  const now = stateOf(view, states);
  const next = event.kind === "undo" ? now.below ?? OPEN : answered(event, now);
  states.set(event.id, next);
  return { ...view, n_events: view.n_events + 1, head: event.id, answer: next.answer, order: next.order };
}

function fits(view, event) {
  if (event.kind === "answer") return view.answer === null && event.id === answerId(view.q, view.n_events);
  return view.head !== null && view.head === event.of;
}

function stateOf(view, states) {
  return states.get(view.head) ?? { answer: view.answer, order: null, below: null };
}

function answered(event, below) {
  return { answer: { outcome: event.outcome, class: event.class }, order: event.order, below };
}

// The card whose answer is the newest: those made here by their running number, then the server's by seq.
export function newestAnswer(cards) {
  return cards.filter((card) => card.answer !== null && card.head !== null).reduce(newer, null);
}

function newer(best, card) {
  if (best === null) return card;
  if (best.order !== null && card.order !== null) return card.order > best.order ? card : best;
  if (best.order !== null || card.order !== null) return card.order !== null ? card : best;
  return (card.seq ?? -1) > (best.seq ?? -1) ? card : best;
}

// How many labels the events still on their way add to what the server counts.
export function labelsOnTheirWay(pairs) {
  return pairs.reduce((sum, [server, view]) => sum + isLabel(view) - isLabel(server), 0);
}

function isLabel(card) {
  return Number(card.answer?.outcome === "label");
}
