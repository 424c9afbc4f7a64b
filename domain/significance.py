"""How sure a figure is: bootstrap over people.

Efron and Tibshirani: An Introduction to the Bootstrap (1993), chapters 13 and 16; Sakai:
Evaluating Evaluation Metrics Based on the Bootstrap (2006) for paired tests of rankings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.errors import InputError
from domain.metrics import MetricArray

_CELLS = 1 << 22
"""Resamples are drawn in blocks of so many weights, 32 MiB."""

_ROUNDING = 1e-12


class Estimate(NamedTuple):
    """A mean over people, and the interval that covers it in 95 of 100 cases."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """How far one model's mean lies above another's, for the same people.

    Attributes:
        low: of the interval that covers the difference in 95 of 100 cases.
        p: how probable a difference at least so large were if there was none. It is not adjusted
            for the number of comparisons.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Bootstrap:
    """Draws people with replacement, the same people for all models and metrics.

    Attributes:
        resamples: how often.
        seed: of the draws.

    Raises:
        InputError: fewer than 100 resamples, whose outer percentiles would mean little.
    """

    resamples: int = 1_000
    seed: int = 42

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise InputError(f"resamples {self.resamples} is below 100", "resamples")

    def means(self, values: MetricArray) -> MetricArray:
        """Return the means of each resample.

        Args:
            values: shape (people, columns), with at least one person.

        Returns:
            shape (resamples, columns).
        """
        people = len(values)
        draws = np.random.default_rng(self.seed)
        height = max(1, _CELLS // people)
        blocks = []
        for start in range(0, self.resamples, height):
            weights = np.empty((min(height, self.resamples - start), people))
            for row in weights:
                row[:] = np.bincount(draws.integers(0, people, people), minlength=people)
            blocks.append(weights @ values / people)
        return np.concatenate(blocks)


class Resampled:
    """The means of several models' metrics in one set of resamples.

    Args:
        metrics: by model and metric, shape (people,); the same metrics and people for each model.
        bootstrap: draws the resamples.
    """

    def __init__(
        self, metrics: Mapping[str, Mapping[str, MetricArray]], bootstrap: Bootstrap
    ) -> None:
        self._keys = {
            (model, name): column
            for column, (model, name) in enumerate(
                (model, name) for model, values in metrics.items() for name in values
            )
        }
        columns = np.column_stack([metrics[model][name] for model, name in self._keys])
        self._values: NDArray[np.float64] = columns.mean(axis=0)
        self._means = bootstrap.means(columns)

    def estimate(self, model: str, name: str) -> Estimate:
        """Return a model's mean with its interval."""
        column = self._keys[model, name]
        return Estimate(float(self._values[column]), *_percentiles(self._means[:, column]))

    def difference(self, model: str, other: str, name: str) -> Difference:
        """Return how far a model's mean lies above another's, with interval and p-value.

        The test asks how often a resample's difference strays from the one observed by as much
        as that one differs from 0.
        """
        ours, theirs = self._keys[model, name], self._keys[other, name]
        observed = float(self._values[ours] - self._values[theirs])
        drawn = self._means[:, ours] - self._means[:, theirs]
        strays = int((np.abs(drawn - observed) >= abs(observed) - _ROUNDING).sum())
        return Difference(observed, *_percentiles(drawn), (strays + 1) / (len(drawn) + 1))


def _percentiles(drawn: MetricArray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
