// Words: what the surface says in sentences and figures. Knows no page.

const WHOLE = new Intl.NumberFormat("en");
const OUTCOMES = { skip: "skipped", unsure: "unsure", "none-of-these": "none of these" };

export function count(n, noun) {
  return `${WHOLE.format(n)} ${noun}${n === 1 ? "" : "s"}`;
}

export function percent(p) {
  return `${Math.round(100 * p)}\u00a0%`;
}

export function savedLine(saved) {
  return `${WHOLE.format(saved)} saved`;
}

// What is not saved yet, or nothing. `late`: for so long that it has to be explained.
export function unsavedLine(unsaved, late, durable) {
  const memory = durable ? "" : "; this browser keeps nothing: leave the page open until all is saved";
  if (!unsaved) return memory.slice(2);
  const where = late && durable ? " (kept in this browser until they are saved)" : "";
  return `${WHOLE.format(unsaved)} on ${unsaved === 1 ? "its" : "their"} way${where}${memory}`;
}

export function factsLine(status) {
  const facts = [`round ${WHOLE.format(status.round)}`, `${WHOLE.format(status.left)} left`];
  if (status.pace !== null) facts.push(`${status.pace.toFixed(1)} s per label`);
  return facts.join(" · ");
}

// Why these images, and how old that choice is: "Picked by model 7 with entropy, 3 labels ago".
export function whyLine(page, labels) {
  const ago = page.labels_at === null ? 0 : labels - page.labels_at;
  return ago > 0 ? `${page.why}, ${count(ago, "label")} ago` : page.why;
}

// What stands on a card as answer, or null.
export function answerWords(answer, nameOf) {
  if (answer === null) return null;
  return answer.outcome === "label" ? nameOf(answer.class) : OUTCOMES[answer.outcome] ?? answer.outcome;
}

// What an unanswered card says about the model's guess.
export function guessWords(card, nameOf) {
  if (card.guess !== null) return nameOf(card.guess.class);
  if (card.audit) return "audit: guess hidden";
  return card.hidden ? "guess hidden" : "no guess yet";
}

// A card's answer, or else its guess with its probability.
export function viewWords(card, nameOf) {
  const share = card.guess ? ` ${percent(card.guess.p)}` : "";
  return answerWords(card.answer, nameOf) ?? guessWords(card, nameOf) + share;
}

// What classes are called and which colour they have, by id; those no longer offered keep their name.
export function classWords(classes, names, many) {
  const byId = new Map(classes.map((one) => [one.id, one]));
  const nameOf = (id) => byId.get(id)?.name ?? names[id] ?? `class ${id}`;
  return { many, nameOf, colourOf: (id) => byId.get(id)?.colour ?? "var(--edge)" };
}

// A card in one sentence, for those who hear it.
export function cardLabel(card, nameOf, place, of) {
  const answer = answerWords(card.answer, nameOf);
  const guess = card.guess ? `guess ${nameOf(card.guess.class)}, ${percent(card.guess.p)}` : guessWords(card, nameOf);
  const said = answer === null ? guess : `answered ${answer}`;
  const flag = card.flag ? `, flagged: ${card.flag}` : "";
  const reason = card.reason ? `, ${card.reason}` : "";
  return `${card.image}, ${said}${flag}${reason}, ${place} of ${of}`;
}
