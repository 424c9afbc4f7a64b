"""What one more worker costs in memory, where all of them map the same model.

A worker's private memory is what would be free again if only it ended: pages that no other
process maps (`Private_Clean` + `Private_Dirty` of /proc/PID/smaps_rollup). The same service with
a tiny model tells what of it is Python and libraries.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.child import Outcome, Stopwatch
from bench.load import WORKERS, Served, served
from bench.measuring import Candidate, calling, run_once
from bench.plots import Axis, Plot, Series
from bench.report import Finding, Report

_FACTORS = 64
_PEOPLE = 200_000
_PAIRS_A_PERSON = 5
_TINY = 100
_QUERIES = 60
_ASKED = """query ($user: ID!, $users: [ID!]!, $job: ID!) {
    recommendations(userId: $user) { items { job { id } } }
    batchRecommendations(userIds: $users) { items { job { id } } }
    similarJobs(jobId: $job) { items { job { id } } } }"""


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure workers with a large model, with smaller ones and with a tiny one."""
    jobs, people = (100_000, 20_000) if quick else (1_000_000, _PEOPLE)
    sizes = [_TINY, *(jobs // part for part in (10, 4, 2, 1))]
    models = [_Measured.of(scratch, size, max(_TINY, int(people * size / jobs))) for size in sizes]
    tiny, large = models[0], models[-1]
    own = large.private - tiny.private
    factor_bytes = 4 * _FACTORS * (jobs + people)
    return _MemoryReport(
        name="memory",
        title=f"{WORKERS} workers with a model of {jobs:,} jobs and {people:,} people x {_FACTORS} "
        f"factors: {factor_bytes / 1e6:,.0f} MB of factors, "
        f"{large.model_bytes / 1e6:,.0f} MB of files",
        results=[],
        measured=[large, tiny],
        plots=[_plot(models)],
        findings=[
            Finding("private memory of a worker", large.private / 1e6, "MB"),
            Finding(
                f"private memory of a worker, tiny model of {_TINY} jobs", tiny.private / 1e6, "MB"
            ),
            Finding("private memory that the large model adds to a worker", own / 1e6, "MB"),
            Finding("the same / bytes of the factors", own / factor_bytes),
            Finding(
                "private memory of a worker / bytes of the factors", large.private / factor_bytes
            ),
        ],
        notes=[
            (
                f"Read after {_QUERIES} requests over as many connections, which both workers "
                "answered; each asks for one person's list, the lists of five others and similar "
                "jobs, of ids all over the model."
            ),
            (
                "private, file: mapped pages of the model that only this worker has looked at so "
                "far; the system can drop them. private, other: what the process allocated."
            ),
            "proportional: shared pages divided among those who map them (Pss).",
        ],
    )


def _plot(models: Sequence[_Measured]) -> Plot:
    """Plot what a worker takes against the size of the model's files."""
    figures: dict[str, Callable[[_Memory], float]] = {
        "private": lambda memory: memory.private,
        "with its part of what is shared": lambda memory: memory.proportional,
    }
    return Plot(
        "workers",
        f"Memory of one of {WORKERS} workers",
        Axis("MB of the model's files"),
        Axis("MB"),
        [
            Series(name, [(model.model_bytes / 1e6, model.mean(figure) / 1e6) for model in models])
            for name, figure in figures.items()
        ],
    )


def write_model(folder: str, jobs: str, people: str) -> Outcome:
    """Write a dataset with hardly anything in it, and a promoted model of random factors."""
    import numpy as np

    from adapters.snapshots import DirectorySnapshotStore
    from domain.model import IdIndex, Interactions
    from domain.runs import Manifest

    watch = Stopwatch()
    _write_dataset(Path(folder) / "data")
    chance = np.random.default_rng(42)
    job_count, person_count = int(jobs), int(people)
    pairs = person_count * _PAIRS_A_PERSON
    columns = chance.integers(0, job_count, (person_count, _PAIRS_A_PERSON), dtype=np.int32)
    interactions = Interactions(
        users=IdIndex(np.arange(1, person_count + 1)),
        jobs=IdIndex(np.arange(1, job_count + 1)),
        indptr=np.arange(0, pairs + 1, _PAIRS_A_PERSON),
        indices=np.sort(columns, axis=1).ravel(),
        scores=np.ones(pairs, dtype=np.float32),
        kinds=np.ones(pairs, dtype=np.uint8),
        last_at=np.zeros(pairs, dtype=np.uint32),
    )
    factors = {
        name: chance.standard_normal((count, _FACTORS), dtype=np.float32)
        for name, count in (("user_factors", person_count), ("job_factors", job_count))
    }
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    manifest = Manifest(
        version="20260101T000000Z-bench",
        trained_at=moment,
        users=person_count,
        jobs=job_count,
        activities=pairs,
        since=moment,
        until=moment,
        seed=42,
        scoring={},
        trainer={"name": "als"},
    )
    store = DirectorySnapshotStore(Path(folder) / "state" / "models")
    store.write(manifest, {**interactions.arrays(), **factors})
    store.promote(manifest.version)
    watch.lap("writing")
    return watch.outcome({})


def _write_dataset(folder: Path) -> None:
    folder.mkdir(parents=True)
    records: dict[str, dict[str, object]] = {
        "activities": {"user_id": 1, "job_id": 1, "type": "redirect", "timestamp": 1.7e9},
        "jobs": {"job_id": 1, "description": "", "title": "A job"},
        "users": {"user_id": 1},
    }
    for name, record in records.items():
        (folder / f"{name}.jsonl").write_text(f"{json.dumps(record)}\n")


@dataclass(frozen=True)
class _Memory:
    """A process's memory in bytes."""

    private_file: int
    private_other: int
    shared: int
    proportional: int

    @classmethod
    def of(cls, process: int) -> _Memory:
        sums = _sums(Path(f"/proc/{process}/smaps"))
        return cls(
            private_file=sums["file", "Private_Clean"] + sums["file", "Private_Dirty"],
            private_other=sums["other", "Private_Clean"] + sums["other", "Private_Dirty"],
            shared=sum(sums[kind, f"Shared_{how}"] for kind in _KINDS for how in _STATES),
            proportional=sums["file", "Pss"] + sums["other", "Pss"],
        )

    @property
    def private(self) -> int:
        """All that no other process maps."""
        return self.private_file + self.private_other


_KINDS, _STATES = ("file", "other"), ("Clean", "Dirty")
_COUNTED = ("Pss", *(f"{who}_{how}" for who in ("Private", "Shared") for how in _STATES))


def _sums(path: Path) -> dict[tuple[str, str], int]:
    """Add up the figures of all mappings: those of the model's files, and the others."""
    sums = dict.fromkeys(((kind, name) for kind in _KINDS for name in _COUNTED), 0)
    kind = "other"
    for line in path.read_text().splitlines():
        name, _, figure = line.partition(":")
        if " " in name:  # the head of a mapping: addresses, rights, ..., path
            kind = "file" if line.endswith(".npy") else "other"
        elif name in _COUNTED:
            sums[kind, name] += 1024 * int(figure.split()[0])
    return sums


@dataclass(frozen=True)
class _Measured:
    """The workers of one service."""

    name: str
    model_bytes: int
    workers: Sequence[_Memory]

    @classmethod
    def of(cls, scratch: Path, jobs: int, people: int) -> _Measured:
        """Start a service with a model of a size, ask it, and read its workers' memory."""
        folder = scratch / f"memory-{jobs}"
        if not (folder / "state" / "models" / "LIVE").exists():
            arguments = [str(folder), str(jobs), str(people)]
            run_once(Candidate("model", calling(write_model, *arguments)), f"{jobs:,} jobs")
        options = ["--workers", str(WORKERS), "--unlisted", "serve", "--log-level", "warning"]
        with served(folder / "data", folder / "state", *options) as service:
            processes = service.workers()
            used = service.cpu_seconds()
            _ask(service, jobs, people)
            if not all(after > was for was, after in zip(used, service.cpu_seconds(), strict=True)):
                raise RuntimeError("a worker answered nothing")
            workers = [_Memory.of(process) for process in processes]
        files = (folder / "state" / "models").rglob("*.npy")
        return cls(f"{jobs:,} jobs", sum(file.stat().st_size for file in files), workers)

    @property
    def private(self) -> float:
        """Private memory of a worker, averaged."""
        return self.mean(lambda memory: memory.private)

    def mean(self, figure: Callable[[_Memory], float]) -> float:
        """Return a figure of a worker, averaged."""
        return statistics.mean(map(figure, self.workers))


def _ask(service: Served, jobs: int, people: int) -> None:
    for number in range(_QUERIES):
        place = number / _QUERIES
        user, job = 1 + int(place * people), 1 + int(place * jobs)
        users = [1 + (user + 37 * step) % people for step in range(5)]
        found = service.post(_ASKED, user=user, users=users, job=job)
        lists = [found["recommendations"], *found["batchRecommendations"], found["similarJobs"]]
        if any(len(list_["items"]) != 10 for list_ in lists):
            raise RuntimeError(f"a list is short: {found}")


@dataclass(frozen=True)
class _MemoryReport(Report):
    """A report with memory in place of the times of candidates."""

    measured: Sequence[_Measured] = ()

    def _times(self) -> list[str]:
        header = ["worker", "private", "private, file", "private, other", "shared", "proportional"]
        rows = [header, ["-", *["-:"] * 5]]
        for each in self.measured:
            for number, worker in enumerate(each.workers, 1):
                figures = [worker.private, worker.private_file, worker.private_other]
                figures += [worker.shared, worker.proportional]
                cells = [f"{figure / 1e6:,.1f} MB" for figure in figures]
                rows.append([f"{each.name}, worker {number}", *cells])
        return [f"| {' | '.join(row)} |" for row in rows]
