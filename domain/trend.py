"""What everybody is interested in lately, as a part of each job's score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from domain.errors import InputError
from domain.scoring import DAY

if TYPE_CHECKING:
    from domain.model import FloatArray, Interactions

PRIOR = 1_000.0
"""So many pairs of no job in particular dilute the trend, so that a few new ones are no fashion."""


@dataclass(frozen=True)
class Trend:
    """How much a job's score gains where many were interested in it lately.

    With p the sum of a job's pairs, each halved with every `half_life_days` of its age:

        lift = weight p / (P + 1,000), where P is the sum of all p

    The age of a pair is the time from its last activity to the newest of all. Pairs without a time
    count nothing, and where all times are one, there is no trend. Factors of ALS give a job that
    was done about 1 and a job that is nothing to somebody about 0; a lift is on the same scale.

    Attributes:
        weight: 0 for no trend.
        half_life_days: above 0.

    Raises:
        InputError: a value is out of bounds.
    """

    weight: float = 0.0
    half_life_days: float = 14.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise InputError(f"trend {self.weight} is not a finite number of at least 0", "trend")
        if not 0 < self.half_life_days < float("inf"):
            raise InputError(
                f"trend_half_life_days {self.half_life_days} is not a finite number above 0",
                "trend_half_life_days",
            )

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the trend that a stored model's record names; none where it names none."""
        default = cls()
        return cls(
            parameters.get("trend", 0.0),
            parameters.get("trend_half_life_days", default.half_life_days),
        )

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What `of` reads; nothing where there is no trend."""
        if not self.weight:
            return {}
        return {"trend": self.weight, "trend_half_life_days": self.half_life_days}

    def lift(self, interactions: Interactions) -> FloatArray:
        """Return what each job gains, shape (jobs,), at least 0."""
        times = interactions.last_at
        is_known = times > 0
        newest = times.max(initial=0)
        oldest = times.min(initial=newest, where=is_known)
        if not self.weight or newest <= oldest:
            return np.zeros(interactions.shape[1], dtype=np.float32)
        ages = (newest - times).astype(np.float64) / DAY
        fresh = np.where(is_known, np.exp2(-ages / self.half_life_days), 0)
        sums = np.bincount(interactions.indices, fresh, minlength=interactions.shape[1])
        lift: FloatArray = (self.weight * sums / (sums.sum() + PRIOR)).astype(np.float32)
        return lift
