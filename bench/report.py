"""What a bench found, as tables for people and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.measuring import ROOT, Result
from bench.plots import Plot, file_name

DOCUMENT = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "benchmarks"
"""Where the figures of each bench are kept as JSON, and its plots."""

_LIBRARIES = (
    *("jobrec", "duckdb", "faiss-cpu", "implicit", "msgspec"),
    *("numpy", "orjson", "pandas", "scipy"),
)
_INTRODUCTION = """\
# Benchmarks

Written by `make bench` (`python -m bench`), which replaces the section of each bench it ran.

Every candidate runs in a process of its own, in turns with the others, after a warm-up. Time is \
the median, with the fastest and the slowest run beside it; CPU is the processor time of the whole \
process, all threads; peak memory is the most that was resident at once, in any run \
(`ru_maxrss`; 1 MB = 1,000,000 bytes). Seconds differ from machine to machine, ratios far less. \
A target is stated, and met or missed; nothing fails by it. Ratios of turns are medians, with \
the lowest and the highest in brackets (of ten turns and more, without a tenth at each end).

The load of `serving` comes from wrk (Debian: `apt-get install wrk`). The figures of every run are \
in [benchmarks/](benchmarks) as JSON; `python -m bench.plots` draws the plots from them again.
"""


@dataclass(frozen=True)
class Finding:
    """A figure drawn from the results, usually a ratio, and what it should be.

    Attributes:
        text: what it is.
        value: the figure.
        unit: empty for a ratio.
        at_least: the target, where a higher figure is better.
        at_most: the target, where a lower one is.
        spread: the lowest and the highest of the turns whose median it is; of ten turns and more,
            a tenth is left out at each end.
    """

    text: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    spread: tuple[float, float] | None = None

    @classmethod
    def of_turns(
        cls,
        text: str,
        figures: Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Finding:
        """Return the median of the ratios of several turns, with their spread."""
        ordered = sorted(figures)
        outer = len(ordered) // 10
        return cls(
            text,
            statistics.median(ordered),
            at_least=at_least,
            at_most=at_most,
            spread=(ordered[outer], ordered[-1 - outer]),
        )

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty without one."""
        if self.at_least is None and self.at_most is None:
            return ""
        is_short = self.at_least is not None and self.value < self.at_least
        is_over = self.at_most is not None and self.value > self.at_most
        return "missed" if is_short or is_over else "met"

    def row(self) -> list[str]:
        """Return the cells of its row."""
        bounds = [
            f"{word} {self._figure(bound)}"
            for word, bound in (("at least", self.at_least), ("at most", self.at_most))
            if bound is not None
        ]
        measured = self._figure(self.value)
        if self.spread is not None:
            measured += f" ({' - '.join(map(self._figure, self.spread))})"
        return [self.text, measured, ", ".join(bounds), self.verdict]

    def _figure(self, value: float) -> str:
        digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
        return f"{value:,.{digits}f}{f' {self.unit}' if self.unit else 'x'}"


@dataclass(frozen=True)
class Report:
    """All that one bench found.

    Attributes:
        name: of the bench.
        title: what was done, with its size.
        results: of the candidates; the first is the one that ratios refer to.
        findings: ratios and targets.
        notes: what one must know of the candidates.
        items: how many things were processed, where a rate makes sense.
        items_name: what they are.
        plots: drawn beside the page.
    """

    name: str
    title: str
    results: Sequence[Result]
    findings: Sequence[Finding]
    notes: Sequence[str] = ()
    items: int | None = None
    items_name: str = ""
    plots: Sequence[Plot] = ()

    def lines(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the report in Markdown, with tables that are aligned for a terminal as well.

        Args:
            facts: what `machine_facts` returned before the bench.
        """
        lines = [f"## {self.name}", "", f"{self.title}.", "", *self._times(), ""]
        lines += self._phases()
        for plot in self.plots:
            lines += [f"![{plot.title}]({FIGURES.name}/{file_name(self.name, plot)})", ""]
        rows = [finding.row() for finding in self.findings]
        lines += [*table(["ratio or figure", "measured", "target", ""], rows), ""]
        lines += [f"- {note}" for note in self.notes]
        return [*lines, "", _sentence(facts), ""]

    def record(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {
            "title": self.title,
            "machine": dict(facts),
            "items": self.items,
            "candidates": {
                result.name: {
                    "seconds": result.seconds,
                    "fastest": result.spread[0],
                    "slowest": result.spread[1],
                    "process_seconds": result.process_seconds,
                    "cpu_seconds": result.cpu_seconds,
                    "peak_bytes": result.peak_bytes,
                    "phases": result.phases,
                    "runs": [asdict(run) for run in result.runs],
                }
                for result in self.results
            },
            "findings": [
                {**asdict(finding), "verdict": finding.verdict} for finding in self.findings
            ],
            "plots": [plot.record() for plot in self.plots],
        }

    def _times(self) -> list[str]:
        header = ["candidate", "time", "fastest - slowest", "runs", "CPU", "peak memory", "ratio"]
        if not self.results:
            return []
        first = self.results[0]
        rows = [
            [
                result.name,
                f"{result.seconds:.2f} s",
                " - ".join(f"{seconds:.2f}" for seconds in result.spread),
                str(len(result.runs)),
                f"{result.cpu_seconds:.2f} s",
                f"{result.peak_bytes / 1e6:,.0f} MB",
                f"{result.seconds / first.seconds:.2f}x",
            ]
            for result in self.results
        ]
        if self.items is not None:
            header.append(f"{self.items_name} a second")
            for row, result in zip(rows, self.results, strict=True):
                row.append(f"{self.items / result.seconds:,.0f}")
        return table(header, rows)

    def _phases(self) -> list[str]:
        """Return where the time went, for candidates that report more than one phase."""
        lines = []
        for result in self.results:
            if len(result.phases) > 1:
                parts = [f"{name} {seconds:.2f} s" for name, seconds in result.phases.items()]
                lines += [f"Of {result.name}: {', '.join(parts)}.", ""]
        return lines


def machine_facts() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "processor": _first_field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory": _first_field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def update_document(path: Path, reports: Mapping[str, Sequence[str]]) -> None:
    """Write reports, by their names, into a Markdown file; its other sections stay."""
    sections: dict[str, str] = {}
    if path.exists():
        for section in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            sections[section.split("\n", 1)[0]] = f"## {section.strip()}\n"
    for name, lines in reports.items():
        sections[name] = "\n".join(lines)
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([_INTRODUCTION, *sections.values()]), encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown whose columns are aligned in a terminal as well."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    return [line(header), line(rule), *map(line, rows)]


def _sentence(facts: Mapping[str, Any]) -> str:
    libraries = ", ".join(f"{name} {found}" for name, found in facts["libraries"].items())
    return (
        f"Measured on {facts['date']}: {facts['cores']} cores ({facts['processor']}, "
        f"{facts['memory']} of memory), {facts['system']}, Python {facts['python']}; {libraries}. "
        f"Load average before the bench: {facts['load_average'][0]}."
    )


def _first_field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
