// Keys: which key stands for what. A key event goes in, a command comes out; knows no card and no page.

const LETTERS = { s: "skip", u: "unsure", n: "none-of-these", f: "flag", z: "zoom" };
const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", Home: "home", End: "end" };
const PAGES = { PageUp: -1, PageDown: 1 };
const OUTCOMES = new Set(["skip", "unsure", "none-of-these"]);
const STREAMLIT = new Set(["c", "r"]);
export const TOP = 5;

// Class id by its key: "1", or a letter.
export function keyboardOf(classes, many) {
  const withKey = classes.filter((one) => one.key);
  return { byKey: new Map(withKey.map((one) => [one.key.toLowerCase(), one.id])), many };
}

// The command of a key event, or null where the key is not ours. `all` means the whole selection (Shift).
export function lookUp(event, keyboard) {
  if (event.isComposing) return null;
  if (event.altKey || event.ctrlKey || event.metaKey) return undoOf(event);
  return moveOf(event) ?? answerOf(event, keyboard) ?? pageOf(event) ?? letterOf(event, keyboard);
}

// Whether holding the key down does it again. Nothing that answers may.
export function repeats(command) {
  return command.do === "move" || command.do === "nothing";
}

function undoOf(event) {
  const plain = !event.altKey && !event.shiftKey && event.ctrlKey !== event.metaKey;
  return plain && letterAt(event) === "z" ? { do: "undo" } : null;
}

// A key's sign in lower case; where that is a letter of another script, the Latin letter at its place, so that the keys
// are the same on a Cyrillic, Greek or Hebrew layout.
function letterAt(event) {
  const place = /^Key([A-Z])$/.exec(event.code ?? "")?.[1];
  const isForeign = /^[^\p{Script=Latin}]$/u.test(event.key) && /^\p{L}$/u.test(event.key);
  return (place && isForeign ? place : event.key).toLowerCase();
}

function moveOf(event) {
  if (digitOf(event) !== null) return null; // a numeric keypad sends End for its 1 while Shift is held
  const to = ARROWS[event.key];
  return to ? { do: "move", to, extend: event.shiftKey } : null;
}

function pageOf(event) {
  return event.key in PAGES ? { do: "page", by: PAGES[event.key] } : null;
}

function digitOf(event) {
  return /^(?:Digit|Numpad)(\d)$/.exec(event.code ?? "")?.[1] ?? null;
}

// Where NumLock is on, Shift turns the keypad's 1 into End and hides itself.
function shiftedKeypad(event) {
  return /^Numpad\d$/.test(event.code ?? "") && !/^\d$/.test(event.key) && Boolean(event.getModifierState?.("NumLock"));
}

function answerOf(event, { byKey, many }) {
  if (many && event.key === "/") return { do: "find", text: "" };
  const digit = digitOf(event);
  const all = event.shiftKey || shiftedKeypad(event);
  const key = [digit ?? event.key.toLowerCase(), letterAt(event)].find((one) => byKey.has(one));
  if (key !== undefined) return { do: "class", class: byKey.get(key), all };
  if (many && digit !== null && digit >= 1 && digit <= TOP) return { do: "top", place: digit - 1, all };
  return digit !== null && event.key === digit ? { do: "nothing" } : null;
}

function letterOf(event, { many }) {
  const key = letterAt(event);
  if (key === "enter" || key === " ") return { do: "accept", all: event.shiftKey };
  if (key === "backspace") return { do: "undo" };
  if (key === "escape") return { do: "escape" };
  if (key === "?") return { do: "help" };
  if (OUTCOMES.has(LETTERS[key])) return { do: "outcome", outcome: LETTERS[key], all: event.shiftKey };
  if (LETTERS[key]) return { do: LETTERS[key] };
  if (many && /^\p{L}$/u.test(event.key)) return { do: "find", text: event.key };
  return STREAMLIT.has(key) ? { do: "nothing" } : null;
}

// The table behind "?": what, and its keys.
export function keyTable(classes, many) {
  const named = classes.filter((one) => one.key).map((one) => [one.name, [one.key.toUpperCase()]]);
  const found = many
    ? [
        [`the first ${TOP} names on the card`, ["1", "–", String(TOP)]],
        ["type to find a class", ["/", "or any other letter"]],
      ]
    : [];
  return [
    { title: "Answer", rows: [...named, ...found, ...ANSWER_ROWS] },
    { title: "Move and look", rows: MOVE_ROWS },
  ];
}

const ANSWER_ROWS = [
  ["accept the guess", ["Enter", "or", "Space"]],
  ["skip", ["S"]],
  ["unsure", ["U"]],
  ["none of these", ["N"]],
  ["the same for the whole selection", ["Shift", "+", "key"]],
  ["take back the newest answer", ["Backspace", "or", "Ctrl", "+", "Z"]],
  ["flag with a comment", ["F"]],
];

const MOVE_ROWS = [
  ["move", ["←", "→", "↑", "↓"]],
  ["first, last image", ["Home", "End"]],
  ["select", ["Shift", "+", "arrows"]],
  ["clear the selection", ["Esc"]],
  ["the image in full size", ["Z"]],
  ["the batch before, and back", ["Page Up", "Page Down"]],
  ["these keys", ["?"]],
];
