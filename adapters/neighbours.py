"""Which jobs the same people do: the cosine neighbours of jobs, and what they add to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from domain.errors import InputError, SnapshotCorrupt
from domain.model import FloatArray, IndexArray, Interactions, stretches
from domain.ports import Arrays

NEIGHBOURS = 100

_CELLS = 1 << 21
"""So many neighbours are added at once, and stand in a table at most: 24 MiB."""

_BLOCK_ROWS = 256
"""Jobs are worked on in blocks of so many, whose products stay small."""


@dataclass(frozen=True)
class Neighbours:
    """What the neighbours of a person's jobs add to the scores of a model.

    To a person who did n jobs, a job gains weight / sqrt(n) times the sum of its cosines to those
    of them that hold it among their nearest. Scores of ALS do not grow with n; sums of cosines do,
    and would drown them.

    Attributes:
        weight: 0 for no such part.
        nearest: so many neighbours of each job are kept.

    Raises:
        InputError: a value is out of bounds.
    """

    weight: float = 0.0
    nearest: int = NEIGHBOURS

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise InputError(
                f"neighbour_weight {self.weight} is not a finite number of at least 0",
                "neighbour_weight",
            )
        if not 1 <= self.nearest <= 10_000:
            raise InputError(f"neighbours {self.nearest} is not in 1..10,000", "neighbours")

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Neighbours:
        """Return what a stored model's record names; none where it names none."""
        return cls(
            parameters.get("neighbour_weight", 0.0), parameters.get("neighbours", NEIGHBOURS)
        )

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What `of` reads; nothing where neighbours add nothing."""
        if not self.weight:
            return {}
        return {"neighbour_weight": self.weight, "neighbours": self.nearest}

    def learn(self, known: Interactions, threads: int = 1) -> Neighbourhood:
        """Find the neighbours of all jobs, by so many threads."""
        near = nearest(known, self.nearest, threads)
        return Neighbourhood(known.indptr, known.indices, near, self.weight)


class Neighbourhood:
    """Neighbours that were learned, and whose jobs they belong to.

    Args:
        indptr: shape (users + 1,), where each person's jobs begin; may be memory-mapped.
        indices: shape (entries,), the jobs; may be memory-mapped.
        nearest: shape (jobs, jobs), row by row the cosines of a job's neighbours; some columns
            where only some of the jobs are ranked.
        weight: see `Neighbours`.
        is_tabled: whether the neighbours may be held a second time, as a table, which is faster.
    """

    def __init__(
        self,
        indptr: NDArray[np.integer],
        indices: NDArray[np.integer],
        nearest: csr_matrix,
        weight: float,
        *,
        is_tabled: bool = False,
    ) -> None:
        self._is_tabled = is_tabled
        self._indptr = indptr
        self._indices = indices
        self._nearest = nearest
        self._widest = int(np.diff(nearest.indptr).max(initial=0))
        self._weight = np.float32(weight)

    @classmethod
    def from_arrays(cls, arrays: Arrays, weight: float) -> Neighbourhood:
        """Return the neighbourhood of a stored model, beside whose interactions it lies.

        Raises:
            SnapshotCorrupt: an array is missing, or they do not fit together.
        """
        try:
            jobs = len(arrays["job_ids"])
            parts = tuple(arrays[f"nearest_{part}"] for part in ("data", "indices", "indptr"))
            near = csr_matrix(parts, shape=(jobs, jobs))
            return cls(arrays["indptr"], arrays["indices"], near, weight)
        except (KeyError, ValueError) as error:
            raise SnapshotCorrupt(f"the snapshot holds no usable neighbours: {error}") from error

    def arrays(self) -> Arrays:
        """Return the neighbours as named arrays; who did what, the model's interactions tell."""
        return {
            f"nearest_{part}": getattr(self._nearest, part)
            for part in ("data", "indices", "indptr")
        }

    def with_jobs(self, count: int) -> Neighbourhood:
        """Return the same with so many further jobs, which are nobody's neighbours."""
        jobs, near = self._nearest.shape[0] + count, self._nearest
        indptr = np.append(near.indptr, np.full(count, near.indptr[-1]))
        wider = csr_matrix((near.data, near.indices, indptr), shape=(jobs, jobs))
        return Neighbourhood(self._indptr, self._indices, wider, float(self._weight))

    def among(self, jobs: IndexArray) -> Neighbourhood:
        """Return what adds to the scores of some jobs alone, which stand in their order then."""
        return Neighbourhood(
            self._indptr,
            self._indices,
            self._nearest[:, jobs],
            float(self._weight),
            is_tabled=True,
        )

    def of_users(self, users: IndexArray) -> FloatArray:
        """Return what people's scores gain, shape (n, jobs)."""
        starts: IndexArray = self._indptr[users].astype(np.int64, copy=False)
        lengths = self._indptr[users + 1] - starts
        return self._gains(self._indices[stretches(starts, lengths)], lengths)

    def of_jobs(self, histories: Sequence[NDArray[np.integer]]) -> FloatArray:
        """Return the same for people who did jobs, shape (n, jobs)."""
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        return self._gains(np.concatenate([np.empty(0, dtype=np.int64), *histories]), lengths)

    def done_by(self, user: int) -> NDArray[np.integer]:
        """Return the jobs that somebody did."""
        jobs: NDArray[np.integer] = self._indices[self._indptr[user] : self._indptr[user + 1]]
        return jobs

    def of_history(self, history: NDArray[np.integer]) -> tuple[IndexArray, FloatArray]:
        """Return the jobs that gain for somebody who did jobs, ascending, and what they gain.

        The same as of several people, to the bit, without work for each job that there is.
        """
        zeros = np.zeros(len(history), dtype=np.int64)
        cells, cosines = self._cells(history, zeros)
        jobs, places = np.unique(cells, return_inverse=True)
        gains = np.zeros(len(jobs), dtype=np.float32)
        np.add.at(gains, places, cosines)
        gains *= self._weight / np.sqrt(np.float32(max(1, len(history))))
        return jobs, gains

    def _gains(self, jobs: NDArray[np.integer], lengths: IndexArray) -> FloatArray:
        """Return the same for people who did so many of jobs that stand behind one another."""
        width = self._nearest.shape[1]
        gains = np.zeros((len(lengths), width), dtype=np.float32)
        firsts = np.repeat(np.arange(len(lengths)) * width, lengths)
        step = max(1, _CELLS // max(1, self._widest))
        for start in range(0, len(jobs), step):
            part = slice(start, start + step)
            # A product of sparse matrices comes to the same, and takes several times as long
            cells, cosines = self._cells(jobs[part], firsts[part])
            np.add.at(gains.reshape(-1), cells, cosines)
        gains *= (self._weight / np.sqrt(np.maximum(1, lengths).astype(np.float32)))[:, None]
        return gains

    def _cells(
        self, jobs: NDArray[np.integer], firsts: IndexArray
    ) -> tuple[IndexArray, FloatArray]:
        """Return where the neighbours of jobs stand behind each job's `firsts`, and the cosines."""
        near = self._nearest
        if self._table is not None:
            columns, cosines = self._table
            cells = columns[jobs]
            cells += firsts[:, None]
            return cells.reshape(-1), cosines[jobs].reshape(-1)
        starts = near.indptr[jobs].astype(np.int64)
        counts = near.indptr[jobs + 1] - starts
        places = stretches(starts, counts)
        cells = np.repeat(firsts, counts)
        cells += near.indices[places]
        return cells, near.data[places]

    @cached_property
    def _table(self) -> tuple[IndexArray, FloatArray] | None:
        """The neighbours of each job and their cosines, one job a row; None where there is none.

        Rows are filled up with cosines of 0 to the first job, which add nothing. Whole rows are
        read several times faster than what stands in stretches.
        """
        near = self._nearest
        shape = near.shape[0], self._widest
        if not self._is_tabled or shape[0] * shape[1] > min(_CELLS, 2 * near.nnz):
            return None
        is_filled = np.arange(shape[1]) < np.diff(near.indptr)[:, None]
        columns, cosines = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        columns[is_filled], cosines[is_filled] = near.indices, near.data
        return columns, cosines

    def contributions(self, history: IndexArray, jobs: IndexArray) -> FloatArray:
        """Return what each job of a history adds to the scores of jobs, shape (jobs, history)."""
        scale = self._weight / np.sqrt(np.float32(len(history)))
        added: FloatArray = scale * self._nearest[history][:, jobs].toarray().T
        return added


def binary(
    indices: NDArray[np.integer], indptr: NDArray[np.integer], shape: tuple[int, int]
) -> csr_matrix:
    """Return rows as a matrix of ones."""
    return csr_matrix((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=shape)


def nearest(known: Interactions, neighbours: int, threads: int = 1) -> csr_matrix:
    """Return the cosines of each job's nearest neighbours, shape (jobs, jobs).

    The cosine of two jobs is that of their people, each person counting once. Of equal ones at
    the end, those of the lowest ids are kept.

    Args:
        threads: so many work on it; they do not change the result.
    """
    user_items = binary(known.indices, known.indptr, known.shape)
    lengths = np.sqrt(np.bincount(known.indices, minlength=known.shape[1])).astype(np.float32)
    item_users = user_items.T.tocsr()

    def of_block(start: int) -> csr_matrix:
        block = item_users[start : start + _BLOCK_ROWS] @ user_items
        counts = np.diff(block.indptr)
        jobs = np.arange(start, start + len(counts), dtype=np.int32)
        block.data /= np.repeat(lengths[jobs], counts) * lengths[block.indices]
        block.data[np.flatnonzero(block.indices == np.repeat(jobs, counts))] = 0
        return _largest(block, neighbours)

    # The interpreter's lock is given up for most of it
    with ThreadPoolExecutor(threads) as pool:
        blocks = list(pool.map(of_block, range(0, known.shape[1], _BLOCK_ROWS)))
    # To begin with nothing, since without jobs there is no block
    blocks.insert(0, csr_matrix((0, known.shape[1]), dtype=np.float32))
    return vstack(blocks, format="csr")


def _largest(matrix: csr_matrix, count: int) -> csr_matrix:
    """Return the largest values of each row, none of 0; of equal ones, those of the first columns.

    Args:
        matrix: of values of at least 0.
    """
    values, starts = matrix.data, matrix.indptr
    lengths = np.diff(starts)
    least = np.zeros(len(lengths), dtype=values.dtype)
    spare = np.zeros(len(lengths), dtype=np.intp)
    for row in np.flatnonzero(lengths > count):
        place = lengths[row] - count
        largest = np.partition(values[starts[row] : starts[row + 1]], place)[place:]
        least[row] = largest[0]
        spare[row] = count - np.count_nonzero(largest > largest[0])
    bounds = np.repeat(least, lengths)
    is_kept = values > bounds
    ties = np.flatnonzero(values == bounds)
    ties = ties[values[ties] > 0]
    rows = np.searchsorted(starts, ties, side="right") - 1
    ties = ties[np.lexsort((matrix.indices[ties], rows))]
    is_kept[ties[np.arange(len(ties)) - np.searchsorted(rows, rows) < spare[rows]]] = True
    kept = np.flatnonzero(is_kept)
    return csr_matrix(
        (values[kept], matrix.indices[kept], np.searchsorted(kept, starts)), shape=matrix.shape
    )
