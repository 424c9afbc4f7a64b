"""ALS with more beside it: neighbours of jobs, and the trend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from adapters.als import AlsTrainer
from adapters.factors import FactorRecommender
from adapters.neighbours import Neighbours
from domain.model import Interactions
from domain.ports import OnProgress, Trainer
from domain.trend import Trend


class BlendTrainer(Trainer):
    """Learns as ALS does, and adds to its scores what neighbours and the trend say.

    Factors know what a person's jobs have in common with others at large, neighbours which jobs
    the same people do; each finds what the other misses.
    """

    def __init__(self, als: AlsTrainer, neighbours: Neighbours, trend: Trend) -> None:
        self._als = als
        self._neighbours = neighbours
        self._trend = trend

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of ALS, of the neighbours and of the trend; a part without weight has none."""
        parts = {**self._neighbours.parameters, **self._trend.parameters}
        return {**self._als.parameters, "name": "blend", **parts}

    @property
    def steps(self) -> int:
        """Those of ALS."""
        return self._als.steps

    @contextmanager
    def prepared(self) -> Iterator[BlendTrainer]:
        """Return the same with ALS made ready; see the port."""
        with self._als.prepared() as als:
            yield BlendTrainer(als, self._neighbours, self._trend)

    def brief(self, steps: int) -> BlendTrainer:
        """Return the same with at most so many steps."""
        return BlendTrainer(self._als.brief(steps), self._neighbours, self._trend)

    def fit(
        self, interactions: Interactions, seed: int, on_progress: OnProgress
    ) -> FactorRecommender:
        """Learn; see the port."""
        recommender = self._als.fit(interactions, seed, on_progress)
        if self._neighbours.weight:
            near = self._neighbours.learn(interactions, self._als.threads)
            recommender = recommender.beside(near)
        if self._trend.weight:
            recommender = recommender.lifted(self._trend.lift(interactions))
        return recommender
