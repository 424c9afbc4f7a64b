"""Who may be told of in an audit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.auditing import NOT_STATED, Attributes, DisclosurePolicy
from domain.errors import InputError

SIZES = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 60), max_size=8)


def test_groups_are_of_those_measured_and_silence_is_a_group() -> None:
    attributes = Attributes(np.array([1, 3, 5]), {"gender": ["f", None, "m"]})
    groups = attributes.groups("gender", np.array([3, 5, 9]))
    assert {name: own.tolist() for name, own in groups.items()} == {"m": [1], NOT_STATED: [0, 2]}


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ({"a": 40, "b": 30}, ["a", "b"]),
        # Alone, it would be the whole without the others
        ({"a": 40, "b": 30, "c": 3}, ["a"]),
        ({"a": 40, "b": 19, "c": 3}, ["a"]),
        ({"a": 40, "b": 30, "c": 3, "d": 4}, ["a"]),
        ({"a": 40, "b": 3}, []),
        ({"a": 40}, ["a"]),
        ({"a": 3}, []),
    ],
)
def test_small_groups_are_hidden_and_what_would_tell_of_them(
    sizes: dict[str, int], shown: list[str]
) -> None:
    assert DisclosurePolicy(20).shown(sizes) == shown


@given(SIZES, st.integers(5, 40))
def test_nothing_shown_or_derived_is_of_fewer_people_than_the_least(
    sizes: dict[str, int], least: int
) -> None:
    shown = DisclosurePolicy(least).shown(sizes)
    hidden = sum(size for name, size in sizes.items() if name not in shown)
    assert all(sizes[name] >= least for name in shown)
    if shown and hidden:
        assert hidden >= least
        assert len(sizes) - len(shown) > 1
    for name in shown:
        others = sum(sizes.values()) - sizes[name]
        assert others == 0 or others >= least


def test_a_bound_that_would_single_people_out_is_refused() -> None:
    with pytest.raises(InputError, match="min_group 4 is below 5"):
        DisclosurePolicy(4)
