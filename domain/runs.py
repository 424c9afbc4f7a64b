"""A training run as admins see it, and a trained model's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.model import TimeWindow


class RunStatus(StrEnum):
    """Where a run stands; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self in {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}


class TrainingPhase(StrEnum):
    """What a run is doing, in the order of doing it."""

    WAITING = "WAITING"
    READING = "READING"
    EVALUATING = "EVALUATING"
    FITTING = "FITTING"
    EMPLOYERS = "EMPLOYERS"
    WRITING = "WRITING"
    PROMOTING = "PROMOTING"
    ENDED = "ENDED"


class FailureKind(StrEnum):
    """Where to look for the cause of a failed run."""

    DATA = "DATA"
    TRAINING = "TRAINING"
    PROCESS = "PROCESS"
    UNEXPECTED = "UNEXPECTED"


@dataclass(frozen=True)
class RunRequest:
    """What was asked of a run.

    Attributes:
        window: the activities to learn from.
        note: a remark for whoever reads the list of runs.
        force: go live even where the promotion policy refuses.
    """

    window: TimeWindow = field(default_factory=TimeWindow)
    note: str | None = None
    force: bool = False


@dataclass(frozen=True)
class TrainingRun:
    """One training, from the request to its outcome.

    Attributes:
        step: steps done of `total_steps` in this phase; a step of FITTING is an iteration,
            or one of the last few in which the texts of jobs are learned.
        requested_by: who asked, as the door knows them; never a token.
        model_version: the version that the run left behind, None where it left none.
        promoted: whether that version went live; None until that is decided.
        refusals: why the promotion policy kept it from going live.
        unmeasured: why there are no metrics, None where there are, or until that is known.
        employers_note: why it learned no types of employers, None where it did, or was not to.
        failure: what went wrong, in words that are safe to show.
        revision: grows with every change of the record.
    """

    id: str
    status: RunStatus
    phase: TrainingPhase
    requested_at: datetime
    requested_by: str
    request: RunRequest
    idempotency_key: str | None = None
    step: int = 0
    total_steps: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    data_report: Mapping[str, Any] = field(default_factory=dict)
    model_version: str | None = None
    promoted: bool | None = None
    refusals: tuple[str, ...] = ()
    unmeasured: str | None = None
    employers_note: str | None = None
    failure: str | None = None
    failure_kind: FailureKind | None = None
    revision: int = 0

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the run may still be stopped: not once its model is about to go live."""
        return not self.status.is_final and self.phase is not TrainingPhase.PROMOTING


@dataclass(frozen=True)
class Manifest:
    """What is known of a trained model without opening its arrays.

    Attributes:
        activities: how many activities it learned from.
        since: the time of the first of them, None where none carries a time.
        until: the time of the last of them.
        scoring: the scoring policy's fields.
        trainer: the trainer's name and parameters.
        libraries: versions of what computed it.
        read_to: how far the log was read, as its adapter put it: what lies behind is recent.
    """

    version: str
    trained_at: datetime
    users: int
    jobs: int
    activities: int
    since: datetime | None
    until: datetime | None
    seed: int
    scoring: Mapping[str, Any]
    trainer: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    read_to: Mapping[str, Any] = field(default_factory=dict)
