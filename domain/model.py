"""The things jobrec speaks of: activities, their tally, jobs, people and recommendations."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from domain.errors import InputError
from domain.names import employer_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

IdArray = NDArray[np.int64]
IndexArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
TimeArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
CountArray = NDArray[np.unsignedinteger]
"""Counts, in the narrowest unsigned type that holds the largest: computing with them may wrap."""

MAX_ID = 2**63 - 1
"""The largest id: ids are non-negative 64-bit integers, chosen by the dataset."""

MAX_TIMESTAMP = 4_102_444_800.0
"""The latest timestamp believed, 2100-01-01 in epoch seconds; milliseconds lie far beyond it."""

INTEREST_HALF_LIFE_DAYS = 30.0
"""Of what counts as popular: interest of so many days ago counts half."""

LEAST_FADING = 1e-6
"""What is old keeps its order, and is never taken for nothing."""

_FEW = 16
"""So few people are looked up one by one, which is faster than all at once."""

MAX_FILTER_TEXT = 200
"""The longest text, in characters, that jobs are filtered by."""


class ActivityKind(IntEnum):
    """What a person did with a job. The value is the column of the kind in a tally."""

    IMPRESSION = 0
    REDIRECT = 1
    APPLY = 2
    EMAIL_SENT = 3
    EMAIL_OPEN = 4
    EMAIL_CLICK = 5
    DISMISS = 6

    @property
    def word(self) -> str:
        """The kind as activity lines spell it."""
        return self.name.lower()

    @property
    def flag(self) -> int:
        """The kind's bit in a mask of kinds."""
        return 1 << self.value


@dataclass(frozen=True)
class Activity:
    """One thing that a person did with a job."""

    user_id: int
    job_id: int
    kind: ActivityKind
    at: datetime


@dataclass(frozen=True)
class TimeWindow:
    """A span of time, `since` included and `until` not; an open end is None.

    An activity without a timestamp belongs only to the window without ends.

    Raises:
        InputError: an end has no time zone, or `since` is not before `until`.
    """

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        for name, end in (("since", self.since), ("until", self.until)):
            if end is not None and end.tzinfo is None:
                raise InputError(f"{name} {end.isoformat()} has no time zone", name)
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InputError(
                f"since {self.since.isoformat()} is not before until {self.until.isoformat()}",
                "since",
            )

    @property
    def is_unbounded(self) -> bool:
        """Whether every activity belongs to the window, also one without a time."""
        return self.since is None and self.until is None

    def contains(self, timestamps: TimeArray) -> BoolArray:
        """Tell which epoch seconds (NaN where unknown) lie in the window."""
        if self.is_unbounded:
            return np.ones(len(timestamps), dtype=np.bool_)
        since = -np.inf if self.since is None else self.since.timestamp()
        until = np.inf if self.until is None else self.until.timestamp()
        inside: BoolArray = (timestamps >= since) & (timestamps < until)
        return inside


@dataclass(frozen=True)
class ActivityTally:
    """Counts of each activity kind per (user, job) pair, as parallel columns.

    Pairs are unique and ordered by user, then job.

    Attributes:
        user_ids: shape (pairs,).
        job_ids: shape (pairs,).
        counts: shape (pairs, kinds), a column for each `ActivityKind`.
        first_at: epoch seconds of the pair's first activity, NaN where none carries a time.
        last_at: the same of its last.
    """

    user_ids: IdArray
    job_ids: IdArray
    counts: CountArray
    first_at: TimeArray
    last_at: TimeArray

    def __post_init__(self) -> None:
        pairs = len(self.user_ids)
        expected = (pairs, len(ActivityKind))
        if self.counts.shape != expected:
            raise InputError(f"counts have shape {self.counts.shape}, expected {expected}")
        for name in ("job_ids", "first_at", "last_at"):
            if len(getattr(self, name)) != pairs:
                raise InputError(f"{name} has {len(getattr(self, name))} rows, expected {pairs}")

    @classmethod
    def empty(cls) -> Self:
        """Return the tally of nothing."""
        return cls.from_events((), (), (), ())

    @classmethod
    def from_events(
        cls,
        user_ids: Sequence[int] | IdArray,
        job_ids: Sequence[int] | IdArray,
        kinds: Sequence[int] | NDArray[np.integer],
        timestamps: Sequence[float] | TimeArray,
    ) -> Self:
        """Count single activities, given as parallel columns in any order.

        Args:
            user_ids: shape (events,), non-negative.
            job_ids: shape (events,), non-negative.
            kinds: shape (events,), `ActivityKind` values.
            timestamps: shape (events,), epoch seconds, NaN where unknown.
        """
        # An empty sequence would be an array of floats
        users = np.asarray(user_ids, dtype=None if len(user_ids) else np.int64)
        jobs = np.asarray(job_ids, dtype=None if len(job_ids) else np.int64)
        groups = _PairGroups.of(users, jobs)
        cells = np.repeat(np.arange(len(groups.starts)), groups.lengths) * len(ActivityKind)
        cells += np.asarray(kinds, dtype=np.uint8)[groups.order]
        shape = (len(groups.starts), len(ActivityKind))
        counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
        return cls(
            groups.firsts(users).astype(np.int64, copy=False),
            groups.firsts(jobs).astype(np.int64, copy=False),
            _narrow(counts),
            *groups.bounds(np.asarray(timestamps, dtype=np.float64)),
        )

    @classmethod
    def merged(cls, parts: Sequence[ActivityTally]) -> ActivityTally:
        """Add tallies up; pairs that several of them share become one."""
        if not parts:
            return cls.empty()
        if len(parts) == 1:
            return parts[0]

        def joined(column: Callable[[ActivityTally], NDArray[Any]]) -> NDArray[Any]:
            return np.concatenate([column(part) for part in parts])

        users, jobs = joined(lambda part: part.user_ids), joined(lambda part: part.job_ids)
        groups = _PairGroups.of(users, jobs)
        return cls(
            groups.firsts(users),
            groups.firsts(jobs),
            groups.sums(joined(lambda part: part.counts)),
            groups.combined(np.fmin, joined(lambda part: part.first_at)),
            groups.combined(np.fmax, joined(lambda part: part.last_at)),
        )

    @classmethod
    def in_a_row(cls, parts: list[ActivityTally]) -> ActivityTally:
        """Put tallies behind each other, which are given up on the way, column by column.

        All people of one come before all of the next.
        """
        columns = {
            column.name: [getattr(part, column.name) for part in parts] for column in fields(cls)
        }
        parts.clear()
        return cls(
            np.concatenate(columns.pop("user_ids"), dtype=np.int64),
            np.concatenate(columns.pop("job_ids"), dtype=np.int64),
            *(np.concatenate(columns.pop(name)) for name in ("counts", "first_at", "last_at")),
        )

    def __len__(self) -> int:
        return len(self.user_ids)

    def select(self, chosen: BoolArray) -> ActivityTally:
        """Keep the pairs where `chosen`, shape (pairs,), is true."""
        return ActivityTally(
            self.user_ids[chosen],
            self.job_ids[chosen],
            self.counts[chosen],
            self.first_at[chosen],
            self.last_at[chosen],
        )

    def stretch(self, start: int, end: int) -> ActivityTally:
        """Return the pairs from one place to before another, without copying them."""
        return ActivityTally(*(getattr(self, column.name)[start:end] for column in fields(self)))

    def without_erased(self, erased_at: Callable[[IdArray], TimeArray]) -> ActivityTally:
        """Leave out what people did up to their erasure, and what they did at an unknown time.

        Somebody who was erased and came back is somebody else. A pair that reaches over the erasure
        is left out whole, since its counts cannot be told apart.

        Args:
            erased_at: tells when people were erased; see `Catalog.erased_at`.
        """
        is_first = np.concatenate([[True], self.user_ids[1:] != self.user_ids[:-1]])[: len(self)]
        people = erased_at(self.user_ids[is_first])
        if np.isnan(people).all():
            return self
        erased = people[np.cumsum(is_first) - 1]
        # Never later for an unknown time
        return self.select(np.isnan(erased) | (self.first_at > erased))

    def shares_pairs_with(self, other: ActivityTally) -> BoolArray:
        """Tell which pairs the other tally holds too, shape (pairs,)."""
        own, others = (self.user_ids, self.job_ids), (other.user_ids, other.job_ids)
        return pairs_among(own, others)

    @property
    def flags(self) -> NDArray[np.uint8]:
        """What was done in each pair, shape (pairs,): its kinds' `ActivityKind.flag`s."""
        flags = np.zeros(len(self), dtype=np.uint8)
        for kind in ActivityKind:
            flags[self.counts[:, kind] > 0] |= kind.flag
        return flags

    def total(self, kind: ActivityKind | None = None) -> int:
        """Return how many activities were counted, of one kind or of all."""
        counts = self.counts if kind is None else self.counts[:, kind]
        return int(counts.sum(dtype=np.int64))

    @property
    def time_range(self) -> tuple[datetime, datetime] | None:
        """The times of the first and the last activity; None where none carries a time."""
        if not np.isfinite(self.last_at).any():
            return None
        first, last = float(np.nanmin(self.first_at)), float(np.nanmax(self.last_at))
        return datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)


def _narrow(counts: NDArray[Any]) -> CountArray:
    """Return counts in the narrowest type that holds them: there is a column for every kind."""
    narrow: CountArray = counts.astype(np.min_scalar_type(int(counts.max(initial=0))), copy=False)
    return narrow


def pairs_among(pairs: tuple[IdArray, IdArray], others: tuple[IdArray, IdArray]) -> BoolArray:
    """Tell which (user, job) pairs are among others.

    Args:
        pairs: user ids and job ids, each of shape (n,).
        others: the same of the others, of shape (m,).
    """
    users, jobs = (IdIndex(np.unique(ids)) for ids in others)
    rows, columns = users.positions(pairs[0]), jobs.positions(pairs[1])
    held = users.positions(others[0]) * len(jobs) + jobs.positions(others[1])
    among: BoolArray = (rows >= 0) & (columns >= 0) & np.isin(rows * len(jobs) + columns, held)
    return among


@dataclass(frozen=True)
class _PairGroups:
    """Rows ordered by user, then job, and where each pair's rows begin.

    Attributes:
        order: shape (rows,), the rows in order.
        starts: shape (pairs,), where in `order` each pair begins.
    """

    order: IndexArray
    starts: IndexArray

    @classmethod
    def of(cls, user_ids: NDArray[Any], job_ids: NDArray[Any]) -> _PairGroups:
        rows = len(user_ids)
        job_bits = int(job_ids.max(initial=0)).bit_length()
        row_bits = rows.bit_length()
        if int(user_ids.max(initial=0)).bit_length() + job_bits + row_bits < 64:
            # Sorting numbers that carry their row is several times faster than sorting rows
            packed = user_ids.astype(np.int64)
            packed <<= job_bits
            packed |= job_ids
            packed <<= row_bits
            packed |= np.arange(rows)
            packed.sort()
            order = packed & ((1 << row_bits) - 1)
            packed >>= row_bits
            is_first = packed[1:] != packed[:-1]
        else:
            order = np.lexsort((job_ids, user_ids))
            users, jobs = user_ids[order], job_ids[order]
            is_first = (users[1:] != users[:-1]) | (jobs[1:] != jobs[:-1])
        starts = np.flatnonzero(is_first) + 1
        return cls(order, np.concatenate([np.zeros(min(1, rows), dtype=np.int64), starts]))

    @property
    def lengths(self) -> IndexArray:
        """How many rows each pair has."""
        return np.diff(self.starts, append=len(self.order))

    def firsts(self, column: NDArray[Any]) -> NDArray[Any]:
        """Return what stands in the first row of each pair."""
        return column.take(self.order[self.starts], axis=0)

    def bounds(self, times: TimeArray) -> tuple[TimeArray, TimeArray]:
        """Return the first and the last time of each pair, NaN where all are unknown."""
        if (times[1:] >= times[:-1]).all():
            # As logs are written: a pair's rows keep their order
            lasts = np.append(self.starts[1:], len(self.order))[: len(self.starts)] - 1
            return self.firsts(times), times.take(self.order[lasts])
        ordered = times[self.order]
        return self.reduce(np.fmin, ordered), self.reduce(np.fmax, ordered)

    def combined(self, ufunc: np.ufunc, column: NDArray[Any]) -> NDArray[Any]:
        """Combine the rows of each pair, where most pairs have but one."""
        combined = self.firsts(column)
        is_shared, shared = self._shared
        if len(shared.starts):
            combined[is_shared] = shared.reduce(ufunc, column[shared.order])
        return combined

    def sums(self, counts: CountArray) -> CountArray:
        """Add the rows of each pair up, where most pairs have but one."""
        sums: CountArray = self.firsts(counts)
        is_shared, shared = self._shared
        if len(shared.starts):
            of_shared = _narrow(shared.reduce(np.add, counts[shared.order].astype(np.uint32)))
            sums = sums.astype(np.promote_types(sums.dtype, of_shared.dtype), copy=False)
            sums[is_shared] = of_shared
        return sums

    @cached_property
    def _shared(self) -> tuple[BoolArray, _PairGroups]:
        """Which pairs have several rows, and these rows alone."""
        lengths = self.lengths
        is_shared = lengths > 1
        starts = np.cumsum(lengths[is_shared])
        order = self.order[np.repeat(is_shared, lengths)]
        return is_shared, _PairGroups(order, starts - lengths[is_shared])

    def reduce(self, ufunc: np.ufunc, ordered: NDArray[Any]) -> NDArray[Any]:
        """Combine the ordered rows of each pair.

        fmin and fmax pass over NaN, the mark of an unknown time.
        """
        if not len(self.starts):
            return ordered
        combined: NDArray[Any] = ufunc.reduceat(ordered, self.starts, axis=0)
        return combined


def stretches(starts: IndexArray, lengths: IndexArray) -> IndexArray:
    """Return the places of stretches of an array, one behind the other.

    Args:
        starts: shape (n,), where each begins.
        lengths: shape (n,), how long each is.
    """
    ends = lengths.cumsum()
    places = np.arange(ends[-1] if len(ends) else 0)
    places += (starts - ends + lengths).repeat(lengths)
    return places


class IdIndex:
    """The ids of one side of the model, and their positions in its arrays.

    Args:
        ids: shape (n,), strictly ascending.
    """

    def __init__(self, ids: IdArray) -> None:
        if len(ids) > 1 and not (np.diff(ids) > 0).all():
            raise InputError("ids of an index must be strictly ascending")
        self.ids = ids
        # Looking into it one by one is several times as fast as into an array
        self._one_by_one = ids.data

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: Sequence[int] | IdArray) -> IndexArray:
        """Return each id's position, -1 where the index does not hold it."""
        if len(ids) <= _FEW:
            return np.array([self._place(int(id_)) for id_ in ids], dtype=np.int64)
        wanted = np.asarray(ids, dtype=np.int64)
        if not len(self.ids):
            return np.full(len(wanted), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        positions: IndexArray = np.where(self.ids[found] == wanted, found, -1)
        return positions

    def position(self, id_: int) -> int | None:
        """Return one id's position, None where the index does not hold it."""
        found = self._place(id_)
        return None if found < 0 else found

    def _place(self, id_: int) -> int:
        found = bisect_left(self._one_by_one, id_)
        return found if found < len(self.ids) and self._one_by_one[found] == id_ else -1


@dataclass(frozen=True)
class History:
    """What one person did, as far as it counts.

    Attributes:
        jobs: shape (n,), positions, ascending.
        scores: shape (n,), float32, above 0.
        kinds: shape (n,), uint8, the `ActivityKind.flag`s of what was done.
    """

    jobs: IndexArray
    scores: FloatArray
    kinds: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.jobs)


@dataclass(frozen=True)
class Unscored:
    """Pairs that teach a model nothing, and that lists may have to leave out: dismissed jobs, say.

    Attributes:
        users: shape (pairs,), ids, ascending; not only of people whom a model knows.
        jobs: shape (pairs,), ids, ascending for each person.
        kinds: shape (pairs,), uint8, the `ActivityKind.flag`s of what was done.
    """

    users: IdArray
    jobs: IdArray
    kinds: NDArray[np.uint8]

    @classmethod
    def nothing(cls) -> Unscored:
        """Return no pair."""
        ids = np.empty(0, dtype=np.int64)
        return cls(ids, ids, np.empty(0, dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.users)

    def of(self, user_ids: IdArray) -> list[tuple[IdArray, NDArray[np.uint8]]]:
        """Return each person's jobs and what was done with them."""
        starts = np.searchsorted(self.users, user_ids, side="left").tolist()
        ends = np.searchsorted(self.users, user_ids, side="right").tolist()
        rows = map(slice, starts, ends)
        return [(self.jobs[row], self.kinds[row]) for row in rows]


@dataclass(frozen=True)
class Interactions:
    """Who did what with which job: the sparse user-item matrix, row by row (CSR).

    Attributes:
        users: the rows' ids.
        jobs: the columns' ids.
        indptr: shape (users + 1,), int64; row u holds the entries indptr[u]:indptr[u + 1].
        indices: shape (entries,), int32 column positions, ascending within a row.
        scores: shape (entries,), float32, positive implicit scores.
        kinds: shape (entries,), uint8, the `ActivityKind.flag`s of what was done.
        last_at: shape (entries,), uint32, the last activity in whole epoch seconds, 0 if unknown.
        unscored: the pairs that are no entries.
    """

    users: IdIndex
    jobs: IdIndex
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    scores: FloatArray
    kinds: NDArray[np.uint8]
    last_at: NDArray[np.uint32]
    unscored: Unscored = field(default_factory=Unscored.nothing)

    @classmethod
    def from_tally(cls, tally: ActivityTally, scores: FloatArray) -> Interactions:
        """Arrange a tally as rows of scored entries; pairs that score 0 are set apart.

        Args:
            tally: n pairs.
            scores: shape (n,), a score for each pair.
        """
        rest = tally.select(scores <= 0)
        unscored = Unscored(rest.user_ids, rest.job_ids, rest.flags)
        tally, scores = tally.select(scores > 0), scores[scores > 0]
        user_ids, rows = np.unique(tally.user_ids, return_inverse=True)
        job_ids, columns = np.unique(tally.job_ids, return_inverse=True)
        indptr = np.zeros(len(user_ids) + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=len(user_ids)), out=indptr[1:])
        return cls(
            users=IdIndex(user_ids),
            jobs=IdIndex(job_ids),
            indptr=indptr,
            indices=columns.astype(np.int32),
            scores=scores.astype(np.float32, copy=False),
            kinds=tally.flags,
            # All times believed fit
            last_at=np.clip(np.nan_to_num(tally.last_at), 0, MAX_TIMESTAMP).astype(np.uint32),
            unscored=unscored,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Users, jobs."""
        return len(self.users), len(self.jobs)

    @property
    def pairs(self) -> tuple[IdArray, IdArray]:
        """User ids and job ids of the entries, each of shape (entries,)."""
        return np.repeat(self.users.ids, np.diff(self.indptr)), self.jobs.ids[self.indices]

    def jobs_done(self, users: IndexArray, kinds: Iterable[ActivityKind]) -> list[IndexArray]:
        """Return for each user the positions of the jobs with which they did any of `kinds`.

        Args:
            users: shape (n,), positions; at -1 stands nobody, who did nothing.
        """
        mask = sum(kind.flag for kind in set(kinds))
        if len(users) <= _FEW:
            return [self._done_by(user, mask) for user in users.tolist()]
        starts = self.indptr[users]
        lengths = np.where(users >= 0, self.indptr[users + 1] - starts, 0)
        entries = stretches(starts, lengths)
        is_done = (self.kinds[entries] & mask) != 0
        done = self.indices[entries[is_done]].astype(np.int64)
        owners = np.repeat(np.arange(len(users)), lengths)[is_done]
        ends = np.cumsum(np.bincount(owners, minlength=len(users))).tolist()
        return [done[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _done_by(self, user: int, mask: int) -> IndexArray:
        """Return the jobs with which one user did something that is in a mask."""
        if user < 0:
            return np.empty(0, dtype=np.int64)
        row = slice(self.indptr[user], self.indptr[user + 1])
        done: IndexArray = self.indices[row][(self.kinds[row] & mask) != 0].astype(np.int64)
        return done

    def history(self, user: int) -> History:
        """Return what the user at a position did."""
        row = slice(int(self.indptr[user]), int(self.indptr[user + 1]))
        return History(
            self.indices[row].astype(np.int64), np.asarray(self.scores[row]), self.kinds[row]
        )

    def left_off(self, user: int) -> IndexArray:
        """Return the jobs that somebody went on to and did not apply to, the latest first.

        Where times are equal or unknown, the higher score comes first, then the lower position.
        """
        row = slice(int(self.indptr[user]), int(self.indptr[user + 1]))
        kinds = self.kinds[row]
        is_left_off = ((kinds & ActivityKind.REDIRECT.flag) != 0) & (
            (kinds & ActivityKind.APPLY.flag) == 0
        )
        jobs = self.indices[row][is_left_off].astype(np.int64)
        times = self.last_at[row][is_left_off].astype(np.int64)
        latest_first: IndexArray = np.lexsort((jobs, -self.scores[row][is_left_off], -times))
        ordered: IndexArray = jobs[latest_first]
        return ordered

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the matrix as named arrays, for storing."""
        return {
            "user_ids": self.users.ids,
            "job_ids": self.jobs.ids,
            "indptr": self.indptr,
            "indices": self.indices,
            "scores": self.scores,
            "kinds": self.kinds,
            "unscored_users": self.unscored.users,
            "unscored_jobs": self.unscored.jobs,
            "unscored_kinds": self.unscored.kinds,
            "last_at": self.last_at,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Interactions:
        """Return the matrix from the arrays that `arrays` named, without copying them."""
        return cls(
            users=IdIndex(arrays["user_ids"]),
            jobs=IdIndex(arrays["job_ids"]),
            indptr=arrays["indptr"],
            indices=arrays["indices"],
            scores=arrays["scores"],
            kinds=arrays["kinds"],
            unscored=Unscored(
                arrays["unscored_users"], arrays["unscored_jobs"], arrays["unscored_kinds"]
            )
            if "unscored_users" in arrays
            else Unscored.nothing(),
            # Models of earlier releases kept no times
            last_at=arrays.get("last_at", np.zeros(len(arrays["kinds"]), dtype=np.uint32)),
        )

    def popularity(self) -> FloatArray:
        """Return each job's share of all interest, shape (jobs,): its scores over all scores."""
        return self._shares(self.scores)

    def current_interest(self, half_life_days: float = INTEREST_HALF_LIFE_DAYS) -> FloatArray:
        """Return each job's share of all interest, shape (jobs,), where what is recent counts more.

        Scores are halved with every half-life between an entry's last activity and the newest of
        all; an entry without a time is as good as new. Where all times are the same or unknown,
        it is `popularity`.
        """
        times = self.last_at.astype(np.float64)
        ages = np.where(times > 0, times.max(initial=0.0) - times, 0.0)
        fading = np.exp2(-ages / (half_life_days * 86_400))
        return self._shares(self.scores * np.maximum(fading, LEAST_FADING))

    def _shares(self, weights: NDArray[Any]) -> FloatArray:
        totals = np.bincount(self.indices, weights=weights, minlength=len(self.jobs))
        whole = totals.sum()
        return (totals / whole if whole else totals).astype(np.float32)


@dataclass(frozen=True)
class Job:
    """A job advert. Only the id is certain; everything else may be missing.

    Attributes:
        closed: marked as closed, whatever `closes_at` announces.
    """

    id: int
    title: str | None = None
    employer: str | None = None
    location: str | None = None
    description: str | None = None
    posted_at: datetime | None = None
    closes_at: datetime | None = None
    closed: bool = False

    def is_open(self, at: datetime) -> bool:
        """Tell whether people can apply at that time; an unknown end is open."""
        posted = self.posted_at is None or self.posted_at <= at
        return not self.closed and posted and (self.closes_at is None or at < self.closes_at)


@dataclass(frozen=True)
class User:
    """A person, as far as recommending may know them.

    Protected attributes are absent by design: the readers never hand them on, so nothing that
    ranks, filters or answers can reach them.
    """

    id: int
    graduation_year: int | None = None
    school_type: str | None = None
    languages: tuple[str, ...] = ()
    university: str | None = None
    degree_subject: str | None = None
    degree_subject_groups: tuple[str, ...] = ()
    degree_subject_categories: tuple[str, ...] = ()


PROFILE = frozenset(field.name for field in fields(User)) - {"id"}
"""What may be known of a person, unless the owner lists it as a proxy of a protected attribute."""


@dataclass(frozen=True)
class JobFilter:
    """What jobs must satisfy; a part that is None asks for nothing.

    Attributes:
        employer: the employer's whole name, whatever its case, marks and legal form.
        aliases: other names of that employer, by which its jobs come as well.
        location: the whole location, whatever its case.
        title: words that the title must all contain, whatever their case and order.
        posted_after: posted at or after this time; a job without a date does not qualify.
        closing_before: closing before this time; a job without a date does not qualify.

    Raises:
        InputError: a time has no time zone, or a text is too long.
    """

    employer: str | None = None
    aliases: frozenset[str] = frozenset()
    location: str | None = None
    title: str | None = None
    posted_after: datetime | None = None
    closing_before: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("posted_after", "closing_before"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise InputError(f"{name} {moment.isoformat()} has no time zone", name)
        for name in ("employer", "location", "title"):
            text: str | None = getattr(self, name)
            if text is not None and len(text) > MAX_FILTER_TEXT:
                raise InputError(
                    f"{name} has {len(text):,} characters, at most {MAX_FILTER_TEXT}", name
                )

    @property
    def employer_keys(self) -> frozenset[str] | None:
        """The keys of the employer's names, None where any employer will do."""
        if self.employer is None:
            return None
        return frozenset(map(employer_key, (self.employer, *self.aliases)))

    def matches(self, job: Job) -> bool:
        """Tell whether a job satisfies every part."""
        keys = self.employer_keys
        return (
            (keys is None or employer_key(job.employer) in keys)
            and (self.location is None or folded(self.location) == folded(job.location))
            and (self.title is None or words(self.title) <= words(job.title))
            and (
                self.posted_after is None
                or (job.posted_at is not None and job.posted_at >= self.posted_after)
            )
            and (
                self.closing_before is None
                or (job.closes_at is not None and job.closes_at < self.closing_before)
            )
        )


def folded(text: str | None) -> str:
    """Return text as it is compared: without regard to case and to runs of white space."""
    return " ".join((text or "").casefold().split())


def words(text: str | None) -> frozenset[str]:
    """Return the words of a text as they are searched."""
    return frozenset(re.findall(r"\w+", (text or "").casefold()))


class RecommendationSource(StrEnum):
    """Why a job stands in a list."""

    PERSONALISED = "PERSONALISED"
    FOLD_IN = "FOLD_IN"
    SIMILAR = "SIMILAR"
    POPULAR = "POPULAR"
    NEW = "NEW"


class ShortfallReason(StrEnum):
    """Why a list is shorter than asked for."""

    CATALOGUE = "CATALOGUE"
    FILTER = "FILTER"
    EXCLUDED = "EXCLUDED"


@dataclass(frozen=True)
class Reason:
    """What one job of a person's history adds to a recommendation.

    Attributes:
        kinds: what the person did with that job.
        contribution: in units of the score; those of the whole history and the trend add up to it.
        share: of the score; 0 where the score is.
    """

    job_id: int
    kinds: tuple[ActivityKind, ...]
    contribution: float
    share: float


class Recommendation(NamedTuple):
    """One job of a ranked list.

    Attributes:
        rank: 1 for the best.
        score: comparable only within one list and one source of one model version.
        trend: the part of the score that comes from what everybody is interested in lately.
        reasons: the strongest first, as many as were asked for; a popular job has none.
    """

    rank: int
    job_id: int
    score: float
    source: RecommendationSource
    trend: float = 0.0
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class RejectedLine:
    """A line that was not used, and why."""

    cause: str
    file: str
    line: int
    value: str
    expected: str

    def __str__(self) -> str:
        return (
            f"{self.file}, line {self.line}: {self.cause}: {self.value}; expected {self.expected}"
        )


@dataclass(frozen=True)
class ReadReport:
    """What became of every line of a file: read = used + rejected.

    Attributes:
        file: the file's name.
        read: all its lines.
        used: those that count.
        outside: used lines that lie outside the time window asked for.
        rejected: how many lines were not used, by cause.
        first: the first line of each cause.
        read_to: how far each file was read, for following what comes behind; see `Manifest`.
    """

    file: str
    read: int = 0
    used: int = 0
    outside: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, RejectedLine] = field(default_factory=dict)
    read_to: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence[ReadReport]) -> ReadReport:
        """Return the account of several files that are read as one."""
        rejected: Counter[str] = Counter()
        first: dict[str, RejectedLine] = {}
        read_to: dict[str, Any] = {}
        for part in parts:
            rejected.update(part.rejected)
            first = {**part.first, **first}
            read_to |= part.read_to
        return cls(
            file=" and ".join(part.file for part in parts),
            read=sum(part.read for part in parts),
            used=sum(part.used for part in parts),
            outside=sum(part.outside for part in parts),
            rejected=dict(rejected),
            first=first,
            read_to=read_to,
        )

    @property
    def rejected_total(self) -> int:
        """All lines that were not used."""
        return sum(self.rejected.values())

    def __str__(self) -> str:
        return (
            f"{self.file}: read {self.read:,} = used {self.used:,} "
            f"+ rejected {self.rejected_total:,}"
        )

    def lines(self) -> list[str]:
        """Return the report for people: the sum, then a line a cause with its first example."""
        causes = [
            f"  {count:,} x {cause}; first: {self.first[cause]}"
            for cause, count in sorted(self.rejected.items(), key=lambda item: -item[1])
        ]
        return [str(self), *causes]
