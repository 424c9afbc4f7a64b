"""What is asked of all jobs of a catalogue at once, answered from memory; no text is held whole.

A store keeps descriptions on disk or on a server, and beside them one `JobIndex` in each process.
An index does not change: `updated` makes the next one and shares what stays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from domain.model import (
    BoolArray,
    IdArray,
    IdIndex,
    IndexArray,
    Job,
    JobFilter,
    TimeArray,
    folded,
    words,
)
from domain.names import employer_key
from domain.ports import JobCursor
from domain.ranking import Standing

_SPARE_ROWS = 1_000
"""So many replaced rows are kept before an index is made anew."""


class JobRow(NamedTuple):
    """What an index knows of a job.

    Attributes:
        posted_at: epoch seconds, minus infinity where unknown.
        closes_at: epoch seconds, infinity where unknown.
    """

    id: int
    title: str | None
    employer: str | None
    location: str | None
    posted_at: float
    closes_at: float
    closed: bool

    @classmethod
    def of(cls, job: Job) -> JobRow:
        """Return what an index knows of a job."""
        return cls(
            job.id,
            job.title,
            job.employer,
            job.location,
            -np.inf if job.posted_at is None else job.posted_at.timestamp(),
            np.inf if job.closes_at is None else job.closes_at.timestamp(),
            job.closed,
        )


class IdPage(NamedTuple):
    """The ids of a stretch of the catalogue, newest first."""

    ids: list[int]
    has_next: bool


class JobIndex:
    """The jobs of one state of a catalogue. Of an id that comes twice, the last row counts.

    Attributes:
        ids: strictly ascending.
    """

    def __init__(self, rows: Iterable[JobRow]) -> None:
        by_id = {row.id: row for row in rows}
        self._hold(
            np.fromiter(by_id, np.int64, len(by_id)),
            np.arange(len(by_id)),
            list(by_id.values()),
        )

    def _hold(self, ids: IdArray, slots: IndexArray, rows: list[JobRow]) -> None:
        """Keep rows; `slots` tells at which place of `rows` each job stands."""
        order = np.argsort(ids, kind="stable")
        self.ids: IdArray = ids[order]
        self._slots: IndexArray = slots[order]
        # Rows that were replaced stay, so that the others keep their slots
        self._rows = rows
        self._index = IdIndex(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def updated(self, changed: Iterable[JobRow], removed: Iterable[int] = ()) -> JobIndex:
        """Return the index after a change; its price hardly depends on how many jobs stay."""
        new = {row.id: row for row in changed}
        gone = np.fromiter({*new, *removed}, np.int64)
        kept = ~np.isin(self.ids, gone)
        slots = self._slots[kept]
        if len(self._rows) + len(new) > 2 * (len(slots) + len(new)) + _SPARE_ROWS:
            return JobIndex([*(self._rows[slot] for slot in slots), *new.values()])
        start = len(self._rows)
        index = JobIndex.__new__(JobIndex)
        index._hold(  # noqa: SLF001 - its own class
            np.concatenate([self.ids[kept], np.fromiter(new, np.int64, len(new))]),
            np.concatenate([slots, np.arange(start, start + len(new))]),
            [*self._rows, *new.values()],
        )
        for name, terms in _TERMS.items():
            if name in self.__dict__:
                added = _slots_of(map(terms, new.values()), start)
                index.__dict__[name] = _joined(self.__dict__[name], added)
        return index

    def standing(self, job_ids: IdArray, at: datetime, where: JobFilter | None) -> Standing:
        """Tell which of the jobs are listed, open and matching; see `Catalog`."""
        positions, now = self._index.positions(job_ids), at.timestamp()
        is_open = ~self._closed & (self._posted_at <= now) & (now < self._closes_at)
        changes = np.concatenate([self._posted_at, self._closes_at])
        return Standing(
            listed=positions >= 0,
            open=_aligned(is_open, positions),
            matching=None if where is None else _aligned(self._matching(where), positions),
            valid_until=float(np.min(changes, initial=np.inf, where=changes > now)),
        )

    def page(
        self, where: JobFilter, ids: Sequence[int] | None, after: JobCursor | None, first: int
    ) -> IdPage:
        """Return the ids of a stretch of the catalogue, newest first; see `Catalog`."""
        start = 0 if after is None else self._behind(after)
        chosen = self._matching(where)
        if ids is not None:
            chosen &= np.isin(self.ids, np.array(ids, dtype=np.int64))
        behind = self._newest[start:]
        # One more than asked for, which tells whether there is a next page
        found = behind[chosen[behind]][: first + 1]
        return IdPage(self.ids[found[:first]].tolist(), has_next=len(found) > first)

    def counts(self, wheres: Sequence[JobFilter]) -> list[int]:
        """Return how many jobs satisfy each filter."""
        return [int(self._matching(where).sum()) for where in wheres]

    def employers(self, job_ids: IdArray, aliases: Mapping[str, str]) -> IndexArray:
        """Return a number for each job's employer, -1 where unknown, blank or not listed.

        Args:
            job_ids: shape (n,); the array returned aligns with it.
            aliases: see `Catalog.employers`.
        """
        numbers = {name: number for number, name in enumerate(self._by_employer)}
        stands_for = np.arange(-1, len(numbers))  # the number -1, that of nobody, comes first
        for other, own in aliases.items():
            if other in numbers:
                stands_for[numbers[other] + 1] = numbers.setdefault(own, numbers[other])
        # A job that is not listed has the last number, that of nobody
        own_numbers = np.append(self._employers, -1)[self._index.positions(job_ids)]
        result: IndexArray = stands_for[own_numbers + 1]
        return result

    def absent(self, job_ids: IdArray, at: datetime, most: int) -> IdArray:
        """Return the ids of the other jobs that are not closed, ascending; at most the newest.

        Args:
            job_ids: shape (n,), strictly ascending; jobs that are not asked for.
            at: jobs that open later are among them.
        """
        asked = IdIndex(job_ids).positions(self.ids) >= 0
        chosen = ~asked & ~self._closed & (at.timestamp() < self._closes_at)
        newest = self._newest[chosen[self._newest]][:most]
        return np.sort(self.ids[newest])

    def _matching(self, where: JobFilter) -> BoolArray:
        """Tell which jobs, in the order of their ids, satisfy a filter: as it says itself."""
        chosen = np.ones(len(self.ids), dtype=np.bool_)
        if (keys := where.employer_keys) is not None:
            found = [self._by_employer[key] for key in keys & self._by_employer.keys()]
            chosen &= self._among(np.concatenate(found) if found else None)
        if where.location is not None:
            chosen &= self._among(self._by_location.get(folded(where.location)))
        for word in words(where.title):
            chosen &= self._among(self._by_word.get(word))
        if where.posted_after is not None:
            chosen &= self._posted_at >= where.posted_after.timestamp()
        if where.closing_before is not None:
            chosen &= self._closes_at < where.closing_before.timestamp()
        return chosen

    def _among(self, slots: IndexArray | None) -> BoolArray:
        mask = np.zeros(len(self._rows), dtype=np.bool_)
        if slots is not None:
            mask[slots] = True
        result: BoolArray = mask[self._slots]
        return result

    def _behind(self, cursor: JobCursor) -> int:
        """Return where in `newest` the jobs behind a place begin."""

        def place(position: int) -> tuple[float, int]:
            return -float(self._posted_at[position]), int(self.ids[position])

        return bisect_right(self._newest, (-cursor.posted_at, cursor.job_id), key=place)

    # Made when first asked for; a training reads jobs and never filters them

    @cached_property
    def _posted_at(self) -> TimeArray:
        return self._column("posted_at")

    @cached_property
    def _closes_at(self) -> TimeArray:
        return self._column("closes_at")

    @cached_property
    def _closed(self) -> BoolArray:
        return self._column("closed").astype(np.bool_)

    @cached_property
    def _newest(self) -> IndexArray:
        return np.lexsort((self.ids, -self._posted_at))

    @cached_property
    def _employers(self) -> IndexArray:
        numbers = np.full(len(self._rows), -1, dtype=np.int64)
        for number, (name, slots) in enumerate(self._by_employer.items()):
            if name:
                numbers[slots] = number
        return numbers[self._slots]

    @cached_property
    def _by_employer(self) -> Mapping[str, IndexArray]:
        return _slots_of(map(_TERMS["_by_employer"], self._rows), 0)

    @cached_property
    def _by_location(self) -> Mapping[str, IndexArray]:
        return _slots_of(map(_TERMS["_by_location"], self._rows), 0)

    @cached_property
    def _by_word(self) -> Mapping[str, IndexArray]:
        return _slots_of(map(_TERMS["_by_word"], self._rows), 0)

    def _column(self, name: str) -> TimeArray:
        rows = map(self._rows.__getitem__, self._slots.tolist())
        return np.fromiter(map(attrgetter(name), rows), np.float64, len(self))


_TERMS: Mapping[str, Callable[[JobRow], Iterable[str]]] = {
    "_by_employer": lambda row: [employer_key(row.employer)],
    "_by_location": lambda row: [folded(row.location)],
    "_by_word": lambda row: words(row.title),
}
"""Under which terms a row is found."""


def _slots_of(terms: Iterable[Iterable[str]], start: int) -> Mapping[str, IndexArray]:
    """Return for each term the slots of the rows that have it, ascending."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for slot, own in enumerate(terms, start):
        for term in own:
            found[term].append(slot)
    return {term: np.array(slots, dtype=np.int64) for term, slots in found.items()}


def _joined(
    slots: Mapping[str, IndexArray], added: Mapping[str, IndexArray]
) -> Mapping[str, IndexArray]:
    nothing = np.empty(0, dtype=np.int64)
    return {
        **slots,
        **{term: np.concatenate([slots.get(term, nothing), own]) for term, own in added.items()},
    }


def _aligned(values: BoolArray, positions: IndexArray) -> BoolArray:
    """Return the values at positions, False where a position is -1."""
    found: BoolArray = positions >= 0
    result = np.zeros(len(positions), dtype=np.bool_)
    result[found] = values[positions[found]]
    return result
