"""Reading ever larger activity files beside the straightforward ways: time and memory as curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bench import data, ingest
from bench.child import Outcome
from bench.measuring import Candidate, Result, calling, measure
from bench.plots import Axis, Plot, Series
from bench.report import Finding, Report

# 382,815 lines times these: about 1, 3 and 10 million
_SCALES, _QUICK_SCALES = (2.62, 7.86, 26.2), (0.1, 0.3, 1.0)
_JOBREC = "jobrec"


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure all ways on each size."""
    measured: dict[int, dict[str, Result]] = {}
    for scale in _QUICK_SCALES if quick else _SCALES:
        path = data.demo(scratch, scale) / "activities.jsonl"
        lines = data.warm(path)
        # What takes half a minute is told well enough by one run
        slow = 1 if scale == _SCALES[-1] else 2
        measured[lines] = measure(
            [
                Candidate(_JOBREC, calling(ingest.jobrec, str(path.parent))),
                *(
                    Candidate(name, calling(way, str(path)), warm_ups=0, repetitions=slow)
                    for name, way in _others().items()
                ),
            ]
        )
    least, *_, most = measured
    ours = {lines: results[_JOBREC] for lines, results in measured.items()}
    growth = (ours[most].seconds / most) / (ours[least].seconds / least)
    return Report(
        name="ingest-sizes",
        title=f"{', '.join(f'{lines:,}' for lines in measured)} activity lines to counts per "
        "(user, job, kind)",
        results=[],
        findings=[
            Finding(f"time a line of {_JOBREC}, {most:,} / {least:,} lines", growth),
            *(
                Finding(
                    f"{lines:,} lines: time, {name} / {_JOBREC}",
                    results[name].seconds / results[_JOBREC].seconds,
                )
                for lines, results in measured.items()
                for name in _others()
            ),
        ],
        plots=[
            _plot("time", "Reading activities", "seconds", measured, _seconds),
            _plot("memory", "Peak memory of reading activities", "MB", measured, _megabytes),
        ],
        notes=["The ways are those of the bench `ingest`."],
    )


def _others() -> Mapping[str, Callable[[str], Outcome]]:
    return {
        "json + dict": ingest.json_and_dict,
        "json + dict, with times": ingest.json_and_dict_with_times,
    }


def _plot(
    name: str,
    title: str,
    unit: str,
    measured: Mapping[int, Mapping[str, Result]],
    figure: Callable[[Result], float],
) -> Plot:
    ways = [_JOBREC, *_others()]
    return Plot(
        name,
        title,
        Axis("lines", is_log=True, ticks=list(measured)),
        Axis(unit),
        [
            Series(way, [(lines, figure(results[way])) for lines, results in measured.items()])
            for way in ways
        ],
    )


def _seconds(result: Result) -> float:
    return result.seconds


def _megabytes(result: Result) -> float:
    return result.peak_bytes / 1e6
