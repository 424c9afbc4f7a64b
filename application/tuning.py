"""Tuning: try settings on a validation part of the data, and keep those that are surely better."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from application.evaluating import OnStage
from application.holding_out import HoldOut
from domain.errors import InputError, JobrecError, NothingToMeasure, TrainingError
from domain.metrics import MetricArray, per_person
from domain.model import ActivityTally, BoolArray, ReadReport, TimeWindow
from domain.ports import ActivityLog, MakeRecipe, OpenStudy, Optimizer, Recipe, Study
from domain.scoring import shows_interest
from domain.significance import Bootstrap, Difference, Estimate, Resampled
from domain.splits import Split, SplitKind, hold_given_out, hold_out
from domain.tuning import SearchSpace, Trial, Values

MAX_PEOPLE = 10_000
"""A trial is measured on at most so many people, drawn by chance, which bounds its time."""

MAX_TRIALS = 100_000
_PARTS_OF_BUDGET = 4
_METRICS = ("recall", "precision", "ndcg", "map", "mrr", "hit_rate")


@dataclass(frozen=True)
class TuningRequest:
    """What to search for, and how long.

    Attributes:
        metric: what a trial is judged by, such as ndcg@20.
        split: how the test part and, within the rest, the validation part are held out.
        share: of the pairs to hold out each time, where the split needs one.
        given: pairs of the test part, in place of a split of its own.
        minutes: the time to search for; None for no bound.
        trials: how many trials to come to, those of a resumed study included; None for no bound.

    Raises:
        InputError: a value is out of bounds, or the search has no bound at all.
    """

    metric: str = "ndcg@20"
    split: SplitKind = SplitKind.TEMPORAL
    share: float = 0.1
    given: ActivityTally | None = None
    minutes: float | None = None
    trials: int | None = None

    def __post_init__(self) -> None:
        name, at, k = self.metric.partition("@")
        if name not in _METRICS or not at or not k.isdecimal() or not 1 <= int(k) <= 1_000:
            raise InputError(
                f"metric {self.metric!r} is none of {', '.join(_METRICS)} at 1 to 1,000, "
                f"such as ndcg@20",
                "metric",
            )
        if self.minutes is None and self.trials is None:
            raise InputError("give minutes, trials, or both: a search has no end of its own")
        if self.minutes is not None and not 0 < self.minutes <= 100_000:
            raise InputError(f"minutes {self.minutes} is not above 0 and up to 100,000", "minutes")
        if self.trials is not None and not 1 <= self.trials <= MAX_TRIALS:
            raise InputError(f"trials {self.trials} is not in 1..{MAX_TRIALS:,}", "trials")

    @property
    def k(self) -> int:
        """The length of the lists."""
        return int(self.metric.partition("@")[2])


@dataclass(frozen=True)
class Standing:
    """How far a search has come.

    Attributes:
        trials: how many have been made.
        best: the trial of the highest score so far; of equal ones the first. It is flattered, as
            the best of many is by chance, for the people that it was chosen by.
        judges: how many people tell what follows: those of the validation part whom nothing is
            chosen by.
        start: the metric of the settings in force.
        found: the same of the best trial.
        gain: how far the best lies above the settings in force.
        data: names the data that were learned from and measured on.
        left: seconds to go, None where only the trials are counted.
    """

    trials: int
    last: Trial
    best: Trial
    judges: int
    start: Estimate
    found: Estimate
    gain: Difference
    start_values: Values
    data: str
    left: float | None

    @property
    def is_sure(self) -> bool:
        """Whether the gain is beyond noise: its interval lies above 0."""
        return self.gain.low > 0

    @property
    def chosen(self) -> Values:
        """The settings to use: the best where its gain is sure, else those in force."""
        return self.best.values if self.is_sure else self.start_values


@dataclass(frozen=True)
class Tested:
    """The chosen settings and those in force, on the part that had no say in the choice."""

    people: int
    start: Estimate
    found: Estimate
    gain: Difference


OnTrial = Callable[[Standing], None]


class Tuning:
    """Searches settings of learning.

    Leakage: three parts. The test part, given or held out as `evaluate` would hold it out, is laid
    aside before anything else and only measured once, after the choice. The rest is cut again in
    the same way into what trials learn from and the validation part that they are judged by. No
    pair of the test part is in the rest; where a given pair is in the log too, it leaves the rest,
    which is all that the test part can change.

    The people of the validation part are cut in halves by chance. A trial's score, which leads the
    search and says which trial is best, is a mean over one half. Whether the best replaces the
    settings in force, the other half says, which the best of many trials cannot fit by chance. Both
    halves are of one time, though; what the settings are worth later, only the test part says.
    """

    def __init__(
        self,
        log: ActivityLog,
        make_recipe: MakeRecipe,
        start: Values,
        space: SearchSpace,
        optimizer: Optimizer,
        bootstrap: Bootstrap,
        seed: int,
    ) -> None:
        self._log = log
        self._make_recipe = make_recipe
        self._start = start
        self._space = space
        self._optimizer = optimizer
        self._bootstrap = bootstrap
        self._seed = seed

    def prepare(self, request: TuningRequest, on_stage: OnStage) -> Search:
        """Read the data and lay the parts out.

        Raises:
            DataError: the activities cannot be used, or nobody can be measured.
            InputError: the split does not fit the data.
        """
        tally, read = self._log.tally(TimeWindow(), partial(on_stage, "reading"))
        # As evaluating has it: no recipe must choose what it is measured on
        tally = tally.select(shows_interest(tally.counts))
        if request.given is not None:
            outer = hold_given_out(tally, request.given)
        else:
            outer = hold_out(tally, request.split, request.share, self._seed)
        inner = hold_out(outer.train, request.split, request.share, self._seed)
        return Search(
            request=request,
            read=read,
            outer=outer,
            validation=HoldOut.of(outer.train, inner, request.k).sampled(MAX_PEOPLE, self._seed),
            make_recipe=self._make_recipe,
            start=self._start,
            space=self._space.suited(inner.train),
            optimizer=self._optimizer,
            bootstrap=self._bootstrap,
            seed=self._seed,
        )


class Search:
    """One search on data laid out; made by `Tuning.prepare`.

    Attributes:
        read: the account of the activities read.
    """

    def __init__(
        self,
        *,
        request: TuningRequest,
        read: ReadReport,
        outer: Split,
        validation: HoldOut,
        make_recipe: MakeRecipe,
        start: Values,
        space: SearchSpace,
        optimizer: Optimizer,
        bootstrap: Bootstrap,
        seed: int,
    ) -> None:
        self.read = read
        self._request = request
        self._outer = outer
        self._validation = validation
        self._make_recipe = make_recipe
        self._start = start
        self._space = space
        self._optimizer = optimizer
        self._bootstrap = bootstrap
        self._seed = seed
        self._data = _fingerprint(outer.train)
        self._points = [point for point in space.points if not point.items() <= start.items()]
        self._chooses = _half(len(validation.targets.user_ids), seed)

    def describe(self) -> str:
        """Return in a line what is learned from and measured on."""
        validation = self._validation
        setting = validation.setting(self._request.split)
        return (
            f"trials learn from {setting.pairs:,} pairs of {setting.users:,} people and are "
            f"judged by {setting.targets:,} new pairs of {setting.people:,} people, of whom "
            f"{self._chooses.sum():,} choose the best and the others tell its gain; "
            f"{len(self._outer.held_out):,} pairs are laid aside for the test at the end"
        )

    def searched(self) -> str:
        """Return in a line what is searched."""
        return f"searching {', '.join(self._space.dimensions)}"

    def run(self, open_study: OpenStudy, on_stage: OnStage, on_trial: OnTrial) -> Standing:
        """Try settings until the time or the trials are used up.

        The settings in force are the first trial and are measured whatever it takes. Any later one
        is given up at the end of the time, or after a quarter of all the time where it is longer
        than what the settings in force took: one slow trial must not use up what others need.

        Args:
            on_trial: told of the standing after each trial; what it raises stops the search.

        Raises:
            InputError: the study is of another search, or cannot be written.
            TrainingError: the settings in force learn nothing usable.
        """
        begun = time.monotonic()
        study = open_study(self._identity())
        end = None if self._request.minutes is None else begun + 60 * self._request.minutes
        values = {0: self._measured(self._start, partial(on_stage, "settings in force"))}
        longest = max(
            time.monotonic() - begun, 60 * (self._request.minutes or 0) / _PARTS_OF_BUDGET
        )
        if not study.trials():
            score = self._score(values[0])
            study.add(Trial(0, dict(self._start), score, time.monotonic() - begun))
        best = _best(study)
        if best.number:
            values[best.number] = self._measured(
                best.values, partial(on_stage, f"trial {best.number}, the best before")
            )
        while True:
            standing = self._standing(study, values, end)
            on_trial(standing)
            if self._is_over(standing, end):
                return standing
            trial, own = self._try(study, end, longest, on_stage)
            if own is None and end is not None and time.monotonic() >= end:
                return standing  # stopped by the end of the time, which says nothing of the trial
            study.add(trial)
            if own is not None and _best(study).number == trial.number:
                values = {0: values[0], trial.number: own}

    def test(self, chosen: Values, on_stage: OnStage) -> Tested:
        """Measure chosen settings beside those in force on the test part.

        Raises:
            NothingToMeasure: nobody of the test part has anything to learn from.
        """
        hold = HoldOut.of(self._outer.train, self._outer, self._request.k)
        measured = {
            name: {
                self._request.metric: self._judged(
                    self._make_recipe(values), hold, partial(on_stage, f"testing {name}")
                )
            }
            for name, values in (("settings in force", self._start), ("chosen settings", chosen))
        }
        drawn = Resampled(measured, self._bootstrap)
        start, found = measured
        metric = self._request.metric
        return Tested(
            people=len(hold.targets.user_ids),
            start=drawn.estimate(start, metric),
            found=drawn.estimate(found, metric),
            gain=drawn.difference(found, start, metric),
        )

    def _identity(self) -> Mapping[str, object]:
        """Return what makes trials comparable; a study of anything else is a foreign one."""
        return {
            "data": self._data,
            "metric": self._request.metric,
            "split": f"{self._request.split}, {self._request.share:g} held out",
            "seed": self._seed,
            "start": dict(self._start),
            "halves": "half of the validation people choose, the others tell the gain",
            "space": {name: asdict(own) for name, own in self._space.dimensions.items()},
            "points": self._points,
        }

    def _is_over(self, standing: Standing, end: float | None) -> bool:
        most = self._request.trials
        return (most is not None and standing.trials >= most) or (
            end is not None and time.monotonic() >= end
        )

    def _try(
        self, study: Study, end: float | None, longest: float, on_stage: OnStage
    ) -> tuple[Trial, MetricArray | None]:
        begun = time.monotonic()
        number = len(study.trials())
        if number <= len(self._points):
            proposed = self._points[number - 1]
        else:
            proposed = self._optimizer.propose(self._space, study.trials(), self._seed)
        values = {**self._start, **proposed}
        until = None if end is None else min(end, begun + longest)
        own: MetricArray | None = None
        failure = None

        def watched(done: int, total: int) -> None:
            if until is not None and time.monotonic() > until:
                raise _TooSlow
            on_stage(f"trial {number}", done, total)

        try:
            own = self._measured(values, watched)
        except TrainingError as error:
            failure = str(error)
        except _TooSlow:
            failure = f"given up after {time.monotonic() - begun:.0f} s"
        score = None if own is None else self._score(own)
        return Trial(number, values, score, time.monotonic() - begun, failure), own

    def _score(self, measured: MetricArray) -> float:
        """Return the mean over the people who choose."""
        return float(measured[self._chooses].mean())

    def _measured(self, values: Values, on_progress: Callable[[int, int], None]) -> MetricArray:
        return self._judged(self._make_recipe(values), self._validation, on_progress)

    def _judged(
        self, recipe: Recipe, hold: HoldOut, on_progress: Callable[[int, int], None]
    ) -> MetricArray:
        """Return what a recipe reaches for each person, shape (people,)."""
        with recipe.trainer.prepared() as trainer:
            known, recommender = replace(recipe, trainer=trainer).learn(
                hold.parts.train, self._seed, on_progress
            )
        lists = hold.lists(known, recommender, on_progress)
        metric = self._request.metric
        return per_person(hold.targets, lists.jobs, [self._request.k])[metric]

    def _standing(
        self, study: Study, values: Mapping[int, MetricArray], end: float | None
    ) -> Standing:
        trials, best, metric = study.trials(), _best(study), self._request.metric
        judges = ~self._chooses
        drawn = Resampled(
            {
                "start": {metric: values[0][judges]},
                "found": {metric: values[best.number][judges]},
            },
            self._bootstrap,
        )
        return Standing(
            trials=len(trials),
            last=trials[-1],
            best=best,
            judges=int(judges.sum()),
            start=drawn.estimate("start", metric),
            found=drawn.estimate("found", metric),
            gain=drawn.difference("found", "start", metric),
            start_values=self._start,
            data=self._data,
            left=None if end is None else max(0.0, end - time.monotonic()),
        )


class _TooSlow(JobrecError):
    """A trial has used up its time."""


def _best(study: Study) -> Trial:
    return max(
        (trial for trial in study.trials() if trial.score is not None),
        key=lambda trial: (trial.score or 0.0, -trial.number),
    )


def _half(people: int, seed: int) -> BoolArray:
    """Tell for each of so many people whether it is of the half that chooses.

    Raises:
        NothingToMeasure: one person cannot be cut in halves.
    """
    if people < 2:
        raise NothingToMeasure(
            f"the validation part has {people} person to measure; one half of its people chooses "
            f"and the other tells the gain, so it needs 2"
        )
    chooses: BoolArray = np.random.default_rng(seed).permutation(people) < people // 2
    return chooses


def _fingerprint(tally: ActivityTally) -> str:
    """Return a short name that other data do not have."""
    digest = hashlib.sha256()
    for column in (tally.user_ids, tally.job_ids, tally.counts, tally.first_at, tally.last_at):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]
