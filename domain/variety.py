"""Lists that leave room: for other employers, for other kinds of jobs, for jobs that few know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from domain.errors import InputError
from domain.model import FloatArray, IndexArray
from domain.ranking import Ranked

_LEAST_POOL = 50
_POOL_PER_PLACE = 5

Alikeness = Callable[[IndexArray], FloatArray]
"""Returns the cosines of some jobs, shape (n, n), from their positions."""


def crowding(interest: FloatArray) -> FloatArray:
    """Return for each job the share of all jobs in which fewer are interested, 0 to 1."""
    fewer = np.searchsorted(np.sort(interest), interest)
    return (fewer / max(1, len(interest))).astype(np.float32)


@dataclass(frozen=True)
class Variety:
    """How a list is spread. With nothing set, the order stays as the model has it.

    A list of k is chosen greedily from a pool, the best `pool(k)` jobs of the person. With p the
    place of a job in a pool of n, counted from 0, and c its `crowd`, its merit is

        m = (1 - spread) * (1 - p / n) + spread * (1 - c)

    and the job chosen next is the one of highest

        (1 - diversity) * m - diversity * max(cosine with the jobs chosen before)

    Ties go to the job that the model ranks higher. Places stand for relevance, since scores of
    different sources do not compare. Carbonell, Goldstein: The Use of MMR, Diversity-Based
    Reranking (1998); Abdollahpouri et al.: Managing Popularity Bias in Recommender Systems with
    Personalized Re-ranking (2019).

    Attributes:
        max_per_employer: a list holds at most so many jobs of one employer; None sets no bound.
            Jobs of an unknown employer are not bound.
        max_per_type: the same for employers of one type.
        diversity: 0 to 1, how much jobs that are alike stand back.
        spread: 0 to 1, how much jobs in which many are interested stand back, so that small
            employers and new jobs are seen and applications do not pile up.

    Raises:
        InputError: one of them is out of bounds.
    """

    max_per_employer: int | None = None
    diversity: float = 0.0
    spread: float = 0.0
    max_per_type: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_per_employer", "max_per_type"):
            bound: int | None = getattr(self, name)
            if bound is not None and bound < 1:
                raise InputError(f"{name} is {bound}, expected at least 1", name)
        for name in ("diversity", "spread"):
            value: float = getattr(self, name)
            # NaN fails every comparison
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}, expected 0 to 1", name)

    @property
    def is_plain(self) -> bool:
        """Whether lists stay as the model has them."""
        return self == _PLAIN

    def pool(self, k: int) -> int:
        """Return from how many of a person's best jobs a list of k is chosen."""
        return k if self.is_plain else max(_LEAST_POOL, _POOL_PER_PLACE * k)

    def choose(
        self,
        pool: Ranked,
        k: int,
        employers: IndexArray,
        types: IndexArray,
        crowd: FloatArray,
        alikeness: Alikeness,
    ) -> IndexArray:
        """Choose a list from a pool.

        Args:
            pool: n jobs, the best first.
            k: the list holds at most so many, fewer where the bound leaves fewer.
            employers: shape (n,), a number for each employer, -1 where unknown.
            types: shape (n,), a number for each type of employers, -1 where unknown.
            crowd: shape (n,), the share of all jobs in which fewer are interested, 0 to 1.
            alikeness: of the pool's jobs; asked only where diversity is wanted.

        Returns:
            shape (m,), places in the pool, in the order of the list.
        """
        n = len(pool)
        merit = 1 - np.arange(n) / max(1, n)
        merit = (1 - self.spread) * merit + self.spread * (1 - crowd)
        cosines = alikeness(pool.jobs) if self.diversity > 0 and n else None
        nearest = np.zeros(n)
        is_left = np.ones(n, dtype=np.bool_)
        bounds = [(employers, self.max_per_employer), (types, self.max_per_type)]
        taken: list[Counter[int]] = [Counter() for _ in bounds]
        chosen: list[int] = []
        while len(chosen) < k and is_left.any():
            worth = np.where(is_left, (1 - self.diversity) * merit, -np.inf)
            place = int(np.argmax(worth - self.diversity * nearest))
            chosen.append(place)
            is_left[place] = False
            if cosines is not None:
                own = cosines[place].astype(np.float64)
                nearest = own if len(chosen) == 1 else np.maximum(nearest, own)
            for (groups, bound), counts in zip(bounds, taken, strict=True):
                group = int(groups[place])
                counts[group] += 1
                if group >= 0 and counts[group] == bound:
                    is_left &= groups != group
        return np.array(chosen, dtype=np.int64)


_PLAIN = Variety()
