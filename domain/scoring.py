"""From what people did to how much it says about their interest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from domain.errors import InputError
from domain.model import ActivityKind, Interactions

if TYPE_CHECKING:
    from domain.model import ActivityTally, CountArray, FloatArray


@dataclass(frozen=True)
class ScoringPolicy:
    """Counts of each activity kind of a (user, job) pair -> one implicit score.

    The one definition that every trainer uses. With i impressions and r redirects, both capped:

        penalty = max(0, i - r)
        score   = redirect_weight * r + impression_weight * i - penalty_weight * penalty

    raised to `redirect_floor` where anything was redirected and to `impression_floor` where
    anything was shown, plus `apply_weight` for each application up to the cap.

    Attributes:
        name: how settings, manifests and reports call the policy.
        cap: activities of one kind beyond so many add nothing.

    Raises:
        InputError: a weight or a floor is negative or not finite, or the cap is below 1.
    """

    name: str = "funnel"
    cap: int = 10
    impression_weight: float = 1.0
    redirect_weight: float = 2.0
    apply_weight: float = 4.0
    penalty_weight: float = 1.0
    impression_floor: float = 1.0
    redirect_floor: float = 2.0

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise InputError(f"cap {self.cap} is below 1", "cap")
        for name, value in asdict(self).items():
            if name not in {"name", "cap"} and not 0 <= value < float("inf"):
                raise InputError(f"{name} {value} is not a finite number of at least 0", name)

    @classmethod
    def funnel(cls, *, apply_weight: float = 4.0) -> ScoringPolicy:
        """Return the rule of the service that jobrec replaces; it knew no applications.

        One ignored impression and ten are the same weak positive, and time plays no part.
        """
        return cls(name="funnel", apply_weight=apply_weight)

    def scores(self, counts: CountArray) -> FloatArray:
        """Score every pair at once.

        Args:
            counts: shape (pairs, kinds), a column for each `ActivityKind`.

        Returns:
            shape (pairs,), float32, at least 0.
        """
        capped = np.minimum(counts, self.cap).astype(np.float32)
        shown = capped[:, ActivityKind.IMPRESSION]
        redirected = capped[:, ActivityKind.REDIRECT]
        score = (
            np.float32(self.redirect_weight) * redirected
            + np.float32(self.impression_weight) * shown
            - np.float32(self.penalty_weight) * np.maximum(0, shown - redirected)
        )
        score = np.maximum(score, np.where(redirected > 0, np.float32(self.redirect_floor), 0))
        score = np.maximum(score, np.where(shown > 0, np.float32(self.impression_floor), 0))
        applied = np.float32(self.apply_weight) * capped[:, ActivityKind.APPLY]
        total: FloatArray = (score + applied).astype(np.float32, copy=False)
        return total

    def score(self, tally: ActivityTally) -> FloatArray:
        """Score every pair of a tally, shape (pairs,)."""
        return self.scores(tally.counts)

    def interactions(self, tally: ActivityTally) -> Interactions:
        """Score a tally and arrange it as the user-item matrix."""
        return Interactions.from_tally(tally, self.score(tally))


def one_each(tally: ActivityTally) -> FloatArray:
    """Score every pair 1, however often and whatever was done."""
    return np.ones(len(tally), dtype=np.float32)


def faded(tally: ActivityTally, half_life: float) -> FloatArray:
    """Score every pair by how long ago its last activity was: 1 for the newest of all.

    A pair without a time counts as the oldest one; where no pair has a time, all score 1.

    Args:
        half_life: seconds after which the score is halved.
    """
    times = tally.last_at
    known = times[np.isfinite(times)]
    if not known.size:
        return one_each(tally)
    ages = known.max() - np.where(np.isfinite(times), times, known.min())
    # A score of 0 would say that nothing was done
    least = np.finfo(np.float32).tiny
    scores: FloatArray = np.maximum(np.exp2(-ages / half_life), least).astype(np.float32)
    return scores


def latest_marked(tally: ActivityTally) -> FloatArray:
    """Score the pairs of each person's latest time 2, all others 1.

    Where none of a person's pairs has a time, all are their latest.
    """
    times = np.where(np.isfinite(tally.last_at), tally.last_at, -np.inf)
    starts = np.flatnonzero(np.diff(tally.user_ids, prepend=-1))
    lengths = np.diff(starts, append=len(tally))
    latest = np.maximum.reduceat(times, starts) if len(starts) else times
    return np.where(times == np.repeat(latest, lengths), 2, 1).astype(np.float32)
