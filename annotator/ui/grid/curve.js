// The learning curve: accuracy over labels with its interval, drawn as SVG. Knows figures, no page.

import { drawn, element } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 190;
const PLOT = { left: 38, right: 12, top: 12, bottom: 34 };

// What stands inside the figure: the drawing and its caption, or a word on why there is none yet.
export function curve({ points, caption, marks }) {
  if (!points.length) return [element("figcaption", {}, "The learning curve begins with the first model.")];
  return [drawing(points, marks), element("figcaption", {}, captionOf(points, caption))];
}

function captionOf(points, caption) {
  const [, accuracy, low, high] = points[points.length - 1];
  const interval = low === null || high === null ? "" : ` (95 % interval ${whole(low)} to ${whole(high)} %)`;
  return `Accuracy ${(100 * accuracy).toFixed(1)} %${interval}${caption ? ` on ${caption}` : ""}.`;
}

function whole(share) {
  return Math.round(100 * share);
}

function drawing(points, marks) {
  const scale = scaleOf(points, marks);
  const [n, accuracy] = points[points.length - 1];
  const label = `Learning curve: accuracy ${whole(accuracy)} % after ${n} labels`;
  return drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    ...gridLines(scale), ...labelTicks(scale), ...marks.map((one) => rule(scale, one)),
    drawn("path", { class: "band", d: band(scale, points) }),
    drawn("path", { class: "curve-line", d: path(points.map(([x, y]) => [scale.x(x), scale.y(y)])) }),
    ...points.map((point, at) => dotOf(scale, point, at === points.length - 1)));
}

function scaleOf(points, marks) {
  const most = Math.max(1, ...points.map(([n]) => n), ...marks.map(([n]) => n));
  const step = niceStep(most / 4);
  const end = Math.ceil(most / step) * step;
  const wide = WIDTH - PLOT.left - PLOT.right;
  const high = HEIGHT - PLOT.top - PLOT.bottom;
  return { step, end, x: (n) => PLOT.left + (wide * n) / end, y: (share) => PLOT.top + high * (1 - share) };
}

// 1, 2 or 5 times a power of ten, and at least 1.
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, rough)));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= rough) ?? 10 * power;
}

function gridLines(scale) {
  return [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    drawn("line", { class: "rule", x1: PLOT.left, x2: WIDTH - PLOT.right, y1: scale.y(share), y2: scale.y(share) }),
    share === 0.25 || share === 0.75
      ? null
      : drawn("text", { x: PLOT.left - 6, y: scale.y(share) + 4, "text-anchor": "end" }, `${whole(share)} %`),
  ]).filter(Boolean);
}

function labelTicks(scale) {
  const ticks = Array.from({ length: Math.round(scale.end / scale.step) + 1 }, (_, at) => at * scale.step);
  const bottom = HEIGHT - PLOT.bottom;
  const middle = (PLOT.left + WIDTH - PLOT.right) / 2;
  const centred = (x, y, text) => drawn("text", { x, y, "text-anchor": "middle" }, text);
  return [...ticks.map((n) => centred(scale.x(n), bottom + 15, n.toLocaleString("en"))),
    centred(middle, HEIGHT - 4, "labels"), drawn("text", { x: PLOT.left + 5, y: PLOT.top + 11 }, "accuracy")];
}

function rule(scale, [n, text]) {
  const x = scale.x(n);
  const line = { class: "mark", x1: x, x2: x, y1: PLOT.top, y2: HEIGHT - PLOT.bottom };
  return drawn("g", {}, drawn("title", {}, `${text}, at ${n} labels`), drawn("line", line),
    drawn("line", { ...line, class: "mark-reach" }));
}

function path(places) {
  return places.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function band(scale, points) {
  const known = points.filter(([, , low, high]) => low !== null && high !== null);
  if (known.length < 2) return "";
  const upper = known.map(([n, , , high]) => [scale.x(n), scale.y(high)]);
  const lower = known.map(([n, , low]) => [scale.x(n), scale.y(low)]).reverse();
  return `${path([...upper, ...lower])}Z`;
}

function dotOf(scale, [n, accuracy], last) {
  const circle = { class: last ? "newest" : "point", cx: scale.x(n), cy: scale.y(accuracy), r: last ? 4 : 2.5 };
  return drawn("circle", circle, drawn("title", {}, `${n} labels: ${(100 * accuracy).toFixed(1)} %`));
}
