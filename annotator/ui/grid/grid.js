// The labeling component, as Streamlit calls it: on every change of data or theme, with the same parent element. What
// it returns is called when the component goes away, or when a call was overtaken by a newer one. The data are one
// value in a list.

import { Surface } from "./surface.js";

const surfaces = new WeakMap();

export default function grid({ data: [data], parentElement, setStateValue }) {
  const surface = surfaceOf(parentElement, data);
  const call = {};
  surface.call = call;
  surface.receive(data);
  surface.start(setStateValue);
  return () => {
    if (surface.call === call) surface.stop(); // a newer call has taken over otherwise
  };
}

// One surface per mount; another project or annotator begins anew.
function surfaceOf(parentElement, data) {
  const known = surfaces.get(parentElement);
  if (known?.owner === `${data.project}:${data.annotator}`) return known;
  known?.stop();
  known?.element.remove();
  const made = new Surface(parentElement, data);
  surfaces.set(parentElement, made);
  return made;
}
