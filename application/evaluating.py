"""Judging a recipe: fitted on one part of the data, measured on the other, beside baselines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np

from application.cold_start import ColdPart, ColdStart
from application.recommending import LiveModel, Models, lists_without
from domain.cohorts import by_history, by_job
from domain.errors import DatasetMissing, InputError, NothingToMeasure, SnapshotError
from domain.exposure import Exposure
from domain.metrics import MetricArray, Targets, mean_overlap, per_person
from domain.model import (
    ActivityTally,
    BoolArray,
    IdArray,
    IndexArray,
    Interactions,
    ReadReport,
    TimeWindow,
    pairs_among,
)
from domain.ports import ActivityLog, OnProgress, Recipe, Recommender, SnapshotStore
from domain.scoring import shows_interest
from domain.significance import Bootstrap, Difference, Estimate, Resampled
from domain.splits import Split, SplitKind, hold_given_out, hold_out

MAX_K = 1_000
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
        versions: stored models to measure beside the recipe.

    Raises:
        InputError: a length is out of bounds.
    """

    split: SplitKind = SplitKind.TEMPORAL
    share: float = 0.1
    given: ActivityTally | None = None
    ks: tuple[int, ...] = (10, 20)
    versions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.ks or list(self.ks) != sorted(set(self.ks)):
            raise InputError(f"k {list(self.ks)} is not a list of ascending lengths", "k")
        for k in self.ks:
            if not 1 <= k <= MAX_K:
                raise InputError(f"k {k} is not in 1..{MAX_K:,}", "k")


@dataclass(frozen=True)
class Setting:
    """On what was measured.

    Attributes:
        split: how pairs were held out: temporal, last, random or given.
        cutoff: the time between the two parts, None where no time parts them.
        users: people of the training part.
        jobs: jobs of the training part.
        pairs: pairs of the training part.
        people: people measured: those with something held out and something to learn from.
        left_out: people with something held out and nothing to learn from.
        targets: pairs to predict.
        unseen_targets: those whose job the training part does not hold.
    """

    split: str
    cutoff: datetime | None
    users: int
    jobs: int
    pairs: int
    people: int
    left_out: int
    targets: int
    unseen_targets: int


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
        refused: why stored models were not measured, by version.
        cold: how the default ranks jobs unseen in the training part, None where it cannot.
    """

    default: str
    read: ReadReport
    setting: Setting
    ks: tuple[int, ...]
    metrics: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Difference]]
    groups: Sequence[Group]
    refused: Mapping[str, str]
    cold: ColdPart | None = None


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
    ) -> None:
        self._cold_start = cold_start
        self._log = log
        self._recipe = recipe
        self._baselines = baselines
        self._models = models
        self._snapshots = snapshots
        self._bootstrap = bootstrap
        self._seed = seed

    def evaluate(self, request: EvaluationRequest, on_stage: OnStage) -> Evaluation:
        """Measure; see the class.

        Raises:
            DataError: the activities cannot be used, or nobody can be measured.
            InputError: the split does not fit the data.
            SnapshotError: a version asked for is missing or not usable.
            TrainingError: the recipe learned nothing usable.
        """
        tally, read = self._log.tally(TimeWindow(), partial(on_stage, "reading"))
        # By what was done, not when: a recipe's window must not choose what it is measured on
        tally = tally.select(shows_interest(tally.counts))
        hold = _HoldOut.of(tally, self._split(tally, request), request.ks[-1])
        # Opened before anything is fitted: a version that is not there should be known at once
        stored = {version: self._models.open(version) for version in request.versions}
        objections = {version: hold.objection(model) for version, model in stored.items()}
        known, recommender = self._learned(self._recipe, hold, on_stage)
        lists = {
            self._recipe.name: hold.lists(
                known, recommender, partial(on_stage, f"ranking {self._recipe.name}")
            )
        }
        cold = self._cold(hold, known, recommender, request.ks[-1])
        del recommender
        lists |= self._fitted(hold, on_stage)
        for version, model in stored.items():
            if objections[version] is None:
                ranking = partial(on_stage, f"ranking {version}")
                lists[version] = hold.lists(model.interactions, model.recommender, ranking)
        live = self._live_lists(hold, lists, on_stage)
        on_stage("comparing", 0, 1)
        values = {name: per_person(hold.targets, own, request.ks) for name, own in lists.items()}
        of_lists = _of_lists(hold, lists, live, request.ks)
        intervals, differences = self._compared(values)
        groups = (*_of_people(hold, values), *_of_targets(hold, lists, request.ks))
        on_stage("comparing", 1, 1)
        return Evaluation(
            default=self._recipe.name,
            read=read,
            setting=hold.setting("given" if request.given is not None else request.split),
            ks=request.ks,
            metrics={
                model: {name: estimate.value for name, estimate in own.items()} | of_lists[model]
                for model, own in intervals.items()
            },
            intervals=intervals,
            differences=differences,
            groups=groups,
            refused={version: reason for version, reason in objections.items() if reason},
            cold=cold,
        )

    def _split(self, tally: ActivityTally, request: EvaluationRequest) -> Split:
        if request.given is not None:
            return hold_given_out(tally, request.given)
        return hold_out(tally, request.split, request.share, self._seed)

    def _fitted(self, hold: _HoldOut, on_stage: OnStage) -> Iterator[tuple[str, IdArray]]:
        """Yield the lists of the baselines; no model outlives its lists."""
        for recipe in self._baselines:
            known, recommender = self._learned(recipe, hold, on_stage)
            ranking = partial(on_stage, f"ranking {recipe.name}")
            yield recipe.name, hold.lists(known, recommender, ranking)

    def _cold(
        self, hold: _HoldOut, known: Interactions, recommender: Recommender, k: int
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
        self, recipe: Recipe, hold: _HoldOut, on_stage: OnStage
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
        default = self._recipe.name
        intervals = {
            model: {name: drawn.estimate(model, name) for name in own}
            for model, own in values.items()
        }
        differences = {
            model: {name: drawn.difference(default, model, name) for name in own}
            for model, own in values.items()
            if model != default
        }
        return intervals, differences

    def _live_lists(
        self, hold: _HoldOut, lists: Mapping[str, IdArray], on_stage: OnStage
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
        return hold.lists(model.interactions, model.recommender, ranking)


@dataclass(frozen=True)
class _HoldOut:
    """The parts of a split as measuring needs them.

    Attributes:
        known: the training part as a matrix, each pair an entry.
        targets: of the people who can be measured.
        k: length of the lists.
        left_out: people with something held out and nothing to learn from.
    """

    parts: Split
    known: Interactions
    targets: Targets
    k: int
    left_out: int

    @classmethod
    def of(cls, tally: ActivityTally, parts: Split, k: int) -> _HoldOut:
        """Arrange the parts.

        Raises:
            NothingToMeasure: nobody has both something held out and something to learn from.
        """
        train, held_out = parts.train, parts.held_out
        known = Interactions.from_tally(train, np.ones(len(train), dtype=np.float32))
        measured = held_out.select(np.isin(held_out.user_ids, known.users.ids))
        if not len(measured):
            raise NothingToMeasure(
                f"of the {len(tally):,} pairs of people and jobs {len(held_out):,} are held out, "
                f"and nobody has both a pair among them and one to learn from"
            )
        targets = Targets.of(measured, len(measured), seed=0)
        everybody = len(np.unique(held_out.user_ids))
        return cls(parts, known, targets, k, everybody - len(targets.user_ids))

    @property
    def users(self) -> IndexArray:
        """The people measured, as positions in `known`."""
        return self.known.users.positions(self.targets.user_ids)

    @property
    def are_known(self) -> BoolArray:
        """Whether the training part holds the jobs of the targets, shape (targets,)."""
        return self.known.jobs.positions(self.targets.job_ids) >= 0

    def setting(self, split: str) -> Setting:
        """Describe the parts."""
        users, jobs = self.known.shape
        return Setting(
            split=split,
            cutoff=self.parts.cutoff,
            users=users,
            jobs=jobs,
            pairs=len(self.parts.train),
            people=len(self.targets.user_ids),
            left_out=self.left_out,
            targets=len(self.targets.job_ids),
            unseen_targets=int((~self.are_known).sum()),
        )

    def objection(self, model: LiveModel) -> str | None:
        """Return why a stored model cannot be measured here; None where it can."""
        held_out = self.parts.held_out
        seen = pairs_among((held_out.user_ids, held_out.job_ids), model.interactions.pairs)
        if seen.any():
            return f"it has learned {seen.sum():,} of the {len(held_out):,} pairs held out"
        until, cutoff = model.manifest.until, self.parts.cutoff
        if until is not None and cutoff is not None and until > cutoff:
            return f"its data reach until {until.isoformat()}, beyond {cutoff.isoformat()}"
        return None

    def lists(
        self, interactions: Interactions, recommender: Recommender, on_progress: OnProgress
    ) -> IdArray:
        """Return a model's lists for the people measured, shape (people, k), -1 where short."""
        translated = interactions.jobs.positions(self.known.jobs.ids)

        def done(people: slice) -> list[IndexArray]:
            return [_present(translated[own]) for own in self._histories(people)]

        return lists_without(
            interactions, recommender, self.targets.user_ids, self.k, done, on_progress
        )

    def _histories(self, block: slice) -> Iterator[IndexArray]:
        """Yield the jobs of people in the training part, as positions in `known`."""
        starts, ends = self.known.indptr[:-1], self.known.indptr[1:]
        for user in self.users[block]:
            yield self.known.indices[starts[user] : ends[user]].astype(np.int64)


def _present(positions: IndexArray) -> IndexArray:
    return positions[positions >= 0]


def _of_lists(
    hold: _HoldOut, lists: Mapping[str, IdArray], live: IdArray | None, ks: Sequence[int]
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


def _of_people(hold: _HoldOut, values: PersonalMetrics) -> Iterator[Group]:
    """Average over groups of people."""
    for name, chosen in by_history(np.diff(hold.known.indptr)[hold.users]):
        if chosen.any():
            some = {
                model: {metric: each[chosen] for metric, each in own.items()}
                for model, own in values.items()
            }
            yield _group(name, int(chosen.sum()), some)


def _of_targets(hold: _HoldOut, lists: Mapping[str, IdArray], ks: Sequence[int]) -> Iterator[Group]:
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
