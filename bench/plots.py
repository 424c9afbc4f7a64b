"""Plots beside the page: from the figures that a bench keeps as JSON to SVG files.

A bench hands over `Plot`s in its report. `python -m bench.plots` draws them again from the JSON
files, without measuring.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from graphql_api import charts


class Series(NamedTuple):
    """Points of one candidate, (x, y), x ascending."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    Attributes:
        is_log: equal ratios are equal lengths; all figures are above 0.
        ticks: where it is marked, empty for round numbers.
    """

    title: str
    is_log: bool = False
    ticks: Sequence[float] = ()


@dataclass(frozen=True)
class Plot:
    """Series of points that belong together.

    Attributes:
        name: of the file, after the bench's.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Plot:
        """Return the plot that `record` gave."""
        return cls(
            record["name"],
            record["title"],
            Axis(**record["x"]),
            Axis(**record["y"]),
            [
                Series(each["name"], [(x, y) for x, y in each["points"]])
                for each in record["series"]
            ],
        )

    def record(self) -> dict[str, Any]:
        """Return the plot as JSON has it."""
        series = [{"name": name, "points": list(points)} for name, points in self.series]
        return {**asdict(self), "series": series}


def file_name(bench: str, plot: Plot) -> str:
    """Return the name of a plot's file."""
    return f"{bench}.{plot.name}.svg"


def write(folder: Path, bench: str, plots: Sequence[Plot]) -> None:
    """Write plots as SVG files, and remove those of the bench that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {file_name(bench, plot): plot for plot in plots}
    for path in folder.glob(f"{bench}.*.svg"):
        if path.name not in names:
            path.unlink()
    for name, plot in names.items():
        (folder / name).write_text(f"{draw(plot)}\n", encoding="utf-8")


def draw(plot: Plot) -> str:
    """Return a plot as an SVG document that is readable in light and in dark surroundings."""
    x, to_x = _scaled(plot.x, [px for each in plot.series for px, _ in each.points])
    y, to_y = _scaled(plot.y, [py for each in plot.series for _, py in each.points])
    lines = [
        charts.Line(each.name, place, [(to_x(px), to_y(py)) for px, py in each.points])
        for place, each in enumerate(plot.series)
    ]
    chart = charts.lines(plot.title, lines, x, y)
    legend, bottom = _legend([each.name for each in plot.series])
    found = re.match(r'<svg viewBox="0 0 (\d+) (\d+)"', chart)
    assert found is not None  # noqa: S101 - how charts begin
    width, height = map(int, found.groups())
    inner = chart.replace(
        "<svg ", f'<svg x="{_MARGIN}" y="{bottom}" width="{width}" height="{height}" ', 1
    )
    whole = width + 2 * _MARGIN, bottom + height + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" '
        f'width="{whole[0]}" height="{whole[1]}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{whole[0]}" height="{whole[1]}" rx="10"/>'
        f'<text class="title" x="{_LEFT}" y="28">{escape(plot.title)}</text>{legend}{inner}</svg>'
    )


_MARGIN = 14
_LEFT = 22
_RIGHT = 530
_LINE = 20
_CHARACTER = 7.2
"""About how wide a character of the legend is."""


def _legend(names: Sequence[str]) -> tuple[str, int]:
    """Return the names of the series beside their colours, and where they end."""
    parts, x, y = [], float(_LEFT), 50
    for place, name in enumerate(names):
        width = 30 + _CHARACTER * len(name)
        if x + width > _RIGHT and x > _LEFT:
            x, y = float(_LEFT), y + _LINE
        parts.append(
            f'<g class="s{place % charts.SERIES}"><circle class="dot" cx="{x + 5:.0f}" '
            f'cy="{y - 4}" r="5"/><text x="{x + 16:.0f}" y="{y}">{escape(name)}</text></g>'
        )
        x += width
    return "".join(parts), y + 8


def _scaled(axis: Axis, figures: Sequence[float]) -> tuple[charts.Axis, Callable[[float], float]]:
    """Return an axis that holds figures, and where on it a figure lies."""
    low, high = min(figures), max(figures)
    if not axis.is_log:
        end = charts.round_end(high * 1.02)
        return charts.Axis(axis.title, end, short, axis.ticks or None), _as_it_is
    ticks = list(axis.ticks) or list(_log_ticks(low, high))
    low, high = min(low, *ticks), max(high, *ticks)
    room = 0.04 * (math.log10(high / low) or 1.0)
    scaled = charts.Axis(
        axis.title,
        math.log10(high) + room,
        lambda place: short(10**place),
        [math.log10(tick) for tick in ticks],
        math.log10(low) - room,
    )
    return scaled, math.log10


def _as_it_is(figure: float) -> float:
    return figure


_FEW_DECADES = 2.5


def _log_ticks(low: float, high: float) -> Iterator[float]:
    """Return round figures around others: powers of ten, and 2 and 5 where they are few."""
    parts = (1, 2, 5) if math.log10(high / low) <= _FEW_DECADES else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    round_ = [part * 10.0**exponent for exponent in exponents for part in parts]
    first = max((place for place, tick in enumerate(round_) if tick <= low), default=0)
    for tick in round_[first:]:
        yield tick
        if tick >= high:
            return


_UNITS = ((1e9, " G"), (1e6, " M"), (1e3, " k"))


def short(figure: float) -> str:
    """Write a figure in few characters: 7.5 k, 10 M, 0.05."""
    for size, unit in _UNITS:
        if abs(figure) >= size * (1 - 1e-9):
            return f"{figure / size:.3g}{unit}"
    return f"{figure:.3g}"


_STYLE = """
:root{--paper:#fff;--ink:#1d2530;--soft:#566070;--line:#e2e0d8;
--c0:#0b6e63;--c1:#b34d12;--c2:#80650c;--c3:#3c5fb4;--c4:#93418f;--c5:#6b7280;--c6:#b3263c;
--c7:#2f7f2f}
@media (prefers-color-scheme:dark){:root{--paper:#12161b;--ink:#e8eaed;--soft:#a3adba;
--line:#303944;--c0:#4fc8b6;--c1:#f2955c;--c2:#dcbc4d;--c3:#8fb0ff;--c4:#dc92d8;--c5:#a5adb8;
--c6:#ff8595;--c7:#85cf85}}
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
.title{font-size:15px;font-weight:650}
.axis{fill:var(--soft);font-size:12px}
.paper{fill:var(--paper)}
.grid{stroke:var(--line)}
.mark{stroke:currentColor}
.dot{fill:currentColor;stroke:var(--paper);stroke-width:1.5}
.s0{color:var(--c0)}.s1{color:var(--c1)}.s2{color:var(--c2)}.s3{color:var(--c3)}
.s4{color:var(--c4)}.s5{color:var(--c5)}.s6{color:var(--c6)}.s7{color:var(--c7)}
""".strip().replace("\n", "")
"""The colours of the evaluation page, which hold 4.5:1 against their ground in both schemes."""


def main() -> None:
    """Draw all plots again from the JSON files beside the page."""
    from bench.report import FIGURES

    for path in sorted(FIGURES.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        plots = [Plot.from_record(plot) for plot in record.get("plots", ())]
        write(FIGURES, path.stem, plots)
        print(f"{path.stem}: {len(plots)} plots")


if __name__ == "__main__":
    main()
