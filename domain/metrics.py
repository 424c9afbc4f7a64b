"""How good is a model, and may it go live?

Metrics are exact: a person's list is ranked over all jobs, never over a sample of them, which
would mislead (Krichene and Rendle: On Sampled Metrics for Item Recommendation, 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain.model import ActivityTally, BoolArray, IdArray


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
