"""Bootstrap over people."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domain.errors import InputError
from domain.metrics import MetricArray
from domain.significance import Bootstrap, Resampled, holm, unpaired

CHANCE = np.random.default_rng(5)
NOISE = CHANCE.normal(0.0, 1.0, 2_000)
SMALL_NOISE = CHANCE.normal(0.0, 0.1, 2_000)


def resampled(**models: MetricArray) -> Resampled:
    metrics = {name: {"recall@10": values} for name, values in models.items()}
    return Resampled(metrics, Bootstrap(resamples=2_000, seed=1))


def test_an_interval_is_that_of_the_normal_distribution_for_many_people() -> None:
    value, low, high = resampled(a=NOISE).estimate("a", "recall@10")
    half = 1.96 * NOISE.std() / math.sqrt(len(NOISE))
    assert value == NOISE.mean()
    # 2000 resamples know a 95 % bound to some percent of its distance
    assert low == pytest.approx(value - half, abs=0.15 * half)
    assert high == pytest.approx(value + half, abs=0.15 * half)


def test_the_same_people_make_small_differences_plain() -> None:
    both = resampled(a=NOISE + 0.02 + SMALL_NOISE, b=NOISE)

    alone = both.estimate("a", "recall@10")
    difference = both.difference("a", "b", "recall@10")

    assert alone.low < both.estimate("b", "recall@10").value < alone.high
    assert difference.low > 0
    assert difference.p < 0.01


def test_no_difference_is_not_significant() -> None:
    difference = resampled(a=NOISE, b=NOISE).difference("a", "b", "recall@10")
    assert difference == (0.0, 0.0, 0.0, 1.0, 1.0)


def test_p_values_of_models_that_differ_by_chance_are_spread_evenly() -> None:
    chance = np.random.default_rng(0)
    models = {f"m{number}": chance.normal(0.5, 1.0, 400) for number in range(200)}
    drawn = Resampled({name: {"x": values} for name, values in models.items()}, Bootstrap())
    ps = [drawn.difference(f"m{2 * n}", f"m{2 * n + 1}", "x").p for n in range(100)]
    # 100 draws at 5 %: four standard deviations are 9
    assert sum(p < 0.05 for p in ps) <= 14
    assert np.mean(ps) == pytest.approx(0.5, abs=0.12)


def test_the_difference_turns_its_sign_with_the_order() -> None:
    both = resampled(a=NOISE, b=SMALL_NOISE)
    forth, back = (both.difference(*pair, "recall@10") for pair in (("a", "b"), ("b", "a")))
    expected = (-forth.value, -forth.high, -forth.low, forth.p, forth.p_holm)
    assert back == pytest.approx(expected, abs=1e-12)


def test_the_seed_decides_and_other_models_do_not() -> None:
    values = NOISE[:300, None]
    one, same, other = (Bootstrap(200, seed).means(values) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    beside = Bootstrap(200, 1).means(np.column_stack([values, values**2]))
    assert beside[:, 0] == pytest.approx(one[:, 0], abs=1e-12)


def test_blocks_of_resamples_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    values = NOISE[:300, None]
    whole = Bootstrap(200).means(values)
    monkeypatch.setattr("domain.significance._CELLS", 300 * 7)
    assert Bootstrap(200).means(values) == pytest.approx(whole, abs=1e-12)


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(InputError, match="resamples 99 is below 100"):
        Bootstrap(resamples=99)


@pytest.mark.parametrize(
    ("ps", "expected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9, 0.5], [1.0, 1.0, 1.0]),
        ([0.001, 0.001], [0.002, 0.002]),
    ],
)
def test_p_values_are_adjusted_as_holm_has_it(ps: list[float], expected: list[float]) -> None:
    assert holm(ps) == pytest.approx(expected)


def test_two_groups_that_differ_are_told_from_two_that_do_not() -> None:
    columns = np.column_stack([NOISE, NOISE])
    shift = np.array([0.5, 0.0])
    far, near = unpaired(columns[:900] + shift, columns[900:], Bootstrap())
    assert far.low > 0
    assert far.p < 0.01
    assert near.low < 0 < near.high
