"""What the core needs from outside, one Protocol for each role.

Implementations inherit from their port, so that a forgotten method fails at construction.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from domain.employers import Amendments, EmployerText, EmployerTypes
from domain.model import (
    Activity,
    ActivityTally,
    BoolArray,
    FloatArray,
    History,
    IdArray,
    IdIndex,
    IndexArray,
    Interactions,
    Job,
    JobFilter,
    ReadReport,
    TimeArray,
    TimeWindow,
    User,
)
from domain.ranking import Ranked, Standing
from domain.runs import Manifest, RunRequest, TrainingRun
from domain.tuning import SearchSpace, Trial, Values

Clock = Callable[[], datetime]
"""Now, with a time zone."""

OnProgress = Callable[[int, int], None]
"""Told of steps done and steps in all; what it raises stops the work."""

Arrays = Mapping[str, NDArray[Any]]


class ActivityLog(Protocol):
    """What people did."""

    @abstractmethod
    def tally(
        self, window: TimeWindow, on_progress: OnProgress
    ) -> tuple[ActivityTally, ReadReport]:
        """Count the activities in a window.

        Args:
            window: the time asked for.
            on_progress: told of bytes read and bytes in all.

        Raises:
            DataError: the log cannot be used.
        """


class RecentActivities(Protocol):
    """What people did that no model has learned from yet."""

    @abstractmethod
    def append(self, activities: Sequence[Activity]) -> None:
        """Record activities for good, all or none; from now on every process sees them.

        Raises:
            ActivitiesUnavailable: they cannot be recorded.
        """

    @abstractmethod
    def since(self, read_to: Mapping[str, Any], user_ids: IdArray) -> ActivityTally:
        """Count what some people did behind the place to which a model read the log.

        Args:
            read_to: from the model's manifest.
            user_ids: shape (n,); may repeat.
        """

    @abstractmethod
    def marks(
        self, read_to: Mapping[str, Any], user_ids: IdArray, *, reading: bool
    ) -> tuple[Hashable, ...] | None:
        """Return for each what is another as soon as `since` tells something else of them.

        Args:
            reading: first read what is new; else, within microseconds, return None where there is
                something new.
        """

    @abstractmethod
    def forget(self, user_id: int, until: datetime) -> None:
        """Destroy what was recorded here of a person up to a time.

        Raises:
            ActivitiesUnavailable: some of it may still be there.
        """


JOB_FIELDS = frozenset(field.name for field in fields(Job))
"""All that a job has."""


_ALL_JOBS = 1_000_000_000
"""A page of so many jobs holds the whole catalogue."""


class JobCursor(NamedTuple):
    """A place in the catalogue, which stays where it is when jobs come and go.

    Attributes:
        posted_at: epoch seconds, minus infinity where unknown.
    """

    posted_at: float
    job_id: int

    @classmethod
    def of(cls, job: Job) -> JobCursor:
        """Return the place of a job."""
        return cls(-math.inf if job.posted_at is None else job.posted_at.timestamp(), job.id)


@dataclass(frozen=True)
class JobPage:
    """A stretch of the catalogue, newest first."""

    jobs: Sequence[Job]
    has_next: bool


@dataclass(frozen=True)
class Coverage:
    """How a list of people and the catalogue overlap.

    Attributes:
        listed: shape (people,), whether the catalogue holds the person.
        total: all people whom the catalogue holds.
    """

    listed: BoolArray
    total: int


class Catalog(Protocol):
    """Jobs and people as they are described. Methods take many ids at once.

    Attributes:
        is_near: whether `revision` is told within microseconds.
    """

    is_near: bool = True

    @property
    @abstractmethod
    def revision(self) -> int:
        """A number that changes whenever the content does."""

    @abstractmethod
    def jobs(self, ids: Sequence[int], fields: frozenset[str] = JOB_FIELDS) -> Mapping[int, Job]:
        """Return those of the jobs that exist.

        Args:
            fields: attributes that are wanted; others may be left out.

        Raises:
            CatalogUnavailable: the store does not answer.
        """

    @abstractmethod
    def users(self, ids: Sequence[int]) -> Mapping[int, User]:
        """Return those of the people that exist.

        Raises:
            CatalogUnavailable: the store does not answer.
        """

    @abstractmethod
    def coverage(self, user_ids: IdArray) -> Coverage:
        """Tell which of the people are listed, and how many are in all."""

    @abstractmethod
    def standing(self, job_ids: IdArray, at: datetime, where: JobFilter | None) -> Standing:
        """Tell which of the jobs are listed, open at a time, and satisfy a filter.

        Args:
            job_ids: shape (n,), strictly ascending; the arrays returned align with it.
        """

    @abstractmethod
    def absent(self, job_ids: IdArray, at: datetime, most: int) -> IdArray:
        """Return the ids of the other jobs that are listed and not closed, ascending.

        Jobs that open later are among them. Where they are more than `most`, the newest are
        returned, in the order of `page`.

        Args:
            job_ids: shape (n,), strictly ascending; jobs that are not asked for.
        """

    def changed_since(self, revision: int) -> set[int] | None:  # noqa: ARG002 - for stores that can
        """Return the jobs that changed since a revision, or after; None where that is not known.

        Jobs that came or went are among them.
        """
        return None

    @abstractmethod
    def employers(self, job_ids: IdArray, aliases: Mapping[str, str]) -> IndexArray:
        """Return for each job a number that stands for its employer, -1 where that is unknown.

        Two jobs have one number where the keys of their employers' names are the same, or stand
        for the same. Numbers compare within one answer only.

        Args:
            job_ids: shape (n,), strictly ascending; the array returned aligns with it.
            aliases: the key that another name's key stands for.
        """

    @abstractmethod
    def page(
        self, where: JobFilter, ids: Sequence[int] | None, after: JobCursor | None, first: int
    ) -> JobPage:
        """Return up to `first` jobs, newest first, jobs without a date last, ties by id.

        Args:
            where: what the jobs must satisfy.
            ids: narrows the page to these jobs; None asks for all.
            after: the page begins behind this place.
        """

    def pages(
        self, wheres: Sequence[JobFilter], after: JobCursor | None, first: int
    ) -> list[JobPage]:
        """Return a page for each filter; where each takes a round trip, it is worth its own code.

        Raises:
            CatalogUnavailable: the store does not answer.
        """
        return [self.page(where, None, after, first) for where in wheres]

    def counts(self, wheres: Sequence[JobFilter]) -> list[int]:
        """Return how many jobs satisfy each filter; worth code of its own where there is an index.

        Raises:
            CatalogUnavailable: the store does not answer.
        """
        return [len(self.page(where, None, None, _ALL_JOBS).jobs) for where in wheres]

    def erased_at(self, user_ids: IdArray) -> TimeArray:
        """Tell when people were erased; nobody is where a catalogue does not change.

        Args:
            user_ids: shape (n,).

        Returns:
            shape (n,), epoch seconds, NaN for those who were not.

        Raises:
            CatalogUnavailable: the store does not answer.
        """
        return np.full(len(user_ids), np.nan)

    def erasures(self) -> str:
        """Name the state of erasures: another whenever somebody is erased, or comes back.

        It is empty where nobody is erased.

        Raises:
            CatalogUnavailable: the store does not answer.
        """
        return ""


class Change(StrEnum):
    """What became of an item that a catalogue was told to change."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    REMOVED = "REMOVED"
    MISSING = "MISSING"


@runtime_checkable
class CatalogStore(Catalog, Protocol):
    """A catalogue that changes while it is read.

    Each method changes all its items or none. When it returns, every process sees the change at
    its next question. Results align with the input; of an id that comes twice, the last counts.
    All raise CatalogUnavailable where the store does not answer; nothing was changed then.
    """

    @abstractmethod
    def upsert_jobs(self, jobs: Sequence[Job]) -> list[Change]:
        """Put jobs in place of those of the same ids, whole."""

    @abstractmethod
    def close_jobs(self, ids: Sequence[int]) -> list[Change]:
        """Mark jobs as closed."""

    @abstractmethod
    def remove_jobs(self, ids: Sequence[int]) -> list[Change]:
        """Take jobs out."""

    @abstractmethod
    def upsert_users(self, users: Sequence[User]) -> list[Change]:
        """Put people in place of those of the same ids, whole; it ends their erasure."""

    @abstractmethod
    def erase_users(self, ids: Sequence[int], at: datetime) -> list[Change]:
        """Take people out and keep, under a keyed hash of the id, when that was.

        No import brings them back. MISSING tells that there was no profile; the erasure is kept
        all the same, since there may be activities.
        """

    @abstractmethod
    def erased_at(self, user_ids: IdArray) -> TimeArray:
        """Tell when people were erased.

        Args:
            user_ids: shape (n,).

        Returns:
            shape (n,), epoch seconds, NaN for those who were not.
        """

    @abstractmethod
    def erasures(self) -> str:
        """Name the state of erasures: another whenever somebody is erased, or comes back.

        It is empty where nobody is erased.
        """


class ItemKind(StrEnum):
    """What a catalogue holds."""

    JOBS = "jobs"
    USERS = "users"


@runtime_checkable
class CatalogImport(Protocol):
    """Taking whole files into a catalogue, a batch at a time; one import at a time.

    A full import gathers beside what is live and takes its place in one step; an incremental one
    changes what is live. What was done of an import outlives its process: the same source goes on
    where it stopped, another begins anew. All raise CatalogUnavailable.
    """

    @abstractmethod
    def imported(self) -> str | None:
        """Return the source of the last full import that was finished."""

    @abstractmethod
    def importing(self, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold the right to import, one process at a time; it ends with its holder.

        Args:
            wait: for whoever holds it; else the context says False.
        """

    @abstractmethod
    def begin(self, source: str, kinds: frozenset[ItemKind], *, full: bool) -> int:
        """Begin, or go on; return how many items of this source were taken already.

        Args:
            source: what changes whenever the files do.
            kinds: what the files hold; a full import leaves the other kind as it is.
        """

    @abstractmethod
    def extend(self, items: Sequence[Job | User]) -> None:
        """Take the next items, all or none; they are there when this returns.

        Somebody who was erased is passed over. In a full import an item whose content is that of
        the import before is taken as it is now: changed since, or removed.
        """

    @abstractmethod
    def finish(self) -> bool:
        """Go live, and tell whether that changed anything.

        What is live and came by no import stays, too.
        """


class Recommender(Protocol):
    """A fitted model. Immutable; speaks in positions of the `Interactions` that it learned from."""

    @abstractmethod
    def recommend(
        self,
        users: IndexArray,
        k: int,
        eligible: BoolArray,
        excluded: Sequence[IndexArray],
    ) -> list[Ranked]:
        """Rank jobs for many people; one list per person, in the order of `users`.

        A batch gives each person the list that they would get alone.

        Args:
            users: shape (n,), positions of people.
            k: lists hold at most so many jobs, fewer where fewer are left.
            eligible: shape (jobs,), the jobs that may appear.
            excluded: n arrays of positions that must not appear in that person's list.
        """

    @abstractmethod
    def similar(self, job: int, k: int, eligible: BoolArray) -> Ranked:
        """Rank the jobs that the same people are drawn to, never the job itself.

        Scores are cosines, in [-1, 1].
        """

    @property
    def is_exact(self) -> bool:
        """Whether a list begins with the shorter one, and leaving a job out moves the rest up."""
        return False

    def alikeness(self, jobs: IndexArray) -> FloatArray:
        """Tell how far jobs resemble one another, as `similar` does.

        Args:
            jobs: shape (n,), positions.

        Returns:
            shape (n, n), cosines; 0 where the model knows of no likeness.
        """
        return np.zeros((len(jobs), len(jobs)), dtype=np.float32)

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return what was learned as named arrays, for storing."""

    def lift(self, jobs: IndexArray) -> FloatArray:
        """Return what is added to the scores of jobs for everybody, shape (n,).

        Args:
            jobs: shape (n,), positions.
        """
        return np.zeros(len(jobs), dtype=np.float32)

    @property
    def job_vectors(self) -> FloatArray | None:
        """Where the jobs stand in the model's own space, shape (jobs, n); None without such."""
        return None

    def with_jobs(self, vectors: FloatArray) -> Recommender:  # noqa: ARG002 - for models that can
        """Return a model that ranks further jobs too, which stand behind its own.

        Asked only of models that have `job_vectors`.

        Args:
            vectors: shape (m, n), where the further jobs stand; their positions follow in order.
        """
        raise TypeError(f"{type(self).__name__} has no vectors of jobs")


@runtime_checkable
class FoldIn(Protocol):
    """A model that can rank for somebody by a history that it has not learned from.

    A `Recommender` that also inherits from this serves visitors and what people did lately.
    """

    @abstractmethod
    def fold_in(
        self,
        histories: Sequence[History],
        k: int,
        eligible: BoolArray,
        excluded: Sequence[IndexArray],
    ) -> list[Ranked]:
        """Rank jobs as `recommend` would if it had learned from these histories last.

        Args:
            histories: of n people; an empty one gets an empty list.
            k: see `Recommender.recommend`, as for the others.
        """

    @abstractmethod
    def contributions(self, history: History, jobs: IndexArray) -> TimeArray:
        """Tell what each job of a history adds to the scores of jobs, by this model's arithmetic.

        Args:
            history: of one person, of m jobs.
            jobs: shape (n,), positions.

        Returns:
            shape (n, m); a row's sum and the job's `lift` are the score that `fold_in` gives, up
            to rounding.
        """


class Trainer(Protocol):
    """A way of learning a model."""

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """The trainer's name and settings, for the manifest."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps a fit takes."""

    @abstractmethod
    def prepared(self) -> AbstractContextManager[Trainer]:
        """Return the same way of learning, made ready for several fits until the context ends."""

    @abstractmethod
    def brief(self, steps: int) -> Trainer:
        """Return the same way of learning, but stopping after at most so many steps."""

    @abstractmethod
    def fit(self, interactions: Interactions, seed: int, on_progress: OnProgress) -> Recommender:
        """Learn from interactions. The same input and seed give the same bytes.

        Raises:
            TrainingError: the result is not usable.
        """


@dataclass(frozen=True)
class Recipe:
    """The whole way from activities to a model.

    What a way of learning needs to know of time, its scores tell.

    Attributes:
        name: how reports call it.
        score: gives each pair of a tally its score, above 0; float32 of shape (pairs,).
        trainer: learns from the scored pairs.
    """

    name: str
    score: Callable[[ActivityTally], FloatArray]
    trainer: Trainer

    def learn(
        self, tally: ActivityTally, seed: int, on_progress: OnProgress
    ) -> tuple[Interactions, Recommender]:
        """Return the scored pairs and what was learned from them.

        Raises:
            NothingToLearn: no pair scores above 0.
            TrainingError: the result is not usable.
        """
        interactions = Interactions.from_tally(tally, self.score(tally))
        on_progress(0, self.trainer.steps)
        return interactions, self.trainer.fit(interactions, seed, on_progress)


class ContentModel(Protocol):
    """Tells from the texts of jobs where they would stand among a model's `job_vectors`."""

    @abstractmethod
    def vectors(self, jobs: Sequence[Job]) -> FloatArray:
        """Return where jobs stand, shape (jobs, n), finite; zeros where a text says nothing.

        As long as those of known jobs, so that scores compare. A job's vector does not depend on
        the jobs beside it.
        """

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return what was learned as named arrays, for storing."""


class TextReading(Protocol):
    """Texts of jobs that are being read, for whatever does not depend on where the jobs stand."""

    @abstractmethod
    def fit(
        self, vectors: FloatArray, evidence: FloatArray, on_progress: OnProgress
    ) -> ContentModel | None:
        """Learn what the texts tell of jobs that a model knows; None where they tell nothing.

        The same input and seed give the same bytes.

        Args:
            vectors: shape (jobs, n), where the jobs stand.
            evidence: shape (jobs,), how many people did something with each.
        """


class ContentTrainer(Protocol):
    """A way of learning what the texts of jobs tell."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps a fit takes."""

    @abstractmethod
    def begin(self, jobs: Sequence[Job], seed: int) -> TextReading:
        """Begin to read the texts of jobs, and do not wait for it."""


LoadContent = Callable[[Arrays], ContentModel | None]
"""Makes a content model from a snapshot's arrays, None where they hold none."""


@dataclass(frozen=True)
class JobVectors:
    """What was learned of jobs, as vectors.

    Attributes:
        index: the jobs.
        vectors: shape (jobs, factors).
    """

    index: IdIndex
    vectors: FloatArray


class EmployerLearner(Protocol):
    """A way of finding kinds of employers."""

    @abstractmethod
    def learn(
        self,
        corpus: Sequence[EmployerText],
        amendments: Amendments,
        seed: int,
        factors: JobVectors | None,
        on_progress: OnProgress,
    ) -> EmployerTypes:
        """Learn types from texts. The same input and seed give the same types.

        Args:
            corpus: employers with their texts, ascending by key.
            amendments: expressions to add and to take away.
            seed: of everything random.
            factors: of jobs, to blend with the texts; None for text alone.
            on_progress: told of steps.

        Raises:
            TrainingError: too little text, or what computes it is not installed.
        """


MakeRecipe = Callable[[Values], Recipe]
"""Makes the recipe of the settings in force with some of them replaced."""

MakeTrainer = Callable[[Mapping[str, Any]], Trainer]
"""Makes the trainer whose `parameters` these were."""

IndexJobs = Callable[[Recommender, int], tuple[Arrays, Mapping[str, float]]]
"""Makes an index of a model's jobs by a seed: arrays to store beside the model's, and measurements.

No arrays where lists are better found without.
"""

LoadRecommender = Callable[[Mapping[str, Any], Arrays], Recommender]
"""Makes a recommender from its trainer's `parameters` and the arrays that its `arrays()` named."""


@dataclass(frozen=True)
class Snapshot:
    """A stored model: its record and its arrays, read-only and shared between processes."""

    manifest: Manifest
    arrays: Arrays


class SnapshotStore(Protocol):
    """Stored models. Knows directories and checksums, not factors."""

    @abstractmethod
    def write(self, manifest: Manifest, arrays: Arrays) -> None:
        """Store a model whole or not at all.

        Raises:
            SnapshotError: the version exists already, or the disk refuses.
        """

    @abstractmethod
    def open(self, version: str) -> Snapshot:
        """Return a stored model after checking every byte of it.

        Raises:
            SnapshotMissing: there is no such version.
            SnapshotCorrupt: it is incomplete, altered, or of a foreign format.
        """

    @abstractmethod
    def manifests(self) -> list[Manifest]:
        """Return the records of all models stored whole, newest first."""

    @abstractmethod
    def live(self) -> str | None:
        """Return the promoted version, None before the first."""

    @abstractmethod
    def promote(self, version: str) -> None:
        """Make a stored version the live one, for every process.

        Raises:
            SnapshotMissing: there is no such version.
        """

    @abstractmethod
    def previous(self) -> str | None:
        """Return the version that was live before the live one and is still stored."""

    @abstractmethod
    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest `keep` models; never the live one nor the one before it.

        Raises:
            SnapshotError: the disk refuses.
        """


@dataclass(frozen=True)
class Begun:
    """A run was recorded, and the right to train is held by `lease` until it is closed."""

    run: TrainingRun
    lease: Lease


@dataclass(frozen=True)
class Replayed:
    """The same request under the same key was taken before, as `run`."""

    run: TrainingRun


@dataclass(frozen=True)
class Busy:
    """Another run holds the right to train."""

    run: TrainingRun


@dataclass(frozen=True)
class KeyReused:
    """The key was used before, for another request."""

    run: TrainingRun


class Lease(Protocol):
    """The right to train, held by at most one process of all; it ends with its holder."""

    @abstractmethod
    def close(self) -> None:
        """Give this process's hold up; a child that took it over keeps its own."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor that carries the right into a child process."""


class TrainingRuns(Protocol):
    """The durable record of every run, readable from every process."""

    @abstractmethod
    def begin(
        self, request: RunRequest, requested_by: str, idempotency_key: str | None
    ) -> Begun | Replayed | Busy | KeyReused:
        """Take a request: record a run and hand out the right to train, or say why not."""

    @abstractmethod
    def get(self, run_id: str) -> TrainingRun:
        """Return a run.

        Raises:
            RunMissing: there is none of that id.
        """

    @abstractmethod
    def changes(self, run_id: str, after: int) -> list[TrainingRun]:
        """Return every state of a run of a revision above `after`, in order.

        Raises:
            RunMissing: there is none of that id.
        """

    @abstractmethod
    def recent(self, count: int) -> list[TrainingRun]:
        """Return the newest runs, newest first."""

    @abstractmethod
    def update(self, run_id: str, **changes: Any) -> TrainingRun:  # noqa: ANN401 - a run's fields differ in type
        """Change fields of a run that has not ended; its revision grows.

        Raises:
            RunMissing: there is none of that id.
            TrainingCancelled: the run has ended, because somebody stopped it.
        """

    @abstractmethod
    def cancel(self, run_id: str) -> tuple[TrainingRun, bool]:
        """End a run as cancelled; return it, and whether this call ended it.

        A run that has ended or is going live stays as it is.

        Raises:
            RunMissing: there is none of that id.
        """

    @abstractmethod
    def reap(self) -> list[TrainingRun]:
        """Mark runs whose process is gone as failed, and return them."""


class Optimizer(Protocol):
    """Proposes what to try next."""

    @abstractmethod
    def propose(self, space: SearchSpace, trials: Sequence[Trial], seed: int) -> Values:
        """Return a point of the space; the same trials and seed give the same point.

        Args:
            trials: all before; those outside the space may teach nothing.
        """


class Study(Protocol):
    """The durable record of the trials of one search."""

    @abstractmethod
    def trials(self) -> list[Trial]:
        """Return the trials recorded, in order."""

    @abstractmethod
    def add(self, trial: Trial) -> None:
        """Record a trial for good."""


OpenStudy = Callable[[Mapping[str, Any]], Study]
"""Opens the study of a search, which the mapping describes, new or to go on with.

Raises `InputError` where what is recorded is of another search.
"""


def nobody(_done: int, _total: int) -> None:
    """Take progress and tell nobody."""
