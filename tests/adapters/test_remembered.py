from __future__ import annotations

import gc
import weakref

import numpy as np

from adapters.remembered import Remembered


def fixed(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    array = np.array(values)
    array.flags.writeable = False
    return array


def test_what_is_made_of_an_array_is_made_once_and_only_when_it_is_met_again() -> None:
    kept, array, made = Remembered[list[int]](2), fixed(1, 2), []

    def make() -> list[int]:
        made.append(array.tolist())
        return made[-1]

    found = [kept.of(array, make) for _ in range(4)]

    assert found == [None, [1, 2], [1, 2], [1, 2]]
    assert made == [[1, 2]]


def test_an_array_that_may_change_is_never_remembered() -> None:
    kept, array = Remembered[int](2), np.array([1, 2])
    assert [kept.of(array, lambda: 1) for _ in range(3)] == [None] * 3


def test_equal_arrays_are_told_apart() -> None:
    kept, one, other = Remembered[str](2), fixed(1), fixed(1)
    assert [kept.of(one, lambda: "one") for _ in range(2)] == [None, "one"]
    assert [kept.of(other, lambda: "other") for _ in range(2)] == [None, "other"]
    assert kept.of(one, lambda: "anew") == "one"


def test_of_more_arrays_those_met_last_are_kept() -> None:
    kept, arrays = Remembered[int](2), [fixed(number) for number in range(3)]
    for array in arrays:
        for _ in range(2):
            kept.of(array, lambda: 1)
    assert [kept.of(array, lambda: 2) for array in reversed(arrays)] == [1, 1, None]


def test_what_was_made_goes_with_its_array() -> None:
    kept = Remembered[int](100)
    for number in range(200):
        # A new array may take the place of one that is gone
        array = fixed(number)
        assert kept.of(array, lambda: -1) is None
        assert kept.of(array, lambda: number) == number  # noqa: B023 - called at once
    del array
    gc.collect()
    assert len(kept) == 0


def test_what_was_made_goes_with_whoever_remembers_it_and_needs_no_collector() -> None:
    class Made:
        """Something large."""

    array = np.zeros(3)
    array.flags.writeable = False
    remembered: Remembered[Made] = Remembered(2)
    remembered.of(array, Made)
    made = remembered.of(array, Made)
    assert made is not None
    kept = weakref.ref(made)
    gc.disable()
    try:
        del made, remembered
        assert kept() is None
    finally:
        gc.enable()
    del array
