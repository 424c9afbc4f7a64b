"""Searching settings on planted tastes, with the real optimiser, trainer and study."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from adapters.als import AlsParameters, AlsTrainer
from adapters.optimizer import TpeOptimizer
from adapters.studies import JsonlStudy
from application.tuning import Search, Standing, Tuning, TuningRequest
from domain.errors import InputError, NothingToMeasure
from domain.model import ActivityTally, ReadReport, TimeWindow
from domain.ports import ActivityLog, OnProgress, Recipe
from domain.scoring import one_each
from domain.significance import Bootstrap
from domain.splits import SplitKind
from domain.tuning import Numbers, SearchSpace, Trial, Values

BAD: Values = {"factors": 1, "regularization": 1_000.0, "iterations": 1}
SPACE = SearchSpace(
    {"factors": Numbers(2, 16), "regularization": Numbers(0.01, 10.0), "iterations": Numbers(1, 8)}
)
TRIALS = TuningRequest(split=SplitKind.RANDOM, share=0.2, metric="ndcg@5", trials=5)


class GivenLog(ActivityLog):
    def __init__(self, tally: ActivityTally) -> None:
        self._tally = tally

    def tally(
        self, window: TimeWindow, on_progress: OnProgress
    ) -> tuple[ActivityTally, ReadReport]:
        del window, on_progress
        return self._tally, ReadReport("given")


def planted(seed: int = 1) -> ActivityTally:
    """Four groups of people, each with its own 12 jobs."""
    draws = np.random.default_rng(seed)
    users = np.repeat(np.arange(120), 6)
    jobs = np.concatenate(
        [draws.choice(12, 6, replace=False) + user % 4 * 12 for user in range(120)]
    )
    return ActivityTally.from_events(users, jobs, users * 0, np.full(len(users), np.nan))


def recipe_by(values: Values) -> Recipe:
    return Recipe("als", one_each, AlsTrainer(AlsParameters(**values)))  # type: ignore[arg-type] # the space is of numbers


def quiet(stage: str, done: int, total: int) -> None:
    del stage, done, total


def prepared(
    request: TuningRequest = TRIALS,
    tally: ActivityTally | None = None,
    space: SearchSpace = SPACE,
    start: Values = BAD,
) -> Search:
    log = GivenLog(planted() if tally is None else tally)
    tuning = Tuning(log, recipe_by, start, space, TpeOptimizer(), Bootstrap(), seed=42)
    return tuning.prepare(request, quiet)


def searched(folder: Path, request: TuningRequest = TRIALS, most: int | None = None) -> Standing:
    def stop(standing: Standing) -> None:
        if standing.trials == most:
            raise KeyboardInterrupt

    return prepared(request).run(partial(JsonlStudy, folder / "study"), quiet, stop)


def test_better_settings_than_bad_ones_are_found_and_chosen(tmp_path: Path) -> None:
    standing = searched(tmp_path)
    assert standing.is_sure
    assert standing.chosen == standing.best.values != BAD
    assert standing.found.value > standing.start.value


def test_the_settings_in_force_are_the_first_trial_and_stay_where_nothing_is_surely_better(
    tmp_path: Path,
) -> None:
    standing = searched(tmp_path, dataclasses.replace(TRIALS, trials=1))
    assert (standing.best.number, standing.best.values) == (0, BAD)
    assert standing.chosen == BAD


def test_a_search_that_was_stopped_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = searched(whole)
    with pytest.raises(KeyboardInterrupt):
        searched(parts, most=3)
    resumed = searched(parts)
    assert resumed.trials == TRIALS.trials
    assert (resumed.best.values, resumed.gain) == (expected.best.values, expected.gain)


def test_the_study_of_other_data_is_refused(tmp_path: Path) -> None:
    open_study = partial(JsonlStudy, tmp_path / "study")
    request = dataclasses.replace(TRIALS, trials=1)
    prepared(request).run(open_study, quiet, lambda _: None)
    with pytest.raises(InputError, match="is of another search: data"):
        prepared(request, planted(2)).run(open_study, quiet, lambda _: None)
    with pytest.raises(InputError, match=r'metric "ndcg@5" and not "recall@5"'):
        prepared(dataclasses.replace(request, metric="recall@5")).run(
            open_study, quiet, lambda _: None
        )


def test_the_study_of_an_older_release_is_refused_with_what_it_did_not_search(
    tmp_path: Path,
) -> None:
    path = tmp_path / "study"
    older = dataclasses.asdict(SPACE.dimensions["factors"])
    del older["or_off"]
    JsonlStudy(path, {"data": "x", "seed": 42, "space": {"factors": older}})
    ours = {"factors": older, "half_life_days": {"low": 2.0}, "scoring": {"options": ["funnel"]}}
    with pytest.raises(
        InputError,
        match=re.escape(
            'is of another search: halves none and not "yes", '
            'space.half_life_days none and not {"low":2.0}, '
            'space.scoring none and not {"options":["funnel"]}; name another file'
        ),
    ):
        JsonlStudy(path, {"data": "x", "seed": 42, "halves": "yes", "space": ours})


def test_points_worth_trying_come_first_those_in_force_left_out(tmp_path: Path) -> None:
    points = ({"factors": 8}, {"iterations": 1}, {"factors": 16, "iterations": 5})
    space = SearchSpace(SPACE.dimensions, points)
    made = list[Trial]()
    search = prepared(dataclasses.replace(TRIALS, trials=4), space=space)
    search.run(partial(JsonlStudy, tmp_path / "study"), quiet, lambda own: made.append(own.last))
    first, second = ({**BAD, **point} for point in (points[0], points[2]))
    assert [trial.values for trial in made[:3]] == [BAD, first, second]
    assert made[3].values not in (BAD, first, second)


def test_the_gain_is_told_by_people_whom_the_best_was_not_chosen_by(tmp_path: Path) -> None:
    # Nothing to find: whatever is better than the rest is so by chance
    flattered, told, sure = 0.0, 0.0, 0
    for seed in range(5):
        draws = np.random.default_rng(seed)
        users = np.repeat(np.arange(120), 6)
        jobs = np.concatenate([draws.choice(48, 6, replace=False) for _ in range(120)])
        tally = ActivityTally.from_events(users, jobs, users * 0, np.full(len(users), np.nan))
        request = dataclasses.replace(TRIALS, trials=15)
        search = prepared(
            request, tally, start={"factors": 4, "regularization": 1.0, "iterations": 4}
        )
        study = JsonlStudy(tmp_path / str(seed), {})
        standing = search.run(lambda _, study=study: study, quiet, lambda _: None)  # type: ignore[misc] # mypy knows no defaults of lambdas
        assert standing.judges == 60
        flattered += (standing.best.score or 0.0) - (study.trials()[0].score or 0.0)
        told += standing.gain.value
        sure += standing.is_sure
    assert flattered > 2 * told
    assert flattered > 0
    assert sure <= 1


def test_one_person_cannot_both_choose_and_tell() -> None:
    tally = ActivityTally.from_events([1] * 9, [*range(9)], [0] * 9, [np.nan] * 9)
    with pytest.raises(NothingToMeasure, match="has 1 person to measure"):
        prepared(tally=tally)


def test_the_test_part_has_no_say_in_the_choice(tmp_path: Path) -> None:
    def given(jobs: int) -> TuningRequest:
        pairs = ActivityTally.from_events([3, 5], [jobs, jobs + 1], [0, 0], [np.nan, np.nan])
        return dataclasses.replace(TRIALS, given=pairs)

    first, second = searched(tmp_path / "a", given(100)), searched(tmp_path / "b", given(200))
    assert first.chosen == second.chosen
    assert first.data == second.data
    assert first.found == second.found


def test_the_test_part_is_measured_for_both(tmp_path: Path) -> None:
    search = prepared()
    standing = search.run(partial(JsonlStudy, tmp_path / "study"), quiet, lambda _: None)
    tested = search.test(standing.chosen, quiet)
    assert tested.people > 0
    assert tested.gain.value == pytest.approx(tested.found.value - tested.start.value)
    assert tested.found.value > tested.start.value


def test_time_bounds_a_search_but_the_first_trial_is_always_made(tmp_path: Path) -> None:
    standing = searched(tmp_path, dataclasses.replace(TRIALS, trials=None, minutes=1e-6))
    assert standing.trials == 1
    assert standing.left == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"metric": "ndcg"}, "metric 'ndcg' is none of"),
        ({"trials": 0}, "trials 0 is not in 1"),
        ({"minutes": 0.0}, "minutes 0.0 is not above 0"),
        ({"trials": None}, "give minutes, trials, or both"),
    ],
)
def test_bad_requests_are_refused(bad: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        dataclasses.replace(TRIALS, **bad)  # type: ignore[arg-type] # bad on purpose


def test_a_line_cut_off_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "study"
    trial = Trial(0, {"a": 1}, 0.5, 1.0)
    JsonlStudy(path, {"data": "x"}).add(trial)
    with path.open("a") as file:
        file.write('{"number": 1, "val')
    study = JsonlStudy(path, {"data": "x"})
    assert study.trials() == [trial]
    study.add(dataclasses.replace(trial, number=1))
    assert [own.number for own in JsonlStudy(path, {"data": "x"}).trials()] == [0, 1]


def test_a_file_that_is_no_study_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine\n")
    with pytest.raises(InputError, match="is no study"):
        JsonlStudy(path, {"data": "x"})
    assert path.read_text() == "mine\n"
