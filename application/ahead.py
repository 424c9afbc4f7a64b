"""Lists made before anybody asks for them.

The list of somebody who did nothing since the training follows from the model and from the jobs
that may be recommended. A longer one is kept, from which nothing is left out for the person: cut
and filtered, it is the list that the model would make, to the bit, while no further job may appear.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from application.histories import Person
from domain.model import BoolArray, IndexArray, Interactions
from domain.ports import Recommender
from domain.ranking import Ranked

LENGTH = 32
"""Jobs of a kept list: of a page of 10, twice as many may be left out or be closed later."""

LASTS_SECONDS = 60.0
"""New lists are not begun sooner than this, however often jobs come and go."""

_PERSON_BYTES = 2 * LENGTH * 8
"""What a person's list takes, while the next ones are made as well."""

_BLOCK_CELLS = 1 << 17
_BLOCK_PEOPLE = 16
"""People x jobs and people whose lists are made at once: some milliseconds. None of more jobs."""


class ListsAhead:
    """Keeps lists of people, and renews them.

    One thread makes them; others may read, or prepare, meanwhile.

    Args:
        most_bytes: for the lists; 0 for none. People come by their last activity, the latest first,
            and where there is no room for all the others have none. Where people stand takes
            another 8 bytes of each.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_people = most_bytes // _PERSON_BYTES
        self._order: _Order | None = None
        self._kept: tuple[_Lists, ...] = ()

    def prepare(self, version: str, interactions: Interactions) -> None:
        """Put the people of a model in order, which takes long where there are millions.

        Args:
            version: names the model.
        """
        if self.most_people and (self._order is None or self._order.version != version):
            self._order = _Order.of(version, interactions, self.most_people)

    def advance(self, version: str, recommender: Recommender, eligible: BoolArray) -> bool:
        """Make further lists, for some milliseconds; tell whether there are more to make.

        Args:
            version: names the model, whose people were put in order.
            recommender: ranks all jobs that the model learned, and perhaps others.
            eligible: shape (jobs,), the jobs that may appear; never written to.
        """
        order = self._order
        if order is None or order.version != version:
            return False
        if not recommender.is_exact or len(eligible) > _BLOCK_CELLS:
            self._kept = ()
            return False
        newest = self._kept[-1] if self._kept else None
        if newest is None or newest.order is not order or newest.is_outdated(recommender, eligible):
            # Those that were complete go on where nothing came
            before = [kept for kept in self._kept[:1] if kept.recommender is recommender]
            self._kept = (*before, _Lists(order, recommender, eligible))
            return True
        if newest.is_complete or not newest.serve(recommender, eligible):
            return False
        is_more = newest.advance()
        if not is_more:
            self._kept = (newest,)
        return is_more

    def of(
        self, recommender: Recommender, people: Sequence[Person], k: int, eligible: BoolArray
    ) -> list[Ranked | None]:
        """Return the lists of people; None of those whose list is not kept.

        Args:
            people: whose lists follow from what the model learned of them.
            k: lists hold at most so many jobs.
            eligible: shape (jobs,), the jobs that may appear.
        """
        lists: list[Ranked | None] = [None] * len(people)
        for kept in reversed(self._kept):
            if people and kept.serve(recommender, eligible):
                kept.fill(lists, people, k, eligible)
        return lists


@dataclass(frozen=True, eq=False)
class _Order:
    """In what order people's lists are made.

    Attributes:
        version: names the model.
        people: shape (lists,), their positions.
        rows: shape (people of the model,), where each stands there; -1 for those who do not.
    """

    version: str
    people: IndexArray
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, version: str, interactions: Interactions, most: int) -> _Order:
        """Return those people, at most so many, whose last activity is the latest."""
        latest = np.zeros(len(interactions.users), dtype=np.int64)
        active = np.flatnonzero(np.diff(interactions.indptr))
        if len(active):
            latest[active] = np.maximum.reduceat(interactions.last_at, interactions.indptr[active])
        people = np.argsort(-latest, kind="stable")[:most]
        rows = np.full(len(latest), -1, dtype=np.int32)
        rows[people] = np.arange(len(people))
        return cls(version, people, rows)


class _Lists:
    """The best jobs of people among those that might appear when this began."""

    def __init__(self, order: _Order, recommender: Recommender, eligible: BoolArray) -> None:
        self.order = order
        self.recommender = recommender
        self._eligible = eligible
        self._begun = time.monotonic()
        held = len(order.people)
        self._jobs = np.zeros((held, LENGTH), dtype=np.int32)
        self._scores = np.zeros((held, LENGTH), dtype=np.float32)
        self._lengths = np.zeros(held, dtype=np.int8)
        self._done = 0

    @property
    def is_complete(self) -> bool:
        """Whether all lists are there."""
        return self._done == len(self.order.people)

    def is_outdated(self, recommender: Recommender, eligible: BoolArray) -> bool:
        """Tell whether it is time to begin others, since jobs came or went."""
        is_same = recommender is self.recommender and eligible is self._eligible
        return not is_same and time.monotonic() - self._begun >= LASTS_SECONDS

    def serve(self, recommender: Recommender, eligible: BoolArray) -> bool:
        """Tell whether lists follow from these, since no further job may appear."""
        if recommender is not self.recommender:
            return False
        return eligible is self._eligible or not (eligible > self._eligible).any()

    def advance(self) -> bool:
        """Make the next lists; tell whether there are more to make."""
        size = max(1, min(_BLOCK_PEOPLE, _BLOCK_CELLS // max(1, len(self._eligible))))
        people = self.order.people[self._done : self._done + size]
        nothing = [np.empty(0, dtype=np.int64)] * len(people)
        lists = self.recommender.recommend(people, LENGTH, self._eligible, nothing)
        for row, ranked in enumerate(lists, self._done):
            self._jobs[row, : len(ranked)] = ranked.jobs
            self._scores[row, : len(ranked)] = ranked.scores
            self._lengths[row] = len(ranked)
        # The last, for whoever reads meanwhile
        self._done += len(people)
        return not self.is_complete

    def fill(
        self, lists: list[Ranked | None], people: Sequence[Person], k: int, eligible: BoolArray
    ) -> None:
        """Put people's lists where none stand yet."""
        for place, person in enumerate(people):
            row = int(self.order.rows[person.position])
            if lists[place] is None and 0 <= row < self._done:
                lists[place] = self._of(row, {*person.hidden.tolist()}, k, eligible)

    def _of(self, row: int, hidden: set[int], k: int, eligible: BoolArray) -> Ranked | None:
        length = int(self._lengths[row])
        jobs, scores = self._jobs[row, :length], self._scores[row, :length]
        if eligible is not self._eligible:
            may_stand = eligible[jobs]
            jobs, scores = jobs[may_stand], scores[may_stand]
        # For so few, sets and lists are several times as fast as arrays
        listed = jobs.tolist()
        if not hidden.isdisjoint(listed):
            places = [place for place, job in enumerate(listed) if job not in hidden][:k]
            jobs, scores = jobs[places], scores[places]
        if len(jobs) < k and length == LENGTH:
            return None
        return Ranked(jobs[:k].astype(np.int64), scores[:k])
