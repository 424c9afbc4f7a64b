"""Training on ever larger activity files, from lines to a live model: what a line costs."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile, rmtree

from bench import data, train
from bench.measuring import Candidate, Result, calling, measure
from bench.plots import Axis, Plot, Series
from bench.report import Finding, Report

# 1,002,975 lines times these: about 10, 50 and 100 million
_SCALE, _COPIES = 2.62, (10, 50, 100)
_QUICK_SCALE, _QUICK_COPIES = 0.1, (2, 5, 10)


def run(scratch: Path, *, quick: bool) -> Report:
    """Train on so many times the lines of a demo dataset, of as many times the people.

    Files are written and removed one after the other: the largest takes some 8 GB.
    """
    base = data.demo(scratch, _QUICK_SCALE if quick else _SCALE)
    results: dict[int, Result] = {}
    for copies in _QUICK_COPIES if quick else _COPIES:
        folder = scratch / f"train-large-{copies}"
        lines = data.warm(data.multiply(base / "activities.jsonl", folder, copies))
        copyfile(base / "jobs.jsonl", folder / "jobs.jsonl")
        results[lines] = _trained(folder, f"{lines:,} lines")
        rmtree(folder)
    costs = {lines: result.seconds / lines for lines, result in results.items()}
    least, *_, most = results
    return Report(
        name="train-large",
        title=f"{', '.join(f'{lines:,}' for lines in results)} activity lines, of ever more "
        "people, to a live model",
        results=list(results.values()),
        notes=[
            (
                "A training as the service does it, without the start of its process: reads, "
                "scores, measures a brief fit beside popularity, fits 15 iterations of 64 factors, "
                "neighbours and texts, writes the snapshot and promotes it; `--employers off`. One "
                "run of each; the lines are in the page cache."
            ),
            (
                "Memory of all processes: their Pss together, looked at ten times a second; the "
                "table has that of the largest process."
            ),
        ],
        findings=[
            *(
                Finding(f"time a line, {lines:,} lines", 1e6 * cost, "microseconds")
                for lines, cost in costs.items()
            ),
            Finding(
                f"time a line, {most:,} / {least:,} lines", costs[most] / costs[least], at_most=1.3
            ),
            *(
                Finding(
                    f"peak memory of all processes, {lines:,} lines",
                    result.peak_of_all_bytes / 1e6,
                    "MB",
                )
                for lines, result in results.items()
            ),
        ],
        plots=[
            Plot(
                "time",
                "Training, from lines to a live model",
                Axis("lines", ticks=list(results)),
                Axis("seconds"),
                [Series("jobrec", [(lines, each.seconds) for lines, each in results.items()])],
            )
        ],
    )


def _trained(folder: Path, name: str) -> Result:
    candidate = Candidate(
        name,
        calling(train.jobrec, str(folder), "{fresh}/state"),
        warm_ups=0,
        repetitions=1,
        samples_memory=True,
    )
    return measure([candidate])[name]
