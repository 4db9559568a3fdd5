"""Charts as SVG text for report.py: the same bytes for the same numbers, no library, colours from the page's CSS.

The container has Matplotlib, but importing it and drawing five charts takes longer than a whole local run.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Range = tuple[float, float]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 250, 46, 310, 10, 212  # of the image, and where the axes end
POINTS = 400  # of a line or a cloud: more cannot be told apart


def safe(value: object, limit: int = 48) -> str:
    """Return a text for HTML and SVG: markup escaped, invisible characters replaced, cut to `limit` characters."""
    text = str(value)[: limit + 1]
    text = "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return html.escape(text if len(text) <= limit else f"{text[: limit - 1]}…")


def ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers from `low` to `high`."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [float(n * step) for n in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def span(*values: Iterable[float]) -> Range:
    """Return a range that holds all finite values, with a margin; never an empty one."""
    flat = np.concatenate([np.asarray(list(each), dtype=float) for each in values])
    flat = flat[np.isfinite(flat)]
    low, high = (float(flat.min()), float(flat.max())) if len(flat) else (0.0, 1.0)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def svg(width: int, height: int, said: str, body: Sequence[str], css: str = "") -> str:
    """Return an image, which a screen reader reads as `said`."""
    head = f'<svg class="{css}" viewBox="0 0 {width} {height}" role="img"><title>{safe(said, 600)}</title>'
    return "\n".join([head, *body, "</svg>"])


def label(x: float, y: float, text: object, anchor: str, css: str = "") -> str:
    """Return a text; `anchor` is the end of it that is at `x`: start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{safe(text, 32)}</text>'


class Chart:
    """A chart with two axes, to which lines and dots are added. A series is of class a, b or c: colour and dashes."""

    def __init__(self, x_label: str, y_label: str, x: Range, y: Range) -> None:
        self.x, self.y, self.keys = x, y, 0
        self.body: list[str] = []
        for value in ticks(*x):
            at, _ = self.place(value, 0)
            self.body += [f'<path class="rule" d="M{at:.1f} {BOTTOM}V{TOP}"/>']
            self.body += [label(at, BOTTOM + 14, f"{value:.6g}", "middle")]
        for value in ticks(*y):
            _, at = self.place(0, value)
            self.body += [f'<path class="rule" d="M{LEFT} {at:.1f}H{RIGHT}"/>']
            self.body += [label(LEFT - 5, at + 4, f"{value:.6g}", "end")]
        self.body += [label((LEFT + RIGHT) / 2, HEIGHT - 6, x_label, "middle")]
        self.body += [f'<g transform="translate(11 111) rotate(-90)">{label(0, 0, y_label, "middle")}</g>']

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is in the image."""
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    def places(self, x: Sequence[float] | Array, y: Sequence[float] | Array) -> list[tuple[float, float]]:
        """Return where points are, at most POINTS of them, evenly taken."""
        chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int))
        return [self.place(float(x[at]), float(y[at])) for at in chosen]

    def line(self, x: Sequence[float] | Array, y: Sequence[float] | Array, css: str) -> None:
        """Add a line."""
        points = "L".join(f"{a:.1f} {b:.1f}" for a, b in self.places(x, y))
        self.body.append(f'<path class="line {css}" d="M{points}"/>')

    def dots(self, x: Sequence[float] | Array, y: Sequence[float] | Array, css: str) -> None:
        """Add dots."""
        self.body += [f'<circle class="dot {css}" cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in self.places(x, y)]

    def key(self, text: object, css: str, left: bool = False) -> None:
        """Add the name of a series in its colour, at the bottom right or left."""
        x, anchor = (LEFT + 8, "start") if left else (RIGHT - 6, "end")
        self.body.append(label(x, BOTTOM - 44 + 15 * self.keys, text, anchor, f"key {css}"))
        self.keys += 1

    def svg(self, said: str) -> str:
        """Return the chart."""
        return svg(WIDTH, HEIGHT, said, self.body)


def intervals(rows: Sequence[tuple[str, float, Range]], threshold: float | None, said: str) -> str:
    """Return a line below the other for each (class, value, interval), on one scale, and where the threshold is."""
    scale = span(*([value, *ends] for _, value, ends in rows), [] if threshold is None else [threshold])

    def place(value: float) -> float:
        return 5 + (value - scale[0]) / (scale[1] - scale[0]) * 190

    body = [] if threshold is None else [f'<path class="mark" d="M{place(threshold):.1f} 0V24"/>']
    for row, (css, value, (low, high)) in enumerate(rows):
        y = 7 + 9 * row
        if np.isfinite([low, high]).all():
            body.append(f'<path class="line {css} solid" d="M{place(low):.1f} {y}H{place(high):.1f}"/>')
        body.append(f'<circle class="dot {css} full" cx="{place(value):.1f}" cy="{y}" r="3.5"/>')
    return svg(200, 24, said, body, "strip")
