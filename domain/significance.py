"""How sure a figure is: bootstrap over people.

Efron and Tibshirani: An Introduction to the Bootstrap (1993), chapters 13 and 16; Sakai:
Evaluating Evaluation Metrics Based on the Bootstrap (2006) for paired tests of rankings. Holm: A
Simple Sequentially Rejective Multiple Test Procedure (1979) for several tests at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """How far one mean lies above another: of two models for the same people, or of two groups.

    Attributes:
        low: of the interval that covers the difference in 95 of 100 cases.
        p: how probable a difference at least so large were if there was none.
        p_holm: the same, adjusted for the number of comparisons made side by side.
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float


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
        return _difference(observed, drawn)

    def differences(self, model: str, others: Sequence[str], name: str) -> Mapping[str, Difference]:
        """Return how far a model's mean lies above each other's, adjusted for their number."""
        found = [self.difference(model, other, name) for other in others]
        return dict(zip(others, adjusted(found), strict=True))


def unpaired(ours: MetricArray, theirs: MetricArray, bootstrap: Bootstrap) -> list[Difference]:
    """Return how far the means of some people lie above those of other people.

    Args:
        ours: shape (people, columns).
        theirs: shape (other people, columns).
        bootstrap: draws both groups, each for itself.

    Returns:
        a difference for each column, not adjusted.
    """
    others = Bootstrap(bootstrap.resamples, bootstrap.seed + 1)
    drawn = bootstrap.means(ours) - others.means(theirs)
    observed = ours.mean(axis=0) - theirs.mean(axis=0)
    return [_difference(float(value), drawn[:, column]) for column, value in enumerate(observed)]


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Adjust the p-values of differences that are looked at side by side."""
    ps = holm([difference.p for difference in differences])
    return [difference._replace(p_holm=p) for difference, p in zip(differences, ps, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the same order.

    The smallest of n counts n times, the next n - 1 times, and so on; none is below a smaller one
    nor above 1. The chance to call any difference real where there is none stays below the bound
    that adjusted values are held against.
    """
    adjusted_ps = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted_ps[place] = highest
    return adjusted_ps


def _difference(observed: float, drawn: MetricArray) -> Difference:
    """Return an observed difference with what resamples tell of it."""
    strays = int((np.abs(drawn - observed) >= abs(observed) - _ROUNDING).sum())
    p = (strays + 1) / (len(drawn) + 1)
    return Difference(observed, *_percentiles(drawn), p, p)


def _percentiles(drawn: MetricArray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
