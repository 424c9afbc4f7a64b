"""Datasets to measure on: written once a scratch folder, the same bytes on every machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import Outcome, Stopwatch
from bench.measuring import Candidate, calling, run_once

if TYPE_CHECKING:
    from domain.ports import ActivityLog

_UNTIL = datetime(2026, 1, 1, tzinfo=UTC)
_CHUNK_BYTES = 4 << 20


def demo(scratch: Path, scale: float) -> Path:
    """Return the folder of the demo dataset of a scale."""
    folder = scratch / f"demo-{scale:g}"
    if not (folder / "activities.jsonl").exists():
        # In another process: it takes gigabytes, which would become the floor of what we measure
        run_once(Candidate("demo data", calling(write, str(folder), str(scale))), f"scale {scale}")
    return folder


def write(folder: str, scale: str) -> Outcome:
    """Write a demo dataset."""
    from adapters.demo import write_demo

    watch = Stopwatch()
    write_demo(Path(folder), scale=float(scale), until=_UNTIL)
    watch.lap("writing")
    return watch.outcome({})


def multiply(activities: Path, folder: Path, copies: int) -> Path:
    """Write an activity log of so many times the people, who do what others did, in its order.

    Args:
        copies: 1 to 900.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "activities.jsonl"
    # Ids with other first digits are those of other people
    prefixes = [b'"user_id":%d' % (100 + copy) for copy in range(copies)]
    with activities.open("rb") as source, path.open("wb") as target:
        while block := source.read(_CHUNK_BYTES) + source.readline():
            target.writelines(block.replace(b'"user_id":', prefix) for prefix in prefixes)
    return path


def activity_log(folder: str) -> ActivityLog:
    """Return jobrec's reader of a dataset, wired as the service wires it."""
    from graphql_api.container import Container
    from graphql_api.settings import Settings

    settings = Settings(data=Path(folder))  # type: ignore[call-arg] # pydantic fills in the rest
    return Container(settings=settings).activity_log()


def training_log(folder: str, state: str) -> ActivityLog:
    """Return what a training reads the dataset by, wired as the service wires it."""
    from graphql_api.container import Container
    from graphql_api.settings import Settings

    settings = Settings(data=Path(folder), state=Path(state))  # type: ignore[call-arg] # pydantic fills in the rest
    return Container(settings=settings).training_log()


def warm(path: Path) -> int:
    """Read a file once, so that the system has it in memory, and return how many lines it has."""
    lines = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            lines += chunk.count(b"\n")
    return lines
