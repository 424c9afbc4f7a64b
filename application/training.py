"""Learning: take requests to retrain, and carry one run out from reading to going live."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from domain.errors import InputError, JobrecError, TrainingCancelled
from domain.model import ActivityKind, ActivityTally, Interactions, ReadReport
from domain.ports import (
    ActivityLog,
    Begun,
    Busy,
    Clock,
    KeyReused,
    Lease,
    OnProgress,
    Replayed,
    SnapshotStore,
    Trainer,
    TrainingRuns,
)
from domain.runs import Manifest, RunRequest, RunStatus, TrainingPhase, TrainingRun
from domain.scoring import ScoringPolicy

MAX_NOTE = 500
MAX_KEY = 200
_SECONDS_BETWEEN_UPDATES = 0.2

_log = logging.getLogger(__name__)

Launch = Callable[[TrainingRun, Lease], None]
"""Starts a process that takes the lease over and carries the run out."""


class Retraining:
    """What admins ask for: at most one run at a time, over all processes."""

    def __init__(self, runs: TrainingRuns, launch: Launch) -> None:
        self._runs = runs
        self._launch = launch

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
                    failure=f"the training process could not be started: {error}",
                )
                raise
            finally:
                answer.lease.close()
        return answer


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
        trainer: Trainer,
        scoring: ScoringPolicy,
        snapshots: SnapshotStore,
        learning: LearningPolicy,
        clock: Clock,
        libraries: dict[str, str],
    ) -> None:
        self._runs = runs
        self._log = log
        self._trainer = trainer
        self._scoring = scoring
        self._snapshots = snapshots
        self._learning = learning
        self._clock = clock
        self._libraries = libraries

    def execute(self, run: TrainingRun, on_progress: OnPhase) -> TrainingRun:
        """Carry the run out and return it ended, whatever happened.

        Args:
            run: begun, and its lease held by this process.
            on_progress: told of each phase and its steps.

        Raises:
            KeyboardInterrupt: somebody stopped this process; the run is marked.
        """
        try:
            return self._carry_out(run, on_progress)
        except TrainingCancelled:
            return self._runs.get(run.id)
        except JobrecError as error:
            return self._end(run, RunStatus.FAILED, failure=str(error))
        except MemoryError:
            return self._end(run, RunStatus.FAILED, failure="the training ran out of memory")
        except Exception as error:  # noqa: BLE001 - a run must not end without a word, whatever broke it
            _log.exception("training run %s failed", run.id)
            return self._end(
                run,
                RunStatus.FAILED,
                failure=f"unexpected {type(error).__name__}; the log of the service says more",
            )
        except KeyboardInterrupt:
            self._end(run, RunStatus.CANCELLED, failure="interrupted from the keyboard")
            raise

    def _carry_out(self, run: TrainingRun, on_progress: OnPhase) -> TrainingRun:
        progress = _Progress(self._runs, run.id, on_progress)
        self._runs.update(
            run.id,
            status=RunStatus.RUNNING,
            started_at=self._clock(),
            parameters={
                "scoring": asdict(self._scoring),
                "trainer": dict(self._trainer.parameters),
                "seed": self._learning.seed,
            },
        )
        tally, read = self._log.tally(run.request.window, progress.of(TrainingPhase.READING))
        interactions = self._scoring.interactions(tally)
        self._runs.update(run.id, data_report=data_report(tally, interactions, read))
        fitting = progress.of(TrainingPhase.FITTING)
        fitting(0, self._trainer.steps)
        recommender = self._trainer.fit(interactions, self._learning.seed, fitting)
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
            seed=self._learning.seed,
            scoring=asdict(self._scoring),
            trainer=self._trainer.parameters,
            libraries=self._libraries,
        )
        self._snapshots.write(manifest, {**interactions.arrays(), **recommender.arrays()})
        progress.of(TrainingPhase.PROMOTING)(0, 1)
        self._snapshots.promote(manifest.version)
        self._snapshots.prune(self._learning.keep_models)
        return self._end(run, RunStatus.SUCCEEDED, model_version=manifest.version, promoted=True)

    def _end(self, run: TrainingRun, status: RunStatus, **changes: Any) -> TrainingRun:  # noqa: ANN401 - a run's fields differ in type
        return self._runs.update(
            run.id,
            status=status,
            phase=TrainingPhase.ENDED,
            finished_at=self._clock(),
            **changes,
        )


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

        Bytes read come often, so they are recorded some times a second, as per mille; steps of
        other phases all are.
        """
        is_frequent = phase is TrainingPhase.READING

        def tell(step: int, total: int) -> None:
            self._watcher(phase, step, total)
            now = time.monotonic()
            if is_frequent and now - self._written_at < _SECONDS_BETWEEN_UPDATES:
                return
            self._written_at = now
            if is_frequent:
                step, total = 1_000 * step // max(1, total), 1_000
            self._runs.update(self._run_id, phase=phase, step=step, total_steps=total)

        return tell


def data_report(
    tally: ActivityTally, interactions: Interactions, read: ReadReport
) -> dict[str, Any]:
    """Return what admins want to know of the data that a model learned from."""
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
    }
