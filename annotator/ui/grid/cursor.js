// The cursor: where it goes on a page of cards laid out in columns, and how many columns those are. Knows places and
// sizes, no cards.

const GAP_PX = 10;
const LEAST_PX = 120;
const MOST_PX = 200;

// The next open place after `from`, wrapping around; -1 where none is open.
export function nextOpen(open, from) {
  for (let step = 1; step <= open.length; step += 1) {
    const place = (from + step + open.length) % open.length;
    if (open[place]) return place;
  }
  return -1;
}

// Where an arrow leads: never off the page, never around its end.
export function moved(place, to, count, columns) {
  if (place < 0) return to === "end" ? count - 1 : 0;
  const steps = { left: -1, right: 1, up: -columns, down: columns };
  if (to === "home") return 0;
  if (to === "end") return count - 1;
  const next = place + steps[to];
  if (to === "down" && next >= count) return lastRowBelow(place, count, columns) ? count - 1 : place;
  return next < 0 || next >= count ? place : next;
}

function lastRowBelow(place, count, columns) {
  return Math.floor(place / columns) < Math.floor((count - 1) / columns);
}

// Every place from one to the other, in order.
export function range(one, other) {
  const [first, last] = one < other ? [one, other] : [other, one];
  return Array.from({ length: last - first + 1 }, (_, step) => first + step);
}

// The round to show: the lowest that has an open card, or null. `rounds` is [[round, how many are open], ...].
export function lowestOpen(rounds) {
  const open = rounds.filter(([, count]) => count > 0).map(([round]) => round);
  return open.length ? Math.min(...open) : null;
}

// The nearest round before (by -1) or after (by 1) this one, or null.
export function neighbour(rounds, round, by) {
  const beyond = rounds.filter((other) => (other - round) * by > 0);
  return beyond.length ? beyond.reduce((best, other) => ((other - best) * by < 0 ? other : best)) : null;
}

// Columns and card width for n cards in so much room: all of them in sight if that can be, with as few gaps in the last
// row as possible, as large as possible. `below` is the height of what stands under each image. All in pixels.
export function layout(n, { width, height, below }) {
  const most = Math.max(2, Math.floor((width + GAP_PX) / (LEAST_PX + GAP_PX)));
  const choices = Array.from({ length: most - 1 }, (_, at) => choice(n, at + 2, { width, height, below }));
  return choices.reduce((best, one) => (better(one, best) ? one : best));
}

function choice(n, columns, { width, height, below }) {
  const size = Math.min(MOST_PX, Math.floor((width - (columns - 1) * GAP_PX) / columns));
  const rows = Math.ceil(n / columns);
  const fits = rows * (size + below + GAP_PX) <= height;
  const fills = columns * (MOST_PX + GAP_PX) >= width + GAP_PX;
  return { columns, size, rows, fits, fills, gaps: rows * columns - n };
}

function better(one, other) {
  if (one.fits !== other.fits) return one.fits;
  if (!one.fits && one.fills !== other.fills) return one.fills;
  if (one.gaps !== other.gaps) return one.gaps < other.gaps;
  return one.size === other.size ? one.rows < other.rows : one.size > other.size;
}
