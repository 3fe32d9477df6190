// Type to filter: which classes a few typed letters mean, best first. Knows names, no page.

const MOST = 50;

// The card's most probable classes first, then names that begin with the text, then names that contain it.
export function rank(classes, top, text) {
  const wanted = plain(text.trim());
  const place = new Map(top.map((id, at) => [id, at]));
  const grade = (one) => (place.has(one.id) ? 0 : plain(one.name).startsWith(wanted) ? 1 : 2);
  return classes
    .filter((one) => plain(one.name).includes(wanted))
    .map((one, at) => ({ one, grade: grade(one), at: place.get(one.id) ?? at }))
    .sort((a, b) => a.grade - b.grade || a.at - b.at)
    .slice(0, MOST)
    .map(({ one }) => one);
}

// Letter case and accents make no difference.
function plain(name) {
  return name.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}
