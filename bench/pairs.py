"""Who did what in a large catalogue: people with a trade, jobs that many or few know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domain.model import IdIndex, IndexArray, Interactions, TimeArray

_TRADES, _FIELDS, _PLACES = 2_000, 50, 60
_UNTIL, _SECONDS = 1_700_000_000, 90 * 86_400
_MOST = 30.0
"""Nobody does more than so many times as much as those who do little."""

_OWN_PLACE, _OWN_TRADE, _OWN_FIELD = 0.35, 0.7, 0.9
"""So many of all pairs lie in the person's trade and place, in the trade, in the field at least."""


def planted(people: int, jobs: int, pairs: int, seed: int) -> Interactions:
    """Return interactions of about so many pairs, at least one of each job.

    Jobs of a trade differ in place and in how well known they are (log-normal); how much people do
    follows a power law. Two jobs of one trade and place are done by the same people, more or less.
    """
    random = np.random.default_rng(seed)
    trades = min(_TRADES, max(1, jobs // 40))
    field_of = random.integers(0, _FIELDS, trades)
    trade = _by_weight(random, random.pareto(1.5, trades) + 0.2, jobs)
    place = (random.pareto(1.2, jobs) * 3).astype(np.int64) % _PLACES
    fame = random.lognormal(0, 1.2, jobs)
    near = _Groups(trade * _PLACES + place, fame)
    alike = _Groups(trade, fame)
    akin = _Groups(field_of[trade], fame)
    # Everybody stands where some job does, so that it has people
    home = random.permutation(np.resize(np.arange(jobs), max(people, jobs)))[:people]
    who = _by_weight(random, np.minimum(random.pareto(1.5, people) + 0.3, _MOST), pairs)
    taste, what = random.random(pairs), home[who]
    chosen = np.select(
        [taste < _OWN_PLACE, taste < _OWN_TRADE, taste < _OWN_FIELD],
        [near.draw(random, what), alike.draw(random, what), akin.draw(random, what)],
        _by_weight(random, fame, pairs),
    )
    lonely = np.setdiff1d(np.arange(jobs), chosen)
    peers = _Groups(trade[home], np.ones(people), trade)
    who = np.concatenate([who, peers.draw(random, lonely)])
    chosen = np.concatenate([chosen, lonely])
    return _interactions(random, who, chosen, jobs)


class _Groups:
    """Draws members of groups by weight.

    Args:
        keys: shape (members,), the group of each.
        weights: shape (members,).
        asked: shape (n,), the group of those for whom members are drawn; the members themselves.
    """

    def __init__(
        self, keys: IndexArray, weights: TimeArray, asked: IndexArray | None = None
    ) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sums = np.concatenate([[0.0], np.cumsum(weights[self._order])])
        asked = keys if asked is None else asked
        ordered = keys[self._order]
        self._starts = np.searchsorted(ordered, asked)
        self._ends = np.searchsorted(ordered, asked, side="right")

    def draw(self, random: np.random.Generator, of: IndexArray) -> IndexArray:
        """Return a member of the group of each; anybody where that is empty."""
        starts, ends = self._starts[of], self._ends[of]
        starts, ends = np.where(ends > starts, [starts, ends], [[0], [len(self._order)]])
        low, high = self._sums[starts], self._sums[ends]
        drawn = np.searchsorted(self._sums, low + random.random(len(of)) * (high - low), "right")
        members: IndexArray = self._order[np.clip(drawn - 1, starts, ends - 1)]
        return members


def _by_weight(random: np.random.Generator, weights: TimeArray, count: int) -> IndexArray:
    sums = np.cumsum(weights)
    drawn: IndexArray = np.searchsorted(sums, random.random(count) * sums[-1], "right")
    return np.minimum(drawn, len(weights) - 1)


def _interactions(
    random: np.random.Generator, who: IndexArray, what: IndexArray, jobs: int
) -> Interactions:
    pairs: NDArray[np.int64] = np.unique(who * jobs + what)
    rows, columns = np.divmod(pairs, jobs)
    known, rows = np.unique(rows, return_inverse=True)
    count = len(pairs)
    return Interactions(
        users=IdIndex(known),
        jobs=IdIndex(np.arange(jobs)),
        indptr=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(known)))]),
        indices=columns.astype(np.int32),
        scores=random.choice(np.array([1, 2, 2, 4], dtype=np.float32), count),
        kinds=np.ones(count, dtype=np.uint8),
        last_at=(_UNTIL - random.integers(0, _SECONDS, count)).astype(np.uint32),
    )
