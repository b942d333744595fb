// Reads the test pattern's frame number out of a <video>; runs in the page, see loadtest/client/clips/README.md.
// Arguments: the tile's key. Returns {number, source} or {refused: why}.

const COLUMNS = 20;
const WIDTH = 320;
const HEIGHT = 180;
const CELL_WIDTH = WIDTH / COLUMNS;
const CELL_HEIGHT = HEIGHT / 9;

function crc8(bytes) {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i += 1) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

function cellMeans(video) {
  window.patternCanvas ??= Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  const context = window.patternCanvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0, WIDTH, HEIGHT);
  const { data } = context.getImageData(0, 0, WIDTH, 2 * CELL_HEIGHT);
  const means = [];
  for (let row = 0; row < 2; row += 1) {
    for (let column = 0; column < COLUMNS; column += 1) {
      let sum = 0;
      for (let i = 0; i < 16; i += 1) {
        const x = Math.floor((column + 0.25 + ((i % 4) + 0.5) / 8) * CELL_WIDTH);
        const y = Math.floor((row + 0.25 + (Math.floor(i / 4) + 0.5) / 8) * CELL_HEIGHT);
        const at = 4 * (y * WIDTH + x);
        sum += 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
      }
      means.push(sum / 16);
    }
  }
  return means;
}

function readPattern(video) {
  const means = cellMeans(video);
  const mean = (cells) => cells.reduce((sum, cell) => sum + means[cell], 0) / cells.length;
  const whiteCells = [0, 19, 21, 38];
  const blackCells = [1, 18, 20, 39];
  const [white, black] = [mean(whiteCells), mean(blackCells)];
  if (white - black < 64) return { refused: "no contrast" };
  const bits = means.map((cell) => (cell > (white + black) / 2 ? 1 : 0));
  if (whiteCells.some((cell) => !bits[cell]) || blackCells.some((cell) => bits[cell])) return { refused: "marker" };
  const word = (from, length) => bits.slice(from, from + length).reduce((value, bit) => value * 2 + bit, 0);
  const [number, source, crc] = [word(2, 16), word(22, 8), word(30, 8)];
  if (crc8([number >> 8, number & 0xff, source]) !== crc) return { refused: "crc" };
  return { number, source };
}

const video = window.weir.video(arguments[0]);
return video && video.videoWidth ? readPattern(video) : { refused: "no picture" };
