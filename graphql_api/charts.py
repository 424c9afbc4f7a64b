"""Charts as SVG text: they need no script and take their colours from the page around them.

A page defines the classes `s0` to `s7` (colours of series, by `color`), `axis`, `grid`, `label`,
`strong` and `faint`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import NamedTuple

SERIES = 8
"""Colours; series beyond them begin anew."""

Format = Callable[[float], str]


class Interval(NamedTuple):
    """A figure with its interval, as a row of a chart."""

    name: str
    colour: int
    value: float
    low: float
    high: float


class Line(NamedTuple):
    """A series of points.

    Attributes:
        labels: what stands above each point, where it has room; nothing where there are none.
    """

    name: str
    colour: int
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()


class Point(NamedTuple):
    """A named point."""

    name: str
    colour: int
    x: float
    y: float


class Axis(NamedTuple):
    """What an axis shows.

    Attributes:
        high: its end.
        ticks: where it is marked, None for round numbers.
        low: its beginning, a round number.
    """

    title: str
    high: float
    form: Format
    ticks: Sequence[float] | None = None
    low: float = 0.0


def intervals(title: str, rows: Sequence[Interval], form: Format, exact: Format) -> str:
    """Draw a dot with its interval for each row, one under the other.

    Args:
        form: writes the ticks.
        exact: writes the figures.
    """
    height, left, width = 34, 118, 520
    high = round_end(max((row.high for row in rows), default=1.0))
    right = width - 62
    bottom = len(rows) * height + 8

    def x(value: float) -> float:
        return left + (right - left) * value / high

    parts = list(_vertical_grid(x, _ticks(high), 4, bottom, form))
    for place, row in enumerate(rows):
        y = place * height + height / 2 + 4
        name = escape(row.name)
        parts.append(
            f'<g class="s{row.colour % SERIES}">'
            f"<title>{name}: {exact(row.value)} ({exact(row.low)} to {exact(row.high)})</title>"
            f'<text class="label" x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
            f'<line class="mark" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}" stroke-width="6" opacity=".35" stroke-linecap="round"/>'
            f'<circle class="dot" cx="{x(row.value):.1f}" cy="{y:.1f}" r="5.5"/>'
            f'<text class="label strong" x="{right + 10}" y="{y + 4:.1f}">{exact(row.value)}</text>'
            f"</g>"
        )
    return _svg(title, width, bottom + 24, parts)


def lines(title: str, series: Sequence[Line], x: Axis, y: Axis, *, diagonal: bool = False) -> str:
    """Draw series of points joined by lines; names stand at the ends that have room."""
    frame = _Frame(x, y)
    parts = list(frame.axes())
    if diagonal:
        parts.append(
            f'<line class="faint" x1="{frame.x(0):.1f}" y1="{frame.y(0):.1f}" '
            f'x2="{frame.x(x.high):.1f}" y2="{frame.y(y.high):.1f}" stroke-dasharray="4 4"/>'
        )
    taken: list[tuple[float, float]] = []
    for line in series:
        path = " ".join(f"{frame.x(px):.1f},{frame.y(py):.1f}" for px, py in line.points)
        dots = "".join(
            f'<circle class="dot" cx="{frame.x(px):.1f}" cy="{frame.y(py):.1f}" r="4">'
            f"<title>{escape(line.name)}: {y.form(py)} at {x.form(px)}</title></circle>"
            for px, py in line.points
            if len(line.points) <= _FEW_POINTS
        )
        labels = "".join(
            f'<text class="axis" x="{frame.x(px):.1f}" y="{frame.y(py) - 8:.1f}" '
            f'text-anchor="middle">{escape(label)}</text>'
            for (px, py), label in zip(line.points, line.labels, strict=False)
            if label and _has_room(taken, frame.x(px), frame.y(py))
        )
        parts.append(
            f'<g class="s{line.colour % SERIES}"><title>{escape(line.name)}</title>'
            f'<polyline class="mark" points="{path}" fill="none" stroke-width="2.5" '
            f'stroke-linejoin="round"/>{dots}{labels}</g>'
        )
    return _svg(title, frame.width, frame.height, parts)


def scatter(title: str, points: Sequence[Point], x: Axis, y: Axis) -> str:
    """Draw named points."""
    frame = _Frame(x, y)
    parts = list(frame.axes())
    taken: list[tuple[float, float]] = []
    for point in points:
        px, py = frame.x(point.x), frame.y(point.y)
        before = px > frame.left + (frame.right - frame.left) * 0.62
        label_x, label_y = (px - 11, py + 4) if before else (px + 11, py + 4)
        # Names that would stand on each other move up until there is room, or on at the top
        while any(
            abs(label_y - other_y) < _LABEL and abs(label_x - other_x) < _LABEL_WIDTH
            for other_x, other_y in taken
        ):
            label_y -= _LABEL
        taken.append((label_x, label_y))
        parts.append(
            f'<g class="s{point.colour % SERIES}">'
            f"<title>{escape(point.name)}: {x.form(point.x)}, {y.form(point.y)}</title>"
            f'<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="7"/>'
            f'<text class="label strong" x="{label_x:.1f}" y="{label_y:.1f}" '
            f'text-anchor="{"end" if before else "start"}">{escape(point.name)}</text></g>'
        )
    return _svg(title, frame.width, frame.height, parts)


def _has_room(taken: list[tuple[float, float]], x: float, y: float) -> bool:
    """Tell whether a short label at a place stands clear of others, and take the place if so."""
    is_clear = all(abs(x - px) > _SHORT_WIDTH or abs(y - py) > _LABEL for px, py in taken)
    if is_clear:
        taken.append((x, y))
    return is_clear


_FEW_POINTS = 20
_SHORT_WIDTH = 24.0
_LABEL = 15.0
_LABEL_WIDTH = 110.0


class _Frame:
    """Two axes, and where values lie between them."""

    width, height = 520, 330
    left, right, top, bottom = 64, 502, 14, 274

    def __init__(self, x: Axis, y: Axis) -> None:
        self._x = x
        self._y = y

    def x(self, value: float) -> float:
        share = (value - self._x.low) / (self._x.high - self._x.low)
        return self.left + (self.right - self.left) * share

    def y(self, value: float) -> float:
        share = (value - self._y.low) / (self._y.high - self._y.low)
        return self.bottom - (self.bottom - self.top) * share

    def axes(self) -> Iterator[str]:
        ticks = self._x.ticks or _ticks(self._x.high, self._x.low)
        yield from _vertical_grid(self.x, ticks, self.top, self.bottom, self._x.form)
        for tick in self._y.ticks or _ticks(self._y.high, self._y.low):
            y = self.y(tick)
            yield (
                f'<line class="grid" x1="{self.left}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="axis" x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{self._y.form(tick)}</text>"
            )
        middle = (self.left + self.right) / 2
        yield (
            f'<text class="axis" x="{middle}" y="{self.bottom + 42}" text-anchor="middle">'
            f"{escape(self._x.title)}</text>"
            f'<text class="axis" transform="rotate(-90)" x="{-(self.top + self.bottom) / 2}" '
            f'y="11" text-anchor="middle">{escape(self._y.title)}</text>'
        )


def _vertical_grid(
    x: Callable[[float], float], ticks: Sequence[float], top: float, bottom: float, form: Format
) -> Iterator[str]:
    for tick in ticks:
        yield (
            f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>'
            f'<text class="axis" x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{form(tick)}</text>"
        )


def round_span(values: Sequence[float]) -> tuple[float, float]:
    """Return a round beginning and a round end for an axis that holds values of 0 and more."""
    low, high = min(values), max(values)
    step = _step(high - low) if high - low > 1e-9 else _step(high) if high > 0 else 1.0
    return max(0.0, math.floor(low / step - 0.5) * step), math.ceil(high / step + 0.5) * step


def round_end(value: float) -> float:
    """Return a round end for an axis that holds a value."""
    if value <= 0:
        return 1.0
    step = _step(value)
    return math.ceil(value / step - 1e-9) * step


def _ticks(high: float, low: float = 0.0) -> list[float]:
    step = _step(high - low)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * place for place in range(first, last + 1)]


def _step(high: float) -> float:
    """Return a round distance of ticks, of which four to seven lie within an axis so long."""
    power = 10.0 ** math.floor(math.log10(high))
    for part in (0.2, 0.25, 0.5, 1.0, 2.0):
        if high / (part * power) <= 6:
            return part * power
    return 2.0 * power


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
