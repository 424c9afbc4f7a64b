"""Answering: jobs for one person, for many people, and jobs that resemble a job."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from domain.errors import InputError, ModelNotReady, SnapshotError
from domain.model import (
    MAX_ID,
    ActivityKind,
    BoolArray,
    IndexArray,
    Interactions,
    JobFilter,
    Recommendation,
    ShortfallReason,
)
from domain.ports import Catalog, Clock, LoadRecommender, Recommender, SnapshotStore
from domain.ranking import Ranked, RankingPolicy, best
from domain.runs import Manifest

MAX_FIRST = 100
MAX_BATCH = 1_000
_REMEMBERED_FILTERS = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveModel:
    """A snapshot ready to answer. An answer reads it once and stays with it.

    Attributes:
        popular: all jobs, the most popular first; scores are shares of all interest.
    """

    manifest: Manifest
    interactions: Interactions
    recommender: Recommender
    popular: Ranked


class Models:
    """Holds the live model and follows the promoted version."""

    def __init__(self, snapshots: SnapshotStore, load: LoadRecommender) -> None:
        self._snapshots = snapshots
        self._load = load
        self._live: LiveModel | None = None
        self._refused: str | None = None

    @property
    def live(self) -> LiveModel:
        """The current model.

        Raises:
            ModelNotReady: none has been promoted yet.
        """
        if self._live is None:
            raise ModelNotReady(
                "no model is live yet; it is being trained, or `retrain` was not run"
            )
        return self._live

    def refresh(self) -> bool:
        """Follow the promoted version; tell whether another model went live here.

        A version that cannot be used is reported once, and the model before it stays.
        """
        version = self._snapshots.live()
        if version is None or version == self._refused:
            return False
        if self._live is not None and self._live.manifest.version == version:
            return False
        try:
            self._live = self._open(version)
        except SnapshotError as error:
            self._refused = version
            _log.error("the promoted model is not usable: %s", error)
            return False
        self._refused = None
        _log.info("model %s is live", version)
        return True

    def _open(self, version: str) -> LiveModel:
        snapshot = self._snapshots.open(version)
        interactions = Interactions.from_arrays(snapshot.arrays)
        popularity = interactions.popularity()
        return LiveModel(
            manifest=snapshot.manifest,
            interactions=interactions,
            recommender=self._load(snapshot.arrays),
            popular=best(np.arange(len(popularity)), popularity, len(popularity)),
        )


@dataclass(frozen=True)
class RecommendationList:
    """Jobs for one person, best first."""

    user_id: int
    model: Manifest
    items: tuple[Recommendation, ...]
    shortfall: ShortfallReason | None


class SimilarJob(NamedTuple):
    """A job that resembles another; the score is the cosine of their factors."""

    rank: int
    job_id: int
    score: float


@dataclass(frozen=True)
class SimilarJobList:
    """Jobs that resemble a job, best first."""

    job_id: int
    model: Manifest
    items: tuple[SimilarJob, ...]


@dataclass(frozen=True)
class _Candidates:
    """The jobs that may be recommended, until one opens or closes."""

    eligible: BoolArray
    count: int
    popular: Ranked
    valid_until: float


class Recommending:
    """The read side: every answer comes wholly from one model and names it."""

    def __init__(
        self, models: Models, catalog: Catalog, ranking: RankingPolicy, clock: Clock
    ) -> None:
        self._models = models
        self._catalog = catalog
        self._ranking = ranking
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: OrderedDict[tuple[str, int, JobFilter | None], _Candidates] = (
            OrderedDict()
        )

    def for_users(
        self,
        user_ids: Sequence[int],
        first: int,
        where: JobFilter | None = None,
        exclude: Sequence[ActivityKind] = (ActivityKind.APPLY,),
    ) -> list[RecommendationList]:
        """Recommend jobs to people; one list for each id, in the same order.

        Somebody whom the model does not know gets popular jobs.

        Args:
            user_ids: at most MAX_BATCH; may repeat.
            first: length of the lists, 1 to MAX_FIRST.
            where: what the jobs must satisfy.
            exclude: jobs with which the person did any of these are left out.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        _check_first(first)
        if len(user_ids) > MAX_BATCH:
            raise InputError(
                f"userIds holds {len(user_ids):,} ids, at most {MAX_BATCH:,}", "userIds"
            )
        for user_id in user_ids:
            _check_id(user_id, "userId")
        model = self._models.live
        where = None if where == JobFilter() else where
        candidates = self._candidates(model, where)
        positions = model.interactions.users.positions(user_ids)
        known = positions[positions >= 0]
        excluded = [model.interactions.jobs_done(int(user), exclude) for user in known]
        ranked = iter(
            zip(
                model.recommender.recommend(known, first, candidates.eligible, excluded),
                excluded,
                strict=True,
            )
        )
        nothing = Ranked.nothing()
        return [
            self._list(
                model,
                user_id,
                first,
                candidates,
                *(next(ranked) if position >= 0 else (nothing, nothing.jobs)),
                filtered=where is not None,
            )
            for user_id, position in zip(user_ids, positions, strict=True)
        ]

    def similar(
        self, job_id: int, first: int, where: JobFilter | None = None
    ) -> SimilarJobList | None:
        """Return the jobs that the same people are drawn to; None where the job is unknown.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        _check_first(first)
        _check_id(job_id, "jobId")
        model = self._models.live
        position = model.interactions.jobs.position(job_id)
        if position is None:
            return None
        eligible = self._candidates(model, None if where == JobFilter() else where).eligible
        ranked = model.recommender.similar(position, first, eligible)
        ids = model.interactions.jobs.ids[ranked.jobs].tolist()
        items = (
            SimilarJob(rank, id_, score)
            for rank, (id_, score) in enumerate(zip(ids, ranked.scores.tolist(), strict=True), 1)
        )
        return SimilarJobList(job_id, model.manifest, tuple(items))

    def _list(
        self,
        model: LiveModel,
        user_id: int,
        first: int,
        candidates: _Candidates,
        personal: Ranked,
        excluded: IndexArray,
        *,
        filtered: bool,
    ) -> RecommendationList:
        ranked, sources = self._ranking.complete(personal, candidates.popular, excluded, first)
        ids = model.interactions.jobs.ids[ranked.jobs].tolist()
        rows = zip(ids, ranked.scores.tolist(), sources, strict=True)
        return RecommendationList(
            user_id=user_id,
            model=model.manifest,
            items=tuple(Recommendation(rank, *row) for rank, row in enumerate(rows, 1)),
            shortfall=self._ranking.shortfall(len(ids), first, candidates.count, filtered=filtered),
        )

    def _candidates(self, model: LiveModel, where: JobFilter | None) -> _Candidates:
        """Return which jobs may be recommended now, remembered until a job opens or closes."""
        at = self._clock()
        key = (model.manifest.version, self._catalog.revision, where)
        with self._lock:
            known = self._remembered.get(key)
            if known is not None and at.timestamp() < known.valid_until:
                self._remembered.move_to_end(key)
                return known
        standing = self._catalog.standing(model.interactions.jobs.ids, at, where)
        eligible = self._ranking.eligible(standing)
        chosen = eligible[model.popular.jobs]
        candidates = _Candidates(
            eligible=eligible,
            count=int(eligible.sum()),
            popular=Ranked(model.popular.jobs[chosen], model.popular.scores[chosen]),
            valid_until=standing.valid_until,
        )
        with self._lock:
            self._remembered[key] = candidates
            while len(self._remembered) > _REMEMBERED_FILTERS:
                self._remembered.popitem(last=False)
        return candidates


def _check_first(first: int) -> None:
    if not 1 <= first <= MAX_FIRST:
        raise InputError(f"first is {first}, expected 1 to {MAX_FIRST}", "first")


def _check_id(id_: int, argument: str) -> None:
    if not 0 <= id_ <= MAX_ID:
        raise InputError(f"{argument} is {id_}, expected 0 to {MAX_ID}", argument)
