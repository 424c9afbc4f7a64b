"""How good is a model, and may it go live?

Metrics are exact: a person's list is ranked over all jobs, never over a sample of them, which
would mislead (Krichene and Rendle: On Sampled Metrics for Item Recommendation, 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from domain.errors import InputError
from domain.model import ActivityTally, BoolArray, IdArray


@dataclass(frozen=True)
class Split:
    """A tally cut in two.

    Attributes:
        train: what the model under test may learn from.
        held_out: pairs that it must predict; none of them is in `train`.
        cutoff: the time between the two, None where the split is random.
    """

    train: ActivityTally
    held_out: ActivityTally
    cutoff: datetime | None


def split(tally: ActivityTally, share: float, seed: int) -> Split:
    """Hold the last new pairs out, or random ones where time tells nothing.

    The cut-off lies where `share` of the pairs first occur after it; those are held out. A pair
    that began before it stays in the training part whole: a tally has no finer time. So a
    strength learned may know of later repetitions, but no pair to be predicted is known.
    Pairs without a time stay in the training part.

    Args:
        tally: n pairs.
        share: of the pairs to hold out, above 0 and below 1.
        seed: of the random split, used where times are unknown, or so coarse that the last of
            them holds `share` of the pairs or more.
    """
    if not 0 < share < 1:
        raise InputError(f"hold_out {share} is not between 0 and 1", "hold_out")
    times = tally.first_at
    known = times[np.isfinite(times)]
    if known.size:
        cutoff = float(np.quantile(known, 1 - share))
        later = np.greater(times, cutoff)
        if later.any():
            until = datetime.fromtimestamp(cutoff, UTC)
            return Split(tally.select(~later), tally.select(later), until)
    later = np.random.default_rng(seed).random(len(tally)) < share
    return Split(tally.select(~later), tally.select(later), None)


@dataclass(frozen=True)
class Targets:
    """What people went on to do after the cut-off.

    Attributes:
        user_ids: shape (people,), ascending.
        owners: shape (targets,), positions in `user_ids`, ascending.
        job_ids: shape (targets,), ascending for each person.
    """

    user_ids: IdArray
    owners: IdArray
    job_ids: IdArray

    @classmethod
    def of(cls, held_out: ActivityTally, most: int, seed: int) -> Targets:
        """Return the targets of at most `most` people, drawn by chance where there are more."""
        user_ids = np.unique(held_out.user_ids)
        if len(user_ids) > most:
            drawn = np.random.default_rng(seed).choice(len(user_ids), most, replace=False)
            user_ids = user_ids[np.sort(drawn)]
        chosen = np.isin(held_out.user_ids, user_ids)
        owners = np.searchsorted(user_ids, held_out.user_ids[chosen])
        return cls(user_ids, owners, held_out.job_ids[chosen])

    def hits(self, lists: IdArray) -> BoolArray:
        """Tell which places of the lists hold a target of their person.

        Args:
            lists: shape (people, k), job ids, -1 where a list is short.
        """
        jobs, columns = np.unique(self.job_ids, return_inverse=True)
        keys = self.owners * len(jobs) + columns
        found = np.searchsorted(jobs, lists).clip(max=max(0, len(jobs) - 1))
        rows = np.arange(len(lists))[:, None]
        is_job = jobs[found] == lists if len(jobs) else np.zeros(lists.shape, dtype=np.bool_)
        hits: BoolArray = is_job & np.isin(rows * len(jobs) + found, keys)
        return hits


def measure(targets: Targets, lists: IdArray) -> dict[str, float]:
    """Return the quality of ranked lists, averaged over people.

    With t targets of a person and a hit h_i in {0, 1} at rank i = 1..k:

        recall@k    = sum h_i / t
        precision@k = sum h_i / k
        ndcg@k      = sum h_i / log2(i + 1), over the same sum for min(t, k) hits at the top
        map@k       = sum over hits of precision@i, over min(t, k)
        mrr@k       = 1 / rank of the first hit, 0 without one
        coverage@k  = distinct jobs shown; a count, not an average

    Järvelin and Kekäläinen: Cumulated Gain-Based Evaluation of IR Techniques (2002) for NDCG.

    Args:
        targets: of n people, each with at least one.
        lists: shape (n, k), job ids without duplicates in a list, -1 where a list is short.
    """
    people, k = lists.shape
    if not people:
        return {}
    hits = targets.hits(lists).astype(np.float64)
    totals = np.bincount(targets.owners, minlength=people)
    reachable = np.minimum(totals, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[reachable]
    precisions = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    first = np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)
    return {
        f"recall@{k}": float((hits.sum(axis=1) / totals).mean()),
        f"precision@{k}": float(hits.mean()),
        f"ndcg@{k}": float((hits @ discounts / ideal).mean()),
        f"map@{k}": float(((precisions * hits).sum(axis=1) / reachable).mean()),
        f"mrr@{k}": float(first.mean()),
        f"coverage@{k}": float(len(np.unique(lists[lists >= 0]))),
    }


def mean_overlap(first: IdArray, second: IdArray) -> float:
    """Return the share of jobs that two models' lists have in common, averaged over people.

    Args:
        first: shape (people, k), job ids, -1 where a list is short.
        second: the same people's lists by the other model.
    """
    if not first.size:
        return 1.0
    shared = (first[:, :, None] == second[:, None, :]) & (first[:, :, None] >= 0)
    lengths = np.maximum((first >= 0).sum(axis=1), (second >= 0).sum(axis=1))
    return float((shared.sum(axis=(1, 2)) / np.maximum(1, lengths)).mean())


@dataclass(frozen=True)
class Evidence:
    """What is known of a model when it is decided whether it goes live.

    Attributes:
        users: people it knows.
        jobs: jobs it knows.
        is_finite: whether all its numbers are.
        metrics: measured on the hold-out; empty where that was too small.
    """

    users: int
    jobs: int
    is_finite: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PromotionPolicy:
    """May a new model take the live one's place?

    Attributes:
        metric: what counts.
        margin: refuse where the metric is lower than the live model's by more than this share.
        max_shrink: refuse where it knows fewer people or jobs than the live model by more than
            this share.
        hold_out: share of the pairs to hold out for measuring; 0 measures nothing.
        min_people: with fewer people to measure on, a difference means nothing.
        max_people: so many are enough.
        max_steps: a recipe that is fitted only to be measured stops after so many steps.

    Raises:
        InputError: a value is out of bounds.
    """

    metric: str = "ndcg@10"
    margin: float = 0.1
    max_shrink: float = 0.3
    hold_out: float = 0.1
    min_people: int = 50
    max_people: int = 2_000
    max_steps: int = 5

    def __post_init__(self) -> None:
        for name in ("margin", "max_shrink"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)} is not in 0..1", name)
        if not 0 <= self.hold_out <= 0.5:
            raise InputError(f"hold_out {self.hold_out} is not in 0..0.5", "hold_out")
        for name, least in (
            ("min_people", 1),
            ("max_people", self.min_people),
            ("max_steps", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} {getattr(self, name)} is below {least}", name)

    def refusals(self, candidate: Evidence, live: Evidence | None) -> tuple[str, ...]:
        """Return why the candidate may not go live; nothing where it may."""
        reasons = []
        if not candidate.is_finite:
            reasons.append("its factors are not all finite numbers")
        if live is None:
            return tuple(reasons)
        for name in ("users", "jobs"):
            before, after = getattr(live, name), getattr(candidate, name)
            if after < before * (1 - self.max_shrink):
                reasons.append(
                    f"it knows {after:,} {name}, the live model {before:,}: "
                    f"{1 - after / before:.1%} fewer, at most {self.max_shrink:.1%} are accepted"
                )
        before = live.metrics.get(self.metric)
        after = candidate.metrics.get(self.metric)
        if before is not None and after is not None and after < before * (1 - self.margin):
            reasons.append(
                f"its {self.metric} is {after:.4f}, the live model's {before:.4f}: "
                f"{1 - after / before:.1%} lower, at most {self.margin:.1%} is accepted"
            )
        return tuple(reasons)
