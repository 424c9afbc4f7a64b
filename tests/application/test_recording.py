from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from application.recording import MAX_RECORDED, Done, Recording
from domain.errors import InputError
from domain.model import MAX_ID, ActivityKind
from tests.fakes import NOON, FakeRecentActivities, ManualClock

APPLY = ActivityKind.APPLY


def test_good_activities_are_recorded_and_bad_ones_answered_with_the_cause() -> None:
    recent = FakeRecentActivities()

    outcomes = Recording(recent, ManualClock()).record(
        [
            Done(1, 2, APPLY),
            InputError("jobId is 'x'", "jobId"),
            Done(1, -2, APPLY),
            Done(MAX_ID + 1, 2, APPLY),
            Done(1, 2, APPLY, NOON + timedelta(hours=1)),
            Done(1, 2, APPLY, datetime(2026, 1, 1)),  # noqa: DTZ001 - what is to be refused
            Done(1, 3, APPLY, NOON - timedelta(hours=1)),
        ]
    )

    assert [error and error.argument for error in outcomes] == [
        None,
        "jobId",
        "jobId",
        "userId",
        "at",
        "at",
        None,
    ]
    assert [(activity.job_id, activity.at) for activity in recent.activities] == [
        (2, NOON),
        (3, NOON - timedelta(hours=1)),
    ]


def test_too_many_are_refused_whole() -> None:
    recent = FakeRecentActivities()

    with pytest.raises(InputError, match="at most 1,000"):
        Recording(recent, ManualClock()).record([Done(1, 2, APPLY)] * (MAX_RECORDED + 1))

    assert recent.activities == []
