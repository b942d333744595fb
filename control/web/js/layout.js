// Who gets which part of the screen, and so which size of picture is asked for. Pure: sizes in, sizes out.

/**
 * The sizes that are asked for. A tile asks for the smallest that covers it, so that a resized window does not send a
 * subscription per pixel.
 */
const STEPS = [
  { width: 160, height: 90 },
  { width: 320, height: 180 },
  { width: 640, height: 360 },
  { width: 960, height: 540 },
  { width: 1280, height: 720 },
  { width: 1920, height: 1080 },
];
const LARGE = { width: 1280, height: 720 };
const SMALL = { width: 320, height: 180 };
const SMALLEST = { width: 160, height: 90 };

/** How a person may weigh quality against bandwidth: as the tiles need it, always full pictures, always small ones. */
export const QUALITIES = ["auto", "high", "low"];

/** The smallest step that covers `width` × `height` device pixels. */
export function stepFor(width, height) {
  return STEPS.find((step) => step.width >= width && step.height >= height) ?? STEPS[STEPS.length - 1];
}

/**
 * The size to ask for.
 * @param {{mode: "grid"|"spotlight", quality: string}} layout
 * @param {{isLarge: boolean, width: number, height: number}} tile in device pixels
 */
export function wantedSize({ mode, quality }, tile) {
  if (quality === "high") return LARGE;
  if (quality === "low") return SMALLEST;
  if (mode === "spotlight") return tile.isLarge ? LARGE : SMALL;
  return stepFor(tile.width, tile.height);
}

/** Columns of a grid of `count` tiles of 16:9 that makes them as wide as possible in `width` × `height`. */
export function columnsFor(count, width, height) {
  let best = 1;
  let bestWidth = 0;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const tileWidth = Math.min(width / columns, ((height / rows) * 16) / 9);
    if (tileWidth > bestWidth) [best, bestWidth] = [columns, tileWidth];
  }
  return best;
}
