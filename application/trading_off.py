"""Judging what variety costs: the same lists, spread more and more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from application.holding_out import HoldOut
from domain.errors import DatasetMissing
from domain.exposure import Exposure
from domain.metrics import per_person
from domain.model import FloatArray, IdArray, IndexArray, Interactions
from domain.ports import Catalog, OnProgress, Recommender, nobody
from domain.ranking import Ranked
from domain.variety import Variety, crowding

_STRENGTHS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_CAPS = (5, 3, 2, 1)
_PEOPLE = 1_000
_PLACES = 1 << 14
"""So many places of lists are filled for each variety, which bounds the time."""

PLAIN = Variety()


class TradeOffPoint(NamedTuple):
    """Lists of one variety: how good they are, and what they show of the catalogue.

    Attributes:
        knob: which part of `Variety` is set, `none` where nothing is.
        value: to what; 0 where nothing is.
        metrics: by metric@k, see `domain.metrics` and `domain.exposure`.
    """

    knob: str
    value: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TradeOff:
    """What each part of `Variety` costs in accuracy and brings in exposure, by its strength.

    Attributes:
        k: length of the lists.
        people: whose lists they are; exposure is that of their lists alone.
        points: the plain lists first, then by part and strength. There is no cap per employer
            where no employer is known.
    """

    k: int
    people: int
    points: Sequence[TradeOffPoint]


class TradingOff:
    """Measures varieties on one model's lists.

    The lists are those that evaluation makes, without what people did in the training part,
    chosen from longer ones as a service chooses them.
    """

    def __init__(self, catalog: Catalog | None) -> None:
        self._catalog = catalog

    def measure(
        self,
        hold: HoldOut,
        interactions: Interactions,
        recommender: Recommender,
        seed: int,
        on_progress: OnProgress,
    ) -> TradeOff:
        """Measure.

        Args:
            recommender: learned from `interactions`.
            seed: draws the people where there are more than time allows.
        """
        hold = hold.sampled(min(_PEOPLE, max(1, _PLACES // hold.k)), seed)
        employers = self._employers_of(interactions.jobs.ids)
        exposure, lists = Exposure(hold.known), _Lists(hold, interactions, recommender, employers)
        varieties = list(_varieties(with_caps=bool((employers >= 0).any())))
        points = []
        on_progress(0, len(varieties))
        for done, (knob, value, variety) in enumerate(varieties, 1):
            chosen = lists.of(variety)
            quality = per_person(hold.targets, chosen, [hold.k])
            metrics = {name: float(values.mean()) for name, values in quality.items()}
            metrics |= exposure.measure(hold.targets.user_ids, chosen, [hold.k])
            points.append(TradeOffPoint(knob, value, metrics))
            on_progress(done, len(varieties))
        return TradeOff(hold.k, len(hold.targets.user_ids), tuple(points))

    def _employers_of(self, job_ids: IdArray) -> IndexArray:
        if self._catalog is not None:
            try:
                return self._catalog.employers(job_ids, {})  # by their own names
            except DatasetMissing:
                pass  # activities alone are enough for everything else
        return np.full(len(job_ids), -1, dtype=np.int64)


def _varieties(*, with_caps: bool) -> Iterator[tuple[str, float, Variety]]:
    yield "none", 0, PLAIN
    for strength in _STRENGTHS:
        yield "spread", strength, Variety(spread=strength)
    for strength in _STRENGTHS:
        yield "diversity", strength, Variety(diversity=strength)
    for cap in _CAPS if with_caps else ():
        yield "max_per_employer", cap, Variety(max_per_employer=cap)


class _Lists:
    """The lists of the people measured, by variety."""

    def __init__(
        self,
        hold: HoldOut,
        interactions: Interactions,
        recommender: Recommender,
        employers: IndexArray,
    ) -> None:
        self._hold = hold
        self._interactions = interactions
        self._recommender = recommender
        self._employers = employers
        self._types = np.full(len(employers), -1, dtype=np.int64)
        self._crowd = crowding(interactions.popularity())
        self._cosines: list[FloatArray] | None = None
        everybody = np.arange(len(hold.targets.user_ids))
        self._pools = self._ranked(everybody, Variety(spread=1).pool(hold.k))

    def of(self, variety: Variety) -> IdArray:
        """Return lists, shape (people, k), job ids, -1 where a list is short."""
        k, ids = self._hold.k, self._interactions.jobs.ids
        lists = np.full((len(self._pools), k), -1, dtype=np.int64)
        rows, pools, length = np.arange(len(lists)), self._pools, self._pools.shape[1]
        if variety.diversity > 0 and self._cosines is None:
            self._cosines = [self._recommender.alikeness(own[own >= 0]) for own in pools]
        while len(rows):
            short = np.zeros(len(rows), dtype=np.bool_)
            for place, (row, own) in enumerate(zip(rows.tolist(), pools, strict=True)):
                jobs = own[own >= 0]
                chosen = self._chosen(variety, row, jobs)
                lists[row, : len(chosen)] = ids[jobs[chosen]]
                short[place] = len(chosen) < k and len(jobs) == length
            # A bound that leaves too few is held against a longer list, as in a service
            rows, length = rows[short], 4 * length
            pools = self._ranked(rows, length) if len(rows) else pools
        return lists

    def _chosen(self, variety: Variety, row: int, jobs: IndexArray) -> IndexArray:
        return variety.choose(
            Ranked(jobs, np.empty(len(jobs), dtype=np.float32)),
            self._hold.k,
            self._employers[jobs],
            self._types[jobs],
            self._crowd[jobs],
            lambda _: self._cosines[row] if self._cosines else np.empty((0, 0), np.float32),
        )

    def _ranked(self, rows: IndexArray, length: int) -> IndexArray:
        """Return the best jobs of some people, shape (rows, length), positions, -1 for none."""
        length = min(length, len(self._interactions.jobs))
        people = np.zeros(len(self._hold.targets.user_ids), dtype=np.bool_)
        people[rows] = True
        targets, _ = self._hold.targets.select(people[self._hold.targets.owners])
        hold = replace(self._hold, targets=targets, k=length)
        found = hold.lists(self._interactions, self._recommender, nobody).jobs
        return self._interactions.jobs.positions(found.ravel()).reshape(found.shape)
