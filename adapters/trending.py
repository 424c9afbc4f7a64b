"""Any trainer, with the trend on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from domain.model import Interactions
from domain.ports import OnProgress, Recommender, Trainer
from domain.trend import Trend


class TrendTrainer(Trainer):
    """Learns as another trainer does, and lifts what people are interested in lately.

    Args:
        trainer: of a model that can lift jobs.
    """

    def __init__(self, trainer: Trainer, trend: Trend) -> None:
        self._trainer = trainer
        self._trend = trend

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of the other trainer and of the trend."""
        return {**self._trainer.parameters, **self._trend.parameters}

    @property
    def steps(self) -> int:
        """Those of the other trainer."""
        return self._trainer.steps

    @contextmanager
    def prepared(self) -> Iterator[TrendTrainer]:
        """Return the same with the other trainer made ready; see the port."""
        with self._trainer.prepared() as trainer:
            yield TrendTrainer(trainer, self._trend)

    def brief(self, steps: int) -> TrendTrainer:
        """Return the same with at most so many steps."""
        return TrendTrainer(self._trainer.brief(steps), self._trend)

    def fit(self, interactions: Interactions, seed: int, on_progress: OnProgress) -> Recommender:
        """Learn; see the port."""
        recommender = self._trainer.fit(interactions, seed, on_progress)
        return recommender.lifted(self._trend.lift(interactions))
