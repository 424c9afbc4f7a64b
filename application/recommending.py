"""Answering: jobs for one person, for many people, and jobs that resemble a job."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.errors import InputError, ModelNotReady, SnapshotCorrupt, SnapshotError
from domain.model import (
    MAX_ID,
    ActivityKind,
    BoolArray,
    IdArray,
    IndexArray,
    Interactions,
    JobFilter,
    Recommendation,
    RecommendationSource,
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

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return self.eligible.nbytes + self.popular.jobs.nbytes + self.popular.scores.nbytes


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
        model: LiveModel | None = None,
    ) -> list[RecommendationList]:
        """Recommend jobs to people; one list for each id, in the same order.

        Somebody whom the model does not know gets popular jobs.

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
        _check_first(first)
        _check_id(job_id, "jobId")
        model = model or self._models.live
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
            self._forget()
        return candidates

    def _forget(self) -> None:
        """Drop what was not asked for longest, where too much is remembered."""
        held = sum(candidates.nbytes for candidates in self._remembered.values())
        while len(self._remembered) > 1 and (
            len(self._remembered) > _REMEMBERED_FILTERS or held > _REMEMBERED_BYTES
        ):
            _, forgotten = self._remembered.popitem(last=False)
            held -= forgotten.nbytes


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

    return lists_without(interactions, recommender, user_ids, k, done).jobs


class SourcedLists(NamedTuple):
    """The lists of many people, and where each of their jobs comes from.

    Attributes:
        jobs: shape (people, k), job ids, -1 where a list is short.
        sources: shape (people, k), positions in `RecommendationSource`, -1 where a list is short.
    """

    jobs: IdArray
    sources: NDArray[np.int8]


def lists_without(
    interactions: Interactions,
    recommender: Recommender | None,
    user_ids: IdArray,
    k: int,
    hidden: Callable[[slice], Sequence[IndexArray]],
    on_progress: OnProgress = nobody,
) -> SourcedLists:
    """Return the lists of many people, completed with popular jobs, without what is hidden.

    Args:
        recommender: learned from `interactions`; None lists what is popular.
        user_ids: shape (people,); people whom the model does not know get popular jobs.
        hidden: returns for a stretch of people positions of jobs that must not appear.
    """
    jobs, people = interactions.jobs, len(user_ids)
    everything = np.ones(len(jobs), dtype=np.bool_)
    popularity = interactions.popularity()
    popular = best(np.arange(len(jobs)), popularity, len(jobs))
    positions = interactions.users.positions(user_ids)
    lists = np.full((people, k), -1, dtype=np.int64)
    places = np.full((people, k), -1, dtype=np.int8)
    codes = {source: code for code, source in enumerate(RecommendationSource)}
    on_progress(0, people)
    for start in range(0, people, _BLOCK_PEOPLE):
        block = slice(start, start + _BLOCK_PEOPLE)
        barred = hidden(block)
        ranked = _ranked(recommender, positions[block], k, everything, barred)
        for row, (personal, own) in enumerate(zip(ranked, barred, strict=True), start):
            complete, sources = RankingPolicy().complete(personal, popular, own, k)
            lists[row, : len(complete)] = jobs.ids[complete.jobs]
            places[row, : len(complete)] = [codes[source] for source in sources]
        on_progress(min(people, block.stop), people)
    return SourcedLists(lists, places)


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
