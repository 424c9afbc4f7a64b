from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from domain.explaining import attributed, strongest
from domain.model import ActivityKind, FloatArray, History, TimeArray

VALUES = st.floats(-100, 100, width=32)
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)


@given(
    arrays.arrays(np.float64, SHAPES, elements=VALUES),
    st.lists(VALUES, min_size=6, max_size=6),
)
def test_what_is_attributed_adds_up_to_the_score(
    contributions: TimeArray, scores: list[float]
) -> None:
    served: FloatArray = np.array(scores[: len(contributions)], dtype=np.float32)

    whole = attributed(contributions, served)

    assert whole.sum(axis=1) == pytest.approx(served, abs=1e-9)


def test_contributions_that_add_up_are_left_as_they_are() -> None:
    contributions = np.array([[1.0, 2.0, -0.5]])

    assert attributed(contributions, np.array([2.5], np.float32)).tolist() == [[1, 2, -0.5]]


def test_the_strongest_come_first_and_ties_by_job() -> None:
    history = History(
        np.array([0, 1, 2]),
        np.ones(3, np.float32),
        np.array([1, 2, 5], np.uint8),
    )

    reasons = strongest(history, np.array([10, 20, 30]), np.array([1.0, 1.0, 2.0]), 4.0, 2)

    assert [(reason.job_id, reason.share) for reason in reasons] == [(30, 0.5), (10, 0.25)]
    assert reasons[0].kinds == (ActivityKind.IMPRESSION, ActivityKind.APPLY)
