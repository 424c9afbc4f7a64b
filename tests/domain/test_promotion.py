"""Deciding whether a model may go live."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InputError
from domain.promotion import Evidence, PromotionPolicy

NAN = math.nan
LIVE = Evidence(users=1000, jobs=100, metrics={"ndcg@10": 0.2, "recall@10": 0.5})


class TestPromotionPolicy:
    def test_an_equal_model_may_go_live(self) -> None:
        assert PromotionPolicy().refusals(LIVE, LIVE) == ()

    @pytest.mark.parametrize(
        "candidate",
        [
            replace(LIVE, users=700),
            replace(LIVE, jobs=70),
            replace(LIVE, metrics={"ndcg@10": 0.2 * 0.9}),
            replace(LIVE, metrics={"ndcg@10": 0.9, "recall@10": 0.0}),
            replace(LIVE, metrics={}),
            replace(LIVE, users=9000, jobs=9000),
        ],
        ids=["people", "jobs", "metric", "another metric", "not measured", "larger"],
    )
    def test_exactly_at_the_bounds_a_model_may_go_live(self, candidate: Evidence) -> None:
        assert PromotionPolicy().refusals(candidate, LIVE) == ()

    def test_a_metric_that_the_live_model_lacks_tells_nothing(self) -> None:
        assert PromotionPolicy().refusals(LIVE, replace(LIVE, metrics={})) == ()

    @pytest.mark.parametrize(
        ("candidate", "reason"),
        [
            (
                replace(LIVE, users=699),
                "it knows 699 users, the live model 1,000: 30.1% fewer, at most 30.0% are accepted",
            ),
            (
                replace(LIVE, jobs=69),
                "it knows 69 jobs, the live model 100: 31.0% fewer, at most 30.0% are accepted",
            ),
            (
                replace(LIVE, metrics={"ndcg@10": 0.17}),
                (
                    "its ndcg@10 is 0.1700, the live model's 0.2000: 15.0% lower, "
                    "at most 10.0% is accepted"
                ),
            ),
            (replace(LIVE, is_finite=False), "its factors are not all finite numbers"),
        ],
        ids=["people", "jobs", "metric", "finite"],
    )
    def test_a_refusal_says_figures(self, candidate: Evidence, reason: str) -> None:
        assert PromotionPolicy().refusals(candidate, LIVE) == (reason,)

    def test_all_reasons_are_told_at_once(self) -> None:
        candidate = Evidence(users=0, jobs=0, is_finite=False, metrics={"ndcg@10": 0.0})
        assert len(PromotionPolicy().refusals(candidate, LIVE)) == 4

    def test_without_a_live_model_only_numbers_that_are_none_are_refused(self) -> None:
        candidate = Evidence(users=1, jobs=1, metrics={"ndcg@10": 0.0})
        assert PromotionPolicy().refusals(candidate, None) == ()
        refusals = PromotionPolicy().refusals(replace(candidate, is_finite=False), None)
        assert refusals == ("its factors are not all finite numbers",)

    def test_a_margin_of_0_refuses_any_loss(self) -> None:
        policy = PromotionPolicy(margin=0, max_shrink=0)
        worse = Evidence(users=999, jobs=99, metrics={"ndcg@10": 0.1999})
        assert len(policy.refusals(worse, LIVE)) == 3
        assert policy.refusals(LIVE, LIVE) == ()

    def test_another_metric_may_count(self) -> None:
        policy = PromotionPolicy(metric="recall@10")
        worse = replace(LIVE, metrics={"ndcg@10": 0.2, "recall@10": 0.1})
        (reason,) = policy.refusals(worse, LIVE)
        assert reason.startswith("its recall@10 is 0.1000, the live model's 0.5000: 80.0% lower")

    @pytest.mark.parametrize(
        ("name", "value", "bound"),
        [
            ("margin", -0.1, "0..1"),
            ("margin", 1.1, "0..1"),
            ("margin", NAN, "0..1"),
            ("max_shrink", -0.1, "0..1"),
            ("max_shrink", 2.0, "0..1"),
            ("hold_out", -0.1, "0..0.5"),
            ("hold_out", 0.6, "0..0.5"),
        ],
    )
    def test_a_bad_value_is_refused_by_name_and_bound(
        self, name: str, value: float, bound: str
    ) -> None:
        with pytest.raises(InputError) as error:
            PromotionPolicy(**{name: value})  # type: ignore[arg-type] # each is a number
        assert str(error.value) == f"{name} {value} is not in {bound}"
        assert error.value.argument == name

    @pytest.mark.parametrize(
        ("name", "value", "least"),
        [("min_people", 0, 1), ("max_people", 49, 50), ("max_steps", 0, 1)],
    )
    def test_a_number_too_small_is_refused_by_name_and_bound(
        self, name: str, value: int, least: int
    ) -> None:
        PromotionPolicy(**{name: least})  # type: ignore[arg-type] # each is a number
        with pytest.raises(InputError) as error:
            PromotionPolicy(**{name: value})  # type: ignore[arg-type] # each is a number
        assert str(error.value) == f"{name} {value} is below {least}"
        assert error.value.argument == name

    @given(
        users=st.integers(0, 10_000),
        jobs=st.integers(0, 10_000),
        quality=st.floats(0, 1),
        margin=st.floats(0, 1),
        shrink=st.floats(0, 1),
    )
    def test_a_model_that_is_no_worse_in_anything_is_never_refused(
        self, users: int, jobs: int, quality: float, margin: float, shrink: float
    ) -> None:
        live = Evidence(users, jobs, metrics={"ndcg@10": quality})
        better = Evidence(users + 1, jobs, metrics={"ndcg@10": quality + 0.1})
        policy = PromotionPolicy(margin=margin, max_shrink=shrink)
        assert policy.refusals(live, live) == ()
        assert policy.refusals(better, live) == ()
