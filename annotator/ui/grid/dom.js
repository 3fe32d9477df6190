// Elements in one line. Texts go in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

// element("button.class", { type: "button" }, "T-shirt", child): attributes that are null or false are left out.
export function element(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  return filled(made, attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Change a text or an attribute only where it differs: what is not touched is not painted again.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function setAttribute(target, name, value) {
  const text = String(value);
  if (target.getAttribute(name) !== text) target.setAttribute(name, text);
}

export function dot(colour) {
  const made = element("i.dot", { "aria-hidden": "true" });
  if (colour) made.style.setProperty("--colour", colour);
  return made;
}

export function keyCaps(...keys) {
  return keys.map((key) => (/^(or|\+|–|arrows|key)$/.test(key) || key.length > 12 ? key : element("kbd", {}, key)));
}
