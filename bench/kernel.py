"""Lists by reading all jobs against lists by an index of them, from small to large catalogues."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import Outcome, Stopwatch
from bench.measuring import Candidate, Run, calling, run_once
from bench.plots import Axis, Plot, Series
from bench.report import Finding, Report

if TYPE_CHECKING:
    from adapters.factors import FactorRecommender
    from domain.model import BoolArray, IndexArray

SIZES = (7_500, 30_000, 100_000, 300_000, 1_000_000)
_PEOPLE_PER_JOB, _PAIRS_PER_JOB = 0.15, 5
_FACTORS, _ITERATIONS, _NEIGHBOURS = 64, 3, 50
_EXACT, _APPROXIMATE, _BATCH, _RARE = 60, 400, 100, 0.1
"""People whose lists are timed; people of a batch; share of jobs that a filter leaves."""


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure both ways on one model, of which smaller catalogues take the first jobs."""
    sizes = (2_000, 20_000) if quick else SIZES
    folder = scratch / f"kernel-{sizes[-1]}"
    if not (folder / "indptr.npy").exists():
        run_once(Candidate("model", calling(fit, str(folder), str(sizes[-1]))), f"{sizes[-1]:,}")
    measured = []
    for jobs in sizes:
        arguments = (str(folder), str(jobs))
        built = run_once(Candidate("index", calling(build, *arguments)), f"{jobs:,} jobs")
        lists = run_once(Candidate("lists", calling(lists_of, *arguments)), f"{jobs:,} jobs")
        measured.append(_Size(jobs, built, lists))
    largest = measured[-1]
    return _KernelReport(
        name="kernel",
        title=f"One list of 10 jobs out of {sizes[0]:,} to {sizes[-1]:,} x {_FACTORS} factors, one "
        "thread",
        results=[],
        measured=measured,
        findings=[
            Finding(
                f"p99 of a list by the index, {largest.name}",
                1e3 * largest.seconds("approximate p99"),
                "ms",
                at_most=5,
            ),
            *(
                Finding(
                    f"1,000 x recall@{length} by the index, {largest.name}",
                    1e3 * largest.seconds(f"recall@{length}"),
                    "of 1,000",
                    at_least=980,
                )
                for length in (10, 100)
            ),
            *(
                Finding(f"p50, exact / by the index, {size.name}", size.gain, at_least=least)
                for size, least in zip(measured, _gains(len(measured)), strict=True)
            ),
            Finding("both take as long at about", _crossing(measured), "jobs", at_most=200_000),
        ],
        notes=[
            (
                f"ALS on planted tastes, {_ITERATIONS} iterations, with neighbours "
                f"({_NEIGHBOURS} of a job) and trend; what a person did is excluded. Vectors by "
                "chance would be the worst case, and tell nothing of factors."
            ),
            (
                "Times of lists are processor time of the one thread that makes them, exact and by "
                "the index in turns; p50 and p99 are of single lists; recall is that of "
                "these lists against exact ones. With a filter: it leaves a tenth of the jobs."
            ),
            "index: bytes that a snapshot holds more and all processes of a host share.",
            (
                "building: seconds of a training, measuring included; its peak memory is that of a "
                "process with nothing else but the factors."
            ),
        ],
        plots=[_plot(measured)],
    )


def _plot(measured: Sequence[_Size]) -> Plot:
    """Return how long one list takes against how many jobs there are."""
    figures = ("exact p50", "exact p99", "approximate p50", "approximate p99")
    return Plot(
        "lists",
        "Milliseconds of one list of 10 jobs",
        Axis("jobs", is_log=True, ticks=[size.jobs for size in measured]),
        Axis("ms", is_log=True),
        [
            Series(name, [(size.jobs, 1e3 * size.seconds(name)) for size in measured])
            for name in figures
        ],
    )


def fit(folder: str, jobs: str) -> Outcome:
    """Learn a model of planted interactions, and leave its arrays."""
    import numpy as np

    from adapters.als import AlsParameters, AlsTrainer
    from adapters.blending import BlendTrainer
    from adapters.neighbours import Neighbours
    from bench.pairs import planted
    from domain.ports import nobody
    from domain.trend import Trend
    from graphql_api.runtime import available_cores

    watch = Stopwatch(announce=True)
    count = int(jobs)
    people, pairs = int(_PEOPLE_PER_JOB * count), _PAIRS_PER_JOB * count
    interactions = planted(people, count, pairs, seed=1)
    watch.lap("planting")
    als = AlsTrainer(AlsParameters(_FACTORS, 0.3, 4.0, _ITERATIONS, available_cores()))
    trainer = BlendTrainer(als, Neighbours(0.8, _NEIGHBOURS), Trend(65.0))
    with trainer.prepared() as prepared:
        model = prepared.fit(interactions, 42, nobody)
    watch.lap("fitting")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, array in {**model.arrays(), **interactions.arrays()}.items():
        np.save(Path(folder) / f"{name}.npy", array)
    watch.lap("writing")
    return watch.outcome({})


def build(folder: str, jobs: str) -> Outcome:
    """Build the index of the first jobs, and leave it."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from adapters.approximate import build
    from graphql_api.runtime import available_cores

    model, _ = _model(Path(folder), int(jobs), plain=True)
    with threadpool_limits(1, "blas"):
        watch = Stopwatch()
        index, measured = build(model, 42, available_cores())
        watch.lap("building")
    target = Path(folder) / jobs
    target.mkdir(exist_ok=True)
    for name, array in index.arrays().items():
        np.save(target / f"{name}.npy", array)
    stored = sum(array.nbytes for array in index.arrays().values())
    cells = {"cells": index.best.file.nlist, "cells read": index.best.probes}
    told = {name: value for name, value in measured.items() if "recall" in name}
    return Outcome(watch.phases["building"], {"bytes": stored, **cells}, told)


def lists_of(folder: str, jobs: str) -> Outcome:
    """Time lists by the model of the first jobs and by its index, and compare them."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from adapters import approximate

    exact, done = _model(Path(folder), int(jobs), plain=False)
    target = Path(folder) / jobs
    stored = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in target.iterdir()}
    index = approximate.JobIndex.from_arrays({**stored, "job_factors": exact.job_vectors})
    both = {"exact": exact, "approximate": exact.indexed(index)}
    with threadpool_limits(1, "blas"):
        return _timed(both, done)


def _timed(both: dict[str, FactorRecommender], done: Callable[[int], IndexArray]) -> Outcome:
    import numpy as np

    random = np.random.default_rng(3)
    count = len(both["exact"].job_vectors)
    everything = np.ones(count, dtype=np.bool_)
    asked = random.permutation(len(both["exact"].arrays()["user_factors"]))[:_APPROXIMATE]
    figures: dict[str, float] = {}

    def ask(k: int, eligible: BoolArray, people: IndexArray) -> dict[str, list[float]]:
        """Make lists one by one, exact ones for some, and measure recall on those."""
        spent: dict[str, list[float]] = {name: [] for name in both}
        recalls = []
        for person in people.tolist():
            lists = {}
            for name, model in both.items():
                if name == "exact" and len(spent[name]) >= _EXACT:
                    continue
                one, hidden = np.array([person]), [done(person)]
                started = time.thread_time()
                (lists[name],) = model.recommend(one, k, eligible, hidden)
                spent[name].append(time.thread_time() - started)
            if len(lists) == 2 and len(lists["exact"]):
                least = lists["exact"].scores[-1]
                recalls.append(float(np.mean(lists["approximate"].scores >= least)))
        spent["recall"] = [float(np.mean(recalls))]
        return spent

    ask(10, everything, asked[:20])  # what is read first comes from the disk
    single = ask(10, everything, asked)
    for name in both:
        figures[f"{name} p50"], figures[f"{name} p99"] = np.percentile(single[name], [50, 99])
    figures["recall@10"] = single["recall"][0]
    figures["recall@100"] = ask(100, everything, asked[:_EXACT])["recall"][0]
    rare = ask(10, random.random(count) < _RARE, asked[:_EXACT])
    figures["filtered recall@10"] = rare["recall"][0]
    for name, model in both.items():
        figures[f"{name} filtered"] = float(np.median(rare[name]))
        batch, hidden = asked[:_BATCH], [done(person) for person in asked[:_BATCH].tolist()]
        started = time.thread_time()
        model.recommend(batch, 10, everything, hidden)
        figures[f"{name} batch"] = time.thread_time() - started
        started = time.thread_time()
        for job in range(_EXACT):
            model.similar(job, 10, everything)
        figures[f"{name} similar"] = (time.thread_time() - started) / _EXACT
    return Outcome(figures["exact p50"], {}, figures)


def _model(
    folder: Path, jobs: int, *, plain: bool
) -> tuple[FactorRecommender, Callable[[int], IndexArray]]:
    """Return the model of the first jobs, and what each person did with them."""
    import numpy as np
    from scipy.sparse import csr_matrix

    from adapters.factors import FactorRecommender, HalfStep
    from adapters.neighbours import Neighbourhood

    arrays = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in folder.glob("*.npy")}
    model = FactorRecommender(
        arrays["user_factors"],
        arrays["job_factors"][:jobs],
        HalfStep(4.0, 0.3),
        arrays["lift"][:jobs],
    )
    kept = arrays["indices"] < jobs
    sums = np.concatenate([[0], np.cumsum(kept)])
    indptr, indices = sums[arrays["indptr"]], arrays["indices"][kept]
    if not plain:
        parts = tuple(arrays[f"nearest_{part}"] for part in ("data", "indices", "indptr"))
        near = csr_matrix(parts, shape=(len(parts[2]) - 1,) * 2)
        near = near if jobs == near.shape[0] else near[:jobs, :jobs]
        model = model.beside(Neighbourhood(indptr, indices, near, 0.8))
    return model, lambda person: indices[indptr[person] : indptr[person + 1]].astype(np.int64)


def _gains(sizes: int) -> Sequence[float | None]:
    """Return how much faster lists should be, which holds for large catalogues only."""
    return [None] * (sizes - 2) + [1.0, 1.0]


def _crossing(measured: Sequence[_Size]) -> float:
    """Return the size at which both ways take as long, between those that were measured."""
    for below, above in pairwise(measured):
        if below.gain < 1 <= above.gain:
            start, end = math.log(below.gain), math.log(above.gain)
            ratio = above.jobs / below.jobs
            size: float = below.jobs * ratio ** (-start / (end - start))
            return size
    return float(measured[0].jobs if measured[0].gain >= 1 else math.inf)


@dataclass(frozen=True)
class _Size:
    """What was measured of one catalogue."""

    jobs: int
    built: Run
    lists: Run

    @property
    def name(self) -> str:
        """How the tables call it."""
        return f"{self.jobs:,} jobs"

    @property
    def gain(self) -> float:
        """How many times as long an exact list takes."""
        return self.seconds("exact p50") / self.seconds("approximate p50")

    def seconds(self, name: str) -> float:
        """Return a figure of its lists."""
        if self.lists.outcome is None:
            raise RuntimeError(f"no figures of {self.name}")
        return self.lists.outcome.phases[name]

    def rows(self) -> list[list[str]]:
        """Return its rows of the table."""
        rows = []
        for name in ("exact", "approximate"):
            is_exact, figure = name == "exact", self.seconds
            figures = [figure(f"{name} {what}") for what in ("p50", "p99", "filtered", "similar")]
            cells = [f"{1e3 * seconds:.2f} ms" for seconds in figures]
            cells.append(f"{1e3 * figure(f'{name} batch'):,.0f} ms")
            recalls = ("recall@10", "recall@100", "filtered recall@10")
            cells += ["" if is_exact else f"{figure(recall):.3f}" for recall in recalls]
            answer = {} if self.built.outcome is None else self.built.outcome.answer
            cells += (
                ["", "", ""]
                if is_exact
                else [
                    f"{self.built.seconds:.1f} s",
                    f"{self.built.peak_bytes / 1e6:,.0f} MB",
                    f"{answer['bytes'] / 1e6:,.0f} MB",
                ]
            )
            rows.append([f"{self.name}, {name}", *cells])
        return rows


@dataclass(frozen=True)
class _KernelReport(Report):
    """A report with a row for each catalogue and way in place of the times of candidates."""

    measured: Sequence[_Size] = ()

    def _times(self) -> list[str]:
        header = ["lists", "p50", "p99", "p50 with a filter", "similar jobs", f"batch of {_BATCH}"]
        header += ["recall@10", "recall@100", "with a filter", "building", "peak memory", "index"]
        rows = [header, ["-", *["-:"] * (len(header) - 1)]]
        rows += [row for size in self.measured for row in size.rows()]
        return [f"| {' | '.join(row)} |" for row in rows]
