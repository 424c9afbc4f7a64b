"""How good are ranked lists, judged by what people went on to do?

Metrics are exact: a person's list is ranked over all jobs, never over a sample of them, which
would mislead (Krichene and Rendle: On Sampled Metrics for Item Recommendation, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.model import ActivityTally, BoolArray, IdArray, IndexArray

MetricArray = NDArray[np.float64]

_OVERLAP_CELLS = 1 << 24
"""Lists are compared in blocks of so many pairs of places, a byte each."""


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

    def select(self, chosen: BoolArray) -> tuple[Targets, IndexArray]:
        """Keep some of the targets, and the people who have any of them.

        Args:
            chosen: shape (targets,), whether a target is kept.

        Returns:
            the rest, and the positions of its people in `user_ids`.
        """
        people, owners = np.unique(self.owners[chosen], return_inverse=True)
        return Targets(self.user_ids[people], owners, self.job_ids[chosen]), people

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
    """Return the quality of ranked lists averaged over people, and how many jobs they show.

    The metrics are those of `per_person` at the lists' whole length k, and `coverage@k`, the
    count of distinct jobs.

    Args:
        targets: of n people, each with at least one.
        lists: shape (n, k), job ids without duplicates in a list, -1 where a list is short.
    """
    people, k = lists.shape
    if not people:
        return {}
    means = {name: float(each.mean()) for name, each in per_person(targets, lists, [k]).items()}
    return {**means, f"coverage@{k}": float(len(np.unique(lists[lists >= 0])))}


def per_person(targets: Targets, lists: IdArray, ks: Sequence[int]) -> dict[str, MetricArray]:
    """Return the quality of each person's ranked list, cut at several lengths.

    With t targets of a person and a hit h_i in {0, 1} at rank i = 1..k:

        recall@k    = sum h_i / t
        precision@k = sum h_i / k
        ndcg@k      = sum h_i / log2(i + 1), over the same sum for min(t, k) hits at the top
        map@k       = sum over hits of precision@i, over min(t, k)
        mrr@k       = 1 / rank of the first hit, 0 without one
        hit_rate@k  = 1 with any hit, else 0

    Järvelin and Kekäläinen: Cumulated Gain-Based Evaluation of IR Techniques (2002) for NDCG.

    Args:
        targets: of n people, each with at least one.
        lists: shape (n, K), job ids without duplicates in a list, -1 where a list is short.
        ks: lengths, each from 1 to K.

    Returns:
        by metric@k, shape (n,).
    """
    people, longest = lists.shape
    hits = targets.hits(lists).astype(np.float64)
    totals = np.bincount(targets.owners, minlength=people)
    ranks = np.arange(1, longest + 1)
    discounts = 1 / np.log2(ranks + 1)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    found = np.cumsum(hits, axis=1)
    gains = np.cumsum(hits * discounts, axis=1)
    precisions = np.cumsum(hits * found / ranks, axis=1)
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf)
    metrics: dict[str, MetricArray] = {}
    for k in ks:
        reachable = np.minimum(totals, k)
        metrics |= {
            f"recall@{k}": found[:, k - 1] / totals,
            f"precision@{k}": found[:, k - 1] / k,
            f"ndcg@{k}": gains[:, k - 1] / ideal[reachable],
            f"map@{k}": precisions[:, k - 1] / reachable,
            f"mrr@{k}": np.where(first <= k, 1 / first, 0.0),
            f"hit_rate@{k}": (first <= k).astype(np.float64),
        }
    return metrics


def mean_overlap(first: IdArray, second: IdArray) -> float:
    """Return the share of jobs that two models' lists have in common, averaged over people.

    Args:
        first: shape (people, k), job ids, -1 where a list is short.
        second: the same people's lists by the other model.
    """
    if not first.size:
        return 1.0
    height = max(1, _OVERLAP_CELLS // first.shape[1] ** 2)
    total = 0.0
    for start in range(0, len(first), height):
        ours, theirs = first[start : start + height], second[start : start + height]
        shared = (ours[:, :, None] == theirs[:, None, :]) & (ours[:, :, None] >= 0)
        lengths = np.maximum((ours >= 0).sum(axis=1), (theirs >= 0).sum(axis=1))
        total += float((shared.sum(axis=(1, 2)) / np.maximum(1, lengths)).sum())
    return total / len(first)
