"""What a model must beat: popularity, neighbours of jobs, chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from adapters.neighbours import NEIGHBOURS, binary, nearest
from domain.errors import InputError, NothingToLearn
from domain.model import BoolArray, FloatArray, IndexArray, Interactions
from domain.ports import Arrays, OnProgress, Recipe, Recommender, Trainer
from domain.ranking import Ranked, RankingPolicy, best
from domain.scoring import faded, latest_marked, one_each

HALF_LIFE_DAYS = 14.0

_BLOCK_ROWS = 256
"""People are worked on in blocks of so many, whose products stay small."""


def baselines(
    neighbours: int = NEIGHBOURS, half_life_days: float = HALF_LIFE_DAYS
) -> Sequence[Recipe]:
    """Return the recipes that stand beside every model.

    `popular` counts people, and `recent-popular` counts them by how lately they came. `item-knn`
    adds up the neighbours of all jobs of a person, `last-seen` takes those of the latest only.
    """
    half_life = half_life_days * 86_400
    return (
        Recipe("popular", one_each, popular()),
        Recipe("recent-popular", partial(faded, half_life=half_life), popular()),
        Recipe("item-knn", one_each, item_knn(neighbours)),
        Recipe("last-seen", latest_marked, item_knn(neighbours)),
        Recipe("random", one_each, chance()),
    )


class BaselineTrainer(Trainer):
    """Learns in one step.

    Args:
        name: of the baseline.
        learn: makes the recommender of interactions and a seed.
        settings: what else shapes it, for the manifest.
    """

    def __init__(
        self,
        name: str,
        learn: Callable[[Interactions, int], Recommender],
        **settings: Any,  # noqa: ANN401 - settings differ in type
    ) -> None:
        self._name = name
        self._learn = learn
        self._settings = settings

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The baseline's name and settings."""
        return {"name": self._name, **self._settings}

    @property
    def steps(self) -> int:
        """One."""
        return 1

    def prepared(self) -> AbstractContextManager[Trainer]:
        """Return the same: there is nothing to make ready."""
        return nullcontext(self)

    def brief(self, steps: int) -> Trainer:  # noqa: ARG002 - the port's, but one step is the least
        """Return the same."""
        return self

    def fit(self, interactions: Interactions, seed: int, on_progress: OnProgress) -> Recommender:
        """Learn; see the port.

        Raises:
            NothingToLearn: there is no interaction.
        """
        if not interactions.indices.size:
            raise NothingToLearn("no activity scores above 0, so there is nothing to learn from")
        recommender = self._learn(interactions, seed)
        on_progress(1, 1)
        return recommender


def popular() -> Trainer:
    """Rank jobs by their share of all scores, for everybody alike."""
    return BaselineTrainer("popular", lambda known, _: PopularRecommender(known.popularity()))


def chance() -> Trainer:
    """Rank jobs at random, anew for each person."""
    return BaselineTrainer("random", lambda known, seed: RandomRecommender(known.shape[1], seed))


def item_knn(neighbours: int = NEIGHBOURS) -> Trainer:
    """Rank jobs by their likeness to those of a person that score highest.

    Likeness is the cosine of the people of two jobs, each person counting once.

    Args:
        neighbours: so many are kept of each job.
    """
    if neighbours < 1:
        raise InputError(f"neighbours {neighbours} is below 1", "neighbours")

    def learn(known: Interactions, _seed: int) -> Recommender:
        return NeighbourRecommender(_profiles(known), nearest(known, neighbours))

    return BaselineTrainer("item-knn", learn, neighbours=neighbours)


class PopularRecommender(Recommender):
    """Gives everybody the same order of jobs.

    Args:
        popularity: shape (jobs,), what jobs are ordered by.
    """

    def __init__(self, popularity: FloatArray) -> None:
        self._popularity = popularity
        self._ranked = best(np.arange(len(popularity)), popularity, len(popularity))

    def recommend(
        self, users: IndexArray, k: int, eligible: BoolArray, excluded: Sequence[IndexArray]
    ) -> list[Ranked]:
        """Rank jobs for many people; see the port."""
        chosen = eligible[self._ranked.jobs]
        ranked = Ranked(self._ranked.jobs[chosen], self._ranked.scores[chosen])
        complete = RankingPolicy().complete
        return [
            complete(Ranked.nothing(), ranked, hidden, k)[0]
            for _, hidden in zip(users, excluded, strict=True)
        ]

    def similar(self, job: int, k: int, eligible: BoolArray) -> Ranked:  # noqa: ARG002 - the port's
        """Return nothing: popularity knows no likeness."""
        return Ranked.nothing()

    def arrays(self) -> Arrays:
        """Return the popularity."""
        return {"popularity": self._popularity}


class RandomRecommender(Recommender):
    """Draws jobs for each person, the same whenever it is asked.

    Args:
        jobs: how many there are.
        seed: of the draws.
    """

    def __init__(self, jobs: int, seed: int) -> None:
        self._jobs = jobs
        self._seed = seed

    def recommend(
        self, users: IndexArray, k: int, eligible: BoolArray, excluded: Sequence[IndexArray]
    ) -> list[Ranked]:
        """Draw jobs for many people; see the port."""
        positions = np.flatnonzero(eligible)
        return [
            self._drawn(int(user), k, positions, hidden)
            for user, hidden in zip(users, excluded, strict=True)
        ]

    def similar(self, job: int, k: int, eligible: BoolArray) -> Ranked:  # noqa: ARG002 - the port's
        """Return nothing: chance knows no likeness."""
        return Ranked.nothing()

    def arrays(self) -> Arrays:
        """Return what the draws depend on."""
        return {"jobs_and_seed": np.array([self._jobs, self._seed])}

    def _drawn(self, user: int, k: int, positions: IndexArray, hidden: IndexArray) -> Ranked:
        draws = np.random.default_rng([self._seed, user])
        count = min(len(positions), k + len(hidden))
        drawn = draws.choice(positions, count, replace=False) if count else positions
        jobs = drawn[~np.isin(drawn, hidden)][:k]
        return Ranked(jobs, np.linspace(1, 0, len(jobs), endpoint=False, dtype=np.float32))


class NeighbourRecommender(Recommender):
    """Adds up the neighbours of a person's jobs.

    Args:
        profiles: shape (users, jobs), 1 for each job whose neighbours count.
        nearest: shape (jobs, jobs), row by row the cosines of a job's neighbours.
    """

    def __init__(self, profiles: csr_matrix, nearest: csr_matrix) -> None:
        self._profiles = profiles
        self._nearest = nearest

    def recommend(
        self, users: IndexArray, k: int, eligible: BoolArray, excluded: Sequence[IndexArray]
    ) -> list[Ranked]:
        """Rank jobs for many people; see the port. Lists hold neighbours only."""
        lists: list[Ranked] = []
        allowed = eligible.copy()
        for start in range(0, len(users), _BLOCK_ROWS):
            scores = self._profiles[users[start : start + _BLOCK_ROWS]] @ self._nearest
            for row, hidden in enumerate(excluded[start : start + _BLOCK_ROWS]):
                jobs, values = _row(scores, row)
                # A mask is written and mended, where searching would take longer than ranking
                allowed[hidden] = False
                chosen = allowed[jobs]
                allowed[hidden] = eligible[hidden]
                lists.append(best(jobs[chosen], values[chosen], k))
        return lists

    def similar(self, job: int, k: int, eligible: BoolArray) -> Ranked:
        """Rank a job's neighbours by cosine; see the port."""
        jobs, values = _row(self._nearest, job)
        chosen = eligible[jobs]
        return best(jobs[chosen], values[chosen], k)

    def arrays(self) -> Arrays:
        """Return both matrices as the arrays of their compressed rows."""
        return {
            f"{name}_{part}": getattr(matrix, part)
            for name, matrix in (("profiles", self._profiles), ("nearest", self._nearest))
            for part in ("indptr", "indices", "data")
        }


def _row(matrix: csr_matrix, row: int) -> tuple[IndexArray, FloatArray]:
    """Return the columns and values of a row."""
    inside = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[inside].astype(np.int64), matrix.data[inside]


def _profiles(known: Interactions) -> csr_matrix:
    """Return which jobs of each person score highest, shape (users, jobs)."""
    highest = np.maximum.reduceat(known.scores, known.indptr[:-1])
    chosen = known.scores == np.repeat(highest, np.diff(known.indptr))
    indptr = np.concatenate([[0], np.cumsum(chosen)])[known.indptr]
    indices = known.indices[chosen]
    return binary(indices, indptr, known.shape)
