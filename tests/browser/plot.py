#!/usr/bin/env python3
"""Draws the bottleneck run of quality.py as SVG: what the network lets through, what the focus estimates, what arrives.

    tests/browser/plot.py FIGURES.json OUT.svg
"""

import json
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 56, 96
STYLES = {
    "the network lets through": ("#888", "2", "6 4"),
    "estimate of the focus": ("#c2410c", "2.5", ""),
    "passed through the bottleneck": ("#1d4ed8", "1.5", ""),
    "video received": ("#15803d", "1.5", ""),
}
SIZES = {1280: "#15803d", 640: "#ca8a04", 320: "#b91c1c"}


def steps(profile, end):
    """A rate over time as the corners of a staircase; `profile` is [(from second, bits a second)]."""
    corners = []
    for (at, rate), (until, _) in zip(profile, [*profile[1:], (end, None)]):
        corners += [(at, rate), (until, rate)]
    return corners


class Chart:
    """Seconds to the right, megabits a second upwards."""

    def __init__(self, seconds, mbps):
        self.seconds, self.mbps = seconds, mbps
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        ]

    def x(self, seconds):
        return LEFT + (WIDTH - LEFT - RIGHT) * min(seconds, self.seconds) / self.seconds

    def y(self, mbps):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(mbps, self.mbps) / self.mbps

    def text(self, x, y, said, anchor="start", colour="#333"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(said)}</text>')

    def line(self, points, colour, width="1", dashes=""):
        where = " ".join(f"{self.x(at):.1f},{self.y(mbps):.1f}" for at, mbps in points)
        dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.parts.append(f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')

    def axes(self):
        step = 0.5 if self.mbps <= 5 else 1
        for n in range(int(self.mbps / step) + 1):
            self.line([(0, n * step), (self.seconds, n * step)], "#ddd")
            self.text(LEFT - 8, self.y(n * step) + 4, f"{n * step:g}", "end")
        for at in range(0, int(self.seconds) + 1, 5):
            self.text(self.x(at), HEIGHT - BOTTOM + 18, str(at), "middle")
        self.text(LEFT - 8, TOP - 12, "Mb/s", "end")
        self.text(WIDTH - RIGHT, HEIGHT - BOTTOM + 36, "seconds", "end")

    def legend(self):
        for n, (name, (colour, width, dashes)) in enumerate(STYLES.items()):
            x, y = LEFT + 10 + (n % 2) * 280, 18 + 18 * (n // 2)
            dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
            self.parts.append(f'<path d="M{x} {y}h28" stroke="{colour}" stroke-width="{width}"{dashes}/>')
            self.text(x + 36, y + 4, name)

    def strip(self, frames, longest_s=0.25):
        """The size of the pictures shown as a band below; a hole is a freeze."""
        y = HEIGHT - BOTTOM + 44
        self.text(LEFT - 8, y + 12, "picture", "end")
        start = frames[0][0] if frames else 0
        for (at, width), (until, next_width) in zip(frames, [*frames[1:], (self.seconds, None)]):
            if next_width == width and until - at < longest_s:
                continue
            end = min(until, at + longest_s) if until - at >= longest_s else until
            colour = SIZES.get(width, "#666")
            self.parts.append(
                f'<rect x="{self.x(start):.1f}" y="{y}" width="{max(0.5, self.x(end) - self.x(start)):.1f}" height="14" fill="{colour}"/>'
            )
            start = until
        for n, (width, colour) in enumerate(SIZES.items()):
            self.parts.append(f'<rect x="{LEFT + n * 110}" y="{y + 24}" width="12" height="12" fill="{colour}"/>')
            self.text(LEFT + n * 110 + 18, y + 35, f"{width}×{width * 9 // 16}")

    def svg(self):
        return "\n".join([*self.parts, "</svg>", ""])


def draw(bottleneck):
    """The SVG of `figures["bottleneck"]`."""
    series, profile = bottleneck["series"], bottleneck["profile"]
    end = profile[-1][0] + (profile[-1][0] - profile[-2][0])
    mega = lambda points: [(at, bps / 1e6) for at, bps in points if 0 <= at <= end]
    lines = {
        "the network lets through": mega(steps(profile, end)),
        "estimate of the focus": mega(series["estimate_bps"]),
        "passed through the bottleneck": mega(series["passed_bps"]),
        "video received": mega(series["video_bps"]),
    }
    chart = Chart(end, 1.25 * max(rate for _, rate in profile) / 1e6)
    chart.axes()
    for name, points in lines.items():
        chart.line(points, *STYLES[name])
    chart.legend()
    chart.strip([(at, width) for at, width in series["width"] if 0 <= at <= end])
    return chart.svg()


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as figures:
        found = json.load(figures)["figures"]["bottleneck"]
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(draw(found))
