"""Finding known tastes."""

from __future__ import annotations

import numpy as np
import pytest

from domain.errors import InputError
from domain.tastes import Taste, found

LAW = Taste("law", np.array([1, 2]), np.array([10, 11]))
DATA = Taste("data", np.array([2, 3]), np.array([11, 20]))


def test_a_job_counts_where_it_suits_any_taste_of_its_person_and_short_lists_miss() -> None:
    lists = np.array([[10, 20, 11], [10, 20, 30], [10, -1, -1]])
    metrics = found([LAW, DATA], np.array([1, 2, 3]), lists, [1, 3])
    assert metrics["taste@1"].tolist() == [1, 1, 0]
    assert metrics["taste@3"] == pytest.approx([2 / 3, 2 / 3, 0])


def test_people_without_a_taste_are_an_error() -> None:
    with pytest.raises(InputError, match="1 of the 2 people measured have no taste"):
        found([LAW], np.array([1, 3]), np.array([[10], [10]]), [1])
