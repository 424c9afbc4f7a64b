"""The parts of a split as measuring needs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from application.recommending import LiveModel, SourcedLists, lists_without
from domain.errors import NothingToMeasure
from domain.metrics import Targets
from domain.model import (
    ActivityTally,
    BoolArray,
    IndexArray,
    Interactions,
    pairs_among,
)
from domain.ports import OnProgress, Recommender
from domain.splits import Split


@dataclass(frozen=True)
class Setting:
    """On what was measured.

    Attributes:
        split: how pairs were held out: temporal, last, random or given.
        cutoff: the time between the two parts, None where no time parts them.
        users: people of the training part.
        jobs: jobs of the training part.
        pairs: pairs of the training part.
        people: people measured: those with something held out and something to learn from.
        left_out: people with something held out and nothing to learn from.
        targets: pairs to predict.
        unseen_targets: those whose job the training part does not hold.
    """

    split: str
    cutoff: datetime | None
    users: int
    jobs: int
    pairs: int
    people: int
    left_out: int
    targets: int
    unseen_targets: int


@dataclass(frozen=True)
class HoldOut:
    """What is learned from, and what must then be predicted of whom.

    Attributes:
        parts: the two parts.
        known: the training part as a matrix, each pair an entry.
        targets: of the people who can be measured.
        k: length of the lists.
        left_out: people with something held out and nothing to learn from.
    """

    parts: Split
    known: Interactions
    targets: Targets
    k: int
    left_out: int

    @classmethod
    def of(
        cls, tally: ActivityTally, parts: Split, k: int, most: int | None = None, seed: int = 0
    ) -> HoldOut:
        """Arrange the parts.

        Args:
            tally: what was cut in two.
            most: people to measure; where there are more, they are drawn by chance.
            seed: of the draw.

        Raises:
            NothingToMeasure: nobody has both something held out and something to learn from.
        """
        train, held_out = parts.train, parts.held_out
        known = Interactions.from_tally(train, np.ones(len(train), dtype=np.float32))
        measured = held_out.select(np.isin(held_out.user_ids, known.users.ids))
        if not len(measured):
            raise NothingToMeasure(
                f"of the {len(tally):,} pairs of people and jobs {len(held_out):,} are held out, "
                f"and nobody has both a pair among them and one to learn from"
            )
        targets = Targets.of(measured, len(measured) if most is None else most, seed)
        left_out = len(np.unique(held_out.user_ids)) - len(np.unique(measured.user_ids))
        return cls(parts, known, targets, k, left_out)

    @property
    def users(self) -> IndexArray:
        """The people measured, as positions in `known`."""
        return self.known.users.positions(self.targets.user_ids)

    @property
    def are_known(self) -> BoolArray:
        """Whether the training part holds the jobs of the targets, shape (targets,)."""
        return self.known.jobs.positions(self.targets.job_ids) >= 0

    def sampled(self, most: int, seed: int) -> HoldOut:
        """Return the same of at most so many people, drawn by chance where there are more."""
        people = len(self.targets.user_ids)
        if people <= most:
            return self
        drawn = np.random.default_rng(seed).choice(people, most, replace=False)
        targets, _ = self.targets.select(np.isin(self.targets.owners, drawn))
        return replace(self, targets=targets)

    def setting(self, split: str) -> Setting:
        """Describe the parts."""
        users, jobs = self.known.shape
        return Setting(
            split=split,
            cutoff=self.parts.cutoff,
            users=users,
            jobs=jobs,
            pairs=len(self.parts.train),
            people=len(self.targets.user_ids),
            left_out=self.left_out,
            targets=len(self.targets.job_ids),
            unseen_targets=int((~self.are_known).sum()),
        )

    def objection(self, model: LiveModel) -> str | None:
        """Return why a stored model cannot be measured here; None where it can."""
        held_out = self.parts.held_out
        seen = pairs_among((held_out.user_ids, held_out.job_ids), model.interactions.pairs)
        if seen.any():
            return f"it has learned {seen.sum():,} of the {len(held_out):,} pairs held out"
        until, cutoff = model.manifest.until, self.parts.cutoff
        if until is not None and cutoff is not None and until > cutoff:
            return f"its data reach until {until.isoformat()}, beyond {cutoff.isoformat()}"
        return None

    def lists(
        self, interactions: Interactions, recommender: Recommender, on_progress: OnProgress
    ) -> SourcedLists:
        """Return a model's lists for the people measured."""
        translated = interactions.jobs.positions(self.known.jobs.ids)

        def done(people: slice) -> list[IndexArray]:
            return [_present(translated[own]) for own in self._histories(people)]

        return lists_without(
            interactions, recommender, self.targets.user_ids, self.k, done, on_progress
        )

    def _histories(self, block: slice) -> Iterator[IndexArray]:
        """Yield the jobs of people in the training part, as positions in `known`."""
        starts, ends = self.known.indptr[:-1], self.known.indptr[1:]
        for user in self.users[block]:
            yield self.known.indices[starts[user] : ends[user]].astype(np.int64)


def _present(positions: IndexArray) -> IndexArray:
    return positions[positions >= 0]
