// Where in the picture of the foci everything is: foci on an ellipse, people around theirs, outwards, trunks as straight lines with a
// label for each direction and one in the middle. Boxes are {x, y, width, height} around their middle. Pure.

/** @typedef {{x: number, y: number, width: number, height: number}} Box */

const FOCUS = { width: 150, height: 52 };
const PERSON = { width: 168, height: 60 };
const FLOW = { width: 156, height: 76 };
const MIDDLE = { width: 92, height: 24 };
/** People around one focus; the last place says how many there are besides. */
export const PEOPLE_MAX = 10;
const RING = 5;
/** With more foci there is room for one label at each trunk. */
const FOCI_WITH_FLOWS = 5;
const MARGIN = 20;

/** Where a label lies on its line, in parts of it: the first place that is free is taken. */
const FLOW_PLACES = [0.3, 0.27, 0.33, 0.24, 0.36, 0.21, 0.39, 0.18];
const MIDDLE_PLACES = [0.5, 0.46, 0.54, 0.42, 0.58, 0.38, 0.62, 0.34, 0.66];
/** How much farther away than others somebody is drawn, at most, so that nothing lies on top of anything. */
const STEPS_AWAY = 20;

export const overlap = (a, b) =>
  Math.abs(a.x - b.x) * 2 < a.width + b.width && Math.abs(a.y - b.y) * 2 < a.height + b.height;

/**
 * @param {import("./connections.js").Connections} connections
 * @returns {{foci: Map<string, Box>, people: {focus: string, person: object|null, more: number, box: Box}[],
 *   trunks: Map<string, {flows: (Box|null)[], middle: Box}>, bounds: {x: number, y: number, width: number, height: number}}}
 *   by key; a person that is null stands for those without a place; `bounds` has its corner at `x`, `y`
 */
export function planPicture({ foci, trunks }) {
  const boxes = new Map(foci.map((focus, index) => [focus.key, { ...place(index, foci.length), ...FOCUS }]));
  const taken = [...boxes.values()];
  const people = foci.flatMap((focus) => planPeople(focus, boxes.get(focus.key), foci.length, taken));
  const planned = new Map();
  const withFlows = foci.length <= FOCI_WITH_FLOWS;
  for (const { key, ends } of trunks) {
    const [from, to] = ends.map((end) => boxes.get(end));
    const flows = [[from, to], [to, from]].map(([a, b]) => (withFlows ? label(a, b, FLOW, FLOW_PLACES, taken) : null));
    planned.set(key, { flows, middle: null });
  }
  for (const { key, ends } of trunks) {
    const [from, to] = ends.map((end) => boxes.get(end));
    planned.get(key).middle = label(from, to, MIDDLE, MIDDLE_PLACES, taken);
  }
  return { foci: boxes, people, trunks: planned, bounds: boundsOf(taken) };
}

function place(index, count) {
  if (count === 1) return { x: 0, y: 0 };
  // One on top of an odd number, an even number beside each other.
  const turn = (index + (count % 2 === 0 ? 0.5 : 0)) / count;
  const angle = turn * 2 * Math.PI - Math.PI / 2;
  if (count === 2) return { x: index === 0 ? -350 : 350, y: 0 };
  const wide = 1 + 0.4 * (count - 3);
  return { x: 400 * wide * Math.cos(angle), y: 250 * wide * Math.sin(angle) };
}

function planPeople(focus, { x, y }, count, taken) {
  const shown = focus.people.length > PEOPLE_MAX ? focus.people.slice(0, PEOPLE_MAX - 1) : focus.people;
  const places = [...shown];
  if (shown.length < focus.people.length) places.push(null);
  const outwards = count === 1 ? -Math.PI / 2 : Math.atan2(y, x);
  return places.map((person, index) => {
    const ring = Math.floor(index / RING);
    const inRing = Math.min(RING, places.length - ring * RING);
    const angle = outwards + spread(index % RING, inRing, count);
    const at = (away) => ({ x: x + 185 * away * Math.cos(angle), y: y + 130 * away * Math.sin(angle), ...PERSON });
    const aways = Array.from({ length: STEPS_AWAY }, (_, step) => 1 + 0.6 * ring + 0.1 * step);
    return { focus: focus.key, person, more: focus.people.length - shown.length, box: firstFree(aways.map(at), taken) };
  });
}

/** Around a focus that is alone; else on its side that is turned away from the others. */
function spread(index, count, foci) {
  if (count === 1) return 0;
  if (foci === 1) return (index / count) * 2 * Math.PI;
  const step = Math.min(75, (foci > 3 ? 150 : 200) / (count - 1));
  return ((index - (count - 1) / 2) * step * Math.PI) / 180;
}

function label(from, to, size, places, taken) {
  const at = (part) => ({ x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part, ...size });
  return firstFree(places.map(at), taken);
}

/** Takes the first box that lies on no other; the first of all if there is none. */
function firstFree(boxes, taken) {
  const box = boxes.find((one) => !taken.some((other) => overlap(one, other))) ?? boxes[0];
  taken.push(box);
  return box;
}

function boundsOf(boxes) {
  const edge = (side, pick) => Math.round(pick(0, ...boxes.map((box) => side(box))));
  const left = edge((box) => box.x - box.width / 2, Math.min) - MARGIN;
  const top = edge((box) => box.y - box.height / 2, Math.min) - MARGIN;
  const right = edge((box) => box.x + box.width / 2, Math.max) + MARGIN;
  const bottom = edge((box) => box.y + box.height / 2, Math.max) + MARGIN;
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/**
 * The line for what goes from one box to another: beside the line of what comes back, from edge to edge.
 * @returns {{x1: number, y1: number, x2: number, y2: number}}
 */
export function lineBetween(from, to, apart) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const [sideX, sideY] = [(-dy / length) * apart, (dx / length) * apart];
  const inside = (box) => Math.min(0.5, Math.min((box.width / 2 + 4) / (Math.abs(dx) || 1), (box.height / 2 + 4) / (Math.abs(dy) || 1)));
  const [begin, end] = [inside(from), 1 - inside(to)];
  return { x1: from.x + dx * begin + sideX, y1: from.y + dy * begin + sideY, x2: from.x + dx * end + sideX, y2: from.y + dy * end + sideY };
}
