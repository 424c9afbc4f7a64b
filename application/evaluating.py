"""Judging a recipe: fitted on one part of the data, measured on the other, beside baselines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from application.cold_start import ColdPart, ColdStart
from application.holding_out import HoldOut, Setting
from application.recommending import Models, SourcedLists
from application.trading_off import TradeOff, TradingOff
from domain import tastes
from domain.cohorts import by_history, by_job
from domain.errors import (
    DatasetMissing,
    InputError,
    NothingToLearn,
    NothingToMeasure,
    SnapshotError,
    SnapshotMissing,
)
from domain.exposure import Exposure, lorenz
from domain.metrics import MetricArray, mean_overlap, per_person
from domain.model import (
    ActivityTally,
    IdArray,
    Interactions,
    ReadReport,
    RecommendationSource,
    TimeWindow,
)
from domain.ports import ActivityLog, Recipe, Recommender, SnapshotStore, nobody
from domain.scoring import shows_interest
from domain.significance import Bootstrap, Difference, Estimate, Resampled
from domain.splits import Split, SplitKind, hold_given_out, hold_out
from domain.tastes import Taste

MAX_K = 1_000
CURVE_STEPS = (1, 2, 3, 5, 8, 12, 20, 30)
"""After how many steps a training is looked at."""

_CURVE_PEOPLE = 2_000
_CURVE_FITS = 4
"""A training curve takes no more steps than so many whole fits."""

_log = logging.getLogger(__name__)

OnStage = Callable[[str, int, int], None]
"""Told of a stage, of steps done and of steps in all; what it raises stops the work."""


PersonalMetrics = Mapping[str, Mapping[str, MetricArray]]
"""By model and metric, shape (people,)."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to measure, and on what.

    Attributes:
        split: how pairs are held out.
        share: of the pairs to hold out, where the split needs one.
        given: pairs to predict, in place of a split.
        ks: lengths of the lists, ascending.
        models: names of recipes to measure instead of all, and versions of stored models to
            measure beside them. The default recipe is always measured, and so are rivals.
        rivals: other recipes to measure beside the default, of names of their own.
        truth: tastes that lists should find, empty where none is known.
        with_curve: whether to look at the default recipe's training step by step.
        with_trade_off: whether to measure what variety costs on the default recipe's lists.

    Raises:
        InputError: a length is out of bounds.
    """

    split: SplitKind = SplitKind.TEMPORAL
    share: float = 0.1
    given: ActivityTally | None = None
    ks: tuple[int, ...] = (10, 20)
    models: tuple[str, ...] = ()
    rivals: tuple[Recipe, ...] = ()
    truth: tuple[Taste, ...] = ()
    with_curve: bool = False
    with_trade_off: bool = False

    def __post_init__(self) -> None:
        if not self.ks or list(self.ks) != sorted(set(self.ks)):
            raise InputError(f"k {list(self.ks)} is not a list of ascending lengths", "k")
        for k in self.ks:
            if not 1 <= k <= MAX_K:
                raise InputError(f"k {k} is not in 1..{MAX_K:,}", "k")


@dataclass(frozen=True)
class Group:
    """Some of the people, or some of the targets, and how each model does on them.

    Attributes:
        people: how many have any of the targets.
        metrics: by model and metric, averaged over those people.
    """

    name: str
    people: int
    metrics: Mapping[str, Mapping[str, float]]


class SourceUse(NamedTuple):
    """How many jobs of all lists come from one source, and how many of them were right."""

    items: int
    hits: int


class CurvePoint(NamedTuple):
    """How good the default recipe is when it stops after some steps."""

    steps: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Judged:
    """Every model's lists, held against what people went on to do.

    Attributes:
        read: the account of the activities read.
        lists: by model.
        values: by model and metric, shape (people,).
        refused: why stored models were not measured, by version.
        cold: how the default ranks jobs unseen in the training part, None where it cannot.
        trade_off: what variety costs on the default's lists, None where it was not asked for.
    """

    hold: HoldOut
    read: ReadReport
    lists: Mapping[str, SourcedLists]
    values: PersonalMetrics
    refused: Mapping[str, str]
    cold: ColdPart | None = None
    trade_off: TradeOff | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        default: the name of the recipe that `train` would use.
        read: the account of the activities read.
        metrics: by model and metric: means over people, and what the lists as a whole are like.
        intervals: the means over people with their intervals.
        differences: how far the default lies above each other model.
        groups: the same metrics for groups of people and of targets.
        sources: by model and source, at the longest k.
        lorenz: by model, the Lorenz curve of exposure at the longest k.
        curve: quality by steps of training on a validation part inside the training part, for
            at most 2,000 people; empty where it was not asked for or cannot be had.
        refused: why stored models were not measured, by version.
        cold: how the default ranks jobs unseen in the training part, None where it cannot.
        trade_off: what variety costs on the default's lists, None where it was not asked for.
    """

    default: str
    read: ReadReport
    setting: Setting
    ks: tuple[int, ...]
    metrics: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Difference]]
    groups: Sequence[Group]
    sources: Mapping[str, Mapping[RecommendationSource, SourceUse]]
    lorenz: Mapping[str, Sequence[float]]
    curve: Sequence[CurvePoint]
    refused: Mapping[str, str]
    cold: ColdPart | None = None
    trade_off: TradeOff | None = None


class Evaluating:
    """Measures a recipe beside baselines and stored models.

    Lists are exact: ranked over all jobs that a model knows, without the jobs that the person did
    in the training part, whatever they did with them; a service leaves out fewer. Short lists are
    completed with popular jobs, as a service completes them.
    """

    def __init__(
        self,
        log: ActivityLog,
        recipe: Recipe,
        baselines: Sequence[Recipe],
        models: Models,
        snapshots: SnapshotStore,
        bootstrap: Bootstrap,
        seed: int,
        cold_start: ColdStart | None = None,
        trading_off: TradingOff | None = None,
    ) -> None:
        self._cold_start = cold_start
        self._trading_off = trading_off or TradingOff(None)
        self._log = log
        self._recipe = recipe
        self._baselines = baselines
        self._models = models
        self._snapshots = snapshots
        self._bootstrap = bootstrap
        self._seed = seed

    @property
    def default(self) -> str:
        """The name of the recipe that everything is compared with."""
        return self._recipe.name

    def evaluate(self, request: EvaluationRequest, on_stage: OnStage) -> Evaluation:
        """Measure; see the class.

        Raises:
            DataError: the activities cannot be used, or nobody can be measured.
            InputError: the split or the truth does not fit the data.
            SnapshotError: a model asked for is missing or not usable.
            TrainingError: the recipe learned nothing usable.
        """
        judged = self.judge(request, on_stage)
        hold, values = judged.hold, judged.values
        lists = {name: own.jobs for name, own in judged.lists.items()}
        live = self._live_lists(hold, lists, on_stage)
        curve = tuple(self._curve(hold, request, on_stage)) if request.with_curve else ()
        on_stage("comparing", 0, 1)
        of_lists = _of_lists(hold, lists, live, request.ks)
        intervals, differences = self._compared(values)
        groups = (*_of_people(hold, values), *_of_targets(hold, lists, request.ks))
        exposure = Exposure(hold.known)
        on_stage("comparing", 1, 1)
        return Evaluation(
            default=self.default,
            read=judged.read,
            setting=hold.setting("given" if request.given is not None else request.split),
            ks=request.ks,
            metrics={
                model: {name: estimate.value for name, estimate in own.items()} | of_lists[model]
                for model, own in intervals.items()
            },
            intervals=intervals,
            differences=differences,
            groups=groups,
            sources={name: _of_sources(hold, own) for name, own in judged.lists.items()},
            lorenz={name: lorenz(exposure.counts(own)) for name, own in lists.items()},
            curve=curve,
            refused=judged.refused,
            cold=judged.cold,
            trade_off=judged.trade_off,
        )

    def judge(self, request: EvaluationRequest, on_stage: OnStage) -> Judged:
        """Make every model's lists and hold them against what people went on to do.

        Raises:
            JobrecError: see `evaluate`.
        """
        recipes, versions = self._chosen(request.models, request.rivals)
        # Opened before anything is read or fitted: one that is not there should be known at once
        stored = {version: self._models.open(version) for version in versions}
        tally, read = self._log.tally(TimeWindow(), partial(on_stage, "reading"))
        # By what was done, not when: a recipe's window must not choose what it is measured on
        tally = tally.select(shows_interest(tally.counts))
        hold = HoldOut.of(tally, self._split(tally, request), request.ks[-1])
        objections = {version: hold.objection(model) for version, model in stored.items()}
        lists: dict[str, SourcedLists] = {}
        cold = trade_off = None
        for recipe in recipes:
            # No model outlives its lists
            known, recommender = self._learned(recipe, hold, on_stage)
            ranking = partial(on_stage, f"ranking {recipe.name}")
            lists[recipe.name] = hold.lists(known, recommender, ranking)
            if recipe is self._recipe:
                cold = self._cold(hold, known, recommender, request.ks[-1])
                if request.with_trade_off:
                    on_variety = partial(on_stage, "spreading lists")
                    trade_off = self._trading_off.measure(
                        hold, known, recommender, self._seed, on_variety
                    )
        for version, model in stored.items():
            if objections[version] is None:
                ranking = partial(on_stage, f"ranking {version}")
                lists[version] = hold.lists(model.interactions, model.recommender, ranking)
        values = {
            name: {
                **per_person(hold.targets, own.jobs, request.ks),
                **(
                    tastes.found(request.truth, hold.targets.user_ids, own.jobs, request.ks)
                    if request.truth
                    else {}
                ),
            }
            for name, own in lists.items()
        }
        refused = {version: reason for version, reason in objections.items() if reason}
        return Judged(hold, read, lists, values, refused, cold, trade_off)

    def _chosen(
        self, names: Sequence[str], rivals: Sequence[Recipe]
    ) -> tuple[Sequence[Recipe], Sequence[str]]:
        """Return the recipes and the stored versions that names stand for."""
        recipes = (self._recipe, *rivals, *self._baselines)
        known = {recipe.name for recipe in recipes}
        if len(known) < len(recipes):
            called = ", ".join(recipe.name for recipe in recipes)
            raise InputError(f"two models have one name: {called}; rename a file", "against")
        versions = [name for name in dict.fromkeys(names) if name not in known]
        stored = {manifest.version for manifest in self._snapshots.manifests()} if versions else ()
        for version in versions:
            if version not in stored:
                raise SnapshotMissing(
                    f"there is no model {version!r}: neither a recipe "
                    f"({', '.join(recipe.name for recipe in recipes)}) nor a stored version "
                    f"(`jobrec models list` shows {len(stored):,})"
                )
        wanted = known.intersection(names) or known
        wanted |= {self.default, *(rival.name for rival in rivals)}
        return [recipe for recipe in recipes if recipe.name in wanted], versions

    def _split(self, tally: ActivityTally, request: EvaluationRequest) -> Split:
        if request.given is not None:
            return hold_given_out(tally, request.given)
        return hold_out(tally, request.split, request.share, self._seed)

    def _cold(
        self, hold: HoldOut, known: Interactions, recommender: Recommender, k: int
    ) -> ColdPart | None:
        """Measure the recipe on unseen jobs, None where it cannot be."""
        if self._cold_start is None:
            return None
        try:
            return self._cold_start.measure(hold.parts.held_out, known, recommender, k, self._seed)
        except DatasetMissing as error:
            # Activities alone are enough for everything else
            _log.info("jobs unseen in training are not measured: %s", error)
            return None

    def _learned(
        self, recipe: Recipe, hold: HoldOut, on_stage: OnStage
    ) -> tuple[Interactions, Recommender]:
        with recipe.trainer.prepared() as trainer:
            return replace(recipe, trainer=trainer).learn(
                hold.parts.train, self._seed, partial(on_stage, f"fitting {recipe.name}")
            )

    def _compared(
        self, values: PersonalMetrics
    ) -> tuple[
        Mapping[str, Mapping[str, Estimate]],
        Mapping[str, Mapping[str, Difference]],
    ]:
        """Return each model's means with intervals, and how far the recipe lies above others."""
        drawn = Resampled(values, self._bootstrap)
        others = [model for model in values if model != self.default]
        intervals = {
            model: {name: drawn.estimate(model, name) for name in own}
            for model, own in values.items()
        }
        by_metric = {
            name: drawn.differences(self.default, others, name) for name in values[self.default]
        }
        differences = {
            model: {name: found[model] for name, found in by_metric.items()} for model in others
        }
        return intervals, differences

    def _curve(
        self, hold: HoldOut, request: EvaluationRequest, on_stage: OnStage
    ) -> Iterator[CurvePoint]:
        """Yield how good the default recipe is after more and more steps.

        It learns from a part of the training part and is judged by the rest: the part held out
        has no say in how long to train.
        """
        kind = SplitKind.TEMPORAL if request.given is not None else request.split
        train, steps = hold.parts.train, self._recipe.trainer.steps
        counts = [count for count in CURVE_STEPS if count < steps] + [steps]
        while sum(counts) > _CURVE_FITS * steps and len(counts) > 2:
            del counts[-2]
        if steps == 1:
            return
        on_stage("training curve", 0, len(counts))
        try:
            parts = hold_out(train, kind, request.share or 0.1, self._seed)
            inner = HoldOut.of(train, parts, hold.k, _CURVE_PEOPLE, self._seed)
            with self._recipe.trainer.prepared() as trainer:
                for done, count in enumerate(counts, 1):
                    recipe = replace(self._recipe, trainer=trainer.brief(count))
                    known, recommender = recipe.learn(parts.train, self._seed, nobody)
                    lists = inner.lists(known, recommender, nobody).jobs
                    values = per_person(inner.targets, lists, request.ks)
                    yield CurvePoint(count, {k: float(v.mean()) for k, v in values.items()})
                    on_stage("training curve", done, len(counts))
        except (NothingToLearn, NothingToMeasure) as error:
            _log.warning("there is no training curve: %s", error)

    def _live_lists(
        self, hold: HoldOut, lists: Mapping[str, IdArray], on_stage: OnStage
    ) -> IdArray | None:
        """Return the live model's lists to compare with, None where there is none to be used."""
        try:
            version = self._snapshots.live()
            if version is None:
                return None
            if version in lists:
                return lists[version]
            model = self._models.open(version)
        except SnapshotError as error:
            _log.warning("the live model cannot be compared with: %s", error)
            return None
        ranking = partial(on_stage, "ranking the live model")
        return hold.lists(model.interactions, model.recommender, ranking).jobs


def _of_lists(
    hold: HoldOut, lists: Mapping[str, IdArray], live: IdArray | None, ks: Sequence[int]
) -> Mapping[str, dict[str, float]]:
    """Return what each model's lists as a whole are like, beside those of the live model."""
    exposure = Exposure(hold.known)
    return {
        model: {
            **exposure.measure(hold.targets.user_ids, own, ks),
            **(
                {}
                if live is None
                else {f"overlap_with_live@{k}": mean_overlap(own[:, :k], live[:, :k]) for k in ks}
            ),
        }
        for model, own in lists.items()
    }


def _of_sources(hold: HoldOut, lists: SourcedLists) -> Mapping[RecommendationSource, SourceUse]:
    """Count the jobs of lists and the right ones among them by source."""
    hits = hold.targets.hits(lists.jobs)
    uses = {
        source: SourceUse(int(own.sum()), int(hits[own].sum()))
        for code, source in enumerate(RecommendationSource)
        for own in [lists.sources == code]
    }
    return {source: use for source, use in uses.items() if use.items}


def _of_people(hold: HoldOut, values: PersonalMetrics) -> Iterator[Group]:
    """Average over groups of people."""
    for name, chosen in by_history(np.diff(hold.known.indptr)[hold.users]):
        if chosen.any():
            some = {
                model: {metric: each[chosen] for metric, each in own.items()}
                for model, own in values.items()
            }
            yield _group(name, int(chosen.sum()), some)


def _of_targets(hold: HoldOut, lists: Mapping[str, IdArray], ks: Sequence[int]) -> Iterator[Group]:
    """Judge the same lists by some of the targets only."""
    for name, chosen in by_job(hold.parts.train, hold.targets.job_ids):
        if chosen.any():
            targets, people = hold.targets.select(chosen)
            some = {model: per_person(targets, own[people], ks) for model, own in lists.items()}
            yield _group(name, len(people), some)


def _group(name: str, people: int, values: PersonalMetrics) -> Group:
    means = {
        model: {metric: float(each.mean()) for metric, each in own.items()}
        for model, own in values.items()
    }
    return Group(name, people, means)
