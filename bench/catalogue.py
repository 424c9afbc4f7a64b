"""Importing a catalogue into LMDB, and what titles and employers cost an answer."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Finding, Report

_ITEMS, _QUICK_ITEMS = 100_000, 5_000
_USERS, _FIRST, _TURNS = 100, 10, 40


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure an import of as many jobs as people, and reading a batch's jobs."""
    from adapters.jsonl import JsonlItems, Tolerance
    from adapters.lmdb_catalog import LmdbCatalog
    from application.importing import Importing, Source
    from domain.ports import ItemKind

    count = _QUICK_ITEMS if quick else _ITEMS
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        jobs, users = _dataset(Path(folder), count)
        store = LmdbCatalog(Path(folder) / "catalogue")
        items = JsonlItems(jobs, users, Tolerance())
        source = Source(items.stamp(), frozenset(ItemKind), lambda: iter(items), items.reports)
        started = time.perf_counter()
        Importing(store).run(source)
        imported = time.perf_counter() - started
        ids = random.Random(1).choices(range(count), k=_USERS * _FIRST)  # noqa: S311 - no secret
        read = {
            name: _fastest(lambda fields=fields: store.jobs(ids, frozenset(fields)))  # type: ignore[misc] # mypy knows no defaults of lambdas
            for name, fields in {
                "titles and employers": {"id", "title", "employer"},
                "whole": {"id", "title", "employer", "description"},
            }.items()
        }
        standing = _fastest(lambda: store.revision)
    return Report(
        name="catalogue",
        title=f"{count:,} jobs and {count:,} people into LMDB; {_USERS} x {_FIRST} jobs from it",
        results=[],
        items=2 * count,
        items_name="items",
        notes=["The fastest of several turns in one process; the import is one turn, synced."],
        findings=[
            Finding("import", imported, "s", at_most=15),
            *(
                Finding(f"{_USERS * _FIRST:,} jobs, {name}", 1e3 * seconds, "ms")
                for name, seconds in read.items()
            ),
            Finding("looking for changes", 1e6 * standing, "microseconds"),
        ],
    )


def _dataset(folder: Path, count: int) -> tuple[Path, Path]:
    jobs, users = folder / "jobs.jsonl", folder / "users.jsonl"
    text = "What the work is about, and whom we look for. " * 30
    with jobs.open("w") as file:
        for id_ in range(count):
            row = {
                "job_id": id_,
                "title": f"Engineer of kind {id_ % 997}",
                "employer": f"Employer {id_ % 5_003}",
                "location": f"Town {id_ % 211}",
                "posted_at": 1_700_000_000 + id_,
                "description": text,
            }
            file.write(f"{json.dumps(row)}\n")
    with users.open("w") as file:
        for id_ in range(count):
            row = {"user_id": id_, "university": f"University {id_ % 101}", "languages": ["en"]}
            file.write(f"{json.dumps(row)}\n")
    return jobs, users


def _fastest(function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_TURNS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
