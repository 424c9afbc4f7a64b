"""Why a job stands in a list: what a person's history adds to its score."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from domain.model import ActivityKind, Reason, RecommendationSource

if TYPE_CHECKING:
    from domain.model import FloatArray, History, IdArray, TimeArray


class Verdict(StrEnum):
    """Why a job is not in somebody's list, or that it is; the first that applies."""

    UNKNOWN = "UNKNOWN"
    NOT_LISTED = "NOT_LISTED"
    CLOSED = "CLOSED"
    NOT_LEARNED = "NOT_LEARNED"
    DISMISSED = "DISMISSED"
    EXCLUDED = "EXCLUDED"
    FILTERED = "FILTERED"
    RANKED = "RANKED"


@dataclass(frozen=True)
class WhyNot:
    """Where a job stands for a person.

    Attributes:
        rank: in the person's whole list; None unless RANKED, as for the others.
    """

    job_id: int
    verdict: Verdict
    rank: int | None = None
    score: float | None = None
    source: RecommendationSource | None = None


def attributed(
    contributions: TimeArray, scores: FloatArray, lifts: FloatArray | None = None
) -> TimeArray:
    """Make contributions and lifts add up to the scores that were served.

    A model's stored factors are those of its last step, which differ a little from what a
    history gives anew, and served scores are rounded. What is left over is dealt out to the
    history in proportion to the sizes of the contributions.

    Args:
        contributions: shape (jobs, history).
        scores: shape (jobs,), as served.
        lifts: shape (jobs,), what they gained for everybody; None for nothing.

    Returns:
        shape (jobs, history), float64; each row adds up to its score less its lift.
    """
    sizes = np.abs(contributions)
    totals = sizes.sum(axis=1, keepdims=True)
    even = np.full_like(sizes, 1 / max(1, sizes.shape[1]))
    weights = np.divide(sizes, totals, out=even, where=totals > 0)
    own = scores.astype(np.float64)
    if lifts is not None:
        own -= lifts
    left_over = own - contributions.sum(axis=1)
    whole: TimeArray = contributions + left_over[:, np.newaxis] * weights
    return whole


def strongest(
    history: History, ids: IdArray, contributions: TimeArray, score: float, first: int
) -> tuple[Reason, ...]:
    """Return the reasons of one job that add most to its score, the strongest first.

    Args:
        history: of n jobs.
        ids: of all jobs, by position.
        contributions: shape (n,), as `attributed` returns a row.
        first: at most so many.
    """
    order = np.lexsort((history.jobs, -contributions))[:first]
    return tuple(
        Reason(
            job_id=int(ids[history.jobs[entry]]),
            kinds=tuple(kind for kind in ActivityKind if history.kinds[entry] & kind.flag),
            contribution=float(contributions[entry]),
            share=float(contributions[entry]) / score if score else 0.0,
        )
        for entry in order
    )
