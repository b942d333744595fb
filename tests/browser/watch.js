// Goes into a page before the page's own scripts, for the tests of quality: leads its connections through a relay, and
// watches what they carry. `RELAY` is the relay's address or null.
//
// The page itself knows nothing of it: it is the browser's own classes that are wrapped.

(() => {
  const RELAY = null;
  const connections = [];
  const real = RTCPeerConnection.prototype.setRemoteDescription;

  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    if (!connections.includes(this)) connections.push(this);
    let { type, sdp } = description;
    if (RELAY && sdp) {
      const [host, port] = RELAY.split(":");
      sdp = sdp.replace(/^(a=candidate:\S+ \d+ udp \d+ )\S+ \d+ /gim, `$1${host} ${port} `);
    }
    return real.call(this, { type, sdp });
  };

  const COLUMNS = 20;
  const WHITE = [0, 19, 21, 38];
  const BLACK = [1, 18, 20, 39];

  function crc8(bytes) {
    let crc = 0;
    for (const byte of bytes) {
      crc ^= byte;
      for (let i = 0; i < 8; i += 1) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
    }
    return crc;
  }

  // The number in a picture (see loadtest/client/clips/README.md) from two lines of its luma, one through each row of cells;
  // -1 where it cannot be read.
  async function readNumber(frame) {
    const { width, height } = frame.visibleRect;
    const means = [];
    for (const row of [0, 1]) {
      const y = 2 * Math.floor(((row + 0.5) * height) / 18);
      const rect = { x: 0, y, width: width & ~1, height: 2 };
      const pixels = new Uint8Array(frame.allocationSize({ rect }));
      const [luma] = await frame.copyTo(pixels, { rect });
      for (let column = 0; column < COLUMNS; column += 1) {
        const from = Math.floor(((column + 0.25) * width) / COLUMNS);
        const to = Math.floor(((column + 0.75) * width) / COLUMNS);
        let sum = 0;
        for (let x = from; x < to; x += 1) sum += pixels[luma.offset + x];
        means.push(sum / (to - from));
      }
    }
    const mean = (cells) => cells.reduce((sum, cell) => sum + means[cell], 0) / cells.length;
    const [white, black] = [mean(WHITE), mean(BLACK)];
    if (white - black < 64) return -1;
    const bits = means.map((cell) => (cell > (white + black) / 2 ? 1 : 0));
    if (WHITE.some((cell) => !bits[cell]) || BLACK.some((cell) => bits[cell])) return -1;
    const word = (from, length) => bits.slice(from, from + length).reduce((value, bit) => value * 2 + bit, 0);
    const [number, source, crc] = [word(2, 16), word(22, 8), word(30, 8)];
    return crc8([number >> 8, number & 0xff, source]) === crc ? number : -1;
  }

  const now = () => performance.timeOrigin + performance.now();
  let frames = [];
  let samples = [];
  let timer = null;
  let reader = null;

  // Every picture that the decoder gives out, at its time: [ms, number, width].
  async function watchTrack(track) {
    const processor = new MediaStreamTrackProcessor({ track, maxBufferSize: 60 });
    const mine = (reader = processor.readable.getReader());
    while (reader === mine) {
      const { done, value: frame } = await mine.read();
      if (done) return;
      const at = now();
      const width = frame.visibleRect.width;
      const number = await readNumber(frame).catch(() => -1);
      frame.close();
      frames.push([at, number, width]);
    }
    mine.cancel();
  }

  const KEPT = new Set(["inbound-rtp", "outbound-rtp", "remote-inbound-rtp", "candidate-pair"]);

  async function sample() {
    const connection = connections.at(-1);
    if (!connection || connection.connectionState === "closed") return null;
    const stats = [];
    for (const entry of (await connection.getStats()).values()) {
      if (KEPT.has(entry.type) && (entry.type !== "candidate-pair" || entry.nominated)) stats.push(entry);
    }
    // What the focus says that it can send here.
    const estimate = (await window.weir.stats()).received?.estimate ?? null;
    return { at: now(), stats, estimate };
  }

  window.watch = {
    /** Watches the picture of a tile, if one is named, and takes figures this often. */
    start: (key, everyMs) => {
      frames = [];
      samples = [];
      const track = key && window.weir.video(key).srcObject.getVideoTracks()[0];
      if (track) watchTrack(track.clone());
      clearInterval(timer);
      timer = setInterval(async () => {
        const taken = await sample();
        if (taken) samples.push(taken);
      }, everyMs);
    },
    /** Ends it, and gives what was seen. */
    stop: async () => {
      clearInterval(timer);
      reader = null;
      const last = await sample();
      if (last) samples.push(last);
      return { frames, samples };
    },
    sample,
  };
})();
