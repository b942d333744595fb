#!/usr/bin/env python3
"""Makes the clips that synthetic participants send, and camera files for Chromium, from one test pattern.

    make.py                                      the committed clips and their checksums, into this directory
    make.py --camera OUT.mjpeg [--size 1280x720] [--seconds 10] [--source 1] [--calm]
                                                 a file for --use-file-for-fake-video-capture (.mjpeg or .y4m)
    make.py --frame 17 --camera OUT.y4m          one picture only, to look at

Needs ffmpeg with libvpx and libopus (apt install ffmpeg). The pattern is described in README.md; the readers are
`src/pattern.rs` here and the browser tests. Only the standard library is used.
"""

import argparse
import array
import hashlib
import math
import os
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

FPS = 30
# Frames and Opus packets of one loop: five seconds of either, so that picture and sound stay together for ever.
CLIP_FRAMES = 150
CLIP_PACKETS = 250

COLUMNS, ROWS = 20, 9          # the picture's grid; the code takes its two top rows
BLACK, WHITE = 16, 235

# rid -> size, bit rate of the layer
LAYERS = {"f": ("1280x720", "800k"), "h": ("640x360", "300k"), "q": ("320x180", "120k")}
# chain -> frames from keyframe to keyframe. "rare" is what is sent in peace, "often" from a keyframe request on.
CHAINS = {"rare": CLIP_FRAMES, "often": 10}


# --- the code in the picture ------------------------------------------------------------------------------------------

def crc8(data):
    """CRC-8 with polynomial 0x07, initial value 0, no reflection."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def code_cells(number, source):
    """The two rows of 20 cells, True is white."""
    number &= 0xFFFF
    check = crc8(bytes([number >> 8, number & 0xFF, source]))
    second = (source << 8) | check
    bits = lambda word: [bool(word >> (15 - i) & 1) for i in range(16)]
    return [[True, False] + bits(number) + [False, True],
            [False, True] + bits(second) + [True, False]]


# --- the rest of the picture: only whole rows are ever built, so that plain Python is fast enough ----------------------

def noise(seed, count):
    """Reproducible bytes around mid grey (a 32-bit xorshift)."""
    state, out = seed, bytearray(count)
    for i in range(count):
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        out[i] = 88 + (state & 63)
    return bytes(out)


class Pattern:
    """Draws frame `number` of the pattern as I420."""

    def __init__(self, width, height, source, frames, calm=False):
        if width % 40 or height % 18:
            sys.exit(f"size {width}x{height}: the width must divide by 40 and the height by 18")
        self.width, self.height, self.source, self.frames, self.calm = width, height, source, frames, calm
        wave = lambda x, low, high, turn: int(low + (high - low) * (0.5 + 0.5 * math.sin(2 * math.pi * (x / turn))))
        # Two screens wide and periodic in one screen, so that a row that has been scrolled by any amount is a slice.
        self.luma = bytes(wave(x, 60, 190, width / 2) for x in range(2 * width))
        self.blue = bytes(wave(x, 80, 176, width / 2) for x in range(width))
        self.red = bytes(wave(x, 176, 80, width / 4) for x in range(width))
        band = noise(0x5EED, width)
        self.texture = [bytes(band[(x // 8 * 31 + row * 97) % width] for x in range(width)) * 2 for row in range(4)]

    def frame(self, number):
        w, h = self.width, self.height
        cell_w, cell_h = w // COLUMNS, h // ROWS
        # Once round per loop; a calm picture stands still, as the wall behind a person does.
        shift = 0 if self.calm else number * w // self.frames % w
        phase = 2 * math.pi * number / self.frames
        # A bright square on a Lissajous curve under the code, and a textured band at the bottom.
        side = h // 6
        left = int((w - side) * (0.5 + 0.45 * math.sin(2 * phase)))
        top = 3 * cell_h + int((5 * cell_h - side) * (0.5 + 0.5 * math.sin(3 * phase)))
        left, top = left & ~1, top & ~1
        rows = []
        for cells in code_cells(number, self.source):
            rows += [b"".join(bytes([WHITE if cell else BLACK]) * cell_w for cell in cells)] * cell_h
        plain = self.luma[shift:shift + w]
        square = plain[:left] + bytes([WHITE - 20]) * side + plain[left + side:]
        for y in range(2 * cell_h, 8 * cell_h):
            rows.append(square if top <= y < top + side else plain)
        for y in range(h - 8 * cell_h):
            texture = self.texture[y * 4 // (h - 8 * cell_h)]
            back = w - shift
            rows.append(texture[back:back + w])
        half = shift // 2
        grey = bytes([128]) * (w // 2)
        blue, red = self.blue[half:half + w // 2], self.red[half:half + w // 2]
        code_rows, band_rows = cell_h, (h - 8 * cell_h) // 2
        coloured = h // 2 - code_rows - band_rows
        planes = [b"".join(rows)]
        for colour in (blue, red):
            planes.append(grey * code_rows + colour * coloured + grey * band_rows)
        return b"".join(planes)


def write_y4m(out, width, height, frames, source, numbers, calm=False):
    out.write(b"YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420jpeg\n" % (width, height, FPS))
    pattern = Pattern(width, height, source, frames, calm)
    for number in numbers:
        out.write(b"FRAME\n")
        out.write(pattern.frame(number))


def through_ffmpeg(arguments, write):
    """Runs ffmpeg with a y4m on its standard input."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-f", "yuv4mpegpipe", "-i", "-"] + arguments
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    write(process.stdin)
    process.stdin.close()
    if process.wait() != 0:
        sys.exit("ffmpeg failed: " + " ".join(command))


# --- what is committed -------------------------------------------------------------------------------------------------

def make_video():
    sums = []
    for rid, (size, rate) in LAYERS.items():
        for chain, interval in CHAINS.items():
            name = f"video-{rid}-{chain}.ivf"
            path = os.path.join(HERE, name)
            # One pass, no look-ahead, no alternative reference: what a camera's encoder would do. No threads and
            # -bitexact: the same file again from the same ffmpeg.
            through_ffmpeg(
                ["-vf", f"scale={size.replace('x', ':')}:flags=area", "-c:v", "libvpx", "-b:v", rate, "-maxrate", rate,
                 "-bufsize", rate, "-qmin", "4", "-qmax", "48", "-deadline", "good", "-cpu-used", "1",
                 "-lag-in-frames", "0", "-auto-alt-ref", "0", "-g", str(interval), "-keyint_min", str(interval),
                 "-threads", "1", "-bitexact", "-f", "ivf", path],
                lambda out: write_y4m(out, 1280, 720, CLIP_FRAMES, 0, range(CLIP_FRAMES)))
            sums.append((decoded_md5(path), name))
            print(f"{name}: {os.path.getsize(path)} bytes")
    with open(os.path.join(HERE, "decoded.md5"), "w", encoding="ascii") as out:
        for digest, name in sums:
            out.write(f"{digest}  {name}\n")


def decoded_md5(path):
    """MD5 over the I420 bytes of every picture, as ffmpeg's own VP8 decoder (not libvpx) sees them."""
    raw = subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-c:v", "vp8", "-i", path, "-f", "rawvideo",
                          "-pix_fmt", "yuv420p", "-"], check=True, stdout=subprocess.PIPE).stdout
    return hashlib.md5(raw).hexdigest()


def make_audio():
    """audio.opus20: per 20 ms packet the RFC 6464 level (u8), the length (u16, big endian) and the Opus packet."""
    rate, samples = 48000, 960
    # A beep of 200 ms each second, one tone a second higher, over a soft hum.
    pcm = array.array("h")
    for n in range(CLIP_PACKETS * samples):
        second, within = divmod(n, rate)
        value = 300 * math.sin(2 * math.pi * 110 * n / rate)
        if within < rate // 5:
            value += 9000 * math.sin(2 * math.pi * (440 + 110 * second) * n / rate)
        pcm.append(int(value))
    ogg = subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "s16le", "-ar", str(rate), "-ac", "1",
                          "-i", "-", "-c:a", "libopus", "-b:a", "32k", "-frame_duration", "20", "-vbr", "on",
                          "-bitexact", "-f", "ogg", "-"], input=pcm.tobytes(), check=True, stdout=subprocess.PIPE).stdout
    packets = ogg_packets(ogg)[2:2 + CLIP_PACKETS]         # after OpusHead and OpusTags
    if len(packets) != CLIP_PACKETS:
        sys.exit(f"expected {CLIP_PACKETS} Opus packets, got {len(packets)}")
    path = os.path.join(HERE, "audio.opus20")
    with open(path, "wb") as out:
        for index, packet in enumerate(packets):
            part = pcm[index * samples:(index + 1) * samples]
            power = sum(s * s for s in part) / samples / 32768.0 ** 2
            level = 127 if power <= 0 else min(127, max(0, round(-10 * math.log10(power))))
            out.write(struct.pack(">BH", level, len(packet)) + packet)
    print(f"audio.opus20: {os.path.getsize(path)} bytes")


def ogg_packets(data):
    packets, partial, at = [], b"", 0
    while at + 27 <= len(data) and data[at:at + 4] == b"OggS":
        lacing = data[at + 27:at + 27 + data[at + 26]]
        at += 27 + len(lacing)
        for size in lacing:
            partial += data[at:at + size]
            at += size
            if size < 255:
                packets.append(partial)
                partial = b""
    return packets


def make_camera(path, size, seconds, source, only, calm):
    width, height = (int(part) for part in size.lower().split("x"))
    frames = seconds * FPS
    numbers = range(frames) if only is None else [only]
    if path.endswith(".y4m"):
        with open(path, "wb") as out:
            write_y4m(out, width, height, frames, source, numbers, calm)
    elif path.endswith(".mjpeg"):
        through_ffmpeg(["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p", "-f", "mjpeg", path],
                       lambda out: write_y4m(out, width, height, frames, source, numbers, calm))
    else:
        sys.exit(f"--camera {path}: the name must end in .mjpeg or .y4m")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", metavar="OUT", help="write a camera file instead of the clips")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--seconds", type=int, default=10, help="length of the camera file's loop")
    parser.add_argument("--source", type=int, default=1, help="who films, 0 to 255; 0 is the synthetic participants")
    parser.add_argument("--frame", type=int, help="with --camera: this picture only")
    parser.add_argument("--calm", action="store_true", help="with --camera: the background stands still, cheap to encode")
    arguments = parser.parse_args()
    if arguments.camera:
        make_camera(arguments.camera, arguments.size, arguments.seconds, arguments.source, arguments.frame,
                    arguments.calm)
    else:
        make_video()
        make_audio()


if __name__ == "__main__":
    main()
