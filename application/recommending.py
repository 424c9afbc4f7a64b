"""Answering: jobs for one person, for many people, and jobs that resemble a job."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np

from domain.errors import (
    CatalogUnavailable,
    InputError,
    ModelNotReady,
    SnapshotCorrupt,
    SnapshotError,
)
from domain.model import (
    MAX_ID,
    ActivityKind,
    BoolArray,
    IdArray,
    IndexArray,
    Interactions,
    JobFilter,
    Recommendation,
    ShortfallReason,
)
from domain.ports import (
    Catalog,
    Clock,
    LoadRecommender,
    OnProgress,
    Recommender,
    SnapshotStore,
    nobody,
)
from domain.ranking import Ranked, RankingPolicy, best
from domain.runs import Manifest

MAX_FIRST = 100
MAX_BATCH = 1_000
_BLOCK_PEOPLE = 2_048
"""Lists are made for so many people at once, which bounds the memory they take."""

_REMEMBERED_FILTERS = 256
_REMEMBERED_BYTES = 64 << 20

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
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why the promoted model does not answer here, None where it does."""
        return self._trouble

    @property
    def current(self) -> LiveModel | None:
        """The model that is live now, None before the first."""
        return self._live

    @property
    def live(self) -> LiveModel:
        """The current model.

        Raises:
            ModelNotReady: none has been promoted yet.
        """
        if self._live is None:
            raise ModelNotReady("no model is live yet; the first is being trained")
        return self._live

    def refresh(self) -> bool:
        """Follow the promoted version; tell whether another model went live here.

        A version that cannot be used is reported once. The model before it stays; a process that
        has none takes the newest that can be used.
        """
        version = None
        try:
            version = self._snapshots.live()
            if version is None or version == self._refused:
                return False
            if self._live is not None and self._live.manifest.version == version:
                self._refused = self._trouble = None
                return False
            opened: LiveModel | None = self.open(version)
            self._refused = self._trouble = None
        except SnapshotError as error:
            opened = self._stand_in(version, error)
        if opened is None:
            return False
        self._live = opened
        _log.info("model %s is live", opened.manifest.version)
        return True

    def _stand_in(self, version: str | None, error: SnapshotError) -> LiveModel | None:
        """Return the newest usable model where the promoted one is not, and none answers yet."""
        trouble = f"the promoted model is not usable: {error}"
        if trouble != self._trouble:
            _log.error("%s", trouble)
        self._refused, self._trouble = version, trouble
        if self._live is not None:
            return None
        for manifest in self._snapshots.manifests():
            if manifest.version != version:
                try:
                    return self.open(manifest.version)
                except SnapshotError as other:
                    _log.warning("model %s is not usable either: %s", manifest.version, other)
        return None

    def open(self, version: str) -> LiveModel:
        """Return any stored model, ready to answer.

        Raises:
            SnapshotError: it is missing or not usable.
        """
        snapshot = self._snapshots.open(version)
        try:
            interactions = Interactions.from_arrays(snapshot.arrays)
        except (KeyError, InputError) as error:
            raise SnapshotCorrupt(f"{version} holds no usable interactions: {error}") from error
        popularity = interactions.popularity()
        return LiveModel(
            manifest=snapshot.manifest,
            interactions=interactions,
            recommender=self._load(snapshot.manifest.trainer, snapshot.arrays),
            popular=best(np.arange(len(popularity)), popularity, len(popularity)),
        )


@dataclass(frozen=True)
class RecommendationList:
    """Jobs for one person, best first.

    Attributes:
        is_partial: whether the catalogue does not answer, so that changes may not be heeded.
    """

    user_id: int
    model: Manifest
    items: tuple[Recommendation, ...]
    shortfall: ShortfallReason | None
    is_partial: bool = False


class SimilarJob(NamedTuple):
    """A job that resembles another; the score is the cosine of their factors."""

    rank: int
    job_id: int
    score: float


@dataclass(frozen=True)
class SimilarJobList:
    """Jobs that resemble a job, best first.

    Attributes:
        is_partial: whether the catalogue does not answer, so that changes may not be heeded.
    """

    job_id: int
    model: Manifest
    items: tuple[SimilarJob, ...]
    is_partial: bool = False


@dataclass(frozen=True)
class _Candidates:
    """The jobs that may be recommended, until one opens or closes or the catalogue changes.

    Attributes:
        erased: shape (users,), whom the model knows and may not know any more.
        is_partial: whether they are what was last known, since the catalogue does not answer.
    """

    eligible: BoolArray
    count: int
    popular: Ranked
    erased: BoolArray
    revision: int
    valid_until: float
    is_partial: bool = False

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        arrays = (self.eligible, self.popular.jobs, self.popular.scores, self.erased)
        return sum(array.nbytes for array in arrays)


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
        self._remembered: OrderedDict[tuple[str, JobFilter | None], _Candidates] = OrderedDict()

    def for_users(
        self,
        user_ids: Sequence[int],
        first: int,
        where: JobFilter | None = None,
        exclude: Sequence[ActivityKind] = (ActivityKind.APPLY,),
        model: LiveModel | None = None,
    ) -> list[RecommendationList]:
        """Recommend jobs to people; one list for each id, in the same order.

        Somebody whom the model does not know, or who was erased, gets popular jobs. Where the
        catalogue does not answer, what was last known of it counts.

        Args:
            user_ids: at most MAX_BATCH; may repeat.
            first: length of the lists, 1 to MAX_FIRST.
            where: what the jobs must satisfy.
            exclude: jobs with which the person did any of these are left out.
            model: answers; the live one unless given.

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
        model = model or self._models.live
        where = None if where == JobFilter() else where
        candidates = self._candidates(model, where)
        positions = model.interactions.users.positions(user_ids)
        positions[(positions >= 0) & candidates.erased[positions]] = -1
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
        self,
        job_id: int,
        first: int,
        where: JobFilter | None = None,
        model: LiveModel | None = None,
    ) -> SimilarJobList | None:
        """Return the jobs that the same people are drawn to; None where the job is unknown.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        _check_id(job_id, "jobId")
        return self.similar_lists([job_id], first, where, model).get(job_id)

    def similar_lists(
        self,
        job_ids: Sequence[int],
        first: int,
        where: JobFilter | None = None,
        model: LiveModel | None = None,
    ) -> dict[int, SimilarJobList]:
        """Return what resembles each of those jobs that the model knows.

        Raises:
            InputError: `first` is out of bounds.
            ModelNotReady: no model is live.
        """
        _check_first(first)
        model = model or self._models.live
        positions = model.interactions.jobs.positions(job_ids).tolist()
        known = [(id_, at) for id_, at in zip(job_ids, positions, strict=True) if at >= 0]
        if not known:
            return {}
        candidates = self._candidates(model, None if where == JobFilter() else where)
        lists = {}
        for job_id, position in known:
            ranked = model.recommender.similar(position, first, candidates.eligible)
            ids = model.interactions.jobs.ids[ranked.jobs].tolist()
            rows = enumerate(zip(ids, ranked.scores.tolist(), strict=True), 1)
            lists[job_id] = SimilarJobList(
                job_id,
                model.manifest,
                tuple(SimilarJob(rank, id_, score) for rank, (id_, score) in rows),
                candidates.is_partial,
            )
        return lists

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
            is_partial=candidates.is_partial,
        )

    def _candidates(self, model: LiveModel, where: JobFilter | None) -> _Candidates:
        """Return which jobs may be recommended now, remembered until that changes."""
        at = self._clock()
        key = (model.manifest.version, where)
        with self._lock:
            known = self._remembered.get(key)
        try:
            # Before the content, which may be newer then but never older
            revision = self._catalog.revision
            is_current = known is not None and known.revision == revision
            if known is None or not is_current or at.timestamp() >= known.valid_until:
                known = self._asked_for(model, where, at, revision)
        except CatalogUnavailable:
            return replace(known or self._unasked_for(model, where), is_partial=True)
        with self._lock:
            self._remembered[key] = known
            self._remembered.move_to_end(key)
            self._forget()
        return known

    def _asked_for(
        self, model: LiveModel, where: JobFilter | None, at: datetime, revision: int
    ) -> _Candidates:
        standing = self._catalog.standing(model.interactions.jobs.ids, at, where)
        erased = ~np.isnan(self._catalog.erased_at(model.interactions.users.ids))
        eligible = self._ranking.eligible(standing)
        return _candidates(model, eligible, erased, revision, standing.valid_until)

    def _unasked_for(self, model: LiveModel, where: JobFilter | None) -> _Candidates:
        """Return all jobs where nothing is known of them; none where they had to be filtered.

        Nobody counts as known, since anybody may have been erased.
        """
        jobs, people = len(model.interactions.jobs), len(model.interactions.users)
        eligible = np.full(jobs, where is None, dtype=np.bool_)
        return _candidates(model, eligible, np.ones(people, dtype=np.bool_), 0, 0.0)

    def _forget(self) -> None:
        """Drop what was not asked for longest, where too much is remembered."""
        held = sum(candidates.nbytes for candidates in self._remembered.values())
        while len(self._remembered) > 1 and (
            len(self._remembered) > _REMEMBERED_FILTERS or held > _REMEMBERED_BYTES
        ):
            _, forgotten = self._remembered.popitem(last=False)
            held -= forgotten.nbytes


def _candidates(
    model: LiveModel, eligible: BoolArray, erased: BoolArray, revision: int, valid_until: float
) -> _Candidates:
    chosen = eligible[model.popular.jobs]
    return _Candidates(
        eligible=eligible,
        count=int(eligible.sum()),
        popular=Ranked(model.popular.jobs[chosen], model.popular.scores[chosen]),
        erased=erased,
        revision=revision,
        valid_until=valid_until,
    )


def top_lists(
    interactions: Interactions,
    recommender: Recommender | None,
    user_ids: IdArray,
    k: int,
    exclude: Sequence[ActivityKind],
) -> IdArray:
    """Return the lists of many people as one array, for measuring and comparing.

    Args:
        recommender: learned from `interactions`; None lists what is popular.
        user_ids: shape (people,); people whom the model does not know get popular jobs.
        exclude: jobs with which the person did any of these are left out.

    Returns:
        shape (people, k), job ids, -1 where a list is short.
    """
    nothing = Ranked.nothing().jobs

    def done(people: slice) -> list[IndexArray]:
        return [
            nothing if user < 0 else interactions.jobs_done(int(user), exclude)
            for user in interactions.users.positions(user_ids[people])
        ]

    return lists_without(interactions, recommender, user_ids, k, done)


def lists_without(
    interactions: Interactions,
    recommender: Recommender | None,
    user_ids: IdArray,
    k: int,
    hidden: Callable[[slice], Sequence[IndexArray]],
    on_progress: OnProgress = nobody,
) -> IdArray:
    """Return the lists of many people, completed with popular jobs, without what is hidden.

    Args:
        recommender: learned from `interactions`; None lists what is popular.
        user_ids: shape (people,); people whom the model does not know get popular jobs.
        hidden: returns for a stretch of people positions of jobs that must not appear.

    Returns:
        shape (people, k), job ids, -1 where a list is short.
    """
    jobs, people = interactions.jobs, len(user_ids)
    everything = np.ones(len(jobs), dtype=np.bool_)
    popularity = interactions.popularity()
    popular = best(np.arange(len(jobs)), popularity, len(jobs))
    positions = interactions.users.positions(user_ids)
    lists = np.full((people, k), -1, dtype=np.int64)
    on_progress(0, people)
    for start in range(0, people, _BLOCK_PEOPLE):
        block = slice(start, start + _BLOCK_PEOPLE)
        barred = hidden(block)
        ranked = _ranked(recommender, positions[block], k, everything, barred)
        for row, (personal, own) in enumerate(zip(ranked, barred, strict=True), start):
            complete, _ = RankingPolicy().complete(personal, popular, own, k)
            lists[row, : len(complete)] = jobs.ids[complete.jobs]
        on_progress(min(people, block.stop), people)
    return lists


def _ranked(
    recommender: Recommender | None,
    users: IndexArray,
    k: int,
    eligible: BoolArray,
    hidden: Sequence[IndexArray],
) -> list[Ranked]:
    """Rank jobs for people; those whom the model does not know, at -1, get none."""
    lists = [Ranked.nothing()] * len(users)
    if recommender is None:
        return lists
    rows = np.flatnonzero(users >= 0).tolist()
    ranked = recommender.recommend(users[rows], k, eligible, [hidden[row] for row in rows])
    for row, own in zip(rows, ranked, strict=True):
        lists[row] = own
    return lists


def _check_first(first: int) -> None:
    if not 1 <= first <= MAX_FIRST:
        raise InputError(f"first is {first}, expected 1 to {MAX_FIRST}", "first")


def _check_id(id_: int, argument: str) -> None:
    if not 0 <= id_ <= MAX_ID:
        raise InputError(f"{argument} is {id_}, expected 0 to {MAX_ID}", argument)
