"""Lists made before anybody asks for them.

The list of somebody who did nothing since the training follows from the model and from the jobs
that may be recommended. A longer one is kept, from which nothing is left out for the person: cut
and filtered, it is the list that the model would make, to the bit, while no further job may appear.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

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
"""People x jobs and people whose lists are made at once: a millisecond or two."""


class ListsAhead:
    """Keeps lists of people, and renews them.

    One thread makes them; others may read meanwhile.

    Args:
        most_bytes: for what is kept; 0 for nothing. Where it does not do for all people, it is for
            those whose last activity is the latest.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes // _PERSON_BYTES
        self._kept: tuple[_Lists, ...] = ()

    def advance(
        self,
        version: str,
        recommender: Recommender,
        interactions: Interactions,
        eligible: BoolArray,
    ) -> bool:
        """Make further lists, for a millisecond or two; tell whether there are more to make.

        Args:
            version: names the model.
            recommender: ranks all jobs that it learned from `interactions`, and perhaps others.
            eligible: shape (jobs,), the jobs that may appear; never written to.
        """
        if not (self._most and recommender.is_exact):
            return False
        newest = self._kept[-1] if self._kept else None
        if newest is None or newest.version != version or newest.is_outdated(recommender, eligible):
            begun = _Lists(version, recommender, interactions, eligible, self._most)
            self._kept = (*self._kept[-1:], begun)
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


class _Lists:
    """The best jobs of people among those that might appear when this began."""

    def __init__(
        self,
        version: str,
        recommender: Recommender,
        interactions: Interactions,
        eligible: BoolArray,
        most: int,
    ) -> None:
        self.version = version
        self._recommender = recommender
        self._eligible = eligible
        self._begun = time.monotonic()
        self._people = _latest(interactions, most)
        held = len(self._people)
        self._rows = np.full(len(interactions.users), -1, dtype=np.int32)
        self._rows[self._people] = np.arange(held)
        self._jobs = np.zeros((held, LENGTH), dtype=np.int32)
        self._scores = np.zeros((held, LENGTH), dtype=np.float32)
        self._lengths = np.zeros(held, dtype=np.int8)
        self._done = 0

    @property
    def is_complete(self) -> bool:
        """Whether all lists are there."""
        return self._done == len(self._people)

    def is_outdated(self, recommender: Recommender, eligible: BoolArray) -> bool:
        """Tell whether it is time to begin others, since jobs came or went."""
        is_same = recommender is self._recommender and eligible is self._eligible
        return not is_same and time.monotonic() - self._begun >= LASTS_SECONDS

    def serve(self, recommender: Recommender, eligible: BoolArray) -> bool:
        """Tell whether lists follow from these, since no further job may appear."""
        if recommender is not self._recommender:
            return False
        return eligible is self._eligible or not (eligible > self._eligible).any()

    def advance(self) -> bool:
        """Make the next lists; tell whether there are more to make."""
        size = max(1, min(_BLOCK_PEOPLE, _BLOCK_CELLS // max(1, len(self._eligible))))
        people = self._people[self._done : self._done + size]
        nothing = [np.empty(0, dtype=np.int64)] * len(people)
        lists = self._recommender.recommend(people, LENGTH, self._eligible, nothing)
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
            row = int(self._rows[person.position])
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


def _latest(interactions: Interactions, most: int) -> IndexArray:
    """Return the positions of the people whose last activity is the latest, ascending."""
    people = len(interactions.users)
    if people <= most:
        return np.arange(people)
    latest = np.zeros(people, dtype=np.uint32)
    owners = np.repeat(np.arange(people), np.diff(interactions.indptr))
    np.maximum.at(latest, owners, interactions.last_at)
    return np.sort(np.argsort(latest, kind="stable")[people - most :])
