"""Recording what people do, for the next answer and the next training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.errors import InputError
from domain.model import MAX_ID, MAX_TIMESTAMP, Activity, ActivityKind
from domain.ports import Clock, RecentActivities

MAX_RECORDED = 1_000
"""So many activities are recorded at once."""

_AHEAD = timedelta(minutes=5)
"""The clocks of callers may go before ours by so much."""


@dataclass(frozen=True)
class Done:
    """An activity as a caller tells of it; without a time it is happening now."""

    user_id: int
    job_id: int
    kind: ActivityKind
    at: datetime | None = None


class Recording:
    """The way of single activities into the log."""

    def __init__(self, recent: RecentActivities, clock: Clock) -> None:
        self._recent = recent
        self._clock = clock

    def record(self, done: Sequence[Done | InputError]) -> list[InputError | None]:
        """Record activities, and say for each why it was not; None where it was.

        What was recorded counts at the next question, in every process, and is there for good.

        Args:
            done: at most MAX_RECORDED; what the caller could not even read comes as its error.

        Raises:
            InputError: there are too many, and none was recorded.
            ActivitiesUnavailable: none was recorded.
        """
        if len(done) > MAX_RECORDED:
            raise InputError(
                f"activities holds {len(done):,} items, at most {MAX_RECORDED:,}", "activities"
            )
        now = self._clock()
        outcomes: list[InputError | None] = []
        good: list[Activity] = []
        for item in done:
            try:
                if isinstance(item, InputError):
                    raise item
                good.append(_checked(item, now))
            except InputError as error:
                outcomes.append(error)
            else:
                outcomes.append(None)
        if good:
            self._recent.append(good)
        return outcomes


def _checked(done: Done, now: datetime) -> Activity:
    for name, id_ in (("userId", done.user_id), ("jobId", done.job_id)):
        if not 0 <= id_ <= MAX_ID:
            raise InputError(f"{name} is {id_}, expected 0 to {MAX_ID}", name)
    at = now if done.at is None else done.at
    if at.tzinfo is None:
        raise InputError(f"at {at.isoformat()} has no time zone", "at")
    if not 0 <= at.timestamp() <= min(MAX_TIMESTAMP, (now + _AHEAD).timestamp()):
        raise InputError(f"at {at.isoformat()} is not from 1970 until now", "at")
    return Activity(done.user_id, done.job_id, done.kind, at)
