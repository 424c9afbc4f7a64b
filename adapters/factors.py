"""The serving kernel: factor matrices -> exact top-k and similar jobs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domain.errors import SnapshotCorrupt
from domain.model import BoolArray, FloatArray, IndexArray
from domain.ports import Arrays, Recommender
from domain.ranking import Ranked, best

BLOCK_CELLS = 1 << 20
"""People are ranked in blocks whose scores fit the cache: 4 MiB of float32."""

_LOWEST = float(np.finfo(np.float32).min)

ROUNDING = 64 * float(np.finfo(np.float32).eps)
"""A bound on the relative error of a float32 inner product of some hundred terms."""


class FactorRecommender(Recommender):
    """Ranks by inner product of factors, and finds similar jobs by their cosine.

    Args:
        user_factors: shape (users, factors), float32; may be memory-mapped.
        job_factors: shape (jobs, factors), float32; may be memory-mapped.

    Raises:
        SnapshotCorrupt: the shapes or types do not fit together.
    """

    def __init__(self, user_factors: FloatArray, job_factors: FloatArray) -> None:
        for name, factors in (("user_factors", user_factors), ("job_factors", job_factors)):
            if factors.ndim != 2 or factors.dtype != np.float32:
                raise SnapshotCorrupt(
                    f"{name} is {factors.dtype} of shape {factors.shape}, expected a float32 matrix"
                )
        if user_factors.shape[1] != job_factors.shape[1]:
            raise SnapshotCorrupt(
                f"users have {user_factors.shape[1]} factors, jobs {job_factors.shape[1]}"
            )
        self._users = user_factors
        self._jobs = job_factors
        self._norms: FloatArray = np.sqrt(np.einsum("jf,jf->j", job_factors, job_factors))
        self._longest = float(self._norms.max(initial=0.0))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> FactorRecommender:
        """Return the recommender whose `arrays()` these are.

        Raises:
            SnapshotCorrupt: an array is missing, or shapes or types do not fit together.
        """
        try:
            return cls(arrays["user_factors"], arrays["job_factors"])
        except KeyError as error:
            raise SnapshotCorrupt(f"the snapshot holds no array {error}") from error

    def arrays(self) -> Arrays:
        """Return the factors as named arrays."""
        return {"user_factors": self._users, "job_factors": self._jobs}

    def recommend(
        self, users: IndexArray, k: int, eligible: BoolArray, excluded: Sequence[IndexArray]
    ) -> list[Ranked]:
        """Rank jobs for many people; see the port.

        Somebody whose factors are all zero is nobody the model knows, and gets no jobs.
        """
        if len(users) and not 0 <= users.min() <= users.max() < len(self._users):
            raise IndexError(f"positions reach from {users.min()} to {users.max()}")
        if k < 1 or not len(self._jobs):
            return [Ranked.nothing()] * len(users)
        barred = ~eligible
        height = max(1, BLOCK_CELLS // len(self._jobs))
        lists: list[Ranked] = []
        for start in range(0, len(users), height):
            factors = np.ascontiguousarray(self._users[users[start : start + height]])
            block = factors @ self._jobs.T
            block[:, barred] = -np.inf
            for row, own, hidden in zip(
                block, factors, excluded[start : start + height], strict=True
            ):
                row[hidden] = -np.inf
                lists.append(self._top(row, own, k) if own.any() else Ranked.nothing())
        return lists

    def similar(self, job: int, k: int, eligible: BoolArray) -> Ranked:
        """Rank jobs by cosine, never the job itself; see the port."""
        if not 0 <= job < len(self._jobs):
            raise IndexError(f"position {job} is not in 0..{len(self._jobs) - 1}")
        own = self._jobs[job]
        if k < 1 or not own.any():
            return Ranked.nothing()
        with np.errstate(divide="ignore", invalid="ignore"):
            rough = (self._jobs @ own) / (self._norms * self._norms[job])
        rough[~eligible | (self._norms == 0)] = -np.inf
        rough[job] = -np.inf
        candidates = _within_reach(rough, k, ROUNDING)
        others, this = self._jobs[candidates].astype(np.float64), own.astype(np.float64)
        # One root of the product keeps vectors of one direction at exactly one cosine
        lengths = np.sqrt(np.einsum("jf,jf->j", others, others) * (this @ this))
        cosines = np.clip(others @ this / lengths, -1.0, 1.0)
        return best(candidates, cosines.astype(np.float32), k)

    def alikeness(self, jobs: IndexArray) -> FloatArray:
        """Return the cosines of the jobs' factors; see the port."""
        norms = self._norms[jobs]
        units = self._jobs[jobs] / np.where(norms > 0, norms, 1)[:, None]
        cosines: FloatArray = np.clip(units @ units.T, -1, 1)
        return cosines

    def _top(self, scores: FloatArray, factors: FloatArray, k: int) -> Ranked:
        """Return the best k of one person's scores; barred jobs are at -inf.

        A matrix product rounds differently for a batch than for one person, and could swap
        neighbours. So it only chooses candidates, all within its error of the k-th best; they
        are scored again in a way that does not depend on the batch.
        """
        error = ROUNDING * self._longest * float(np.sqrt(factors @ factors))
        candidates = _within_reach(scores, k, error)
        exact = np.einsum("jf,f->j", self._jobs[candidates], factors)
        return best(candidates, exact, k)


def _within_reach(scores: FloatArray, k: int, error: float) -> IndexArray:
    """Return the positions that may be among the best k if scores are off by up to an error."""
    least = np.partition(scores, len(scores) - k)[len(scores) - k] if len(scores) > k else -np.inf
    return np.flatnonzero(scores >= max(float(least) - 2 * error, _LOWEST))
