"""From what people did to how much it says about their interest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from domain.errors import InputError
from domain.model import LEAST_FADING, ActivityKind, Interactions

if TYPE_CHECKING:
    from domain.model import ActivityTally, BoolArray, CountArray, FloatArray


DAY = 86_400.0

INTEREST = (
    ActivityKind.IMPRESSION,
    ActivityKind.REDIRECT,
    ActivityKind.APPLY,
    ActivityKind.EMAIL_CLICK,
)
"""The kinds that may say that somebody is interested.

E-mails sent say nothing of the person, and mail clients open e-mails by themselves.
"""


def shows_interest(counts: CountArray) -> BoolArray:
    """Tell in which pairs something was done out of interest and the job was not dismissed."""
    dismissed = counts[:, ActivityKind.DISMISS] > 0
    shows: BoolArray = np.any(counts[:, INTEREST] > 0, axis=1, keepdims=True)[:, 0] & ~dismissed
    return shows


class Rule(StrEnum):
    """How activities of a pair add up to a score; w is the weight of a kind, n its capped count.

    FUNNEL is the rule of the service that jobrec replaces: see `ScoringPolicy`. LOGARITHMIC adds
    w log2(1 + n) of each kind, so that each repetition says less than the one before. PRESENCE
    adds w of each kind that was done, however often.
    """

    FUNNEL = "funnel"
    LOGARITHMIC = "logarithmic"
    PRESENCE = "presence"


@dataclass(frozen=True)
class ScoringPolicy:
    """Counts and times of a (user, job) pair -> one implicit score.

    The one definition that every trainer uses. The rule `funnel`, with i impressions and r
    redirects, both capped:

        penalty = max(0, i - r)
        score   = redirect_weight * r + impression_weight * i - penalty_weight * penalty

    raised to `redirect_floor` where anything was redirected and to `impression_floor` where
    anything was shown, plus `apply_weight` for each application and `email_click_weight` for each
    click in an e-mail, up to the cap. The other rules (`Rule`) know neither penalty nor floors.

    E-mails sent and opened never count. A job that the person dismissed scores 0, whatever else
    was done. Scores are halved with every `half_life_days` between a pair's last activity and
    the newest of all, and are 0 beyond `window_days`; a pair without a time is as good as new.

    Attributes:
        name: the rule, as settings, manifests and reports call it.
        cap: activities of one kind beyond so many add nothing.
        half_life_days: of a score; 0 for no decay.
        window_days: older pairs score 0; 0 for no window.

    Raises:
        InputError: there is no such rule, a weight, a floor or a time is negative or not finite,
            or the cap is below 1.
    """

    name: str = Rule.FUNNEL.value
    cap: int = 10
    impression_weight: float = 1.0
    redirect_weight: float = 2.0
    apply_weight: float = 4.0
    penalty_weight: float = 1.0
    impression_floor: float = 1.0
    redirect_floor: float = 2.0
    email_click_weight: float = 2.0
    half_life_days: float = 0.0
    window_days: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in set(Rule):
            raise InputError(f"scoring {self.name!r} is not one of {', '.join(Rule)}", "scoring")
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
        return cls(apply_weight=apply_weight)

    def scores(self, counts: CountArray) -> FloatArray:
        """Score every pair at once, as if all were new.

        Args:
            counts: shape (pairs, kinds), a column for each `ActivityKind`.

        Returns:
            shape (pairs,), float32, at least 0.
        """
        score = self._funnel(counts) if self.name == Rule.FUNNEL else self._sum(counts)
        score[counts[:, ActivityKind.DISMISS] > 0] = 0
        return score

    def score(self, tally: ActivityTally) -> FloatArray:
        """Score every pair of a tally by what was done and when, shape (pairs,)."""
        scores = self.scores(tally.counts)
        times = tally.last_at
        newest = np.max(times, initial=-np.inf, where=np.isfinite(times))
        # The comparisons are false for NaN, an unknown time
        if self.window_days:
            scores[times < newest - self.window_days * DAY] = 0
        if self.half_life_days:
            ages = np.where(np.isfinite(times), newest - times, 0)
            fading = np.exp2(-ages / (self.half_life_days * DAY))
            scores *= np.maximum(fading, LEAST_FADING).astype(np.float32)
        return scores

    def interactions(self, tally: ActivityTally) -> Interactions:
        """Score a tally and arrange it as the user-item matrix."""
        return Interactions.from_tally(tally, self.score(tally))

    def _capped(self, counts: CountArray, kind: ActivityKind) -> FloatArray:
        capped: FloatArray = np.minimum(counts[:, kind].astype(np.float32), np.float32(self.cap))
        return capped

    def _funnel(self, counts: CountArray) -> FloatArray:
        shown = self._capped(counts, ActivityKind.IMPRESSION)
        redirected = self._capped(counts, ActivityKind.REDIRECT)
        score = (
            np.float32(self.redirect_weight) * redirected
            + np.float32(self.impression_weight) * shown
            - np.float32(self.penalty_weight) * np.maximum(0, shown - redirected)
        )
        score = np.maximum(score, np.where(redirected > 0, np.float32(self.redirect_floor), 0))
        score = np.maximum(score, np.where(shown > 0, np.float32(self.impression_floor), 0))
        for kind in (ActivityKind.APPLY, ActivityKind.EMAIL_CLICK):
            score += self._weight(kind) * self._capped(counts, kind)
        total: FloatArray = score.astype(np.float32, copy=False)
        return total

    def _sum(self, counts: CountArray) -> FloatArray:
        total: FloatArray = np.zeros(len(counts), dtype=np.float32)
        for kind in INTEREST:
            done = self._capped(counts, kind)
            total += self._weight(kind) * (
                np.log2(1 + done) if self.name == Rule.LOGARITHMIC else np.minimum(done, 1)
            )
        return total

    def _weight(self, kind: ActivityKind) -> np.float32:
        return np.float32(getattr(self, f"{kind.word}_weight"))


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
