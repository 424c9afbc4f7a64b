"""Judging what is recommended of jobs that the training part does not hold."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from application.new_jobs import ContentLearning
from domain.metrics import Targets, per_person
from domain.model import ActivityTally, IdArray, IndexArray, Interactions, Job, folded
from domain.ports import Catalog, Recommender, nobody
from domain.ranking import best

_ALL = 2**31


@dataclass(frozen=True)
class ColdPart:
    """How well unseen jobs are ranked, among themselves.

    Attributes:
        k: length of the lists.
        people: those with an unseen job to predict.
        targets: their pairs with such jobs.
        jobs: candidates: unseen jobs with a text that were open in the held-out part.
        recall: by way of ranking, recall@k averaged over people.
    """

    k: int
    people: int
    targets: int
    jobs: int
    recall: dict[str, float]


class ColdStart:
    """Measures content vectors on unseen jobs, beside what popularity can say of them.

    Nobody's interest in an unseen job is known, so popularity ranks it by that in the known jobs
    of its employer, or of its title. Chance is exact: the share of the candidates in a list.
    """

    def __init__(self, catalog: Catalog, content: ContentLearning) -> None:
        self._catalog = catalog
        self._content = content

    def measure(
        self,
        held_out: ActivityTally,
        interactions: Interactions,
        recommender: Recommender,
        k: int,
        seed: int,
    ) -> ColdPart | None:
        """Measure; None where no unseen job can be placed, or nobody did anything with one.

        Args:
            recommender: learned from `interactions`.
        """
        reading = self._content.begin(interactions, seed)
        content = self._content.learn(reading, interactions, recommender, nobody)
        if content is None:
            return None
        known = interactions.jobs.ids
        jobs = self._candidates(known, held_out)
        vectors = content.vectors(jobs)
        placed = np.flatnonzero(vectors.any(axis=1))
        jobs, vectors = [jobs[row] for row in placed], vectors[placed]
        ids = np.array([job.id for job in jobs], dtype=np.int64)
        chosen = np.isin(held_out.job_ids, ids)
        chosen &= interactions.users.positions(held_out.user_ids) >= 0
        measured = held_out.select(chosen)
        if not len(measured):
            return None
        targets = Targets.of(measured, len(measured), seed)
        users = interactions.users.positions(targets.user_ids)
        eligible = np.concatenate(
            [np.zeros(len(known), dtype=np.bool_), np.ones(len(ids), dtype=np.bool_)]
        )
        nothing: IndexArray = np.empty(0, dtype=np.int64)
        ranked = recommender.with_jobs(vectors).recommend(
            users, k, eligible, [nothing] * len(users)
        )
        lists = np.full((len(users), k), -1, dtype=np.int64)
        for row, own in enumerate(ranked):
            lists[row, : len(own)] = ids[own.jobs - len(known)]

        def recall(shown: IdArray) -> float:
            return float(per_person(targets, shown, [k])[f"recall@{k}"].mean())

        def popular(attribute: str) -> float:
            interest = self._interest(interactions, attribute)
            scores = [interest[folded(getattr(job, attribute))] for job in jobs]
            order = best(np.arange(len(ids)), np.array(scores, dtype=np.float32), k).jobs
            shown = np.full(k, -1, dtype=np.int64)
            shown[: len(order)] = ids[order]
            return recall(np.tile(shown, (len(users), 1)))

        return ColdPart(
            k,
            len(users),
            len(measured),
            len(ids),
            {
                "content": recall(lists),
                "popular employers": popular("employer"),
                "popular titles": popular("title"),
                "random": min(1.0, k / len(ids)),
            },
        )

    def _candidates(self, known: IdArray, held_out: ActivityTally) -> list[Job]:
        """Return unseen jobs that were open at some time of the held-out part, by id."""
        times = held_out.first_at[np.isfinite(held_out.first_at)]
        start, end = (float(times.min()), float(times.max())) if len(times) else (0.0, np.inf)
        ids = self._catalog.absent(known, datetime.fromtimestamp(start, UTC), _ALL)
        jobs = self._catalog.jobs(ids.tolist())
        return [
            jobs[id_]
            for id_ in sorted(jobs)
            if (posted := jobs[id_].posted_at) is None or posted.timestamp() <= end
        ]

    def _interest(self, interactions: Interactions, attribute: str) -> dict[str, float]:
        """Return the share of all interest by an attribute of jobs; 0 where it is not said."""
        interest: defaultdict[str, float] = defaultdict(float)
        ids = interactions.jobs.ids.tolist()
        listed = self._catalog.jobs(ids)
        for id_, share in zip(ids, interactions.popularity().tolist(), strict=True):
            if id_ in listed and (value := folded(getattr(listed[id_], attribute))):
                interest[value] += share
        return interest
