"""Answering: jobs for one person, for many people, and jobs that resemble a job."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache, partial
from itertools import chain, islice, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from application.ahead import LENGTH, ListsAhead
from application.histories import NOTHING_NEW, Person, people_of, visitor, without_erased
from application.new_jobs import JobPool, JobPools
from domain import explaining
from domain.employers import EmployerTypes
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
    ActivityTally,
    BoolArray,
    FloatArray,
    IdArray,
    IndexArray,
    Interactions,
    JobFilter,
    Reason,
    Recommendation,
    RecommendationSource,
    ShortfallReason,
)
from domain.ports import (
    Arrays,
    Catalog,
    Clock,
    ContentModel,
    FoldIn,
    LoadContent,
    LoadRecommender,
    OnProgress,
    RecentActivities,
    Recommender,
    SnapshotStore,
    nobody,
)
from domain.ranking import Ranked, RankingPolicy, best
from domain.runs import Manifest
from domain.scoring import ScoringPolicy
from domain.variety import Variety, crowding

MAX_FIRST = 100
MAX_BATCH = 1_000
MAX_SESSION = 200
"""A visitor's activities, liked and disliked jobs: so many of each."""

_BLOCK_PEOPLE = 512
"""Lists are made for so many people at once, which bounds the memory they take."""

_UNFILTERED = JobFilter()

_REMEMBERED_FILTERS = 256
_REMEMBERED_BYTES = 64 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A snapshot ready to answer. An answer reads it once and stays with it.

    Attributes:
        popular: all jobs, the most popular first; scores are `Interactions.current_interest`.
        content: places jobs that came after the training; None where it cannot.
        employers: what was learned of employers, None where nothing was.
    """

    manifest: Manifest
    interactions: Interactions
    recommender: Recommender
    popular: Ranked
    content: ContentModel | None = None
    employers: EmployerTypes | None = None

    @cached_property
    def crowd(self) -> FloatArray:
        """The share of all jobs in which fewer are interested, whenever that was, shape (jobs,)."""
        return crowding(self.interactions.popularity())

    @cached_property
    def scoring(self) -> ScoringPolicy:
        """What scored the activities that it learned from."""
        return ScoringPolicy(**self.manifest.scoring)


def no_content(_arrays: Arrays) -> None:
    """Load no content model: new jobs wait for the next training."""


class Models:
    """Holds the live model and follows the promoted version."""

    def __init__(
        self,
        snapshots: SnapshotStore,
        load: LoadRecommender,
        load_content: LoadContent = no_content,
    ) -> None:
        self._snapshots = snapshots
        self._load = load
        self._load_content = load_content
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
            employers = EmployerTypes.from_arrays(snapshot.arrays)
        except (KeyError, InputError) as error:
            raise SnapshotCorrupt(f"{version} holds no usable data: {error}") from error
        interest = interactions.current_interest()
        return LiveModel(
            manifest=snapshot.manifest,
            interactions=interactions,
            recommender=self._load(snapshot.manifest.trainer, snapshot.arrays),
            popular=best(np.arange(len(interest)), interest, len(interest)),
            content=self._load_content(snapshot.arrays),
            employers=employers,
        )


@dataclass(frozen=True)
class RecommendationList:
    """Jobs for one person, best first.

    Attributes:
        user_id: None for a visitor.
    """

    user_id: int | None
    model: Manifest
    items: tuple[Recommendation, ...]
    shortfall: ShortfallReason | None
    is_partial: bool = False


class SimilarJob(NamedTuple):
    """A job that resembles another; the score is the cosine of their factors."""

    rank: int
    job_id: int
    score: float
    source: RecommendationSource


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
        eligible: shape (jobs,), never written to.
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


class Moment(NamedTuple):
    """What a model may recommend now: looked up once for all lists that are made together.

    Attributes:
        is_filtered: whether a filter narrows it.
    """

    model: LiveModel
    pool: JobPool
    candidates: _Candidates
    is_filtered: bool = False


class _Completed(NamedTuple):
    """A list.

    Attributes:
        sources: where each of its jobs comes from, as if the model had learned all of them.
        is_personal: shape (n,), whether the model ranked the job for the person.
    """

    ranked: Ranked
    sources: list[RecommendationSource]
    is_personal: BoolArray


class Footing(NamedTuple):
    """What an answer stands on: another one may come out only where this is another.

    Attributes:
        version: of the model.
        revision: of the catalogue.
        valid_until: epoch seconds of the next opening or closing of a job.
        marks: of what each of the people asked about did lately.
    """

    version: str
    revision: int
    valid_until: float
    marks: tuple[Hashable, ...]

    def of_one(self, place: int) -> Footing:
        """Return what the answer about one of the people stands on."""
        return self._replace(marks=self.marks[place : place + 1])


_Asked = tuple[str, JobFilter | None, bool]
"""A model's version, a filter, and whether closed jobs are included."""


class Recommending:
    """The read side: every answer comes wholly from one model and names it.

    Args:
        ahead_bytes: for lists that `look_ahead` makes before anybody asks for them.
    """

    def __init__(
        self,
        models: Models,
        catalog: Catalog,
        ranking: RankingPolicy,
        clock: Clock,
        recent: RecentActivities | None = None,
        variety: Variety | None = None,
        ahead_bytes: int = 0,
    ) -> None:
        self._recent = recent
        self._ahead = ListsAhead(ahead_bytes)
        self._variety = variety or Variety()
        self._employers: tuple[JobPool, IndexArray] | None = None
        self._models = models
        self._catalog = catalog
        self._ranking = ranking
        self._clock = clock
        self._pools = JobPools(catalog)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[_Asked, _Candidates] = OrderedDict()

    @property
    def variety(self) -> Variety:
        """How lists are spread where nothing else is asked for."""
        return self._variety

    def for_users(
        self,
        user_ids: Sequence[int],
        first: int,
        where: JobFilter | None = None,
        exclude: Sequence[ActivityKind] = (ActivityKind.APPLY,),
        model: LiveModel | None = None,
        reasons: int = 0,
        *,
        exclude_jobs: Sequence[int] = (),
        include_closed: bool = False,
        variety: Variety | None = None,
        moment: Moment | None = None,
    ) -> list[RecommendationList]:
        """Recommend jobs to people; one list for each id, in the same order.

        What people did since the training counts. Somebody of whom nothing is known, or who was
        erased, gets popular jobs. A job that the person dismissed is never in their list. Where
        the catalogue does not answer, what was last known of it counts.

        Args:
            user_ids: at most MAX_BATCH; may repeat.
            first: length of the lists, 1 to MAX_FIRST.
            where: what the jobs must satisfy.
            exclude: jobs with which the person did any of these are left out.
            model: answers; the live one unless given.
            reasons: so many of each job are told.
            exclude_jobs: at most MAX_BATCH further jobs that are left out.
            include_closed: jobs of the catalogue may be closed, or not open yet.
            variety: how the lists are spread; as the service is set unless given.
            moment: in place of `model`, `where` and `include_closed`, where it was looked up.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        check_first(first)
        _check_reasons(reasons)
        if len(exclude_jobs) > MAX_BATCH:
            raise InputError(
                f"excludeJobIds holds {len(exclude_jobs):,} ids, at most {MAX_BATCH:,}",
                "excludeJobIds",
            )
        for job_id in exclude_jobs:
            _check_id(job_id, "excludeJobIds")
        if len(user_ids) > MAX_BATCH:
            raise InputError(
                f"userIds holds {len(user_ids):,} ids, at most {MAX_BATCH:,}", "userIds"
            )
        for user_id in user_ids:
            _check_id(user_id, "userId")
        where = None if where == _UNFILTERED else where
        if moment is None:
            moment = self._moment(model or self._models.live, where, include_closed=include_closed)
        model, pool, candidates, is_filtered = moment
        _, people = self._recent_and_people(model, pool, candidates, user_ids, exclude)
        if exclude_jobs:
            barred = pool.positions(np.array(exclude_jobs, dtype=np.int64))
            barred = barred[barred >= 0]
            people = [
                replace(person, hidden=np.concatenate([person.hidden, barred])) for person in people
            ]
        return self._lists(
            model,
            pool,
            candidates,
            people,
            first,
            reasons,
            variety or self._variety,
            filtered=is_filtered,
        )

    def for_visitor(
        self,
        activities: Sequence[tuple[int, ActivityKind]],
        first: int,
        where: JobFilter | None = None,
        exclude: Sequence[ActivityKind] = (ActivityKind.APPLY,),
        liked: Sequence[int] = (),
        disliked: Sequence[int] = (),
        model: LiveModel | None = None,
        reasons: int = 0,
    ) -> RecommendationList:
        """Recommend jobs by what is given alone; nothing is kept.

        Args:
            activities: job ids and what was done, at most MAX_SESSION.
            liked: counts as if the visitor had applied; these jobs are left out of the list.
            disliked: counts as if the visitor had dismissed them.
            first: see `for_users`, as for the others.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        check_first(first)
        _check_reasons(reasons)
        for name, given in (
            ("activities", [job_id for job_id, _ in activities]),
            ("liked", liked),
            ("disliked", disliked),
        ):
            if len(given) > MAX_SESSION:
                raise InputError(f"{name} holds {len(given):,} items, at most {MAX_SESSION}", name)
            for job_id in given:
                _check_id(job_id, name)
        model = model or self._models.live
        where = None if where == _UNFILTERED else where
        pool = self._pool(model)
        did = [
            *activities,
            *((job_id, ActivityKind.APPLY) for job_id in liked),
            *((job_id, ActivityKind.DISMISS) for job_id in disliked),
        ]
        tally = ActivityTally.from_events(
            [0] * len(did),
            [job_id for job_id, _ in did],
            [int(kind) for _, kind in did],
            [np.nan] * len(did),
        )
        positions = pool.positions(np.array(liked, dtype=np.int64))
        person = visitor(pool, model.scoring, tally, exclude, positions[positions >= 0])
        (answer,) = self._lists(
            model,
            pool,
            self._candidates(model, pool, where),
            [person],
            first,
            reasons,
            self._variety,
            filtered=where is not None,
        )
        return answer

    def why_not(
        self,
        user_id: int,
        job_id: int,
        where: JobFilter | None = None,
        exclude: Sequence[ActivityKind] = (ActivityKind.APPLY,),
        model: LiveModel | None = None,
    ) -> explaining.WhyNot:
        """Tell where a job stands in a person's whole list, or why it does not.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        _check_id(user_id, "userId")
        _check_id(job_id, "jobId")
        model = model or self._models.live
        where = None if where == _UNFILTERED else where
        pool = self._pool(model)
        position = pool.position(job_id)
        candidates = self._candidates(model, pool, where)
        verdict = self._obstacle(model, pool, job_id, position)
        if verdict is None and position is not None:
            _, (person,) = self._recent_and_people(model, pool, candidates, [user_id], exclude)
            _, (dismissing,) = self._recent_and_people(model, pool, candidates, [user_id], ())
            if position in dismissing.hidden:
                verdict = explaining.Verdict.DISMISSED
            elif position in person.hidden:
                verdict = explaining.Verdict.EXCLUDED
            elif not candidates.eligible[position]:
                verdict = explaining.Verdict.FILTERED
            else:
                whole = len(pool.ids)
                (personal,) = _ranked_for(pool.recommender, [person], whole, candidates.eligible)
                ranked, sources, _ = self._completed(pool, candidates, person, personal, whole)
                row = int(np.flatnonzero(ranked.jobs == position)[0])
                return explaining.WhyNot(
                    job_id,
                    explaining.Verdict.RANKED,
                    row + 1,
                    float(ranked.scores[row]),
                    pool.source(position, sources[row]),
                )
        return explaining.WhyNot(job_id, verdict or explaining.Verdict.UNKNOWN)

    def left_off(self, user_id: int, first: int, model: LiveModel | None = None) -> list[int]:
        """Return the ids of open jobs that somebody went on to and did not apply to.

        The latest come first; what was done since the training comes before what the model
        learned. Jobs that the person dismissed are left out.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        check_first(first)
        _check_id(user_id, "userId")
        model = model or self._models.live
        pool = self._pool(model)
        candidates = self._candidates(model, pool, None)
        recent, (person,) = self._recent_and_people(
            model, pool, candidates, [user_id], [ActivityKind.APPLY]
        )
        went_on = recent.select(recent.counts[:, ActivityKind.REDIRECT] > 0)
        latest = np.argsort(-np.nan_to_num(went_on.last_at), kind="stable")
        positions = pool.positions(went_on.job_ids[latest])
        if person.position >= 0:
            learned = model.interactions.left_off(person.position)
            positions = np.concatenate([positions, learned])
        may_stand = (
            (positions >= 0) & candidates.eligible[positions] & ~np.isin(positions, person.hidden)
        )
        distinct = dict.fromkeys(positions[may_stand].tolist())
        return [int(pool.ids[position]) for position in list(distinct)[:first]]

    def similar(
        self,
        job_id: int,
        first: int,
        where: JobFilter | None = None,
        model: LiveModel | None = None,
        moment: Moment | None = None,
    ) -> SimilarJobList | None:
        """Return the jobs that the same people are drawn to; None where the job is unknown.

        A job that came after the training stands where its text places it.

        Args:
            moment: see `for_users`.

        Raises:
            InputError: an argument is out of bounds.
            ModelNotReady: no model is live.
        """
        _check_id(job_id, "jobId")
        return self.similar_lists([job_id], first, where, model, moment).get(job_id)

    def similar_lists(
        self,
        job_ids: Sequence[int],
        first: int,
        where: JobFilter | None = None,
        model: LiveModel | None = None,
        moment: Moment | None = None,
    ) -> dict[int, SimilarJobList]:
        """Return what resembles each of those jobs that the model knows.

        Args:
            moment: see `for_users`.

        Raises:
            InputError: `first` is out of bounds.
            ModelNotReady: no model is live.
        """
        check_first(first)
        if moment is None:
            where = None if where == _UNFILTERED else where
            moment = self._moment(model or self._models.live, where)
        model, pool, candidates, _ = moment
        positions = ((job_id, pool.position(job_id)) for job_id in job_ids)
        known = [(job_id, position) for job_id, position in positions if position is not None]
        lists = {}
        for job_id, position in known:
            ranked = pool.recommender.similar(position, first, candidates.eligible)
            ids = pool.ids[ranked.jobs].tolist()
            similar = RecommendationSource.SIMILAR
            sources = (pool.source(place, similar) for place in ranked.jobs.tolist())
            rows = zip(ids, ranked.scores.tolist(), sources, strict=True)
            lists[job_id] = SimilarJobList(
                job_id,
                model.manifest,
                tuple(SimilarJob(rank, *row) for rank, row in enumerate(rows, 1)),
                candidates.is_partial,
            )
        return lists

    def _obstacle(
        self, model: LiveModel, pool: JobPool, job_id: int, position: int | None
    ) -> explaining.Verdict | None:
        """Return why nobody is recommended a job, None where somebody may be."""
        job = self._catalog.jobs([job_id]).get(job_id)
        if position is not None and self._candidates(model, pool, None).eligible[position]:
            return None
        if job is None:
            is_known = position is not None
            return explaining.Verdict.NOT_LISTED if is_known else explaining.Verdict.UNKNOWN
        is_open = job.is_open(self._clock())
        return explaining.Verdict.NOT_LEARNED if is_open else explaining.Verdict.CLOSED

    @property
    def looks_ahead(self) -> bool:
        """Whether there is any use in `look_ahead`."""
        is_short = self._variety.pool(1) <= LENGTH
        return self._catalog.is_near and is_short and self._ahead.most_people > 0

    def catch_up(self) -> None:
        """Look up what the live model may recommend now, so that it is at hand."""
        model = self._models.current
        if model is not None:
            self._ahead.prepare(model.manifest.version, model.interactions)
            self.moment(model)

    def look_ahead(self) -> bool:
        """Make lists that somebody may ask for, for some milliseconds; tell whether more wait.

        Nothing is made before `catch_up`, nor where `moment_at_hand` has nothing.
        """
        model = self._models.current
        moment = None if model is None else self.moment_at_hand(model)
        if moment is None:
            return False
        return self._ahead.advance(
            moment.model.manifest.version, moment.pool.recommender, moment.candidates.eligible
        )

    def moment(self, model: LiveModel) -> Moment:
        """Look up what may be recommended now, unless a filter says otherwise."""
        return self._moment(model, None)

    def _moment(
        self, model: LiveModel, where: JobFilter | None, *, include_closed: bool = False
    ) -> Moment:
        pool = self._pool(model)
        candidates = self._candidates(model, pool, where, include_closed=include_closed)
        return Moment(model, pool, candidates, where is not None)

    def moment_at_hand(self, model: LiveModel) -> Moment | None:
        """Return the same within microseconds; None where it takes longer."""
        if not self._catalog.is_near:
            return None
        pool = self._pools.remembered(model.manifest.version)
        with self._lock:
            candidates = self._remembered.get((model.manifest.version, None, False))
        if pool is None or candidates is None:
            return None
        try:
            revision = self._catalog.revision
        except CatalogUnavailable:
            return None
        if not pool.revision == candidates.revision == revision:
            return None
        if self._clock().timestamp() >= candidates.valid_until:
            return None
        return Moment(model, pool, candidates)

    def footing(self, moment: Moment, user_ids: Sequence[int]) -> Footing | None:
        """Return what answers about some people stand on; None where that is not told quickly.

        Take it before an answer is worked out: what changes meanwhile makes it another.
        """
        if not self._catalog.is_near or moment.candidates.is_partial:
            return None
        return self._footing(moment, user_ids, reading=True)

    def present_footing(self, user_ids: Sequence[int]) -> Footing | None:
        """Return the footing of the live model, within microseconds; None where it takes longer."""
        model = self._models.current
        moment = None if model is None else self.moment_at_hand(model)
        return None if moment is None else self._footing(moment, user_ids, reading=False)

    def _footing(self, moment: Moment, user_ids: Sequence[int], *, reading: bool) -> Footing | None:
        manifest, candidates = moment.model.manifest, moment.candidates
        marks: tuple[Hashable, ...] | None = (None,) * len(user_ids)
        if self._recent is not None:
            ids = np.array(user_ids, dtype=np.int64)
            marks = self._recent.marks(manifest.read_to, ids, reading=reading)
        if marks is None:
            return None
        return Footing(manifest.version, candidates.revision, candidates.valid_until, marks)

    def _recent_and_people(
        self,
        model: LiveModel,
        pool: JobPool,
        candidates: _Candidates,
        user_ids: Sequence[int],
        exclude: Sequence[ActivityKind],
    ) -> tuple[ActivityTally, list[Person]]:
        """Return what people did since the training, and the people."""
        ids = np.array(user_ids, dtype=np.int64)
        positions = model.interactions.users.positions(ids)
        erased = self._erased(candidates, ids, positions)
        positions[erased] = -1
        recent = self._recent_of(model, ids, erased)
        people = people_of(
            *(model.interactions, pool, model.scoring, user_ids, positions, recent, exclude, erased)
        )
        return recent, people

    def _recent_of(self, model: LiveModel, ids: IdArray, erased: BoolArray) -> ActivityTally:
        """Return what people did since the training, and since they were erased."""
        if self._recent is None:
            return NOTHING_NEW
        recent = self._recent.since(model.manifest.read_to, ids)
        if not len(recent):
            return recent
        try:
            return without_erased(recent, self._catalog.erased_at)
        except CatalogUnavailable:
            return recent.select(~np.isin(recent.user_ids, ids[erased]))

    def _erased(self, candidates: _Candidates, ids: IdArray, positions: IndexArray) -> BoolArray:
        """Tell who was erased; where that cannot be known, everybody of whom it is not known."""
        erased = candidates.erased[positions] if len(candidates.erased) else positions < 0
        unlearned = positions < 0
        if unlearned.any():
            try:
                erased[unlearned] = ~np.isnan(self._catalog.erased_at(ids[unlearned]))
            except CatalogUnavailable:
                erased[unlearned] = True
        return erased

    def _lists(
        self,
        model: LiveModel,
        pool: JobPool,
        candidates: _Candidates,
        people: Sequence[Person],
        first: int,
        reasons: int,
        variety: Variety,
        *,
        filtered: bool,
    ) -> list[RecommendationList]:
        length = variety.pool(first)
        ranked = _ranked_for(pool.recommender, people, length, candidates.eligible, self._ahead)
        lists = [
            self._completed(pool, candidates, person, personal, length)
            for person, personal in zip(people, ranked, strict=True)
        ]
        if not variety.is_plain:
            lists = [
                self._varied(model, pool, candidates, person, completed, first, variety)
                for person, completed in zip(people, lists, strict=True)
            ]
        rows = _rows(model, pool, people, lists, reasons)
        return [
            RecommendationList(
                user_id=person.user_id,
                model=model.manifest,
                items=tuple(islice(rows, len(completed.ranked))),
                shortfall=self._ranking.shortfall(
                    len(completed.ranked), first, candidates.count, filtered=filtered
                ),
                is_partial=candidates.is_partial,
            )
            for person, completed in zip(people, lists, strict=True)
        ]

    def _varied(
        self,
        model: LiveModel,
        pool: JobPool,
        candidates: _Candidates,
        person: Person,
        completed: _Completed,
        first: int,
        variety: Variety,
    ) -> _Completed:
        """Choose a list of `first` from a longer one, which grows where a bound leaves too few."""
        employers, types = self._employers_of(model, pool), _types_of(model, pool)
        crowd = np.concatenate([model.crowd, np.zeros(len(pool.new_ids), dtype=np.float32)])
        length = variety.pool(first)
        while True:
            ranked, sources, is_personal = completed
            places = variety.choose(
                ranked,
                first,
                employers[ranked.jobs],
                types[ranked.jobs],
                crowd[ranked.jobs],
                pool.recommender.alikeness,
            )
            if len(places) == first or len(ranked) < length:
                chosen = Ranked(ranked.jobs[places], ranked.scores[places])
                return _Completed(chosen, [sources[place] for place in places], is_personal[places])
            length *= 4
            (personal,) = _ranked_for(pool.recommender, [person], length, candidates.eligible)
            completed = self._completed(pool, candidates, person, personal, length)

    def _employers_of(self, model: LiveModel, pool: JobPool) -> IndexArray:
        """Return a number for each job's employer, by position; -1 where it is unknown."""
        if self._employers is not None and self._employers[0] is pool:
            return self._employers[1]
        order = np.argsort(pool.ids)
        numbers = np.full(len(pool.ids), -1, dtype=np.int64)
        aliases = {} if model.employers is None else model.employers.aliases
        try:
            numbers[order] = self._catalog.employers(pool.ids[order], aliases)
        except CatalogUnavailable:
            return numbers
        self._employers = (pool, numbers)
        return numbers

    def _completed(
        self,
        pool: JobPool,
        candidates: _Candidates,
        person: Person,
        personal: Ranked,
        k: int,
    ) -> _Completed:
        """Return a list of at most k jobs, the personal ones first."""
        if len(personal) == k and not _is_folded(pool.recommender, person):
            return _Completed(personal, [RecommendationSource.PERSONALISED] * k, _all(k))
        ranked, sources = self._ranking.complete(personal, candidates.popular, person.hidden, k)
        if _is_folded(pool.recommender, person):
            sources = [
                RecommendationSource.FOLD_IN
                if source is RecommendationSource.PERSONALISED
                else source
                for source in sources
            ]
        is_personal = np.ones(len(ranked), dtype=np.bool_)
        is_personal[len(personal) :] = False
        return _Completed(ranked, sources, is_personal)

    def _pool(self, model: LiveModel) -> JobPool:
        return self._pools.of(
            model.manifest.version,
            model.interactions,
            model.recommender,
            model.content,
            self._clock(),
        )

    def _candidates(
        self,
        model: LiveModel,
        pool: JobPool,
        where: JobFilter | None,
        *,
        include_closed: bool = False,
    ) -> _Candidates:
        """Return which jobs may be recommended now, remembered until that changes."""
        at = self._clock()
        key = (model.manifest.version, where, include_closed)
        with self._lock:
            known = self._remembered.get(key)
            if known is not None:
                self._remembered.move_to_end(key)
        if known is not None and len(known.eligible) != len(pool.ids):
            known = None
        # The pool's revision was told before its content, which may be newer then but never older
        is_current = known is not None and known.revision == pool.revision
        if known is not None and is_current and at.timestamp() < known.valid_until:
            return replace(known, is_partial=True) if pool.is_partial else known
        try:
            found = self._asked_for(model, pool, where, at, include_closed=include_closed)
        except CatalogUnavailable:
            return replace(known or self._unasked_for(model, pool, where), is_partial=True)
        if known is not None and np.array_equal(known.eligible, found.eligible):
            # Models keep what follows from an array: most changes concern other things
            found = replace(found, eligible=known.eligible)
        with self._lock:
            self._remembered[key] = found
            self._remembered.move_to_end(key)
            self._forget()
        return found

    def _asked_for(
        self,
        model: LiveModel,
        pool: JobPool,
        where: JobFilter | None,
        at: datetime,
        *,
        include_closed: bool,
    ) -> _Candidates:
        parts = [pool.ids[: pool.known]] + ([pool.new_ids] if len(pool.new_ids) else [])
        standings = [self._catalog.standing(ids, at, where) for ids in parts]
        eligible = np.concatenate(
            [
                self._ranking.eligible(standing, include_closed=include_closed)
                for standing in standings
            ]
        )
        erased = ~np.isnan(self._catalog.erased_at(model.interactions.users.ids))
        valid_until = min(standing.valid_until for standing in standings)
        return _candidates(model, pool, eligible, erased, valid_until)

    def _unasked_for(self, model: LiveModel, pool: JobPool, where: JobFilter | None) -> _Candidates:
        """Return all jobs where nothing is known of them; none where they had to be filtered.

        Nobody counts as known, since anybody may have been erased.
        """
        eligible = np.full(len(pool.ids), where is None, dtype=np.bool_)
        nobody = np.ones(len(model.interactions.users), dtype=np.bool_)
        return _candidates(model, pool, eligible, nobody, 0.0)

    def _forget(self) -> None:
        """Drop what was not asked for longest, where too much is remembered."""
        held = sum(candidates.nbytes for candidates in self._remembered.values())
        while len(self._remembered) > 1 and (
            len(self._remembered) > _REMEMBERED_FILTERS or held > _REMEMBERED_BYTES
        ):
            _, forgotten = self._remembered.popitem(last=False)
            held -= forgotten.nbytes


@lru_cache(maxsize=8)
def _all(count: int) -> BoolArray:
    """Return so many times true."""
    everything = np.ones(count, dtype=np.bool_)
    everything.flags.writeable = False
    return everything


def _candidates(
    model: LiveModel,
    pool: JobPool,
    eligible: BoolArray,
    erased: BoolArray,
    valid_until: float,
) -> _Candidates:
    # Nobody's interest is known in new jobs: they come last
    popular = np.concatenate([model.popular.jobs, pool.newest])
    interest = np.concatenate([model.popular.scores, np.zeros(len(pool.newest), np.float32)])
    chosen = eligible[popular]
    # So that a model may keep what follows from it
    eligible.flags.writeable = False
    return _Candidates(
        eligible=eligible,
        count=int(eligible.sum()),
        popular=Ranked(popular[chosen], interest[chosen]),
        erased=erased,
        revision=pool.revision,
        valid_until=valid_until,
    )


def _types_of(model: LiveModel, pool: JobPool) -> IndexArray:
    """Return a number for the type of each job's employer, by position; -1 where unknown."""
    if model.employers is None:
        return np.full(len(pool.ids), -1, dtype=np.int64)
    return model.employers.labels_of(pool.ids)


def _is_folded(recommender: Recommender, person: Person) -> bool:
    """Tell whether a person's list follows from their history instead of what was learned."""
    return person.history is not None and isinstance(recommender, FoldIn)


def _ranked_for(
    recommender: Recommender,
    people: Sequence[Person],
    k: int,
    eligible: BoolArray,
    ahead: ListsAhead | None = None,
) -> list[Ranked]:
    """Rank jobs for people by what the model learned of them, or by what they did since.

    Args:
        ahead: keeps lists that need not be made.
    """
    lists = [Ranked.nothing()] * len(people)
    folded = [row for row, person in enumerate(people) if _is_folded(recommender, person)]
    stored = [
        row
        for row, person in enumerate(people)
        if person.position >= 0 and not _is_folded(recommender, person)
    ]
    if ahead is not None:
        kept = ahead.of(recommender, [people[row] for row in stored], k, eligible)
        for row, ranked in zip(stored, kept, strict=True):
            if ranked is not None:
                lists[row] = ranked
        stored = [row for row, ranked in zip(stored, kept, strict=True) if ranked is None]
    if stored:
        positions = np.array([people[row].position for row in stored], dtype=np.int64)
        hidden = [people[row].hidden for row in stored]
        made = recommender.recommend(positions, k, eligible, hidden)
        for row, own in zip(stored, made, strict=True):
            lists[row] = own
    if folded and isinstance(recommender, FoldIn):
        histories = [history for row in folded if (history := people[row].history) is not None]
        hidden = [people[row].hidden for row in folded]
        made = recommender.fold_in(histories, k, eligible, hidden)
        for row, own in zip(folded, made, strict=True):
            lists[row] = own
    return lists


def _rows(
    model: LiveModel,
    pool: JobPool,
    people: Sequence[Person],
    lists: Sequence[_Completed],
    reasons: int,
) -> Iterator[Recommendation]:
    """Yield the rows of all lists, one list behind the other."""
    if not lists:
        return iter(())
    jobs = np.concatenate([completed.ranked.jobs for completed in lists])
    scores = np.concatenate([completed.ranked.scores for completed in lists])
    is_personal = np.concatenate([completed.is_personal for completed in lists])
    sources = [source for completed in lists for source in completed.sources]
    for row in np.flatnonzero(jobs >= pool.known).tolist():
        sources[row] = RecommendationSource.NEW
    whys: Iterable[tuple[Reason, ...]] = repeat(())
    if reasons:
        whys = chain.from_iterable(
            _reasons(model, pool, person, completed, reasons)
            for person, completed in zip(people, lists, strict=True)
        )
    columns = zip(  # noqa: B905 - where no reasons are told, none stand for any number of rows
        chain.from_iterable(range(1, 1 + len(completed.ranked)) for completed in lists),
        pool.ids[jobs].tolist(),
        scores.tolist(),
        sources,
        np.where(is_personal, pool.recommender.lift(jobs), 0).tolist(),
        whys,
    )
    return map(_recommendation, columns)


# As its constructor, but without a call of Python's own for each of thousands
_recommendation = partial(tuple.__new__, Recommendation)


def _reasons(
    model: LiveModel,
    pool: JobPool,
    person: Person,
    completed: _Completed,
    first: int,
) -> list[tuple[Reason, ...]]:
    """Return the reasons of each job of a list; only the personal ones have some."""
    ranked, _, is_personal = completed
    reasons: list[tuple[Reason, ...]] = [()] * len(ranked)
    recommender, history = pool.recommender, person.history
    if not is_personal.any() or not isinstance(recommender, FoldIn):
        return reasons
    if history is None:
        history = model.interactions.history(person.position)
    rows = np.flatnonzero(is_personal)
    jobs, scores = ranked.jobs[rows], ranked.scores[rows]
    contributions, lifts = recommender.contributions(history, jobs), pool.recommender.lift(jobs)
    shares = explaining.attributed(contributions, scores, lifts)
    for row, own, score in zip(rows.tolist(), shares, scores.tolist(), strict=True):
        reasons[row] = explaining.strongest(history, pool.ids, own, score, first)
    return reasons


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

    def done(people: slice) -> list[IndexArray]:
        return interactions.jobs_done(interactions.users.positions(user_ids[people]), exclude)

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
    interest = interactions.current_interest()
    popular = best(np.arange(len(jobs)), interest, len(jobs))
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


def check_first(first: int) -> None:
    """Hold a list's length against its bounds.

    Raises:
        InputError: it is out of them.
    """
    if not 1 <= first <= MAX_FIRST:
        raise InputError(f"first is {first}, expected 1 to {MAX_FIRST}", "first")


def _check_reasons(reasons: int) -> None:
    if not 0 <= reasons <= MAX_FIRST:
        raise InputError(f"first of reasons is {reasons}, expected 1 to {MAX_FIRST}", "first")


def _check_id(id_: int, argument: str) -> None:
    if not 0 <= id_ <= MAX_ID:
        raise InputError(f"{argument} is {id_}, expected 0 to {MAX_ID}", argument)
