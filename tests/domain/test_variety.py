from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InputError
from domain.model import FloatArray, IndexArray
from domain.ranking import Ranked
from domain.variety import Variety

shares = st.floats(0, 1)
bounds = st.none() | st.integers(1, 4)
varieties = st.builds(Variety, bounds, shares, shares, bounds)


def pool_of(n: int) -> Ranked:
    return Ranked(np.arange(100, 100 + n), np.linspace(1, 0, n, dtype=np.float32))


def cosines_of(vectors: FloatArray, jobs: IndexArray) -> FloatArray:
    own = vectors[jobs - 100]
    units = own / np.linalg.norm(own, axis=1, keepdims=True)
    cosines: FloatArray = (units @ units.T).astype(np.float32)
    return cosines


def choose(
    variety: Variety,
    n: int,
    k: int,
    employers: list[int],
    crowd: list[float] | None = None,
    types: list[int] | None = None,
    seed: int = 0,
) -> list[int]:
    vectors = np.random.default_rng(seed).standard_normal((max(1, n), 3)).astype(np.float32)
    places = variety.choose(
        pool_of(n),
        k,
        np.array(employers, dtype=np.int64),
        np.array(types if types is not None else [-1] * n, dtype=np.int64),
        np.array(crowd if crowd is not None else [0.0] * n, dtype=np.float32),
        lambda jobs: cosines_of(vectors, jobs),
    )
    return [int(place) for place in places]


@given(variety=varieties, k=st.integers(0, 12), data=st.data())
@settings(deadline=None)
def test_a_list_is_of_distinct_jobs_within_its_length_and_its_bounds(
    variety: Variety, k: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, 20))
    employers = data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    crowd = data.draw(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n))

    types = data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))

    places = choose(variety, n, k, employers, crowd, types)

    assert len(set(places)) == len(places) <= k
    full = set()
    for groups, bound in ((employers, variety.max_per_employer), (types, variety.max_per_type)):
        taken = Counter(groups[place] for place in places if groups[place] >= 0)
        assert bound is None or max(taken.values(), default=0) <= bound
        full |= {
            place for place in range(n) if groups[place] >= 0 and taken[groups[place]] == bound
        }
    # No place stays empty that a job could have taken
    if len(places) < k:
        assert set(range(n)) - set(places) <= full


@given(n=st.integers(0, 20), k=st.integers(0, 25))
def test_with_nothing_wanted_the_order_stays(n: int, k: int) -> None:
    assert list(range(min(n, k))) == choose(Variety(), n, k, [0] * n)


def test_a_bound_passes_over_further_jobs_of_an_employer_and_not_over_unknown_ones() -> None:
    assert choose(Variety(max_per_employer=1), 6, 4, [7, 7, -1, -1, 8, 7]) == [0, 2, 3, 4]


def test_a_bound_of_a_type_counts_all_its_employers() -> None:
    assert choose(Variety(max_per_type=1), 4, 4, [1, 2, 3, 4], types=[5, 5, -1, 6]) == [0, 2, 3]


def test_spread_alone_puts_those_first_that_few_know() -> None:
    assert choose(Variety(spread=1), 4, 4, [-1] * 4, [0.9, 0.1, 0.5, 0.1]) == [1, 3, 2, 0]


def test_diversity_alone_puts_what_is_unlike_the_first_before_what_is_like_it() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0, 1]], dtype=np.float32)
    places = Variety(diversity=1).choose(
        pool_of(3),
        3,
        np.full(3, -1),
        np.full(3, -1),
        np.zeros(3, dtype=np.float32),
        lambda jobs: cosines_of(vectors, jobs),
    )
    assert places.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_per_employer": 0}, "max_per_employer is 0, expected at least 1"),
        ({"diversity": 1.1}, "diversity is 1.1, expected 0 to 1"),
        ({"spread": float("nan")}, "spread is nan, expected 0 to 1"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_its_value(
    given: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Variety(**given)  # type: ignore[arg-type] # out of bounds on purpose
