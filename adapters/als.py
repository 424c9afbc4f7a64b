"""Alternating least squares for implicit feedback, by the library implicit.

Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets (2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from adapters.als_team import Team, TeamAls
from adapters.factors import FactorRecommender, HalfStep
from domain.errors import InputError, NothingToLearn, TrainingError
from domain.model import Interactions
from domain.ports import OnProgress, Trainer


@dataclass(frozen=True)
class AlsParameters:
    """How ALS learns; the defaults are those of the service that jobrec replaces.

    Attributes:
        factors: length of the vectors.
        regularization: weight of the vectors' squared length, above 0.
        alpha: confidence in a pair is alpha times its score. It is used as it is: below 1 it
            would weigh less than a job never seen.
        iterations: passes over users and jobs.
        threads: processors to use, each by a process of its own once `prepared`.

    Raises:
        InputError: a value is out of bounds.
    """

    factors: int = 64
    regularization: float = 0.05
    alpha: float = 2.0
    iterations: int = 15
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("factors", 1, 4096),
            ("iterations", 1, 10_000),
            ("threads", 1, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} {value} is not in {low}..{high}", name)
        for name in ("regularization", "alpha"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise InputError(f"{name} {value} is not a finite number above 0", name)


class AlsTrainer(Trainer):
    """Fits a new ALS model each time; fitting one object twice would start from the first."""

    def __init__(self, parameters: AlsParameters | None = None, team: Team | None = None) -> None:
        self._parameters = parameters or AlsParameters()
        self._team = team

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything that shapes the factors, for the manifest; the threads do not."""
        values = asdict(self._parameters)
        del values["threads"]
        return {"name": "als", **values}

    @property
    def team(self) -> Team | None:
        """The helpers that fit along, None where one process does it all."""
        return self._team

    @property
    def threads(self) -> int:
        """How many processors it may use."""
        return self._parameters.threads

    @property
    def steps(self) -> int:
        """One step an iteration."""
        return self._parameters.iterations

    def brief(self, steps: int) -> AlsTrainer:
        """Return the same with at most so many iterations."""
        few = min(steps, self._parameters.iterations)
        return AlsTrainer(replace(self._parameters, iterations=few), self._team)

    @contextmanager
    def prepared(self) -> Iterator[AlsTrainer]:
        """Return the same with helpers that start meanwhile; see the port."""
        # Once for everything that goes on meanwhile: who sets it in a thread sets it for all
        with threadpool_limits(1, "blas"):
            if self._parameters.threads == 1:
                yield self
                return
            with Team(self._parameters.threads - 1) as team:
                yield AlsTrainer(self._parameters, team)

    def fit(
        self, interactions: Interactions, seed: int, on_progress: OnProgress
    ) -> FactorRecommender:
        """Learn factors; see the port.

        Raises:
            NothingToLearn: there is no interaction.
            TrainingError: the factors are not finite.
        """
        if not interactions.indices.size:
            raise NothingToLearn("no activity scores above 0, so there is nothing to learn from")
        parameters = self._parameters
        with threadpool_limits(1, "blas"):
            options = {
                "factors": parameters.factors,
                "regularization": parameters.regularization,
                "alpha": parameters.alpha,
                "iterations": parameters.iterations,
                "num_threads": parameters.threads,
                "random_state": seed,
            }
            if self._team is None:
                model = AlternatingLeastSquares(**options)
            else:
                model = TeamAls(self._team, **options)
            try:
                model.fit(
                    _user_items(interactions),
                    show_progress=False,
                    callback=lambda iteration, *_: on_progress(
                        iteration + 1, parameters.iterations
                    ),
                )
            except ModelFitError as error:
                raise self._not_finite("the factors") from error
        # Copied: the next fit of a team uses the same memory
        factors = {"users": np.array(model.user_factors), "jobs": np.array(model.item_factors)}
        for side, matrix in factors.items():
            if not np.isfinite(matrix).all():
                raise self._not_finite(f"the factors of {side}")
        step = HalfStep(parameters.alpha, parameters.regularization)
        return FactorRecommender(factors["users"], factors["jobs"], step)

    def _not_finite(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what} are not finite; try a regularization above {self._parameters.regularization}"
        )


def _user_items(interactions: Interactions) -> csr_matrix:
    """Return the matrix as implicit wants it: csr_matrix, both index arrays of one type."""
    pairs, most = len(interactions.indices), np.iinfo(np.int32).max
    if pairs > most:
        raise TrainingError(
            f"{pairs:,} pairs exceed the {most:,} that implicit indexes; narrow the time window"
        )
    return csr_matrix(
        (interactions.scores, interactions.indices, interactions.indptr.astype(np.int32)),
        shape=interactions.shape,
    )
