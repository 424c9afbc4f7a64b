"""Reading for a training when one line in a hundred is new, against reading all lines."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import data, ingest
from bench.child import Outcome, Stopwatch
from bench.measuring import Candidate, calling, measure, run_once
from bench.report import Finding, Report

_ALL, _KEEPING, _NEWS = "all lines", "all lines, and keeping the tally", "the new lines"
_NEW_SHARE = 0.01


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure reading on from a tally that an earlier training has kept."""
    base = ingest.activities(scratch, quick=quick)
    folder = scratch / "news"
    folder.mkdir(exist_ok=True)
    path, state = folder / "activities.jsonl", folder / "state"
    try:
        shutil.copyfile(base, path)
        cut = int(path.stat().st_size * (1 - _NEW_SHARE))
        with path.open("r+b") as file:
            file.seek(cut)
            cut += len(file.readline())
            file.seek(cut)
            news = file.read()
            file.truncate(cut)
        reading = calling(training_tally, str(folder), str(state))
        run_once(Candidate("a training before", reading))
        with path.open("ab") as file:
            file.write(news)
        lines = data.warm(path)
        repetitions = 3 if quick else 5
        results = measure(
            [
                Candidate(_NEWS, reading, repetitions=repetitions),
                Candidate(_ALL, calling(ingest.jobrec, str(folder)), repetitions=repetitions),
                Candidate(
                    _KEEPING,
                    calling(training_tally, str(folder), "{fresh}/state"),
                    repetitions=repetitions,
                ),
            ]
        )
        size = (state / "tally" / "tally").stat().st_size
    finally:
        shutil.rmtree(folder)
    read_on, all_, keeping = results[_NEWS], results[_ALL], results[_KEEPING]
    return Report(
        name="ingest-news",
        title=f"{lines:,} activity lines for a training, of which {news.count(10):,} are new "
        "since an earlier one",
        results=[read_on, all_, keeping],
        notes=[
            f"{_NEWS}: what is kept is read and checked, and what is new put to it.",
            f"{_KEEPING}: what the first training does; {size / 1e6:,.0f} MB are written.",
            "All find the same tally.",
        ],
        findings=[
            Finding(f"time, {_ALL} / {_NEWS}", all_.seconds / read_on.seconds, at_least=2),
            Finding(f"time, {_KEEPING} / {_ALL}", keeping.seconds / all_.seconds, at_most=1.25),
        ],
    )


def training_tally(folder: str, state: str) -> Outcome:
    """Count as a training does."""
    from domain.model import ActivityKind, TimeWindow
    from domain.ports import nobody

    log = data.training_log(folder, state)
    watch = Stopwatch()
    tally, _ = log.tally(TimeWindow(), nobody)
    watch.lap("counting")
    totals = {kind.word: tally.total(kind) for kind in ActivityKind if tally.total(kind)}
    return watch.outcome({"pairs": len(tally), **totals})
