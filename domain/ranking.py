"""From scores to the list that a person sees: eligibility, exclusion, backfill, cut at k."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from domain.model import RecommendationSource, ShortfallReason

if TYPE_CHECKING:
    from domain.model import BoolArray, FloatArray, IndexArray


class Unlisted(StrEnum):
    """What to do with jobs that the model knows and the catalogue does not."""

    SERVE = "serve"
    HIDE = "hide"


@dataclass(frozen=True)
class Standing:
    """What the catalogue says of the model's jobs at one moment, position by position.

    Attributes:
        listed: shape (jobs,), whether the catalogue holds the job.
        open: shape (jobs,), whether people can apply.
        matching: shape (jobs,), whether the job satisfies the caller's filter; None without one.
        valid_until: epoch seconds of the next opening or closing of a listed job.
    """

    listed: BoolArray
    open: BoolArray
    matching: BoolArray | None
    valid_until: float


@dataclass(frozen=True)
class Ranked:
    """Jobs in order, best first.

    Attributes:
        jobs: shape (n,), positions.
        scores: shape (n,), finite, descending.
    """

    jobs: IndexArray
    scores: FloatArray

    @classmethod
    def nothing(cls) -> Ranked:
        """Return the empty list."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.jobs)


def best(positions: IndexArray, scores: FloatArray, k: int) -> Ranked:
    """Order by score, ties by job id (positions ascend with ids), and cut at k."""
    if 0 < k < len(scores):
        # Only those that reach the k-th best are put in order, which is faster
        reach = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        positions, scores = positions[reach], scores[reach]
    order = np.lexsort((positions, -scores))[:k]
    return Ranked(positions[order], scores[order])


@dataclass(frozen=True)
class RankingPolicy:
    """Which jobs may stand in a list, and how a list is completed.

    Attributes:
        unlisted: jobs absent from the catalogue are hidden, since nobody could read them, or
            served as bare ids. They never satisfy a filter.
    """

    unlisted: Unlisted = Unlisted.HIDE

    def eligible(self, standing: Standing, *, include_closed: bool = False) -> BoolArray:
        """Tell which of the model's jobs may be recommended, shape (jobs,).

        Args:
            include_closed: those of the catalogue may be closed, or not open yet.
        """
        may_stand = standing.listed if include_closed else standing.open
        if standing.matching is not None:
            return may_stand & standing.matching
        if self.unlisted is Unlisted.SERVE:
            return may_stand | ~standing.listed
        return may_stand

    def complete(
        self, personal: Ranked, popular: Ranked, excluded: IndexArray, k: int
    ) -> tuple[Ranked, list[RecommendationSource]]:
        """Fill a short personal list with popular jobs and cut it at k.

        Args:
            personal: what the model ranks for the person; eligible and not excluded.
            popular: all eligible jobs, the most popular first.
            excluded: positions that must not appear.
            k: the length asked for.

        Returns:
            at most k jobs without duplicates, and where each comes from. Popular jobs carry
            their share of all interest as score, see `Interactions.current_interest`.
        """
        missing = k - len(personal)
        if missing <= 0:
            cut = Ranked(personal.jobs[:k], personal.scores[:k]) if missing else personal
            return cut, [RecommendationSource.PERSONALISED] * k
        # For so few, sets are several times as fast as arrays
        taken = {*personal.jobs.tolist(), *excluded.tolist()}
        window = enumerate(popular.jobs[: missing + len(taken)].tolist())
        free = (place for place, job in window if job not in taken)
        fresh = np.fromiter(islice(free, missing), dtype=np.intp)
        jobs, scores = popular.jobs[fresh], popular.scores[fresh]
        return (
            Ranked(
                np.concatenate([personal.jobs, jobs]), np.concatenate([personal.scores, scores])
            ),
            [RecommendationSource.PERSONALISED] * len(personal)
            + [RecommendationSource.POPULAR] * len(jobs),
        )

    def shortfall(
        self, length: int, k: int, eligible: int, *, filtered: bool
    ) -> ShortfallReason | None:
        """Say why a list is shorter than k, None where it is not.

        Args:
            length: of the list.
            k: the length asked for.
            eligible: how many jobs were eligible before the person's exclusions.
            filtered: whether the caller asked for a filter.
        """
        if length >= k:
            return None
        if eligible >= k:
            return ShortfallReason.EXCLUDED
        return ShortfallReason.FILTER if filtered else ShortfallReason.CATALOGUE
