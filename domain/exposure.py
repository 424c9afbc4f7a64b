"""What lists show of the catalogue: how much, how well known, how evenly, how varied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domain.metrics import MetricArray
from domain.model import IdArray, IndexArray, Interactions

_PAIRS = 1 << 22
"""Lists are searched for pairs of jobs in blocks of so many pairs, some 100 MiB."""


class Exposure:
    """Judges lists by who did what in the training part.

    Args:
        known: the training part, of at least one entry; each counts once, whatever its score.
    """

    def __init__(self, known: Interactions) -> None:
        users, jobs = known.shape
        self._known = known
        self._audience = np.bincount(known.indices, minlength=jobs)
        self._share = self._audience / users
        rows = np.repeat(np.arange(users), np.diff(known.indptr))
        by_job = np.argsort(known.indices, kind="stable")
        self._people = np.split(rows[by_job], np.cumsum(self._audience)[:-1])

    def measure(self, user_ids: IdArray, lists: IdArray, ks: Sequence[int]) -> dict[str, float]:
        """Return what lists as a whole are like, cut at several lengths.

        With the share p_j of people who did job j, over all places of all lists:

            coverage@k        = distinct jobs shown; a count
            never_shown@k     = share of the known jobs that no list shows
            gini@k            = Gini coefficient of how often known jobs are shown: 0 all alike,
                                near 1 a few only
            novelty@k         = mean of -log2 p_j, in bits; an unknown job counts as one person's
            popularity_bias@k = mean p_j, over the mean of p_j in the people's own histories:
                                above 1 the lists are more popular than what people chose
            diversity@k       = 1 - mean cosine of the people of two jobs of a list, averaged
                                over lists of two jobs and more

        Castells, Hurley, Vargas: Novelty and Diversity in Recommender Systems (2015).

        Args:
            user_ids: shape (n,), the people whose lists these are.
            lists: shape (n, K), job ids, -1 where a list is short.
            ks: lengths, each from 1 to K.
        """
        positions = self._known.jobs.positions(lists.ravel()).reshape(lists.shape)
        usual = self._usual_share(user_ids)
        least = 1 / len(self._known.users)
        cosines = self._mean_cosines(positions, ks)
        metrics: dict[str, float] = {}
        for k in ks:
            shown = positions[:, :k][lists[:, :k] >= 0]
            counts = self.counts(lists[:, :k])
            shares = np.where(shown >= 0, self._share[shown], 0.0)
            metrics |= {
                f"coverage@{k}": float(len(np.unique(lists[:, :k][lists[:, :k] >= 0]))),
                f"never_shown@{k}": float((counts == 0).mean()),
                f"gini@{k}": gini(counts),
                f"novelty@{k}": _mean(-np.log2(np.maximum(shares, least))),
                f"popularity_bias@{k}": _mean(shares) / usual if usual else 0.0,
                f"diversity@{k}": 1 - cosines[k],
            }
        return metrics

    def counts(self, lists: IdArray) -> NDArray[np.int64]:
        """Return how often the lists show each known job, shape (jobs,)."""
        positions = self._known.jobs.positions(lists.ravel())
        return np.bincount(positions[positions >= 0], minlength=len(self._share))

    def of_people(self, lists: IdArray) -> dict[str, MetricArray]:
        """Return how well known the jobs of each person's list are, each of shape (people,).

        `novelty` and `popularity` are the means of -log2 p_j and of p_j, see `measure`; 0 for
        an empty list.
        """
        positions = self._known.jobs.positions(lists.ravel()).reshape(lists.shape)
        shares = np.where(positions >= 0, self._share[positions], 0.0)
        bits = -np.log2(np.maximum(shares, 1 / len(self._known.users)))
        are_jobs = lists >= 0
        lengths = np.maximum(1, are_jobs.sum(axis=1))
        return {
            "novelty": (bits * are_jobs).sum(axis=1) / lengths,
            "popularity": (shares * are_jobs).sum(axis=1) / lengths,
        }

    def _usual_share(self, user_ids: IdArray) -> float:
        """Return the mean share of the jobs in the histories of some people."""
        users = self._known.users.positions(user_ids)
        chosen = np.zeros(len(self._known.users), dtype=np.bool_)
        chosen[users[users >= 0]] = True
        own = self._known.indices[np.repeat(chosen, np.diff(self._known.indptr))]
        return _mean(self._share[own])

    def _mean_cosines(self, positions: IndexArray, ks: Sequence[int]) -> dict[int, float]:
        """Return the mean cosine of two jobs of a list, averaged over lists, for each length."""
        people, longest = positions.shape
        left, right = np.triu_indices(longest, 1)
        sums = {k: np.zeros(people) for k in ks}
        pairs = {k: np.zeros(people) for k in ks}
        height = max(1, _PAIRS // max(1, len(left)))
        for start in range(0, people, height):
            block = positions[start : start + height]
            rows = slice(start, start + len(block))
            cosines = self._cosines(block[:, left], block[:, right])
            are_jobs = (block[:, left] >= 0) & (block[:, right] >= 0)
            for k in ks:
                inside = right < k
                sums[k][rows] = cosines[:, inside].sum(axis=1)
                pairs[k][rows] = are_jobs[:, inside].sum(axis=1)
        return {k: _mean(sums[k][pairs[k] > 0] / pairs[k][pairs[k] > 0]) for k in ks}

    def _cosines(self, left: IndexArray, right: IndexArray) -> MetricArray:
        """Return the cosine of the people of two jobs, 0 where one of them is no known job.

        A row of the matrix of common people is made for each job on the left, used and dropped.
        """
        cosines = np.zeros(left.shape)
        # The row of the job that fewer people did is made faster
        swapped = self._audience[left] > self._audience[right]
        rarer = np.where(swapped, right, left).ravel()
        other = np.where(swapped, left, right).ravel()
        cells = np.flatnonzero((rarer >= 0) & (other >= 0))
        cells = cells[np.argsort(rarer[cells])]
        starts = np.flatnonzero(np.diff(rarer[cells], prepend=-1))
        flat = cosines.ravel()
        for own in np.split(cells, starts[1:]) if len(cells) else []:
            job = rarer[own[0]]
            lengths = np.sqrt(self._audience[job] * self._audience[other[own]])
            flat[own] = self._people_in_common(job)[other[own]] / lengths
        return flat.reshape(left.shape)

    def _people_in_common(self, job: int) -> NDArray[np.int64]:
        """Return how many people each job shares with one job, shape (jobs,)."""
        indptr, indices = self._known.indptr, self._known.indices
        histories = [indices[indptr[user] : indptr[user + 1]] for user in self._people[job]]
        return np.bincount(np.concatenate(histories), minlength=len(self._audience))


def lorenz(counts: NDArray[np.int64], points: int = 101) -> list[float]:
    """Return which share of all showings the least shown jobs get together.

    Args:
        counts: how often each job is shown.
        points: at so many shares of the jobs, evenly from 0 to 1.

    Returns:
        the Lorenz curve; twice the area between it and the diagonal is the Gini coefficient.
    """
    if not counts.sum():
        return [float(share) for share in np.linspace(0, 1, points)]
    shares = np.concatenate([[0.0], np.cumsum(np.sort(counts)) / counts.sum()])
    places = np.linspace(0, 1, points)
    curve = np.interp(places, np.linspace(0, 1, len(shares)), shares)
    return [float(share) for share in curve]


def gini(counts: NDArray[np.int64]) -> float:
    """Return the Gini coefficient of counts; 0 where there is nothing to share out."""
    total = counts.sum()
    if not total:
        return 0.0
    n = len(counts)
    ranks = np.arange(1, n + 1)
    return float(2 * (ranks * np.sort(counts)).sum() / (n * total) - (n + 1) / n)


def _mean(values: MetricArray) -> float:
    return float(values.mean()) if values.size else 0.0
