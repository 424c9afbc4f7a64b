"""Counting activities by person and job: what it takes is bounded by the tally, not by the log."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from domain.model import ActivityTally, TimeArray, TimeWindow

T = TypeVar("T")

PORTION_EVENTS = 1 << 24
"""At least so many activities are counted at once, which bounds the memory that they take."""

SHARE_EVENTS = 1 << 17
"""A portion is counted in shares of so many, whose columns fit the processor's cache."""

_MAX_SHARES = 256
_CELL_BITS = 16
# Where the system can, room is made at once rather than page by page
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
_SAMPLED = 100


@dataclass(frozen=True)
class Columns:
    """Activities as parallel columns."""

    user_ids: NDArray[np.integer]
    job_ids: NDArray[np.integer]
    kinds: NDArray[np.uint8]
    timestamps: TimeArray

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Put columns behind each other."""
        if not parts:
            no_ids = np.empty(0, dtype=np.int64)
            return cls(no_ids, no_ids, np.empty(0, dtype=np.uint8), np.empty(0))
        return cls(*map(np.concatenate, zip(*(part.columns for part in parts), strict=True)))

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """The columns as `ActivityTally.from_events` takes them."""
        return self.user_ids, self.job_ids, self.kinds, self.timestamps

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self, rows: slice | NDArray[Any]) -> Columns:
        """Return some of the rows: a stretch, those of a mask, or those at positions."""
        return Columns(*(column[rows] for column in self.columns))

    def narrowed(self) -> Columns:
        """Return the same with ids in half the room, where they fit."""
        return Columns(_narrow(self.user_ids), _narrow(self.job_ids), self.kinds, self.timestamps)

    def settled(self) -> Columns:
        """Return a copy in room that the system has back when it is given up."""
        return Columns(*map(_in_own_pages, self.columns))

    def within(self, window: TimeWindow) -> Columns:
        """Return what lies in a time window."""
        return self if window.is_unbounded else self.take(window.contains(self.timestamps))

    def dealt(self, ranges: _Ranges) -> list[Columns]:
        """Deal the rows out by ranges of people."""
        owners = ranges.owners(self.user_ids)
        ordered = self.take(np.argsort(owners, kind="stable")).settled()
        ends = np.cumsum(np.bincount(owners, minlength=len(ranges.bounds) + 1))
        return [ordered.take(slice(*ends_)) for ends_ in pairwise([0, *ends.tolist()])]


class Counting:
    """A tally that grows by activities, a portion at a time.

    Args:
        threads: count.
        tallies: what was counted before; given up on the way.
    """

    def __init__(self, threads: int, tallies: list[ActivityTally] | None = None) -> None:
        self._threads = threads
        self._pieces: list[Columns] = []
        self._events = 0
        self._tallies = tallies or []
        # Otherwise all people of a tally come before all of the next
        self._is_behind = len(self._tallies) != 1

    def add(self, activities: Columns) -> None:
        """Count activities, sooner or later."""
        self._pieces.append(activities.settled())
        self._is_behind = True
        self._events += len(activities)
        # With a tally as large as the portions, all are put together only a few times
        if self._events >= max(PORTION_EVENTS, sum(map(len, self._tallies))):
            self._count()

    def tally(self) -> ActivityTally:
        """Return the tally of all; to be asked for once."""
        if self._is_behind:
            self._count()
        return ActivityTally.in_a_row(self._tallies)

    def _count(self) -> None:
        """Add the pieces to the tally; both are given up on the way.

        People are dealt out to shares that fit the processor's cache, which is faster than to count
        them all at once even for one thread; several take one share after the other.
        """
        pieces, tallies = self._pieces, self._tallies
        self._pieces, self._tallies, self._is_behind = [], [], False
        rows = self._events + sum(map(len, tallies))
        self._events = 0
        people = [*(piece.user_ids for piece in pieces), *(tally.user_ids for tally in tallies)]
        ranges = _Ranges.of(people, min(_MAX_SHARES, rows // SHARE_EVENTS + 1))
        people.clear()
        with ThreadPoolExecutor(self._threads) as pool:
            dealt = list(pool.map(lambda piece: piece.dealt(ranges), _given_up(pieces)))
            earlier = _cut(_given_up(tallies), ranges.bounds)

            def count(share: int) -> ActivityTally:
                columns = Columns.joined([piece[share] for piece in dealt])
                parts = [*earlier[share], ActivityTally.from_events(*columns.columns)]
                earlier[share].clear()
                return _settled(ActivityTally.merged(parts))

            self._tallies = list(pool.map(count, range(len(earlier))))


def _given_up(items: list[T]) -> Iterator[T]:
    """Yield items, of which nobody else holds one any more."""
    items.reverse()
    while items:
        yield items.pop()


def _settled(tally: ActivityTally) -> ActivityTally:
    """Return a share's tally in the least room, which the system has back when it is given up."""
    return ActivityTally(
        _in_own_pages(_narrow(tally.user_ids)),
        _in_own_pages(_narrow(tally.job_ids)),
        _in_own_pages(tally.counts),
        _in_own_pages(tally.first_at),
        _in_own_pages(tally.last_at),
    )


def _in_own_pages(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that no allocator keeps room of: of thousands of arrays that is gigabytes."""
    pages = mmap.mmap(-1, max(1, array.nbytes), flags=_PRIVATE)
    own = np.frombuffer(pages, array.dtype, array.size).reshape(array.shape)
    own[...] = array
    return own


@dataclass(frozen=True)
class _Ranges:
    """Ranges of people, each for one share.

    Attributes:
        bounds: fewer than 256 ids, ascending, at which the next range begins.
        least: an id that nobody's is below.
        cell: ids that are alike but for so many low bits belong to one range ...
        owners_of_cells: ... which stands here; None where bounds do not fall between cells.
    """

    bounds: NDArray[np.integer]
    least: int = 0
    cell: int = 0
    owners_of_cells: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, ids: Sequence[NDArray[np.integer]], shares: int) -> Self:
        """Return ranges of about as many rows each, as a sample tells."""
        if shares == 1:
            return cls(np.empty(0, dtype=np.int64))
        ids = [part for part in ids if len(part)]
        some = np.concatenate([part[::_SAMPLED] for part in ids])
        some.sort()
        bounds = some[np.arange(1, shares) * len(some) // shares]
        least, most = min(int(part.min()) for part in ids), max(int(part.max()) for part in ids)
        cell = max(0, (most - least).bit_length() - _CELL_BITS)
        on_cells = np.unique((bounds - least) >> cell)
        if len(on_cells) < len(bounds) / 2:
            # A few ids are far from all others, which share a few cells
            return cls(bounds)
        cells = np.arange(((most - least) >> cell) + 1)
        owners = np.searchsorted(on_cells, cells, side="right").astype(np.uint8)
        return cls((on_cells << cell) + least, least, cell, owners)

    def owners(self, ids: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the number of each id's range."""
        if self.owners_of_cells is None:
            return np.searchsorted(self.bounds, ids, side="right").astype(np.uint8)
        # Looking up is many times faster than searching
        return self.owners_of_cells.take((ids - self.least) >> self.cell)


def _cut(
    tallies: Iterable[ActivityTally], bounds: NDArray[np.integer]
) -> list[list[ActivityTally]]:
    """Cut tallies at the ids at which shares begin."""
    cut: list[list[ActivityTally]] = [[] for _ in range(len(bounds) + 1)]
    for tally in tallies:
        places = [0, *np.searchsorted(tally.user_ids, bounds).tolist(), len(tally)]
        for share, (start, end) in enumerate(pairwise(places)):
            if start < end:
                cut[share].append(tally.stretch(start, end))
    return cut


def _narrow(ids: NDArray[np.integer]) -> NDArray[np.integer]:
    return ids.astype(np.int32) if ids.max(initial=0) <= np.iinfo(np.int32).max else ids
