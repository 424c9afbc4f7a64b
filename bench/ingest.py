"""Reading an activity file to counts per (user, job, kind)."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from bench import data
from bench.child import Outcome, Stopwatch
from bench.measuring import Candidate, calling, measure
from bench.report import Finding, Report

_JOBREC, _NAIVE, _TIMED = "jobrec", "json + dict", "json + dict, with times"
_DUCKDB = "duckdb"
# 382,815 lines times this
_SCALE, _QUICK_SCALE = 26.2, 0.5


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure jobrec against the straightforward way, and against the fastest one known."""
    path = activities(scratch, quick=quick)
    lines = data.warm(path)
    repetitions = 2 if quick else 3
    results = measure(
        [
            Candidate(_JOBREC, calling(jobrec, str(path.parent)), repetitions=repetitions),
            Candidate(_DUCKDB, calling(duckdb, str(path)), repetitions=repetitions),
            Candidate(
                _NAIVE, calling(json_and_dict, str(path)), warm_ups=0, repetitions=repetitions
            ),
            Candidate(
                _TIMED,
                calling(json_and_dict_with_times, str(path)),
                warm_ups=0,
                repetitions=repetitions,
            ),
        ]
    )
    ours, naive, timed = results[_JOBREC], results[_NAIVE], results[_TIMED]
    ceiling = results[_DUCKDB]
    return Report(
        name="ingest",
        title=f"{lines:,} activity lines ({path.stat().st_size / 1e6:,.0f} MB, in the page cache) "
        "to counts per (user, job, kind)",
        results=[ours, ceiling, naive, timed],
        items=lines,
        items_name="lines",
        notes=[
            (
                "jobrec: `JsonlActivityLog.tally`, which also checks every line, keeps the times "
                "of each pair's first and last activity, and orders the pairs."
            ),
            (
                f"{_DUCKDB}: `read_ndjson` with the columns' types told, grouped by person and job "
                "with a count for each of three kinds, as numpy arrays; two threads. It keeps no "
                "times, orders nothing, checks neither kinds nor ranges, makes 6 of an id 5.5 "
                "without a word, and ends at the first line that is no JSON."
            ),
            (
                "json + dict: `json.loads` of every line, counts in a dict in a dict in a dict; "
                "no checks, no times."
            ),
            (
                f"{_TIMED}: what jobrec hands on, counts and the times of each pair's first and "
                "last activity; no checks."
            ),
            "All count what they found afterwards, outside the time; the counts agree.",
        ],
        findings=[
            Finding(f"time, {_NAIVE} / {_JOBREC}", naive.seconds / ours.seconds, at_least=8),
            Finding(f"time, {_JOBREC} / {_DUCKDB}", ours.seconds / ceiling.seconds, at_most=1.5),
            Finding(f"time, {_TIMED} / {_JOBREC}", timed.seconds / ours.seconds, at_least=8),
            Finding(f"peak memory of {_JOBREC}", ours.peak_bytes / 1e6, "MB", at_most=1_200),
            Finding(f"peak memory, {_NAIVE} / {_JOBREC}", naive.peak_bytes / ours.peak_bytes),
        ],
    )


def activities(scratch: Path, *, quick: bool) -> Path:
    """Return the file of activities that is read."""
    path = data.demo(scratch, _QUICK_SCALE if quick else _SCALE) / "activities.jsonl"
    # Of this set only the activities are read; the rest is as large again
    for other in ("jobs.jsonl", "users.jsonl"):
        (path.parent / other).unlink(missing_ok=True)
    return path


def jobrec(folder: str) -> Outcome:
    """Count with jobrec's reader."""
    from domain.model import ActivityKind, TimeWindow
    from domain.ports import nobody

    log = data.activity_log(folder)
    watch = Stopwatch()
    tally, _ = log.tally(TimeWindow(), nobody)
    watch.lap("counting")
    totals = {kind.word: tally.total(kind) for kind in ActivityKind if tally.total(kind)}
    return watch.outcome({"pairs": len(tally), **totals})


def duckdb(path: str) -> Outcome:
    """Count in a database that reads JSON lines by itself."""
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    watch = Stopwatch()
    found = connection.execute(
        """
        SELECT user_id, job_id,
               count(*) FILTER (type = 'impression') AS impression,
               count(*) FILTER (type = 'redirect') AS redirect,
               count(*) FILTER (type = 'apply') AS apply
        FROM read_ndjson(?, columns = {user_id: 'BIGINT', job_id: 'BIGINT', type: 'VARCHAR'})
        GROUP BY user_id, job_id
        """,
        [path],
    ).fetchnumpy()
    watch.lap("counting")
    totals = {kind: int(found[kind].sum()) for kind in ("impression", "redirect", "apply")}
    kinds = {kind: total for kind, total in totals.items() if total}
    return watch.outcome({"pairs": len(found["user_id"]), **kinds})


def json_and_dict(path: str) -> Outcome:
    """Count as one writes it without thinking of millions, though not carelessly."""
    watch = Stopwatch()
    counts: dict[int, dict[int, dict[str, int]]] = {}
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            activity = json.loads(line)
            user, job = activity["user_id"], activity["job_id"]
            # Strings that are shared, not one for each pair
            kind = sys.intern(activity["type"])
            jobs = counts.get(user)
            if jobs is None:
                jobs = counts[user] = {}
            kinds = jobs.get(job)
            if kinds is None:
                jobs[job] = {kind: 1}
            else:
                kinds[kind] = kinds.get(kind, 0) + 1
    watch.lap("counting")
    totals: Counter[str] = Counter()
    for jobs in counts.values():
        for kinds in jobs.values():
            totals.update(kinds)
    return watch.outcome({"pairs": sum(map(len, counts.values())), **totals})


def json_and_dict_with_times(path: str) -> Outcome:
    """Count likewise, and keep the times of each pair's first and last activity."""
    watch = Stopwatch()
    pairs: dict[tuple[int, int], list[float]] = {}
    places = {"impression": 0, "redirect": 1, "apply": 2}
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            activity = json.loads(line)
            key, when = (activity["user_id"], activity["job_id"]), activity["timestamp"]
            pair = pairs.get(key)
            if pair is None:
                pair = pairs[key] = [0, 0, 0, when, when]
            pair[places[activity["type"]]] += 1
            if when < pair[3]:
                pair[3] = when
            if when > pair[4]:
                pair[4] = when
    watch.lap("counting")
    totals = {
        kind: int(sum(pair[place] for pair in pairs.values())) for kind, place in places.items()
    }
    found = {kind: total for kind, total in totals.items() if total}
    return watch.outcome({"pairs": len(pairs), **found})
