"""Groups of people and of targets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from domain.cohorts import by_history, by_job
from domain.model import ActivityTally
from tests.tallies import tally_of

DAY = 86_400.0


def ages(train: ActivityTally, job_ids: Sequence[int]) -> dict[str, list[bool]]:
    return {name: chosen.tolist() for name, chosen in by_job(train, np.array(job_ids))}


def test_everybody_is_in_one_group_by_the_length_of_their_history() -> None:
    lengths = np.array([1, 2, 4, 5, 9, 10, 19, 20, 4_000])
    found = {name: lengths[chosen].tolist() for name, chosen in by_history(lengths)}
    assert found == {
        "history 1": [1],
        "history 2-4": [2, 4],
        "history 5-9": [5, 9],
        "history 10-19": [10, 19],
        "history 20+": [20, 4_000],
    }


def test_jobs_are_new_for_the_last_thirty_days_of_the_training_part() -> None:
    events = [(1, 10, 0.0), (2, 10, 99 * DAY), (1, 20, 69 * DAY - 1), (1, 30, 69 * DAY)]
    train = tally_of([*events, (1, 40, math.nan)])
    assert ages(train, [10, 20, 30, 40, 99]) == {
        "old jobs": [True, True, False, True, False],
        "new jobs": [False, False, True, False, False],
        "unseen jobs": [False, False, False, False, True],
    }


@pytest.mark.parametrize("span", [0.0, 30 * DAY, math.nan])
def test_where_all_would_be_new_none_is(span: float) -> None:
    found = ages(tally_of([(1, 10, 0.0), (1, 20, span)]), [10, 20])
    assert found["old jobs"] == [True, True]


def test_without_times_no_job_is_new() -> None:
    assert ages(tally_of([(1, 10, math.nan)]), [10, 20])["old jobs"] == [True, False]
