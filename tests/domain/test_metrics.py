"""Measuring lists against what people went on to do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.metrics import Targets, mean_overlap, measure, per_person
from domain.model import ActivityTally, IdArray
from tests.tallies import tally_of

NAN = math.nan


def matrix(*lists: Sequence[int]) -> IdArray:
    return np.array(lists, dtype=np.int64)


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

    def test_some_of_them_keep_their_people_only(self) -> None:
        targets = Targets.of(
            tally_of([(1, 10, 1.0), (1, 30, 1.0), (2, 20, 1.0), (3, 9, 1.0)]), 9, 0
        )

        some, people = targets.select(np.array([False, True, False, True]))

        assert people.tolist() == [0, 2]
        assert some.user_ids.tolist() == [1, 3]
        assert some.owners.tolist() == [0, 1]
        assert some.job_ids.tolist() == [30, 9]

    def test_of_nobody_hit_nothing(self) -> None:
        targets = Targets.of(ActivityTally.empty(), 9, 0)
        assert targets.hits(np.empty((0, 3), dtype=np.int64)).shape == (0, 3)
        assert measure(targets, np.empty((0, 3), dtype=np.int64)) == {}


def measured(targets: dict[int, set[int]], lists: Sequence[Sequence[int]]) -> dict[str, float]:
    held_out = tally_of([(user, job, 1.0) for user, jobs in targets.items() for job in jobs])
    return measure(Targets.of(held_out, len(targets), seed=0), matrix(*lists))


def plainly_measured(targets: list[set[int]], lists: list[list[int]], k: int) -> dict[str, float]:
    """Compute all metrics without numpy, each by its textbook definition."""
    sums = dict.fromkeys(("recall", "precision", "ndcg", "map", "mrr", "hit_rate"), 0.0)
    for wanted, given_list in zip(targets, lists, strict=True):
        ranks = [rank for rank, job in enumerate(given_list, 1) if job in wanted]
        best = range(1, min(len(wanted), k) + 1)
        gain = sum(1 / math.log2(rank + 1) for rank in ranks)
        sums["recall"] += len(ranks) / len(wanted)
        sums["precision"] += len(ranks) / k
        sums["ndcg"] += gain / sum(1 / math.log2(rank + 1) for rank in best)
        sums["map"] += sum(found / rank for found, rank in enumerate(ranks, 1)) / len(best)
        sums["mrr"] += 1 / ranks[0] if ranks else 0.0
        sums["hit_rate"] += 1.0 if ranks else 0.0
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
                "hit_rate@4": 1.0,
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
                "hit_rate@2": 0.5,
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


class TestPerPerson:
    def test_cuts_each_persons_list_at_every_length(self) -> None:
        held_out = tally_of([(1, 10, 1.0), (1, 30, 1.0), (2, 7, 1.0)])
        targets = Targets.of(held_out, 2, seed=0)

        found = per_person(targets, matrix([20, 10, 30], [7, -1, -1]), [1, 3])

        expected = {
            "recall@1": [0, 1],
            "precision@1": [0, 1],
            "ndcg@1": [0, 1],
            "map@1": [0, 1],
            "mrr@1": [0, 1],
            "hit_rate@1": [0, 1],
            "recall@3": [1, 1],
            "precision@3": [2 / 3, 1 / 3],
            # Hits at ranks 2 and 3 add 0.630930 + 0.5; at the top they would add 1.630930
            "ndcg@3": [1.1309297535714573 / 1.6309297535714573, 1],
            "map@3": [(1 / 2 + 2 / 3) / 2, 1],
            "mrr@3": [1 / 2, 1],
            "hit_rate@3": [1, 1],
        }
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].tolist() == pytest.approx(values, abs=1e-12), name

    @pytest.mark.parametrize("seed", range(5))
    def test_equals_another_library_on_random_rankings(self, seed: int) -> None:
        people, jobs, ks = 200, 300, [1, 5, 10, 20]
        chance = np.random.default_rng(seed)
        wanted = [chance.choice(jobs, chance.integers(1, 40), replace=False) for _ in range(people)]
        lists = np.stack([chance.permutation(jobs)[: ks[-1]] for _ in range(people)])
        lists[::7, 12:] = -1
        held_out = tally_of(
            [(user, int(job), 1.0) for user, own in enumerate(wanted) for job in own]
        )

        found = per_person(Targets.of(held_out, people, seed=0), lists, ks)

        totals = np.array([len(own) for own in wanted])
        for (name, k, user), value in by_ir_measures(wanted, lists, ks).items():
            # trec_eval divides average precision by all targets, also by those beyond rank k
            scale = totals[user] / min(totals[user], k) if name == "map" else 1.0
            assert found[f"{name}@{k}"][user] == pytest.approx(value * scale, abs=1e-9), name


def by_ir_measures(
    wanted: Sequence[IdArray], lists: IdArray, ks: Sequence[int]
) -> dict[tuple[str, int, int], float]:
    """Return what ir-measures finds, by metric, length and person."""
    names = {
        ir_measures.R: "recall",
        ir_measures.P: "precision",
        ir_measures.nDCG: "ndcg",
        ir_measures.AP: "map",
        ir_measures.RR: "mrr",
        ir_measures.Success: "hit_rate",
    }
    relevant = [
        ir_measures.Qrel(str(user), str(job), 1)
        for user, own in enumerate(wanted)
        for job in own.tolist()
    ]
    ranked = [
        ir_measures.ScoredDoc(str(user), str(job), -float(rank))
        for user, own in enumerate(lists.tolist())
        for rank, job in enumerate(own)
        if job >= 0
    ]
    asked = {measure @ k: (name, k) for measure, name in names.items() for k in ks}
    return {
        (*asked[each.measure], int(each.query_id)): each.value
        for each in ir_measures.iter_calc(list(asked), relevant, ranked)
    }


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

    def test_of_more_people_than_fit_a_block_is_the_mean_of_all(self) -> None:
        first = np.arange(300).reshape(3, 100).repeat(1_000, axis=0)
        second = first.copy()
        second[:1_000, 50:] = -1
        assert mean_overlap(first, second) == pytest.approx((0.5 + 1 + 1) / 3)

    def test_of_nobody_is_whole(self) -> None:
        nobody = np.empty((0, 10), dtype=np.int64)
        assert mean_overlap(nobody, nobody) == 1.0
