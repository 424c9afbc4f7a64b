"""The serving kernel: factor matrices -> exact top-k and similar jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from adapters.neighbours import Neighbourhood, Neighbours
from adapters.remembered import Remembered
from domain.errors import SnapshotCorrupt
from domain.model import BoolArray, FloatArray, History, IndexArray, TimeArray
from domain.ports import Arrays, FoldIn, Recommender
from domain.ranking import Ranked, best

BLOCK_CELLS = 1 << 19
"""People are ranked in blocks whose scores fit the cache: 2 MiB of float32."""

SHORTLISTED_JOBS = 20_000
"""Of so many jobs those that may appear are set apart: some 15 ms and 15 MB of 7,000 jobs, once."""

_FILTERS = 4
"""So many choices of jobs are kept apart."""

_GRAM_ROWS = 1 << 16

_LOWEST = float(np.finfo(np.float32).min)

ROUNDING = 64 * float(np.finfo(np.float32).eps)
"""A bound on the relative error of a float32 inner product of some hundred terms."""


@dataclass(frozen=True)
class HalfStep:
    """How ALS finds the factors x of a person by a history of scores s, jobs' factors Y given.

    (Y'Y + sum (alpha s - 1) y y' + regularization I) x = sum alpha s y

    Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets (2008), with the
    confidence as implicit takes it.

    Attributes:
        regularization: above 0.
    """

    alpha: float = 2.0
    regularization: float = 0.05

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> HalfStep:
        """Return the way of the trainer whose `parameters` these are."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in parameters.items() if name in known})


class FactorRecommender(Recommender, FoldIn):
    """Ranks by inner product of factors, and finds similar jobs by their cosine.

    A history becomes the factors of a person by the half-step that trained the model, exactly. To
    the products come what neighbours of the person's jobs add, and what a job gains for everybody.

    Args:
        user_factors: shape (users, factors), float32; may be memory-mapped.
        job_factors: shape (jobs, factors), float32; may be memory-mapped.
        step: how the model was trained.
        lift: shape (jobs,), what each job's score gains for everybody; None for nothing.
        neighbourhood: None where neighbours add nothing.
        learned: so many of the jobs, the first, make up Y'Y; the others came later. All at -1.

    Raises:
        SnapshotCorrupt: the shapes or types do not fit together.
    """

    def __init__(
        self,
        user_factors: FloatArray,
        job_factors: FloatArray,
        step: HalfStep | None = None,
        lift: FloatArray | None = None,
        neighbourhood: Neighbourhood | None = None,
        *,
        learned: int = -1,
    ) -> None:
        for name, factors in (("user_factors", user_factors), ("job_factors", job_factors)):
            if factors.ndim != 2 or factors.dtype != np.float32:
                raise SnapshotCorrupt(
                    f"{name} is {factors.dtype} of shape {factors.shape}, expected a float32 matrix"
                )
        if user_factors.shape[1] != job_factors.shape[1]:
            raise SnapshotCorrupt(
                f"users have {user_factors.shape[1]} factors, jobs {job_factors.shape[1]}"
            )
        jobs = job_factors.shape[:1]
        if lift is not None and (lift.shape != jobs or lift.dtype != np.float32):
            raise SnapshotCorrupt(
                f"lift is {lift.dtype} of shape {lift.shape}, expected float32 of "
                f"{len(job_factors)} jobs"
            )
        self._users = user_factors
        self._jobs = job_factors
        self._step = step or HalfStep()
        self._lift = np.zeros(len(job_factors), dtype=np.float32) if lift is None else lift
        self._neighbourhood = neighbourhood
        self._learned = len(job_factors) if learned < 0 else learned
        self._norms: FloatArray = np.sqrt(np.einsum("jf,jf->j", job_factors, job_factors))
        self._longest = float(self._norms.max(initial=0.0))
        self._shortlists: Remembered[tuple[IndexArray, FactorRecommender]] = Remembered(_FILTERS)

    @classmethod
    def from_arrays(
        cls, arrays: Arrays, parameters: Mapping[str, Any] | None = None
    ) -> FactorRecommender:
        """Return the recommender whose `arrays()` these are.

        Args:
            parameters: of the trainer.

        Raises:
            SnapshotCorrupt: an array is missing, or shapes or types do not fit together.
        """
        parameters = parameters or {}
        weight = Neighbours.of(parameters).weight
        try:
            users, jobs = arrays["user_factors"], arrays["job_factors"]
        except KeyError as error:
            raise SnapshotCorrupt(f"the snapshot holds no array {error}") from error
        neighbourhood = Neighbourhood.from_arrays(arrays, weight) if weight else None
        return cls(users, jobs, HalfStep.of(parameters), arrays.get("lift"), neighbourhood)

    def arrays(self) -> Arrays:
        """Return the factors as named arrays, and what else there is."""
        lift = {"lift": self._lift} if self._lift.any() else {}
        near = {} if self._neighbourhood is None else self._neighbourhood.arrays()
        return {"user_factors": self._users, "job_factors": self._jobs, **lift, **near}

    @property
    def job_vectors(self) -> FloatArray:
        """The factors of the jobs."""
        return self._jobs

    def with_jobs(self, vectors: FloatArray) -> FactorRecommender:
        """Return the same with further jobs; see the port. The factors of jobs are copied."""
        learned = self._lift[: self._learned]
        usual = np.full(len(vectors), learned.mean() if len(learned) else 0, dtype=np.float32)
        return FactorRecommender(
            self._users,
            np.concatenate([self._jobs, vectors]),
            self._step,
            np.concatenate([self._lift, usual]),
            self._neighbourhood and self._neighbourhood.with_jobs(len(vectors)),
            learned=self._learned,
        )

    def lifted(self, lift: FloatArray) -> FactorRecommender:
        """Return the same with other lifts, shape (jobs,)."""
        return FactorRecommender(self._users, self._jobs, self._step, lift, self._neighbourhood)

    def beside(self, neighbourhood: Neighbourhood) -> FactorRecommender:
        """Return the same with other neighbours."""
        return FactorRecommender(self._users, self._jobs, self._step, self._lift, neighbourhood)

    def lift(self, jobs: IndexArray) -> FloatArray:
        """Return what the scores of jobs gain for everybody; see the port."""
        return self._lift[jobs]

    def recommend(
        self, users: IndexArray, k: int, eligible: BoolArray, excluded: Sequence[IndexArray]
    ) -> list[Ranked]:
        """Rank jobs for many people; see the port.

        Somebody whose factors are all zero is nobody the model knows, and gets no jobs.
        """
        if len(users) and not 0 <= users.min() <= users.max() < len(self._users):
            raise IndexError(f"positions reach from {users.min()} to {users.max()}")

        def gains(near: Neighbourhood, rows: slice) -> FloatArray:
            return near.of_users(users[rows])

        return self._ranked(self._users[users], gains, k, eligible, excluded)

    def fold_in(
        self,
        histories: Sequence[History],
        k: int,
        eligible: BoolArray,
        excluded: Sequence[IndexArray],
    ) -> list[Ranked]:
        """Rank jobs by histories; see the port."""
        factors = np.zeros((len(histories), self._jobs.shape[1]), dtype=np.float32)
        for row, history in enumerate(histories):
            if len(history):
                system, weighted = self._equations(history)
                factors[row] = np.linalg.solve(system, weighted.sum(axis=1))

        def gains(near: Neighbourhood, rows: slice) -> FloatArray:
            return near.of_jobs([history.jobs for history in histories[rows]])

        return self._ranked(factors, gains, k, eligible, excluded)

    def contributions(self, history: History, jobs: IndexArray) -> TimeArray:
        """Tell what each job of a history adds to scores; see the port.

        The score is y'x = sum of y' A^-1 c_j y_j over the history, and what else is added.
        """
        if not len(history):
            return np.zeros((len(jobs), 0))
        system, weighted = self._equations(history)
        found: TimeArray = self._jobs[jobs].astype(np.float64) @ np.linalg.solve(system, weighted)
        if self._neighbourhood is not None:
            found += self._neighbourhood.contributions(history.jobs, jobs)
        return found

    def _equations(self, history: History) -> tuple[TimeArray, TimeArray]:
        """Return the matrix A, shape (factors, factors), and the terms c_j y_j, one a column."""
        positions = history.jobs
        if not 0 <= positions.min() <= positions.max() < len(self._jobs):
            raise IndexError(f"positions reach from {positions.min()} to {positions.max()}")
        step, own = self._step, self._jobs[positions].astype(np.float64)
        # As trainers have it: the confidence rounded to float32
        confidence = (np.float32(step.alpha) * history.scores).astype(np.float64)
        system = self._gram + (own.T * (confidence - 1)) @ own
        system[np.diag_indices_from(system)] += step.regularization
        return system, own.T * confidence

    @cached_property
    def _gram(self) -> TimeArray:
        """Y'Y of the jobs that were learned, in float64."""
        gram = np.zeros((self._jobs.shape[1],) * 2)
        for start in range(0, self._learned, _GRAM_ROWS):
            rows = self._jobs[start : min(self._learned, start + _GRAM_ROWS)].astype(np.float64)
            gram += rows.T @ rows
        return gram

    def _ranked(
        self,
        people: FloatArray,
        gains: Callable[[Neighbourhood, slice], FloatArray],
        k: int,
        eligible: BoolArray,
        excluded: Sequence[IndexArray],
    ) -> list[Ranked]:
        """Rank jobs for people.

        Args:
            people: shape (people, factors).
            gains: returns what neighbours add for a stretch of people, shape (n, jobs), an array
                that may be written to.

        Raises:
            ValueError: there are not as many exclusions as people.
        """
        if len(excluded) != len(people):
            raise ValueError(f"{len(excluded)} exclusions are given for {len(people)} people")
        if k < 1 or not len(people) or not len(self._jobs):
            return [Ranked.nothing()] * len(people)
        owners = np.repeat(np.arange(len(people)), [len(own) for own in excluded])
        hidden = np.concatenate(excluded)
        shortlist = self._shortlist(eligible)
        if shortlist is None:
            model = self
        else:
            jobs, model = shortlist
            is_listed = eligible[hidden]
            owners, hidden = owners[is_listed], np.searchsorted(jobs, hidden[is_listed])
            eligible = eligible[jobs]
        lists: list[Ranked] = []
        for found, scores, stretches in model.in_blocks(people, gains, k, eligible, owners, hidden):
            positions = found if shortlist is None else jobs[found]
            lists += [Ranked(positions[stretch], scores[stretch]) for stretch in stretches]
        return lists

    def _shortlist(self, eligible: BoolArray) -> tuple[IndexArray, FactorRecommender] | None:
        """Return the eligible jobs and a model of them alone; None where that is not kept."""
        if len(eligible) > SHORTLISTED_JOBS:
            return None

        def make() -> tuple[IndexArray, FactorRecommender]:
            jobs = np.flatnonzero(eligible)
            near = self._neighbourhood and self._neighbourhood.among(jobs)
            return jobs, FactorRecommender(
                self._users, self._jobs[jobs], self._step, self._lift[jobs], near
            )

        return self._shortlists.of(eligible, make)

    def in_blocks(
        self,
        people: FloatArray,
        gains: Callable[[Neighbourhood, slice], FloatArray],
        k: int,
        eligible: BoolArray,
        owners: IndexArray,
        hidden: IndexArray,
    ) -> Iterator[_Block]:
        """Rank jobs for people, so many at a time that their scores stay in the cache.

        Args:
            people: shape (people, factors).
            gains: see `_ranked`.
            eligible: shape (jobs,).
            owners: shape (hidden,), rows of people, ascending.
            hidden: shape (hidden,), the jobs that these may not get.
        """
        for_all = np.where(eligible, self._lift, np.float32(-np.inf))
        height = max(1, BLOCK_CELLS // max(1, len(self._jobs)))
        for start in range(0, len(people), height):
            rows = slice(start, start + height)
            factors = np.ascontiguousarray(people[rows])
            scores = factors @ self._jobs.T
            if self._neighbourhood is None:
                added = np.broadcast_to(for_all, scores.shape)
            else:
                added = gains(self._neighbourhood, rows)
                added += for_all
            scores += added
            own = slice(*np.searchsorted(owners, [start, start + height]))
            scores[owners[own] - start, hidden[own]] = -np.inf
            yield self._top(scores, factors, added, k)

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
        _, candidates = within_reach(rough[None], k, np.array([ROUNDING]))
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

    def _top(self, scores: FloatArray, factors: FloatArray, added: FloatArray, k: int) -> _Block:
        """Return the best k of people's scores; barred jobs are at -inf.

        Args:
            scores: shape (people, jobs), products and what is added to them.
            factors: shape (people, factors); who has none gets no jobs.
            added: shape (people, jobs), what is added.

        A matrix product rounds differently for a batch than for one person, and could swap
        neighbours. So it only chooses candidates, all within its error of the k-th best; they
        are scored again in a way that does not depend on the batch.
        """
        lengths = np.sqrt(np.einsum("pf,pf->p", factors, factors))
        if not lengths.all():
            scores[~factors.any(axis=1)] = -np.inf
        rows, jobs = within_reach(scores, k, ROUNDING * self._longest * lengths)
        exact = np.einsum("cf,cf->c", self._jobs[jobs], factors[rows])
        exact += added[rows, jobs]
        order = np.lexsort((jobs, -exact, rows))
        jobs, exact = jobs[order], exact[order]
        ends = np.cumsum(np.bincount(rows, minlength=len(scores))).tolist()
        starts = [0, *ends[:-1]]
        return _Block(
            jobs,
            exact,
            [slice(start, min(end, start + k)) for start, end in zip(starts, ends, strict=True)],
        )


class _Block(NamedTuple):
    """The best jobs of some people.

    Attributes:
        jobs: shape (n,), those of one person behind those of another, the best first.
        scores: shape (n,).
        stretches: where those of each person stand.
    """

    jobs: IndexArray
    scores: FloatArray
    stretches: list[slice]


def within_reach(scores: FloatArray, k: int, errors: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Find what may be among the best k of each row if scores are off by up to an error.

    The k-th largest of the maxima of groups is at most the k-th best score, and hardly less where
    there are many more groups than k. So few groups hold all that is looked for. A group is made
    of elements that lie equally far apart, since maxima of rows are found several at a time.

    Args:
        scores: shape (rows, n).
        k: at least 1.
        errors: shape (rows,), beside the rounding of a score itself.

    Returns:
        rows and columns of what is at or above the lowest number, each of shape (found,).
    """
    count, n = scores.shape
    size = max(1, min(int(np.sqrt(n) / 4), n // (4 * k)))
    groups = n // size
    grid = scores[:, : size * groups].reshape(count, size, groups)
    largest = grid.max(axis=1)
    floors = np.full((count, 1), _LOWEST, dtype=np.float32)
    if groups > k:
        kth = np.partition(largest, groups - k, axis=1)[:, groups - k]
        floors[:, 0] = np.maximum(kth - 2 * (errors + ROUNDING * np.abs(kth)), _LOWEST)
    rows, group = np.divmod(np.flatnonzero(largest >= floors), groups)
    place, depth = np.divmod(np.flatnonzero(grid[rows, :, group] >= floors[rows]), size)
    rest, column = np.nonzero(scores[:, size * groups :] >= floors)
    return (
        np.concatenate([rows[place], rest]),
        np.concatenate([depth * groups + group[place], size * groups + column]),
    )
