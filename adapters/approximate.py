"""An index of a model's jobs, which finds likely candidates without reading all of them.

Jobs are put into cells by k-means, and a question reads the cells whose centres are nearest to it
(the inverted file of faiss). There are two: one of factors brought to length 1, whose nearest ones
are those of the highest cosine; and one of the factors as they are, each with the job's lift behind
it. There the highest inner product is sought, which is no distance, so that cells would not hold
what belongs together. A last coordinate sqrt(M^2 - |y|^2) brings all vectors to the length M of the
longest, and with 0 in its place a person's inner products order as distances do (Bachrach et al.:
Speeding Up the Xbox Recommender System Using a Euclidean Transformation, 2014).

Both lie in the snapshot beside the factors, as bytes that every process maps and none copies.

What an index finds is scored again by the exact kernel, so scores and order are its own; what an
index misses is missed. How much that is, is measured when it is built.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from adapters.factors import FactorRecommender, Finder, Index
from domain.errors import SnapshotCorrupt
from domain.model import BoolArray, FloatArray, IndexArray
from domain.ports import Arrays, Recommender

LONGEST = 100
"""Longer lists are exact: the recall of an index is known up to this length."""

LEAST_RECALL = 0.98
"""With less, an index does not serve."""

_AIM = 0.99
"""So much recall is sought, since those who come later are others than those asked."""

SPARE = 8
"""So many more are looked up, lest rounding or equal scores decide about the last place."""

_CELLS_PER_ROOT = 2
"""So many times the square root of the jobs are the cells: more take longer to build."""

_SAMPLE_PER_CELL = 64
_ROUNDS = 8
"""Of k-means, on so many jobs for each cell."""

_LENGTHS = (10, LONGEST)

_FIRST = 8
"""Cells that are read at least, where there are as many."""

_ASKED = 100
"""On so many people or jobs the number of cells to read is chosen, and on others measured."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cells:
    """An inverted file, and how much of it is read.

    Attributes:
        file: of the library.
        probes: so many cells are read where all jobs are eligible.
        stored: the bytes that it lies in, which it only points to; None where it lies in memory.
    """

    file: faiss.IndexIVF
    probes: int
    stored: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, vectors: FloatArray, seed: int) -> Cells:
        """Build cells of vectors, shape (jobs, n), by their distances."""
        jobs, width = vectors.shape
        cells = max(1, min(int(_CELLS_PER_ROOT * jobs**0.5), jobs // 8))
        file = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells, faiss.METRIC_L2)
        rounds = file.cp
        rounds.seed, rounds.niter = seed, _ROUNDS
        rounds.min_points_per_centroid, rounds.max_points_per_centroid = 1, _SAMPLE_PER_CELL
        file.train(vectors)
        file.add(vectors)
        return cls(file, 1)

    @classmethod
    def mapped(cls, stored: NDArray[np.uint8], probes: int) -> Cells:
        """Return cells that stay in the bytes where they lie.

        Raises:
            RuntimeError: the library cannot read them.
        """
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(np.asarray(stored)), stored.size)
        return cls(faiss.read_index(reader), probes, stored)

    def settled(self) -> Cells:
        """Return the same in the bytes that are stored, which take half the room of both."""
        return Cells.mapped(self.bytes, self.probes)

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """What to store."""
        return faiss.serialize_index(self.file) if self.stored is None else self.stored

    def nearest(
        self, vector: FloatArray, count: int, allowed: NDArray[np.uint8], widening: float
    ) -> IndexArray:
        """Return the positions of the nearest in the cells that are read.

        Args:
            vector: shape (n,).
            count: at most so many.
            allowed: a bit for each job, whether it may be found.
            widening: so many times as many cells are read.
        """
        parameters = faiss.SearchParametersIVF(
            sel=faiss.IDSelectorBitmap(allowed),
            nprobe=min(self.file.nlist, round(self.probes * widening)),
        )
        # One by one, so that a list does not depend on whose lists are made beside it
        _, found = self.file.search(vector[None], count, params=parameters)
        positions: IndexArray = found[0][found[0] >= 0]
        return positions


class JobIndex(Index):
    """Finds jobs of a model in cells.

    Args:
        best: of factors and lift.
        alike: of factors of length 1.
    """

    def __init__(self, best: Cells, alike: Cells) -> None:
        self.best = best
        self.alike = alike

    @classmethod
    def of(cls, model: FactorRecommender, seed: int) -> JobIndex:
        """Build an index of a model's jobs, of which one cell is read."""
        vectors = model.job_vectors
        lift = model.lift(np.arange(len(vectors)))
        squares = np.einsum("jf,jf->j", vectors, vectors)
        lengths = np.sqrt(squares)
        squares += lift**2
        rest = np.sqrt(squares.max(initial=0) - squares)
        best = Cells.of(np.column_stack([vectors, lift, rest]), seed).settled()
        units = vectors / np.where(lengths > 0, lengths, np.ones_like(lengths))[:, None]
        return cls(best, Cells.of(units, seed).settled())

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> JobIndex:
        """Return the index whose `arrays()` these are.

        Raises:
            SnapshotCorrupt: there is none, the library cannot read it, or it is of other jobs.
        """
        try:
            probes = arrays["index_probes"].tolist()
            best, alike = (
                Cells.mapped(arrays[f"index_{name}"], own)
                for name, own in zip(("best", "alike"), probes, strict=True)
            )
        except (KeyError, ValueError, RuntimeError) as error:
            raise SnapshotCorrupt(f"it holds no index of jobs that can be read: {error}") from error
        jobs, factors = arrays["job_factors"].shape
        shapes = [(cells.file.ntotal, cells.file.d) for cells in (best, alike)]
        if shapes != [(jobs, factors + 2), (jobs, factors)]:
            raise SnapshotCorrupt(f"its index is of shapes {shapes}, its jobs {(jobs, factors)}")
        return cls(best, alike)

    def arrays(self) -> Arrays:
        """Return the index as named arrays."""
        return {
            "index_best": self.best.bytes,
            "index_alike": self.alike.bytes,
            "index_probes": np.array([self.best.probes, self.alike.probes], dtype=np.int32),
        }

    @property
    def jobs(self) -> int:
        """How many jobs it knows."""
        jobs: int = self.best.file.ntotal
        return jobs

    def among(self, eligible: BoolArray, k: int) -> Finder | None:
        """Return what finds k eligible jobs; see the port."""
        bits = np.packbits(eligible[: self.jobs], bitorder="little")
        count = int(np.bitwise_count(bits).sum())
        if k > LONGEST or not count:
            return None
        return _Finder(self, bits, (self.jobs / count) ** 0.5, k + SPARE)


@dataclass(frozen=True)
class _Finder(Finder):
    """Looks up in cells, of which more are read the fewer jobs are eligible.

    Attributes:
        index: to look up in.
        eligible: a bit for each job.
        widening: the root of all jobs / those eligible: the best of these lie deeper among all,
            but in about the same cells.
        count: so many are looked for.
    """

    index: JobIndex
    eligible: NDArray[np.uint8]
    widening: float
    count: int

    @property
    def is_complete(self) -> bool:
        """Whether all eligible jobs are proposed: some are missed."""
        return False

    def best(self, person: FloatArray, hidden: IndexArray) -> IndexArray:
        """Return jobs that are likely the best for a person; see the port."""
        return self._nearest(self.index.best, _of_person(person), hidden)

    def alike(self, job: FloatArray, hidden: IndexArray) -> IndexArray:
        """Return jobs that likely resemble a job most; see the port."""
        return self._nearest(self.index.alike, _of_job(job), hidden)

    def _nearest(self, cells: Cells, vector: FloatArray, hidden: IndexArray) -> IndexArray:
        allowed, hidden = self.eligible, hidden[hidden < self.index.jobs]
        if len(hidden):
            allowed = allowed.copy()
            bits = np.left_shift(1, hidden & 7).astype(np.uint8)
            np.bitwise_and.at(allowed, hidden >> 3, ~bits)
        return cells.nearest(vector, self.count, allowed, self.widening)


def index_of(
    recommender: Recommender, seed: int, threads: int
) -> tuple[Arrays, Mapping[str, float]]:
    """Return an index of a model's jobs, and what was measured of it.

    Args:
        threads: processors to use.

    Returns:
        no arrays where the model has no factors, or the index misses too much.
    """
    if not isinstance(recommender, FactorRecommender):
        return {}, {}
    index, measured = build(recommender, seed, threads)
    short = [name for name, value in measured.items() if "recall" in name and value < LEAST_RECALL]
    if short:
        told = ", ".join(f"{name} is {measured[name]:.3f}" for name in short)
        _log.warning("exact lists are served: of the index %s, below %s", told, LEAST_RECALL)
        return {}, measured
    return index.arrays(), measured


def build(
    model: FactorRecommender, seed: int, threads: int = 1
) -> tuple[JobIndex, Mapping[str, float]]:
    """Build an index of a model's jobs, and measure it against exact lists.

    Cells are read so many that for some people and jobs `_AIM` of the exact lists of LONGEST are
    found; what is told is measured on others.

    Args:
        threads: processors to use.

    Returns:
        the index, and by name: recall of lists of 10 and of LONGEST, of similar jobs likewise,
        and the seconds that it took.
    """
    started = time.perf_counter()
    faiss.omp_set_num_threads(threads)
    index = JobIndex.of(model, seed)
    people, alike = _trials(model, np.random.default_rng(seed))
    index = JobIndex(_enough(index.best, people[::2]), _enough(index.alike, alike[::2]))
    measured = {
        f"index_{name}recall@{length}": share
        for name, cells, trials in (("", index.best, people), ("similar_", index.alike, alike))
        for length, share in recalls(cells, trials[1::2]).items()
    }
    return index, {**measured, "index_seconds": time.perf_counter() - started}


class Trial(NamedTuple):
    """A question to cells, and the exact answer.

    Attributes:
        vector: shape (n,).
        jobs: shape (LONGEST,), the best positions, best first; shorter where there are fewer.
    """

    vector: FloatArray
    jobs: IndexArray


def recalls(cells: Cells, trials: Sequence[Trial]) -> dict[int, float]:
    """Return by length the share of exact lists, cut there, that cells hold; 1 without any list."""
    allowed = np.full(-(-cells.file.ntotal // 8), 255, dtype=np.uint8)
    shares: dict[int, list[float]] = {length: [] for length in _LENGTHS}
    for vector, jobs in trials:
        found = np.isin(jobs, cells.nearest(vector, LONGEST + SPARE, allowed, 1.0))
        for length, own in shares.items():
            own.append(float(found[:length].mean()) if len(jobs) else 1.0)
    return {length: float(np.mean(own)) if own else 1.0 for length, own in shares.items()}


def _enough(cells: Cells, trials: Sequence[Trial]) -> Cells:
    """Return cells that read enough for the recall that is sought, a quarter of all at most."""
    most = min(cells.file.nlist, max(_FIRST, cells.file.nlist // 4))
    cells = replace(cells, probes=min(most, _FIRST))
    while cells.probes < most and min(recalls(cells, trials).values()) < _AIM:
        cells = replace(cells, probes=min(most, cells.probes + max(1, cells.probes // 8)))
    return cells


def _trials(
    model: FactorRecommender, random: np.random.Generator
) -> tuple[list[Trial], list[Trial]]:
    """Return questions of people and of jobs, chosen by chance."""
    people, jobs = model.arrays()["user_factors"], model.job_vectors
    everything, nothing = np.ones(len(jobs), dtype=np.bool_), np.empty(0, dtype=np.int64)
    # Neighbours are no part of an index; the jobs that they add to are scored in any case
    plain = FactorRecommender(people, jobs, lift=model.lift(np.arange(len(jobs))))
    drawn = _drawn(people, random)
    lists = plain.recommend(drawn, LONGEST, everything, [nothing] * len(drawn))
    some = _drawn(jobs, random)
    similar = [plain.similar(job, LONGEST, everything) for job in some.tolist()]
    return (
        [Trial(_of_person(people[row]), own.jobs) for row, own in zip(drawn, lists, strict=True)],
        [Trial(_of_job(jobs[row]), own.jobs) for row, own in zip(some, similar, strict=True)],
    )


def _drawn(vectors: FloatArray, random: np.random.Generator) -> IndexArray:
    """Return the positions of some vectors that are not zero."""
    some = random.choice(len(vectors), min(len(vectors), 3 * _ASKED), replace=False)
    return some[vectors[some].any(axis=1)][: 2 * _ASKED]


def _of_person(factors: FloatArray) -> FloatArray:
    """Return where to look for the best jobs of a person."""
    return np.append(factors, np.array([1, 0], dtype=np.float32))


def _of_job(factors: FloatArray) -> FloatArray:
    """Return where to look for the jobs that resemble a job."""
    vector: FloatArray = factors / np.sqrt(factors @ factors)
    return vector
