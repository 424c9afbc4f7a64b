"""Measuring a recipe beside baselines and stored models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from adapters.als import AlsParameters, AlsTrainer
from adapters.baselines import baselines
from adapters.factors import FactorRecommender
from application.auditing import Audit, Auditing
from application.evaluating import Evaluating, Evaluation, EvaluationRequest
from application.recommending import Models
from application.trading_off import TradingOff
from domain.auditing import Attributes, DisclosurePolicy
from domain.errors import InputError, NothingToMeasure, SnapshotMissing
from domain.model import ActivityKind, ActivityTally, Job, TimeWindow
from domain.ports import Recipe, nobody
from domain.runs import Manifest
from domain.scoring import ScoringPolicy
from domain.significance import Bootstrap, holm
from domain.splits import SplitKind, hold_out
from domain.tastes import Taste
from tests.fakes import NOON, Event, FakeActivityLog, FakeCatalog, FakeSnapshotStore

MODELS = ["als", "popular", "recent-popular", "item-knn", "last-seen", "random"]
PARAMETERS = AlsParameters(factors=8, iterations=5, threads=1)


def crowd(people: int = 200, jobs: int = 60) -> list[Event]:
    """Return what people do who like the jobs of their own of three fields, in order of time."""
    chance = np.random.default_rng(3)
    return [
        Event(
            int(person),
            int(chance.integers(jobs // 3)) * 3 + int(person) % 3,
            ActivityKind.REDIRECT,
            float(turn),
        )
        for turn, person in enumerate(chance.integers(people, size=people * 8))
    ]


def given(**wanted: Sequence[int]) -> ActivityTally:
    """Return pairs to predict; the name of a person is u and their id."""
    pairs = [(int(user[1:]), job) for user, jobs in wanted.items() for job in jobs]
    users, jobs = zip(*pairs, strict=True)
    return ActivityTally.from_events(users, jobs, [0] * len(pairs), [math.nan] * len(pairs))


@dataclass
class Bench:
    """An evaluation with everything outside it in memory; what learns is real."""

    events: list[Event] = field(default_factory=crowd)
    snapshots: FakeSnapshotStore = field(default_factory=FakeSnapshotStore)
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    catalog: FakeCatalog | None = None

    def __post_init__(self) -> None:
        self.log = FakeActivityLog(self.events)
        self.recipe = Recipe("als", ScoringPolicy.funnel().score, AlsTrainer(PARAMETERS))

    def tally(self) -> ActivityTally:
        return self.log.tally(TimeWindow(), nobody)[0]

    def evaluating(self) -> Evaluating:
        return Evaluating(
            log=self.log,
            recipe=self.recipe,
            baselines=baselines(),
            models=Models(self.snapshots, lambda _, arrays: FactorRecommender.from_arrays(arrays)),
            snapshots=self.snapshots,
            bootstrap=Bootstrap(resamples=200),
            seed=1,
            trading_off=TradingOff(self.catalog),
        )

    def evaluate(self, request: EvaluationRequest | None = None) -> Evaluation:
        return self.evaluating().evaluate(
            request or EvaluationRequest(split=SplitKind.LAST),
            lambda *stage: self.stages.append(stage),
        )

    def store(self, version: str, tally: ActivityTally) -> None:
        """Store the model that the recipe learns from a tally."""
        known, recommender = self.recipe.learn(tally, 1, nobody)
        users, jobs = known.shape
        times = tally.time_range
        manifest = Manifest(
            version=version,
            trained_at=NOON,
            users=users,
            jobs=jobs,
            activities=tally.total(),
            since=times and times[0],
            until=times and times[1],
            seed=1,
            scoring={},
            trainer={},
        )
        self.snapshots.write(manifest, {**known.arrays(), **recommender.arrays()})


class TestEvaluation:
    def test_the_recipe_finds_tastes_that_popularity_and_chance_do_not(self) -> None:
        evaluation = Bench().evaluate()

        assert evaluation.default == "als"
        assert list(evaluation.metrics) == MODELS
        recall = {name: each["recall@20"] for name, each in evaluation.metrics.items()}
        assert recall["als"] > 0.9
        assert recall["item-knn"] > 0.9
        assert recall["popular"] < 0.6
        assert recall["random"] < 0.6
        assert evaluation.differences["random"]["recall@20"].low > 0.2
        assert evaluation.differences["random"]["recall@20"].p < 0.01
        assert "als" not in evaluation.differences

    def test_every_metric_is_there_at_every_length_with_intervals_around_means(self) -> None:
        evaluation = Bench().evaluate(EvaluationRequest(split=SplitKind.RANDOM, ks=(1, 7)))

        personal = ("recall", "precision", "ndcg", "map", "mrr", "hit_rate")
        of_lists = ("coverage", "never_shown", "gini", "novelty", "popularity_bias", "diversity")
        for model in MODELS:
            names = {f"{name}@{k}" for name in (*personal, *of_lists) for k in (1, 7)}
            assert set(evaluation.metrics[model]) == names
            for name, (value, low, high) in evaluation.intervals[model].items():
                assert value == evaluation.metrics[model][name]
                assert low <= value <= high

    def test_no_list_holds_what_its_person_did_in_the_training_part(self) -> None:
        # Two did all jobs but one, so one is left to list
        events = [Event(user, job, timestamp=job) for user in range(5) for job in range(30)]
        request = EvaluationRequest(given=given(u0=[30], u1=[30]), ks=(1, 5))

        evaluation = Bench([*events, Event(4, 30, timestamp=40.0)]).evaluate(request)

        assert {each["recall@1"] for each in evaluation.metrics.values()} == {1.0}
        assert {each["coverage@5"] for each in evaluation.metrics.values()} == {1.0}

    def test_who_and_what_was_measured_is_told(self) -> None:
        events = [Event(1, 10), Event(1, 20), Event(2, 10), Event(3, 30)]
        request = EvaluationRequest(given=given(u1=[20, 30], u2=[99], u8=[10]))

        setting = Bench(events).evaluate(request).setting

        assert setting.split == "given"
        assert (setting.users, setting.jobs, setting.pairs) == (3, 2, 3)
        assert (setting.people, setting.left_out) == (2, 1)
        assert (setting.targets, setting.unseen_targets) == (3, 2)

    def test_the_temporal_split_tells_its_cutoff(self) -> None:
        setting = Bench().evaluate(EvaluationRequest()).setting
        assert setting.split == "temporal"
        assert setting.cutoff is not None
        # The last tenth of 200 x 8 events a second apart
        assert datetime.fromtimestamp(800, UTC) < setting.cutoff < datetime.fromtimestamp(1600, UTC)

    def test_the_same_data_and_seed_give_the_same_figures(self) -> None:
        assert Bench().evaluate() == Bench().evaluate()

    def test_stages_are_told_from_their_beginning_to_their_end(self) -> None:
        bench = Bench()
        bench.evaluate()

        names = list(dict.fromkeys(name for name, _, _ in bench.stages))
        expected = [f"{stage} {model}" for model in MODELS for stage in ("fitting", "ranking")]
        assert names == ["reading", *expected, "comparing"]
        for name in names:
            steps = [(done, total) for stage, done, total in bench.stages if stage == name]
            assert steps[0][0] == 0
            assert steps[-1][0] == steps[-1][1] > 0
            assert steps == sorted(steps)

    def test_where_nobody_can_be_measured_it_says_why(self) -> None:
        with pytest.raises(NothingToMeasure, match=r"of the 4 pairs .* 1 are held out, and nobody"):
            Bench([Event(1, job) for job in range(4)]).evaluate(
                EvaluationRequest(given=given(u2=[3]))
            )

    @pytest.mark.parametrize(
        ("ks", "message"),
        [
            ((), "k [] is not a list of ascending lengths"),
            ((20, 10), "k [20, 10] is not a list of ascending lengths"),
            ((10, 10), "k [10, 10] is not a list of ascending lengths"),
            ((0,), "k 0 is not in 1..1,000"),
            ((10, 1_001), "k 1001 is not in 1..1,000"),
        ],
    )
    def test_lengths_out_of_bounds_are_named(self, ks: tuple[int, ...], message: str) -> None:
        with pytest.raises(InputError) as error:
            EvaluationRequest(ks=ks)
        assert str(error.value) == message


class TestGroups:
    def test_groups_of_people_make_up_the_whole(self) -> None:
        evaluation = Bench().evaluate()
        groups = [each for each in evaluation.groups if each.name.startswith("history")]

        assert len(groups) > 1
        people = sum(group.people for group in groups)
        total = sum(group.people * group.metrics["als"]["recall@10"] for group in groups)
        assert people == evaluation.setting.people
        assert total / people == pytest.approx(evaluation.metrics["als"]["recall@10"])

    def test_targets_are_judged_apart_by_whether_their_job_was_seen(self) -> None:
        events = [Event(1, 10), Event(2, 10), Event(2, 20), Event(3, 20)]
        request = EvaluationRequest(given=given(u1=[20, 98, 99], u3=[99]), ks=(1,))

        groups = {group.name: group for group in Bench(events).evaluate(request).groups}

        assert (groups["old jobs"].people, groups["unseen jobs"].people) == (1, 2)
        assert groups["old jobs"].metrics["popular"]["recall@1"] == 1.0
        assert groups["unseen jobs"].metrics["popular"]["recall@1"] == 0.0
        assert "new jobs" not in groups


class TestStoredModels:
    def test_a_model_that_has_not_seen_the_part_held_out_is_measured(self) -> None:
        bench = Bench()
        bench.store("older", hold_out(bench.tally(), SplitKind.LAST, 0.1, 1).train)

        evaluation = bench.evaluate(EvaluationRequest(split=SplitKind.LAST, models=("older",)))

        assert list(evaluation.metrics) == [*MODELS, "older"]
        assert evaluation.metrics["older"] == evaluation.metrics["als"]
        assert evaluation.differences["older"]["ndcg@10"].p == 1.0
        assert evaluation.refused == {}

    def test_one_that_has_is_refused_with_figures(self) -> None:
        bench = Bench()
        bench.store("all", bench.tally())

        evaluation = bench.evaluate(EvaluationRequest(split=SplitKind.LAST, models=("all",)))

        held_out = evaluation.setting.targets
        assert evaluation.refused == {
            "all": f"it has learned {held_out} of the {held_out} pairs held out"
        }
        assert list(evaluation.metrics) == MODELS

    def test_one_that_knows_of_later_times_is_refused(self) -> None:
        bench = Bench()
        train = hold_out(bench.tally(), SplitKind.TEMPORAL, 0.1, 1).train
        later = ActivityTally.from_events([777], [888], [0], [5_000.0])
        bench.store("later", ActivityTally.merged([train, later]))

        evaluation = bench.evaluate(EvaluationRequest(models=("later",)))

        assert evaluation.refused["later"].startswith(
            "its data reach until 1970-01-01T01:23:20+00:00, beyond 1970-01-01T00:"
        )

    def test_people_and_jobs_that_it_does_not_know_are_no_obstacle(self) -> None:
        bench = Bench()
        train = hold_out(bench.tally(), SplitKind.LAST, 0.1, 1).train
        bench.store("half", train.select((train.user_ids % 2 == 0) & (train.job_ids < 45)))

        evaluation = bench.evaluate(EvaluationRequest(split=SplitKind.LAST, models=("half",)))

        assert 0 < evaluation.metrics["half"]["recall@20"] < evaluation.metrics["als"]["recall@20"]
        assert evaluation.metrics["half"]["coverage@20"] == 45

    def test_a_version_that_is_not_there_is_an_error(self) -> None:
        with pytest.raises(SnapshotMissing):
            Bench().evaluate(EvaluationRequest(split=SplitKind.LAST, models=("none",)))

    def test_lists_are_compared_with_those_of_the_live_model_whatever_it_has_seen(self) -> None:
        bench = Bench()
        assert "overlap_with_live@10" not in bench.evaluate().metrics["als"]
        bench.store("live", hold_out(bench.tally(), SplitKind.LAST, 0.1, 1).train)
        bench.snapshots.promote("live")

        overlaps = {
            model: each["overlap_with_live@10"] for model, each in bench.evaluate().metrics.items()
        }

        assert overlaps["als"] == 1.0
        assert 0 < overlaps["random"] < 0.5

    def test_names_of_recipes_narrow_and_the_default_stays(self) -> None:
        bench = Bench()
        request = EvaluationRequest(split=SplitKind.LAST, models=("random", "popular"))
        assert list(bench.evaluate(request).metrics) == ["als", "popular", "random"]

    def test_a_rival_is_measured_on_the_same_people_whatever_else_is_asked_for(self) -> None:
        bench = Bench()
        rival = replace(bench.recipe, name="before", trainer=bench.recipe.trainer.brief(1))
        request = EvaluationRequest(models=("popular",), rivals=(rival,))

        evaluation = bench.evaluate(request)

        assert list(evaluation.metrics) == ["als", "before", "popular"]
        ours, theirs = (evaluation.metrics[name]["ndcg@20"] for name in ("als", "before"))
        difference = evaluation.differences["before"]["ndcg@20"]
        assert ours != theirs
        assert difference.value == pytest.approx(ours - theirs)
        bench.stages.clear()
        with pytest.raises(InputError, match="two models have one name: als, before, before,"):
            bench.evaluate(replace(request, rivals=(rival, rival)))
        assert not bench.stages

    def test_a_name_that_nothing_has_is_told_before_anything_is_read(self) -> None:
        bench = Bench()
        with pytest.raises(SnapshotMissing, match=r"no model 'nope': neither a recipe \(als, pop"):
            bench.evaluate(EvaluationRequest(models=("popular", "nope")))
        assert bench.stages == []


class TestLists:
    def test_sources_make_up_all_lists_and_all_hits(self) -> None:
        evaluation = Bench().evaluate()
        people = evaluation.setting.people
        for model in MODELS:
            uses = evaluation.sources[model].values()
            assert sum(use.items for use in uses) == 20 * people
            precision = sum(use.hits for use in uses) / (20 * people)
            assert precision == pytest.approx(evaluation.metrics[model]["precision@20"])

    def test_p_values_are_adjusted_over_the_models_of_each_metric(self) -> None:
        differences = Bench().evaluate().differences.values()
        for name in ("recall@10", "ndcg@20"):
            ps = [each[name].p for each in differences]
            assert [each[name].p_holm for each in differences] == holm(ps)

    def test_known_tastes_are_found_by_the_recipe_and_not_by_chance(self) -> None:
        people, jobs = np.arange(200), np.arange(60)
        truth = tuple(Taste(str(n), people[n::3], jobs[n::3]) for n in range(3))
        request = EvaluationRequest(split=SplitKind.LAST, ks=(5,), truth=truth)

        metrics = Bench().evaluate(request).metrics

        assert metrics["als"]["taste@5"] > 0.95
        assert metrics["random"]["taste@5"] < 0.45

    def test_a_training_curve_ends_at_all_steps_and_costs_a_few_fits(self) -> None:
        request = EvaluationRequest(split=SplitKind.LAST, with_curve=True)
        curve = Bench().evaluate(request).curve
        assert [point.steps for point in curve] == [1, 2, 3, 5]
        assert curve[-1].metrics["recall@20"] > 0.8


class TestTradeOff:
    REQUEST = EvaluationRequest(split=SplitKind.LAST, ks=(1, 5), with_trade_off=True)

    def test_a_curve_begins_at_the_plain_lists_and_has_each_strength(self) -> None:
        evaluation = Bench().evaluate(self.REQUEST)

        assert evaluation.trade_off is not None
        plain, *others = evaluation.trade_off.points
        own = evaluation.metrics["als"]
        assert (plain.knob, evaluation.trade_off.k) == ("none", 5)
        at_5 = {name: value for name, value in own.items() if name.endswith("@5")}
        assert plain.metrics == pytest.approx(at_5)
        for knob in ("spread", "diversity"):
            strengths = [point.value for point in others if point.knob == knob]
            assert strengths == sorted(set(strengths))
            assert strengths[-1] == 1
        # Unlike jobs are put together, at a cost
        (diverse,) = [point for point in others if (point.knob, point.value) == ("diversity", 1)]
        assert diverse.metrics["diversity@5"] > plain.metrics["diversity@5"]
        assert diverse.metrics["ndcg@5"] < plain.metrics["ndcg@5"]

    def test_a_cap_is_measured_where_employers_are_known(self) -> None:
        evaluation = Bench(catalog=FakeCatalog(Job(id_, employer="Big") for id_ in range(60)))
        found = evaluation.evaluate(self.REQUEST)

        assert found.trade_off is not None
        caps = {
            point.value: point.metrics
            for point in found.trade_off.points
            if point.knob == "max_per_employer"
        }
        # All jobs are of one employer, so a cap cuts lists short
        recall = {k: found.metrics["als"][f"recall@{k}"] for k in (1, 5)}
        assert {k: caps[k]["recall@5"] for k in (1, 5)} == pytest.approx(recall)
        nowhere = Bench(catalog=FakeCatalog()).evaluate(self.REQUEST).trade_off
        assert nowhere is not None
        assert "max_per_employer" not in {point.knob for point in nowhere.points}

    def test_a_bound_that_leaves_too_few_is_filled_up_from_beyond_the_pool(self) -> None:
        small = range(300, 305)
        events = [*crowd(jobs=300), *(Event(500 + job, job) for job in small)]
        jobs = [Job(id_, employer="Big") for id_ in range(300)]
        bench = Bench(events, catalog=FakeCatalog([*jobs, *map(Job, small)]))
        wanted = {f"u{user}": [job] for user, job in enumerate(small)}
        request = EvaluationRequest(given=given(**wanted), ks=(6,), with_trade_off=True)

        found = bench.evaluate(request).trade_off

        assert found is not None
        recall = {(each.knob, each.value): each.metrics["recall@6"] for each in found.points}
        # One job of Big, and all five others, which stand far down
        assert recall["max_per_employer", 1] == 1
        assert recall["none", 0] < 1

    def test_longer_lists_are_measured_for_fewer_people(self) -> None:
        def measured(k: int) -> int:
            request = EvaluationRequest(split=SplitKind.LAST, ks=(k,), with_trade_off=True)
            found = Bench().evaluate(request).trade_off
            assert found is not None
            return found.people

        assert measured(100) == 163
        assert measured(130) == 126


class TestAuditing:
    def audited(self, attributes: Attributes, least: int = 20) -> Audit:
        bench = Bench()
        auditing = Auditing(bench.evaluating(), DisclosurePolicy(least), Bootstrap(200))
        return auditing.audit(
            EvaluationRequest(split=SplitKind.LAST, ks=(10,)), attributes, lambda *_: None
        )

    def test_groups_make_up_the_whole_and_differ_by_what_sets_them_apart(self) -> None:
        people = np.arange(200)
        attributes = Attributes(people, {"half": ["a" if user < 100 else "b" for user in people]})

        audit = self.audited(attributes)

        a, b = audit.attributes["half"]
        assert a.people + b.people == audit.people
        for name, mean in audit.means.items():
            together = (a.people * a.means[name] + b.people * b.means[name]) / audit.people
            assert together == pytest.approx(mean)
            assert a.differences[name].value == pytest.approx(a.means[name] - b.means[name])
        assert audit.hidden == {"half": False}

    def test_small_groups_and_what_would_tell_of_them_are_hidden(self) -> None:
        people = np.arange(200)
        values = ["rare" if user < 3 else "a" if user < 60 else "b" for user in people]
        audit = self.audited(Attributes(people, {"x": values}))
        assert [group.name for group in audit.attributes["x"]] == ["b"]
        assert audit.hidden == {"x": True}

    def test_a_whole_too_small_is_refused(self) -> None:
        with pytest.raises(NothingToMeasure, match="fewer than the 500"):
            self.audited(Attributes(np.arange(2), {"x": ["a", "b"]}), 500)
