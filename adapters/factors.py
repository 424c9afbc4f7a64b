"""The serving kernel: factor matrices -> exact top-k and similar jobs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.neighbours import Neighbourhood, Neighbours
from adapters.remembered import Remembered
from domain.errors import SnapshotCorrupt
from domain.model import BoolArray, FloatArray, History, IndexArray, TimeArray
from domain.ports import Arrays, FoldIn, Recommender
from domain.ranking import Ranked, best

CROSSOVER = 200_000
"""With fewer jobs an index is not worth the time and the room that it takes: docs/kernel.md."""

BLOCK_CELLS = 1 << 19
"""People are ranked in blocks whose scores fit the cache: 2 MiB of float32."""

LEAST_PEOPLE = 8
"""But so many at least, since all factors are read for each block."""

FEW_JOBS = 1 << 13
"""Of more jobs than are set apart, up to so many that may appear are scored by themselves."""

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


class Finder(Protocol):
    """Proposes some eligible jobs for one question after another."""

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether all eligible jobs are proposed."""

    @abstractmethod
    def best(self, person: FloatArray, hidden: IndexArray) -> IndexArray:
        """Return jobs that are likely the best for a person, neighbours left aside.

        Args:
            person: shape (factors,).
            hidden: positions that must not be among them.
        """

    @abstractmethod
    def alike(self, job: FloatArray, hidden: IndexArray) -> IndexArray:
        """Return jobs that likely resemble a job of these factors most."""


class Index(Protocol):
    """Finds jobs without reading all of them, and may miss some."""

    @property
    @abstractmethod
    def jobs(self) -> int:
        """How many jobs it knows, the first of the model."""

    @abstractmethod
    def among(self, eligible: BoolArray, k: int) -> Finder | None:
        """Return what proposes the best k of eligible jobs; None where exact lists serve better.

        Args:
            eligible: shape (jobs,).
        """


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
        index: proposes candidates, which are scored as ever; None where all jobs are read.

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
        index: Index | None = None,
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
        self._index = index
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

    @property
    def is_exact(self) -> bool:
        """Whether all jobs are read; see the port."""
        return self._index is None

    @property
    def index(self) -> Index | None:
        """What proposes candidates, if anything does."""
        return self._index

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
            index=self._index,
        )

    def lifted(self, lift: FloatArray) -> FactorRecommender:
        """Return the same with other lifts, shape (jobs,)."""
        return FactorRecommender(self._users, self._jobs, self._step, lift, self._neighbourhood)

    def beside(self, neighbourhood: Neighbourhood) -> FactorRecommender:
        """Return the same with other neighbours."""
        return FactorRecommender(self._users, self._jobs, self._step, self._lift, neighbourhood)

    def indexed(self, index: Index) -> FactorRecommender:
        """Return the same with an index of its jobs."""
        return FactorRecommender(
            *(self._users, self._jobs, self._step, self._lift, self._neighbourhood), index=index
        )

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

        def done(near: Neighbourhood, row: int) -> NDArray[np.integer]:
            return near.done_by(int(users[row]))

        return self._ranked(self._users[users], gains, done, k, eligible, excluded)

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

        def done(_: Neighbourhood, row: int) -> NDArray[np.integer]:
            return histories[row].jobs

        return self._ranked(factors, gains, done, k, eligible, excluded)

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
    def _inverse(self) -> FloatArray:
        """1 / the length of each job's factors, 0 where that is 0."""
        return np.divide(1, self._norms, out=np.zeros_like(self._norms), where=self._norms > 0)

    @cached_property
    def _shapeless(self) -> IndexArray:
        """The jobs whose factors are all zero."""
        return np.flatnonzero(self._norms == 0)

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
        done: Callable[[Neighbourhood, int], NDArray[np.integer]],
        k: int,
        eligible: BoolArray,
        excluded: Sequence[IndexArray],
    ) -> list[Ranked]:
        """Rank jobs for people.

        Args:
            people: shape (people, factors).
            gains: returns what neighbours add for a stretch of people, shape (n, jobs), an array
                that may be written to.
            done: returns the jobs that one of them did.

        Raises:
            ValueError: there are not as many exclusions as people.
        """
        if len(excluded) != len(people):
            raise ValueError(f"{len(excluded)} exclusions are given for {len(people)} people")
        if k < 1 or not len(people) or not len(self._jobs):
            return [Ranked.nothing()] * len(people)
        finder = self._finder(eligible, k)
        if finder is None:
            return self._all_ranked(people, gains, k, eligible, excluded)
        late = self._late(eligible)
        lists: list[Ranked] = []
        for row, (person, hidden) in enumerate(zip(people, excluded, strict=True)):
            gain = _NO_GAIN
            if self._neighbourhood is not None:
                gain = Gain(*self._neighbourhood.of_history(done(self._neighbourhood, row)))
            own = self._proposed(finder, late, person, gain, k, eligible, hidden)
            if own is None:
                one = slice(row, row + 1)

                def alone(near: Neighbourhood, _: slice, one: slice = one) -> FloatArray:
                    return gains(near, one)

                (own,) = self._all_ranked(people[one], alone, k, eligible, excluded[one])
            lists.append(own)
        return lists

    def _all_ranked(
        self,
        people: FloatArray,
        gains: Callable[[Neighbourhood, slice], FloatArray],
        k: int,
        eligible: BoolArray,
        excluded: Sequence[IndexArray],
    ) -> list[Ranked]:
        """Rank jobs for people by reading all that are eligible."""
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

    def _finder(self, eligible: BoolArray, k: int) -> Finder | None:
        """Return what proposes jobs, None where all are read."""
        if len(eligible) > SHORTLISTED_JOBS and np.count_nonzero(eligible) <= FEW_JOBS:
            return _Few(np.flatnonzero(eligible))
        return None if self._index is None else self._index.among(eligible, k)

    def _late(self, eligible: BoolArray) -> IndexArray:
        """Return the eligible ones of the jobs that the index does not know."""
        first = len(eligible) if self._index is None else self._index.jobs
        return first + np.flatnonzero(eligible[first:])

    def _proposed(
        self,
        finder: Finder,
        late: IndexArray,
        person: FloatArray,
        gain: Gain,
        k: int,
        eligible: BoolArray,
        hidden: IndexArray,
    ) -> Ranked | None:
        """Rank what is proposed, what neighbours add to, and late jobs; None where that is short.

        Neighbours take nothing away, so the best of the rest are among what is proposed.
        """
        if not person.any():
            return Ranked.nothing()
        found = np.sort(finder.best(person, hidden))
        if not finder.is_complete:
            more = self._reaching(found, united(gain.jobs, late), person, gain, k)
            more = more[eligible[more]]
            found = united(found, more[np.isin(more, hidden, invert=True)])
            if len(found) < k:
                # Perhaps there are more among those that were not read
                return None
        return best(found, self._scores(found, person, gain), k)

    def _reaching(
        self, found: IndexArray, jobs: IndexArray, person: FloatArray, gain: Gain, k: int
    ) -> IndexArray:
        """Return those of other jobs that may reach the best k of those found.

        Nothing of a product but the lengths is read: |y'x| is at most |y| |x|.
        """
        if len(found) < k:
            return jobs
        scores = self._scores(found, person, gain)
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        length = np.sqrt(person @ person)
        most = self._norms[jobs] * length
        error = ROUNDING * (self._longest * length + np.abs(least))
        most += gain.of_jobs(jobs) + self._lift[jobs]
        near: IndexArray = jobs[most + ROUNDING * np.abs(most) >= least - 2 * error]
        return near

    def _scores(self, jobs: IndexArray, person: FloatArray, gain: Gain) -> FloatArray:
        """Return one person's scores of jobs, which ascend, as `_top` has them to the bit."""
        scores: FloatArray = np.einsum(
            "cf,cf->c", self._jobs[jobs], np.repeat(person[None], len(jobs), axis=0)
        )
        scores += gain.of_jobs(jobs) + self._lift[jobs]
        return scores

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
        for_all = self._lift + _barred(eligible)
        height = max(LEAST_PEOPLE, BLOCK_CELLS // max(1, len(self._jobs)))
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
        finder = self._finder(eligible, k)
        if finder is not None:
            itself = np.array([job])
            found = np.sort(finder.alike(own, itself))
            if not finder.is_complete:
                late = self._late(eligible)
                found = united(found, late[late != job])
            found = found[self._norms[found] > 0]
            if finder.is_complete or len(found) >= k:
                return self._alike(job, found, k)
        rough = self._jobs @ own
        rough *= self._inverse
        rough *= self._inverse[job]
        rough += _barred(eligible)
        rough[self._shapeless] = rough[job] = -np.inf
        _, candidates = within_reach(rough[None], k, np.array([ROUNDING]))
        return self._alike(job, candidates, k)

    def _alike(self, job: int, candidates: IndexArray, k: int) -> Ranked:
        """Rank candidates by their cosine to a job."""
        others, this = self._jobs[candidates].astype(np.float64), self._jobs[job].astype(np.float64)
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


def is_large(model: Recommender) -> bool:
    """Tell whether a model has so many jobs that an index of them is worth it."""
    vectors = model.job_vectors
    return vectors is not None and len(vectors) >= CROSSOVER


@dataclass(frozen=True)
class _Few(Finder):
    """Proposes all jobs, which are few."""

    jobs: IndexArray

    @property
    def is_complete(self) -> bool:
        """Whether all eligible jobs are proposed: they are."""
        return True

    def best(self, person: FloatArray, hidden: IndexArray) -> IndexArray:  # noqa: ARG002 - the port's
        """Return all but the hidden ones; see the port."""
        return self.jobs[np.isin(self.jobs, hidden, invert=True)]

    def alike(self, job: FloatArray, hidden: IndexArray) -> IndexArray:
        """Return all but the hidden ones; see the port."""
        return self.best(job, hidden)


class Gain(NamedTuple):
    """What neighbours add to one person's scores.

    Attributes:
        jobs: shape (n,), positions, ascending.
        values: shape (n,), float32.
    """

    jobs: IndexArray
    values: FloatArray

    def of_jobs(self, jobs: IndexArray) -> FloatArray:
        """Return what is added to the scores of jobs."""
        found = np.zeros(len(jobs), dtype=np.float32)
        if len(self.jobs):
            places = np.minimum(np.searchsorted(self.jobs, jobs), len(self.jobs) - 1)
            known = self.jobs[places] == jobs
            found[known] = self.values[places[known]]
        return found


_NO_GAIN = Gain(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def _barred(eligible: BoolArray) -> FloatArray:
    """Return 0 for jobs that may appear and minus infinity for others.

    By bits: branches that cannot be foretold would take ten times as long.
    """
    others = (eligible.view(np.uint8) - np.uint8(1)).view(np.int8).astype(np.int32)
    others &= np.float32(-np.inf).view(np.int32)
    return others.view(np.float32)


def united(*parts: IndexArray) -> IndexArray:
    """Return what is in any part, ascending; as `np.unique`, but faster for so little."""
    both = np.sort(np.concatenate(parts))
    return both[np.diff(both, prepend=-1) > 0]


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
