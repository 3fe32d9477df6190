// The grammar of event ids, as annotator/store/event_ids.py has it; tests/event_ids.json has examples of both. Knows
// no card.
//
//   <question>.<n>              an answer: the n-th event on this question, counted from 0
//   <seen>><outcome><class>     a change of the answer `seen`; the class only where the outcome is "label"
//   <seen><                     an undo of what `seen` did
//   <question>!<random>         a flag

export function answerId(question, n) {
  return `${question}.${n}`;
}

export function changeId(seen, outcome, classId) {
  return `${seen}>${outcome}${classId ?? ""}`;
}

export function undoId(seen) {
  return `${seen}<`;
}

export function flagId(question, random) {
  return `${question}!${random}`;
}
