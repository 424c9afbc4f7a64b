"""Reading ever larger activity files: what a line costs, and what memory all processes take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import data, ingest
from bench.measuring import Candidate, Result, calling, measure
from bench.report import Finding, Report

_COPIES = (1, 5, 10)


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure jobrec on so many times the lines of the bench `ingest`, of as many times the people.

    Files are written and removed one after the other: the largest takes some 8 GB.
    """
    base = ingest.activities(scratch, quick=quick)
    results = {}
    for copies in _COPIES:
        with _multiplied(base, scratch / f"large-{copies}", copies) as path:
            lines = data.warm(path)
            repetitions = 3 if copies == 1 else 2
            results[lines] = _measured(path, f"{lines:,} lines", repetitions)
    costs = {lines: result.seconds / lines for lines, result in results.items()}
    least, *_, most = results
    sizes = ", ".join(f"{lines:,}" for lines in results)
    return Report(
        name="ingest-large",
        title=f"{sizes} activity lines, of ever more people, to counts per (user, job, kind)",
        results=list(results.values()),
        notes=[
            (
                "`JsonlActivityLog.tally` on the lines of the bench `ingest`, each written as many "
                "times as needed, for another person each time; files are in the page cache."
            ),
            (
                "Memory of all processes: their Pss together, looked at ten times a second; the "
                "table has that of the largest process."
            ),
        ],
        findings=[
            *(
                Finding(f"time a line, {lines:,} lines", 1e9 * cost, "ns")
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
                    at_most=4_000,
                )
                for lines, result in results.items()
            ),
        ],
    )


def _measured(path: Path, name: str, repetitions: int) -> Result:
    candidate = Candidate(
        name,
        calling(ingest.jobrec, str(path.parent)),
        repetitions=repetitions,
        samples_memory=True,
    )
    return measure([candidate])[name]


@contextmanager
def _multiplied(base: Path, folder: Path, copies: int) -> Iterator[Path]:
    path = data.multiply(base, folder, copies)
    try:
        yield path
    finally:
        path.unlink()
        folder.rmdir()
