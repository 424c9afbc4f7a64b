"""Learning: take requests to retrain, and carry one run out from reading to going live."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from application.employers import EmployerLearning
from application.new_jobs import ContentLearning
from application.recommending import LiveModel, Models, top_lists
from domain.errors import (
    DataError,
    InputError,
    JobrecError,
    RecordsUnavailable,
    SnapshotError,
    TrainingCancelled,
    TrainingError,
)
from domain.metrics import Targets, measure
from domain.model import (
    ActivityKind,
    ActivityTally,
    BoolArray,
    IdArray,
    Interactions,
    ReadReport,
)
from domain.ports import (
    ActivityLog,
    Arrays,
    Begun,
    Busy,
    Catalog,
    Clock,
    ContentModel,
    IndexJobs,
    KeyReused,
    Lease,
    MakeTrainer,
    OnProgress,
    Recommender,
    Replayed,
    SnapshotStore,
    TextReading,
    Trainer,
    TrainingRuns,
    nobody,
)
from domain.promotion import Evidence, PromotionPolicy
from domain.runs import FailureKind, Manifest, RunRequest, RunStatus, TrainingPhase, TrainingRun
from domain.scoring import ScoringPolicy
from domain.splits import split

MAX_NOTE = 500
MAX_KEY = 200
MEASURED_K = 10
"""The length of the lists on which models are measured."""

_SECONDS_BETWEEN_UPDATES = 0.2

_log = logging.getLogger(__name__)

Launch = Callable[[TrainingRun, Lease], None]
"""Starts a process that takes the lease over and carries the run out."""


class Retraining:
    """What admins ask for: at most one run at a time, over all processes."""

    def __init__(self, runs: TrainingRuns, launch: Launch, clock: Clock) -> None:
        self._runs = runs
        self._launch = launch
        self._clock = clock

    def request(
        self, request: RunRequest, requested_by: str, idempotency_key: str | None = None
    ) -> Begun | Replayed | Busy | KeyReused:
        """Begin a run in a process of its own and answer at once.

        Raises:
            InputError: the note or the key is too long.
        """
        for name, text, most in (
            ("note", request.note, MAX_NOTE),
            ("idempotencyKey", idempotency_key, MAX_KEY),
        ):
            if text is not None and len(text) > most:
                raise InputError(f"{name} has {len(text)} characters, at most {most}", name)
        if idempotency_key == "":
            raise InputError("idempotencyKey is empty; leave it out instead", "idempotencyKey")
        answer = self._runs.begin(request, requested_by, idempotency_key)
        if isinstance(answer, Begun):
            try:
                self._launch(answer.run, answer.lease)
            except OSError as error:
                self._runs.update(
                    answer.run.id,
                    status=RunStatus.FAILED,
                    phase=TrainingPhase.ENDED,
                    finished_at=self._clock(),
                    failure=f"the training process could not be started: {error}",
                )
                raise
            finally:
                answer.lease.close()
        return answer

    def cancel(self, run_id: str) -> tuple[TrainingRun, bool]:
        """Stop a run at its next step; return it, and whether this call ended it.

        A run that is going live is not stopped any more.

        Raises:
            RunMissing: there is none of that id.
        """
        return self._runs.cancel(run_id)


@dataclass(frozen=True)
class LearningPolicy:
    """What of a training is neither data nor algorithm.

    Attributes:
        seed: of everything random; the same data, parameters and seed give the same bytes.
        keep_models: how many stored models are kept beside the live one.
    """

    seed: int = 42
    keep_models: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed {self.seed} is not in 0..{2**32 - 1}", "seed")
        if self.keep_models < 1:
            raise InputError(f"keep_models {self.keep_models} is below 1", "keep_models")


class Training:
    """Carries a run out: reads, scores, fits, stores, promotes."""

    def __init__(
        self,
        runs: TrainingRuns,
        log: ActivityLog,
        catalog: Catalog,
        trainer: Trainer,
        make_trainer: MakeTrainer,
        scoring: ScoringPolicy,
        snapshots: SnapshotStore,
        models: Models,
        promotion: PromotionPolicy,
        learning: LearningPolicy,
        clock: Clock,
        libraries: Mapping[str, str],
        content: ContentLearning | None = None,
        employers: EmployerLearning | None = None,
        index_jobs: IndexJobs | None = None,
    ) -> None:
        self._index_jobs = index_jobs
        self._content = content
        self._runs = runs
        self._log = log
        self._catalog = catalog
        self._trainer = trainer
        self._make_trainer = make_trainer
        self._models = models
        self._promotion = promotion
        self._scoring = scoring
        self._snapshots = snapshots
        self._learning = learning
        self._clock = clock
        self._libraries = libraries
        self._employers = employers

    def execute(self, run: TrainingRun, on_progress: OnPhase) -> TrainingRun:
        """Carry the run out and return it ended, whatever happened.

        Args:
            run: begun, and its lease held by this process.
            on_progress: told of each phase and its steps.

        Raises:
            KeyboardInterrupt: somebody stopped this process; the run is marked.
            RecordsUnavailable: the run cannot be recorded; it is marked when that works again.
        """
        try:
            with self._trainer.prepared() as trainer:
                return self._carry_out(run, trainer, on_progress)
        except TrainingCancelled:
            return self._runs.get(run.id)
        except RecordsUnavailable:
            raise  # what became of the run cannot be recorded either
        except JobrecError as error:
            kind = FailureKind.DATA if isinstance(error, DataError) else FailureKind.TRAINING
            return self._stop(run, RunStatus.FAILED, failure=str(error), failure_kind=kind)
        except MemoryError:
            failure = "the training ran out of memory"
            return self._stop(
                run, RunStatus.FAILED, failure=failure, failure_kind=FailureKind.TRAINING
            )
        except Exception as error:  # noqa: BLE001 - a run must not end without a word, whatever broke it
            _log.exception("training run %s failed", run.id)
            return self._stop(
                run,
                RunStatus.FAILED,
                failure_kind=FailureKind.UNEXPECTED,
                failure=f"unexpected {type(error).__name__}; the log of the service says more",
            )
        except KeyboardInterrupt:
            self._stop(run, RunStatus.CANCELLED, failure="interrupted from the keyboard")
            raise

    def _carry_out(self, run: TrainingRun, trainer: Trainer, on_progress: OnPhase) -> TrainingRun:
        progress = _Progress(self._runs, run.id, on_progress)
        seed = self._learning.seed
        self._runs.update(
            run.id,
            status=RunStatus.RUNNING,
            started_at=self._clock(),
            parameters={
                "scoring": asdict(self._scoring),
                "trainer": dict(trainer.parameters),
                "seed": seed,
            },
        )
        tally, read = self._log.tally(run.request.window, progress.of(TrainingPhase.READING))
        tally = tally.without_erased(self._catalog.erased_at)
        interactions = self._scoring.interactions(tally)
        report = data_health(tally, interactions, read, self._catalog, self._clock())
        self._runs.update(run.id, data_report=report)
        reading = None if self._content is None else self._content.begin(interactions, seed)
        live = self._live()
        measured = self._measure(trainer, tally, live, progress.of(TrainingPhase.EVALUATING))
        recommender, content = self._learn(
            trainer, interactions, reading, progress.of(TrainingPhase.FITTING)
        )
        index, of_index = self._index(recommender)
        employers = self._learn_employers(run, progress.of(TrainingPhase.EMPLOYERS))
        progress.of(TrainingPhase.WRITING)(0, 1)
        times = tally.time_range
        manifest = Manifest(
            version=run.id,
            trained_at=self._clock(),
            users=interactions.shape[0],
            jobs=interactions.shape[1],
            activities=tally.total(),
            since=times and times[0],
            until=times and times[1],
            seed=seed,
            scoring=asdict(self._scoring),
            trainer=trainer.parameters,
            metrics={**measured.candidate, **of_index},
            libraries=self._libraries,
            read_to=read.read_to,
        )
        learned = {**recommender.arrays(), **({} if content is None else content.arrays())}
        self._snapshots.write(manifest, {**interactions.arrays(), **learned, **index, **employers})
        # From here on nobody can cancel the run
        progress.of(TrainingPhase.PROMOTING)(0, 1)
        refusals = self._promotion.refusals(
            Evidence(
                users=manifest.users,
                jobs=manifest.jobs,
                is_finite=all(bool(np.isfinite(array).all()) for array in learned.values()),
                metrics=measured.candidate,
            ),
            None
            if live is None
            else Evidence(live.manifest.users, live.manifest.jobs, metrics=measured.live),
        )
        # Recorded before it goes live: if this process is lost now, the live version tells the end
        self._runs.update(
            run.id,
            model_version=manifest.version,
            refusals=refusals,
            metrics={**measured.all, **of_index},
            unmeasured=measured.obstacle,
        )
        promoted = not refusals or run.request.force
        if promoted:
            self._snapshots.promote(manifest.version)
        ended = self._end(run, RunStatus.SUCCEEDED, promoted=promoted)
        try:
            self._snapshots.prune(self._learning.keep_models)
        except SnapshotError as error:
            _log.warning("%s", error)
        return ended

    def _learn(
        self,
        trainer: Trainer,
        interactions: Interactions,
        reading: TextReading | None,
        on_progress: OnProgress,
    ) -> tuple[Recommender, ContentModel | None]:
        """Fit the model, and what places new jobs in it; steps of both count as one fit's."""
        learning, done = self._content, trainer.steps
        total = done + (learning.steps if learning is not None else 0)
        recommender = self._fit(trainer, interactions, lambda step, _: on_progress(step, total))
        if learning is None or reading is None:
            return recommender, None
        content = learning.learn(
            *(reading, interactions, recommender),
            lambda step, _: on_progress(done + step, total),
        )
        return recommender, content

    def _fit(
        self, trainer: Trainer, interactions: Interactions, on_progress: OnProgress
    ) -> Recommender:
        on_progress(0, trainer.steps)
        return trainer.fit(interactions, self._learning.seed, on_progress)

    def _index(self, recommender: Recommender) -> tuple[Arrays, Mapping[str, float]]:
        """Return an index of the model's jobs and what was measured of it, if there is to be one.

        Lists are made without rather than not at all: whatever goes wrong is told in the log.
        """
        if self._index_jobs is None:
            return {}, {}
        try:
            return self._index_jobs(recommender, self._learning.seed)
        except (JobrecError, MemoryError, RuntimeError):
            _log.exception("no index of jobs could be built, so lists are found without")
            return {}, {}

    def _learn_employers(self, run: TrainingRun, on_progress: OnProgress) -> Arrays:
        """Return what was learned of employers, for the snapshot; nothing where that failed.

        People go without types of employers rather than without a model: whatever goes wrong is
        a note on the run.
        """
        if self._employers is None:
            return {}
        try:
            return self._employers.learn(self._learning.seed, None, on_progress).arrays()
        except TrainingCancelled:
            raise
        except TrainingError as error:
            # Ordinary: no texts, or no extra
            self._runs.update(run.id, employers_note=str(error))
            return {}
        except JobrecError as error:
            note = str(error)
        except MemoryError:
            note = "out of memory"
        except Exception as error:  # noqa: BLE001 - the model is whole without it
            _log.exception("run %s learned no types of employers", run.id)
            note = f"unexpected {type(error).__name__}; the log of the service says more"
        _log.warning("no types of employers: %s", note)
        self._runs.update(run.id, employers_note=note)
        return {}

    def _live(self) -> LiveModel | None:
        """Return the live model to compare with, None where there is none that can be used."""
        version = self._snapshots.live()
        if version is None:
            return None
        try:
            return self._models.open(version)
        except SnapshotError as error:
            _log.warning("the live model cannot be compared with: %s", error)
            return None

    def _measure(
        self,
        trainer: Trainer,
        tally: ActivityTally,
        live: LiveModel | None,
        on_progress: OnProgress,
    ) -> _Measured:
        """Measure this recipe beside popularity and the live model, on what none has seen.

        The recipe is fitted once more, on the part before the cut-off. The live model itself is
        measured where its data ends before the cut-off. Where it has seen what is held out, its
        recipe stands in for it, fitted on the same part; that tells recipes apart, while damage
        to the data shows in what the promotion policy says of people and jobs. Where only recipes
        are compared, a few steps of each tell as much as all.
        """
        promotion, seed = self._promotion, self._learning.seed
        if promotion.hold_out == 0:
            return _Measured(obstacle="nothing is held out (hold_out is 0)")
        parts = split(tally, promotion.hold_out, seed)
        known = self._scoring.interactions(parts.train)
        held_out = parts.held_out
        held_out = held_out.select(self._scoring.scores(held_out.counts) > 0)
        held_out = held_out.select(np.isin(held_out.user_ids, known.users.ids))
        targets = Targets.of(held_out, promotion.max_people, seed)
        people = len(targets.user_ids)
        if people < promotion.min_people:
            return _Measured(
                obstacle=f"{people} people did something new in the part held out, "
                f"at least {promotion.min_people} are needed"
            )

        def quality(known: Interactions, recommender: Recommender | None) -> dict[str, float]:
            kinds = list(ActivityKind)
            return measure(
                targets, top_lists(known, recommender, targets.user_ids, MEASURED_K, kinds)
            )

        until = None if live is None else live.manifest.until
        is_older = until is not None and parts.cutoff is not None and until <= parts.cutoff
        is_rival = live is not None and not is_older and not self._has_made(live, trainer)
        scored = live.scoring.interactions(parts.train) if live and is_rival else known
        del parts, held_out  # as large as the data, and ranking needs memory, too
        recipe = trainer if is_older else trainer.brief(promotion.max_steps)
        candidate = quality(known, self._fit(recipe, known, on_progress))
        popular = quality(known, None)
        if live is None:
            return _Measured(candidate, popular)
        if is_older:
            return _Measured(candidate, popular, quality(live.interactions, live.recommender))
        if not is_rival:
            return _Measured(candidate, popular, candidate)
        manifest = live.manifest
        recipe = self._make_trainer(manifest.trainer).brief(promotion.max_steps)
        stand_in = recipe.fit(scored, manifest.seed, nobody)
        return _Measured(candidate, popular, quality(scored, stand_in))

    def _has_made(self, model: LiveModel, trainer: Trainer) -> bool:
        """Tell whether a model comes of the recipe that is at work here."""
        return model.scoring == self._scoring and model.manifest.trainer == trainer.parameters

    def _stop(self, run: TrainingRun, status: RunStatus, **changes: Any) -> TrainingRun:  # noqa: ANN401 - a run's fields differ in type
        """End a run that was stopped; one whose model is live by then has succeeded."""
        try:
            is_live = self._snapshots.live() == run.id
        except SnapshotError:
            is_live = False
        if is_live:
            return self._end(run, RunStatus.SUCCEEDED, promoted=True)
        return self._end(run, status, **changes)

    def _end(self, run: TrainingRun, status: RunStatus, **changes: Any) -> TrainingRun:  # noqa: ANN401 - a run's fields differ in type
        try:
            return self._runs.update(
                run.id,
                status=status,
                phase=TrainingPhase.ENDED,
                finished_at=self._clock(),
                **changes,
            )
        except TrainingCancelled:
            return self._runs.get(run.id)


@dataclass(frozen=True)
class _Measured:
    """Metrics on the hold-out; all empty where `obstacle` says why nothing was measured."""

    candidate: dict[str, float] = field(default_factory=dict)
    popular: dict[str, float] = field(default_factory=dict)
    live: dict[str, float] = field(default_factory=dict)
    obstacle: str | None = None

    @property
    def all(self) -> dict[str, float]:
        """One mapping for the run's record; what others reached is prefixed with their name."""
        return {
            **self.candidate,
            **{f"popular/{name}": value for name, value in self.popular.items()},
            **{f"live/{name}": value for name, value in self.live.items()},
        }


OnPhase = Callable[[TrainingPhase, int, int], None]
"""Told of the phase, of steps done and of steps in all."""


class _Progress:
    """Passes progress on to the run's record and to whoever watches."""

    def __init__(self, runs: TrainingRuns, run_id: str, watcher: OnPhase) -> None:
        self._runs = runs
        self._run_id = run_id
        self._watcher = watcher
        self._written_at = 0.0

    def of(self, phase: TrainingPhase) -> OnProgress:
        """Return what to call with the steps of a phase.

        Bytes read come often, so they are recorded some times a second and at the end, as per
        mille; steps of other phases all are.
        """
        is_frequent = phase is TrainingPhase.READING

        def tell(step: int, total: int) -> None:
            self._watcher(phase, step, total)
            now = time.monotonic()
            is_soon = now - self._written_at < _SECONDS_BETWEEN_UPDATES
            if is_frequent and is_soon and step < total:
                return
            self._written_at = now
            if is_frequent:
                step, total = 1_000 * step // max(1, total), 1_000
            self._runs.update(self._run_id, phase=phase, step=step, total_steps=total)

        return tell


def data_health(
    tally: ActivityTally,
    interactions: Interactions,
    read: ReadReport,
    catalog: Catalog,
    now: datetime,
) -> dict[str, Any]:
    """Return what admins want to know of the data that a model learned from.

    `only_fallback` is the share of the people in the catalogue whom the model does not know, so
    that they get popular jobs.
    """
    shown = tally.counts[:, ActivityKind.IMPRESSION] > 0
    redirected = tally.counts[:, ActivityKind.REDIRECT] > 0
    sent = tally.counts[:, ActivityKind.EMAIL_SENT] > 0
    opened = tally.counts[:, ActivityKind.EMAIL_OPEN] > 0
    opened |= tally.counts[:, ActivityKind.EMAIL_CLICK] > 0
    users, jobs = np.unique(tally.user_ids), np.unique(tally.job_ids)
    coverage = catalog.coverage(users)
    listed = catalog.standing(jobs, now, None).listed
    served = (coverage.listed & (interactions.users.positions(users) >= 0)).sum()
    return {
        "lines_read": read.read,
        "lines_used": read.used,
        "lines_rejected": read.rejected_total,
        "rejected_by_cause": dict(read.rejected),
        "first_rejected": {cause: str(line) for cause, line in read.first.items()},
        "outside_window": read.outside,
        "activities": {kind.word: tally.total(kind) for kind in ActivityKind},
        "pairs": len(tally),
        "users": interactions.shape[0],
        "jobs": interactions.shape[1],
        "users_with_redirects_never_shown": _without(tally.user_ids, redirected, shown),
        "jobs_with_redirects_never_shown": _without(tally.job_ids, redirected, shown),
        "users_sent_emails_never_opening": _without(tally.user_ids, sent, opened),
        "users_not_in_catalogue": int((~coverage.listed).sum()),
        "jobs_not_in_catalogue": int((~listed).sum()),
        "pairs_in_the_future": int((tally.last_at > now.timestamp()).sum()),
        "only_fallback": 1 - float(served) / coverage.total if coverage.total else 0.0,
    }


def _without(ids: IdArray, done: BoolArray, missing: BoolArray) -> int:
    """Count the ids with one thing in any pair and another in none."""
    return len(np.setdiff1d(ids[done], ids[missing]))
