"""Splitting, measuring, and deciding whether a model may go live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InputError
from domain.evaluation import Evidence, PromotionPolicy, Targets, mean_overlap, measure, split
from domain.model import ActivityTally, IdArray

NAN = math.nan
Event = tuple[int, int, float]


def tally_of(events: Sequence[Event]) -> ActivityTally:
    """Count impressions, given as (user, job, time)."""
    users, jobs, times = zip(*events, strict=True) if events else ((), (), ())
    return ActivityTally.from_events(users, jobs, [0] * len(events), times)


def pairs_of(tally: ActivityTally) -> list[tuple[int, int]]:
    return list(zip(tally.user_ids.tolist(), tally.job_ids.tolist(), strict=True))


def matrix(*lists: Sequence[int]) -> IdArray:
    return np.array(lists, dtype=np.int64)


class TestSplit:
    def test_pairs_that_begin_after_the_cutoff_are_held_out(self) -> None:
        tally = tally_of([(1, job, float(job)) for job in range(1, 11)])

        parts = split(tally, 0.2, seed=0)

        # The 80 % quantile of 1..10 lies at 8.2
        assert parts.cutoff == datetime.fromtimestamp(8.2, UTC)
        assert pairs_of(parts.held_out) == [(1, 9), (1, 10)]
        assert pairs_of(parts.train) == [(1, job) for job in range(1, 9)]

    def test_a_pair_that_goes_on_after_the_cutoff_stays_in_training_whole(self) -> None:
        events = [(1, job, float(job)) for job in range(1, 11)]
        tally = tally_of([*events, (1, 1, 10.0), (1, 2, 9.5)])

        parts = split(tally, 0.2, seed=0)

        assert pairs_of(parts.held_out) == [(1, 9), (1, 10)]
        assert parts.train.counts[:2, 0].tolist() == [2, 2]

    def test_pairs_without_a_time_stay_in_training(self) -> None:
        tally = tally_of([(1, 1, NAN), (1, 2, 1.0), (1, 3, 2.0), (1, 4, NAN)])

        parts = split(tally, 0.5, seed=0)

        assert pairs_of(parts.held_out) == [(1, 3)]
        assert pairs_of(parts.train) == [(1, 1), (1, 2), (1, 4)]

    @pytest.mark.parametrize("time", [NAN, 5.0])
    def test_where_times_tell_nothing_the_seed_decides(self, time: float) -> None:
        tally = tally_of([(user, job, time) for user in range(50) for job in range(20)])

        one, same, other = (split(tally, 0.1, seed) for seed in (1, 1, 2))

        assert one.cutoff is None
        assert pairs_of(one.held_out) == pairs_of(same.held_out)
        assert pairs_of(one.held_out) != pairs_of(other.held_out)
        # 1000 draws at 0.1: five standard deviations are 47
        assert 53 <= len(one.held_out) <= 147

    @pytest.mark.parametrize("days", [1, 2, 5])
    def test_where_the_last_day_holds_the_share_the_seed_decides(self, days: int) -> None:
        tally = tally_of([(user, job, job % days) for user in range(50) for job in range(20)])

        parts = split(tally, 0.15, seed=0)

        assert parts.cutoff is None
        # 1000 draws at 0.15: five standard deviations are 56
        assert 94 <= len(parts.held_out) <= 206

    def test_of_nothing_is_nothing(self) -> None:
        parts = split(ActivityTally.empty(), 0.1, seed=0)
        assert (len(parts.train), len(parts.held_out), parts.cutoff) == (0, 0, None)

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, NAN])
    def test_share_out_of_bounds_is_named(self, share: float) -> None:
        with pytest.raises(InputError, match=rf"hold_out {share} is not between 0 and 1") as error:
            split(tally_of([(1, 1, 1.0)]), share, seed=0)
        assert error.value.argument == "hold_out"

    @given(
        events=st.lists(
            st.tuples(
                st.integers(0, 5),
                st.integers(0, 5),
                st.one_of(st.just(NAN), st.integers(0, 20).map(float)),
            ),
            max_size=60,
        ),
        share=st.floats(0.05, 0.95),
        seed=st.integers(0, 3),
    )
    def test_parts_are_the_whole_and_share_no_pair(
        self, events: list[Event], share: float, seed: int
    ) -> None:
        tally = tally_of(events)

        parts = split(tally, share, seed)

        train, held_out = pairs_of(parts.train), pairs_of(parts.held_out)
        assert not set(train) & set(held_out)
        assert sorted(train + held_out) == pairs_of(tally)
        assert parts.train.total() + parts.held_out.total() == len(events)
        if parts.cutoff is not None:
            known = np.isfinite(tally.first_at).sum()
            assert len(held_out) <= share * (known - 1) + 1
            # A microsecond is what a datetime cannot hold
            cutoff = parts.cutoff.timestamp()
            assert (parts.held_out.first_at > cutoff - 1e-6).all()
            assert not (parts.train.first_at > cutoff + 1e-6).any()


class TestTargets:
    def test_are_those_of_everybody_where_there_are_few(self) -> None:
        targets = Targets.of(tally_of([(7, 3, 1.0), (2, 9, 1.0), (7, 1, 1.0)]), most=2, seed=0)
        assert targets.user_ids.tolist() == [2, 7]
        assert targets.owners.tolist() == [0, 1, 1]
        assert targets.job_ids.tolist() == [9, 1, 3]

    def test_of_many_people_some_are_drawn_with_all_their_targets(self) -> None:
        held_out = tally_of([(user, job, 1.0) for user in range(100) for job in (user, 200)])

        one, same, other = (Targets.of(held_out, most=10, seed=seed) for seed in (1, 1, 2))

        users = one.user_ids.tolist()
        assert users == sorted(set(users))
        assert len(users) == 10
        assert one.owners.tolist() == sorted([*range(10), *range(10)])
        assert one.job_ids.reshape(10, 2).tolist() == [[user, 200] for user in users]
        assert same.user_ids.tolist() == users != other.user_ids.tolist()

    def test_hits_are_the_persons_own(self) -> None:
        targets = Targets.of(tally_of([(1, 10, 1.0), (1, 30, 1.0), (2, 20, 1.0)]), 9, 0)

        hits = targets.hits(matrix([10, 20, 30], [10, 20, -1]))

        assert hits.tolist() == [[True, False, True], [False, True, False]]

    def test_jobs_beyond_all_targets_and_gaps_are_no_hits(self) -> None:
        targets = Targets.of(tally_of([(1, 5, 1.0)]), 9, 0)
        assert targets.hits(matrix([4, 6, -1])).tolist() == [[False, False, False]]

    def test_of_nobody_hit_nothing(self) -> None:
        targets = Targets.of(ActivityTally.empty(), 9, 0)
        assert targets.hits(np.empty((0, 3), dtype=np.int64)).shape == (0, 3)
        assert measure(targets, np.empty((0, 3), dtype=np.int64)) == {}


def measured(targets: dict[int, set[int]], lists: Sequence[Sequence[int]]) -> dict[str, float]:
    held_out = tally_of([(user, job, 1.0) for user, jobs in targets.items() for job in jobs])
    return measure(Targets.of(held_out, len(targets), seed=0), matrix(*lists))


def plainly_measured(targets: list[set[int]], lists: list[list[int]], k: int) -> dict[str, float]:
    """Compute all metrics without numpy, each by its textbook definition."""
    sums = dict.fromkeys(("recall", "precision", "ndcg", "map", "mrr"), 0.0)
    for wanted, given_list in zip(targets, lists, strict=True):
        ranks = [rank for rank, job in enumerate(given_list, 1) if job in wanted]
        best = range(1, min(len(wanted), k) + 1)
        gain = sum(1 / math.log2(rank + 1) for rank in ranks)
        sums["recall"] += len(ranks) / len(wanted)
        sums["precision"] += len(ranks) / k
        sums["ndcg"] += gain / sum(1 / math.log2(rank + 1) for rank in best)
        sums["map"] += sum(found / rank for found, rank in enumerate(ranks, 1)) / len(best)
        sums["mrr"] += 1 / ranks[0] if ranks else 0.0
    shown = {job for given_list in lists for job in given_list if job >= 0}
    means = {f"{name}@{k}": total / len(targets) for name, total in sums.items()}
    return {**means, f"coverage@{k}": float(len(shown))}


class TestMeasure:
    def test_hits_at_ranks_1_and_3_of_4(self) -> None:
        found = measured({1: {10, 30, 99}}, [[10, 20, 30, 40]])
        assert found == pytest.approx(
            {
                "recall@4": 2 / 3,
                "precision@4": 2 / 4,
                # Hits add 1 and 1/2; at the top three would add 1 + 0.630930 + 0.5
                "ndcg@4": 1.5 / 2.1309297535714573,
                "map@4": (1 / 1 + 2 / 3) / 3,
                "mrr@4": 1.0,
                "coverage@4": 4,
            },
            abs=1e-12,
        )

    def test_one_of_two_people_hit_at_rank_2(self) -> None:
        found = measured({1: {7}, 2: {8}}, [[6, 7], [7, -1]])
        assert found == pytest.approx(
            {
                "recall@2": 0.5,
                "precision@2": 0.25,
                "ndcg@2": 0.6309297535714574 / 2,
                "map@2": 0.25,
                "mrr@2": 0.25,
                "coverage@2": 2,
            },
            abs=1e-12,
        )

    def test_more_targets_than_places_can_still_be_perfect(self) -> None:
        found = measured({1: {1, 2, 3, 4}}, [[3, 1]])
        assert (found["ndcg@2"], found["map@2"], found["precision@2"]) == (1.0, 1.0, 1.0)
        assert found["recall@2"] == 0.5

    def test_nothing_found_is_0(self) -> None:
        found = measured({1: {1}}, [[-1, -1]])
        assert set(found.values()) == {0.0}

    @settings(max_examples=200)
    @given(data=st.data(), k=st.integers(1, 6), people=st.integers(1, 5))
    def test_equals_the_definitions_computed_plainly(
        self, data: st.DataObject, k: int, people: int
    ) -> None:
        jobs = st.integers(0, 9)
        targets = [data.draw(st.sets(jobs, min_size=1)) for _ in range(people)]
        short = [data.draw(st.lists(jobs, max_size=k, unique=True)) for _ in range(people)]
        lists = [list_ + [-1] * (k - len(list_)) for list_ in short]

        found = measured(dict(enumerate(targets)), lists)

        expected = plainly_measured(targets, lists, k)
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, abs=1e-9)


class TestMeanOverlap:
    @pytest.mark.parametrize(
        ("first", "second", "overlap"),
        [
            pytest.param([[1, 2, 3]], [[1, 2, 3]], 1.0, id="the same"),
            pytest.param([[1, 2, 3]], [[3, 1, 2]], 1.0, id="in another order"),
            pytest.param([[1, 2, 3]], [[4, 5, 6]], 0.0, id="nothing shared"),
            pytest.param([[1, 2, 3, 4]], [[4, 5, 6, 7]], 0.25, id="one of four"),
            pytest.param([[1, 2], [3, 4]], [[1, 2], [5, 6]], 0.5, id="averaged over people"),
            pytest.param([[1, 2, -1]], [[2, 1, -1]], 1.0, id="gaps are no jobs"),
            pytest.param([[1, -1]], [[1, 2]], 0.5, id="over the longer list"),
            pytest.param([[-1, -1]], [[-1, -1]], 0.0, id="two empty lists share nothing"),
        ],
    )
    def test_is_the_share_of_jobs_in_common(
        self, first: list[list[int]], second: list[list[int]], overlap: float
    ) -> None:
        assert mean_overlap(matrix(*first), matrix(*second)) == pytest.approx(overlap)
        assert mean_overlap(matrix(*second), matrix(*first)) == pytest.approx(overlap)

    def test_of_nobody_is_whole(self) -> None:
        nobody = np.empty((0, 10), dtype=np.int64)
        assert mean_overlap(nobody, nobody) == 1.0


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
