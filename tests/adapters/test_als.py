"""ALS by the real library: its traps, and that the service adds nothing to its lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import implicit.cpu.als
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_info, threadpool_limits

import adapters.als
from adapters.als import AlsParameters, AlsTrainer
from adapters.factors import FactorRecommender
from application.recommending import MAX_FIRST, Models, RecommendationList, Recommending
from domain.errors import InputError, NothingToLearn, TrainingCancelled, TrainingError
from domain.model import (
    ActivityKind,
    ActivityTally,
    Interactions,
    Job,
    RecommendationSource,
    ShortfallReason,
)
from domain.ports import nobody
from domain.ranking import RankingPolicy, Unlisted
from domain.runs import Manifest
from domain.scoring import ScoringPolicy
from tests.domain.test_scoring import funnel_score
from tests.fakes import NOON, Event, FakeCatalog, FakeSnapshotStore, ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from domain.ports import Arrays

SMALL = AlsParameters(factors=8, iterations=5, threads=1)
SEED = 42
EVERY_KIND = tuple(ActivityKind)


def activities(people: int, jobs: int, seed: int, fields: int = 5) -> list[Event]:
    """Return what people saw and followed; each is drawn to the jobs of one field in `fields`.

    Ids are far apart and jobs' exceed 32 bits, so that no position can pass for an id.
    """
    random = np.random.default_rng(seed)
    events = []
    for person in range(people):
        own = person % fields
        for _ in range(int(random.integers(5, 25))):
            in_field = random.random() < 0.7
            job = int(random.integers(jobs))
            if in_field:
                job += own - job % fields
            if not 0 <= job < jobs:
                continue
            pair = (1_000 + 3 * person, 2**33 + 7 * job)
            shown = int(random.integers(0, 14))
            followed = int(random.integers(1, 4)) if in_field and random.random() < 0.6 else 0
            events += [Event(*pair, ActivityKind.IMPRESSION)] * shown
            events += [Event(*pair, ActivityKind.REDIRECT)] * followed
    return events


def interactions_of(events: Iterable[Event], scoring: ScoringPolicy | None = None) -> Interactions:
    events = list(events)
    tally = ActivityTally.from_events(
        [event.user_id for event in events],
        [event.job_id for event in events],
        [int(event.kind) for event in events],
        [event.timestamp for event in events],
    )
    return (scoring or ScoringPolicy.funnel()).interactions(tally)


def fit(interactions: Interactions, parameters: AlsParameters = SMALL, seed: int = SEED) -> Arrays:
    return AlsTrainer(parameters).fit(interactions, seed, nobody).arrays()


def bytes_of(arrays: Arrays) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays.items()}


@dataclass(frozen=True)
class Served:
    """The service over a model that the real library has learned."""

    interactions: Interactions
    recommending: Recommending
    catalog: FakeCatalog

    @classmethod
    def of(cls, interactions: Interactions, parameters: AlsParameters = SMALL) -> Served:
        snapshots, catalog = FakeSnapshotStore(), FakeCatalog()
        arrays = {**interactions.arrays(), **fit(interactions, parameters)}
        snapshots.write(Manifest("1", NOON, 0, 0, 0, None, None, SEED, {}, {}), arrays)
        snapshots.promote("1")
        models = Models(snapshots, lambda _, arrays: FactorRecommender.from_arrays(arrays))
        models.refresh()
        recommending = Recommending(models, catalog, RankingPolicy(Unlisted.SERVE), ManualClock())
        return cls(interactions, recommending, catalog)

    @property
    def people(self) -> list[int]:
        people: list[int] = self.interactions.users.ids.tolist()
        return people

    @property
    def jobs(self) -> list[int]:
        jobs: list[int] = self.interactions.jobs.ids.tolist()
        return jobs

    def of_person(self, person: int, first: int = 10, **options: Any) -> RecommendationList:
        return self.recommending.for_users([person], first, **options)[0]


def ids_of(answer: RecommendationList) -> list[int]:
    return [item.job_id for item in answer.items]


@pytest.fixture
def served() -> Served:
    return Served.of(interactions_of(activities(60, 40, seed=1)))


# The service beside the library alone


def matrix_of(events: list[Event]) -> tuple[csr_matrix, list[int], list[int]]:
    """Build the library's matrix from dictionaries, apart from the code under test."""
    counts = Counter((event.user_id, event.job_id, event.kind) for event in events)
    scores = {
        (user, job): funnel_score(
            counts[user, job, ActivityKind.IMPRESSION], counts[user, job, ActivityKind.REDIRECT]
        )
        for user, job, _ in counts
    }
    people = sorted({user for user, _ in scores})
    jobs = sorted({job for _, job in scores})
    row_of = {id_: row for row, id_ in enumerate(people)}
    column_of = {id_: column for column, id_ in enumerate(jobs)}
    rows = [row_of[user] for user, _ in scores]
    columns = [column_of[job] for _, job in scores]
    values = np.array(list(scores.values()), dtype=np.float32)
    return csr_matrix((values, (rows, columns)), (len(people), len(jobs))), people, jobs


def test_the_service_gives_the_lists_that_the_library_alone_gives_for_the_same_matrix() -> None:
    events = activities(500, 300, seed=2)
    matrix, people, jobs = matrix_of(events)
    with threadpool_limits(1, "blas"):
        library = implicit.cpu.als.AlternatingLeastSquares(
            factors=64, regularization=0.05, alpha=2.0, iterations=15, random_state=SEED
        )
        library.fit(matrix, show_progress=False)
        chosen = np.arange(0, 500, 2)[:200]
        columns, scores = library.recommend(
            chosen, matrix[chosen], N=20, filter_already_liked_items=False
        )

    served = Served.of(interactions_of(events), AlsParameters())
    assert (served.people, served.jobs) == (people, jobs)
    answers = served.recommending.for_users([people[row] for row in chosen], 20, exclude=())

    swapped = 0
    for answer, expected_columns, expected_scores in zip(answers, columns, scores, strict=True):
        expected = [jobs[column] for column in expected_columns]
        assert np.allclose(expected_scores, [item.score for item in answer.items], atol=1e-5)
        assert {item.source for item in answer.items} == {RecommendationSource.PERSONALISED}
        if expected != ids_of(answer):
            # Only jobs whose scores are equal but for rounding may have changed places
            swapped += 1
            score_of = dict(zip(expected, expected_scores.tolist(), strict=True))
            assert score_of.keys() == set(ids_of(answer))
            ordered = [score_of[id_] for id_ in ids_of(answer)]
            assert (np.diff(ordered) <= 1e-6).all()
    assert swapped <= 2


def test_people_are_recommended_the_field_that_they_are_drawn_to(served: Served) -> None:
    share = [
        sum(served.jobs.index(id_) % 5 == person // 3 % 5 for id_ in ids_of(answer)) / 8
        for person, answer in (
            (id_ - 1_000, served.of_person(id_, 8, exclude=())) for id_ in served.people
        )
    ]
    # Chance would give a fifth
    assert np.mean(share) > 0.6


# The traps of implicit 0.7, each by its name


def test_trap_index_minus_1_returns_the_last_users_list(served: Served) -> None:
    last = served.of_person(served.people[-1])
    for unknown in (0, served.people[0] - 1, served.people[-1] + 1):
        answer = served.of_person(unknown)
        assert {item.source for item in answer.items} == {RecommendationSource.POPULAR}
        assert ids_of(answer) != ids_of(last)
    with pytest.raises(InputError, match="userId is -1"):
        served.of_person(-1)


def test_trap_more_jobs_asked_for_than_there_are_pads_with_the_first_at_score_0(
    served: Served,
) -> None:
    answer = served.of_person(served.people[3], MAX_FIRST, exclude=())
    assert sorted(ids_of(answer)) == served.jobs
    assert answer.shortfall is ShortfallReason.CATALOGUE


def test_trap_filtered_jobs_come_back_at_minus_3e38_when_candidates_run_out() -> None:
    events = activities(60, 40, seed=1)
    jobs = sorted({event.job_id for event in events})
    eager = 5
    events += [Event(eager, job) for job in jobs[:-2]]
    served = Served.of(interactions_of(events))
    answer = served.of_person(eager, 10, exclude=EVERY_KIND)
    assert sorted(ids_of(answer)) == jobs[-2:]
    assert all(abs(item.score) < 100 for item in answer.items)
    assert answer.shortfall is ShortfallReason.EXCLUDED


def test_trap_empty_candidates_raise(served: Served) -> None:
    served.catalog.put(*(Job(id_, closes_at=NOON) for id_ in served.jobs))
    assert ids_of(served.of_person(served.people[0])) == []
    assert ids_of(served.of_person(1)) == []
    similar = served.recommending.similar(served.jobs[0], 10)
    assert similar is not None
    assert similar.items == ()


def test_trap_similar_items_gives_the_job_itself_infinities_and_repeats(served: Served) -> None:
    closed = served.jobs[::4]
    served.catalog.put(*(Job(id_, closes_at=NOON) for id_ in closed))
    for job in served.jobs:
        similar = served.recommending.similar(job, MAX_FIRST)
        assert similar is not None
        ids = [item.job_id for item in similar.items]
        assert sorted(ids) == sorted(set(served.jobs) - {job, *closed})
        assert all(-1 <= item.score <= 1 for item in similar.items)


def test_trap_cosine_of_1_0000001() -> None:
    # One factor makes every cosine 1 or -1, but for rounding
    interactions = interactions_of(activities(60, 40, seed=1))
    served = Served.of(interactions, replace(SMALL, factors=1))
    for job in served.jobs:
        similar = served.recommending.similar(job, MAX_FIRST)
        assert similar is not None
        assert len(similar.items) == len(served.jobs) - 1
        assert all(-1 <= item.score <= 1 for item in similar.items)
        assert all(abs(item.score) > 0.999 for item in similar.items)


def test_trap_a_second_fit_starts_from_the_first() -> None:
    trainer = AlsTrainer(SMALL)
    large = interactions_of(activities(60, 40, seed=1))
    small = interactions_of(activities(20, 15, seed=2))
    first, other_shape, again = (
        bytes_of(trainer.fit(data, SEED, nobody).arrays()) for data in (large, small, large)
    )
    assert first == again
    assert other_shape == bytes_of(fit(small))


def test_trap_a_user_without_history_gets_the_last_jobs_in_reverse() -> None:
    events = activities(60, 40, seed=1)
    without = 2_000_000
    events.append(Event(without, events[0].job_id, ActivityKind.APPLY))
    served = Served.of(interactions_of(events, ScoringPolicy.funnel(apply_weight=0)))
    assert without not in served.people
    answer = served.of_person(without)
    totals: Counter[int] = Counter()
    for (user, job), score in scores_of(served.interactions).items():
        assert user != without
        totals[job] += int(score)
    popular = sorted(totals, key=lambda job: (-totals[job], job))
    # An application counts for nothing here, and its job is still not shown again
    popular.remove(events[0].job_id)
    assert popular[:10] == ids_of(answer)
    assert {item.source for item in answer.items} == {RecommendationSource.POPULAR}


def scores_of(interactions: Interactions) -> Mapping[tuple[int, int], float]:
    rows = np.repeat(np.arange(len(interactions.users)), np.diff(interactions.indptr))
    users = interactions.users.ids[rows].tolist()
    jobs = interactions.jobs.ids[interactions.indices].tolist()
    return dict(zip(zip(users, jobs, strict=True), interactions.scores.tolist(), strict=True))


class Spy(implicit.cpu.als.AlternatingLeastSquares):  # type: ignore[misc] # has no annotations
    """The library's model, which shows what it was given."""

    given: csr_matrix

    def fit(self, user_items: csr_matrix, *args: Any, **options: Any) -> None:
        Spy.given = user_items
        super().fit(user_items, *args, **options)


@pytest.fixture
def given_to_the_library(monkeypatch: pytest.MonkeyPatch) -> csr_matrix:
    """Return the matrix that reaches the library where activities repeat and some score 0."""
    monkeypatch.setattr(adapters.als, "AlternatingLeastSquares", Spy)
    events = activities(60, 40, seed=1)
    never_scores = [Event(event.user_id, 5, ActivityKind.APPLY) for event in events]
    fit(interactions_of(events + never_scores + events, ScoringPolicy.funnel(apply_weight=0)))
    return Spy.given


def test_trap_duplicate_entries_and_explicit_zeros(given_to_the_library: csr_matrix) -> None:
    matrix = given_to_the_library
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    entries = list(zip(rows.tolist(), matrix.indices.tolist(), strict=True))
    assert len(set(entries)) == len(entries)
    assert (matrix.data > 0).all()


def test_trap_csr_array_and_mixed_index_types(given_to_the_library: csr_matrix) -> None:
    assert isinstance(given_to_the_library, csr_matrix)
    assert given_to_the_library.indices.dtype == given_to_the_library.indptr.dtype == np.int32


def test_trap_integer_data_overflow(given_to_the_library: csr_matrix) -> None:
    assert given_to_the_library.data.dtype == np.float32


def test_trap_confidence_is_used_as_given() -> None:
    alpha, regularization = 2.0, 0.05
    parameters = AlsParameters(
        factors=3, regularization=regularization, alpha=alpha, iterations=400, threads=1
    )
    interactions = interactions_of(activities(40, 25, seed=3))
    arrays = fit(interactions, parameters)
    matrix = np.zeros(interactions.shape)
    rows = np.repeat(np.arange(len(interactions.users)), np.diff(interactions.indptr))
    matrix[rows, interactions.indices] = interactions.scores
    users = arrays["user_factors"].astype(np.float64)
    jobs = arrays["job_factors"].astype(np.float64)

    def solved(scores: NDArray[np.float64], others: NDArray[np.float64], extra: float) -> Any:
        """Solve one side's least squares; what was never seen weighs 1."""
        seen = scores > 0
        weights = np.where(seen, extra + alpha * scores, 1.0)
        left = others.T @ (weights[:, None] * others) + regularization * np.eye(3)
        return np.linalg.solve(left, others.T @ (weights * seen))

    def error(extra: float) -> float:
        of_users = [np.abs(solved(matrix[u], jobs, extra) - users[u]).max() for u in range(40)]
        of_jobs = [np.abs(solved(matrix[:, j], users, extra) - jobs[j]).max() for j in range(25)]
        return float(max(*of_users, *of_jobs))

    # The library solves approximately, in float32; 1 + alpha * score would be far off
    assert error(extra=0) < 0.005
    assert error(extra=1) > 0.1


def test_trap_nothing_to_learn_from() -> None:
    tally = ActivityTally.from_events([1], [2], [ActivityKind.APPLY], [0.0])
    nothing = ScoringPolicy.funnel(apply_weight=0).interactions(tally)
    with pytest.raises(NothingToLearn, match="nothing to learn from"):
        fit(nothing)


def test_the_least_that_can_be_learned_from_is_one_pair() -> None:
    served = Served.of(interactions_of([Event(7, 9)]))
    assert ids_of(served.of_person(7, exclude=())) == [9]


def test_trap_the_factory_picks_the_gpu() -> None:
    chosen = vars(adapters.als)["AlternatingLeastSquares"]
    assert chosen is implicit.cpu.als.AlternatingLeastSquares


def test_trap_unseeded_training_reshuffles_lists() -> None:
    interactions = interactions_of(activities(60, 40, seed=1))
    assert bytes_of(fit(interactions)) == bytes_of(fit(interactions))
    assert bytes_of(fit(interactions, seed=1)) != bytes_of(fit(interactions, seed=2))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_every_seed_that_the_policy_accepts_is_one_for_the_library(seed: int) -> None:
    assert np.isfinite(fit(interactions_of(activities(20, 15, 1)), seed=seed)["job_factors"]).all()


@pytest.mark.parametrize("factors", [8, 64])
def test_the_number_of_threads_does_not_change_a_byte(factors: int) -> None:
    interactions = interactions_of(activities(120, 80, seed=1))
    one, two = (
        bytes_of(fit(interactions, replace(SMALL, factors=factors, threads=threads)))
        for threads in (1, 2)
    )
    assert one == two


def test_the_order_of_activities_does_not_change_a_byte() -> None:
    events = activities(60, 40, seed=1)
    assert bytes_of(fit(interactions_of(events))) == bytes_of(fit(interactions_of(events[::-1])))


def test_trap_blas_and_openmp_oversubscribe() -> None:
    def blas() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    seen: list[list[int]] = []
    interactions = interactions_of(activities(20, 15, seed=1))
    with threadpool_limits(2, "blas"):
        before = blas()
        AlsTrainer(SMALL).fit(interactions, SEED, lambda *_: seen.append(blas()))
        assert blas() == before
    assert 2 in before
    assert len(seen) == SMALL.iterations
    assert {threads for pools in seen for threads in pools} == {1}


def test_trap_numbers_that_are_not_finite_surface_only_after_the_fit() -> None:
    interactions = interactions_of(activities(20, 15, seed=1))
    extreme = replace(interactions, scores=np.full_like(interactions.scores, 1e38))
    with pytest.raises(TrainingError, match=r"not finite; try a regularization above 0\.05"):
        fit(extreme)


@pytest.mark.parametrize("side", ["user_factors", "item_factors"])
def test_factors_that_are_not_finite_are_refused_by_side(
    side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoilt(implicit.cpu.als.AlternatingLeastSquares):  # type: ignore[misc] # has no annotations
        def fit(self, *args: Any, **options: Any) -> None:
            super().fit(*args, **options)
            getattr(self, side)[0, 0] = np.inf

    monkeypatch.setattr(adapters.als, "AlternatingLeastSquares", Spoilt)
    word = "users" if side == "user_factors" else "jobs"
    with pytest.raises(TrainingError, match=f"the factors of {word} are not finite"):
        fit(interactions_of(activities(20, 15, seed=1)))


@pytest.mark.parametrize("factors", [1, 64, 200])
def test_factors_are_finite_float32_of_the_shape_asked_for(factors: int) -> None:
    interactions = interactions_of(activities(60, 40, seed=1))
    arrays = fit(interactions, replace(SMALL, factors=factors))
    assert arrays["user_factors"].shape == (interactions.shape[0], factors)
    assert arrays["job_factors"].shape == (interactions.shape[1], factors)
    for array in arrays.values():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


# Progress and parameters


@pytest.mark.parametrize(("most", "done"), [(1, 1), (3, 3), (4, 4), (100, 4)])
def test_brief_training_stops_after_so_many_iterations(most: int, done: int) -> None:
    whole = AlsTrainer(AlsParameters(factors=3, iterations=4))
    brief = whole.brief(most)
    assert brief.parameters == {**whole.parameters, "iterations": done}
    assert (whole.steps, brief.steps) == (4, done)


def test_every_iteration_is_told_and_counted_from_1() -> None:
    told: list[tuple[int, int]] = []
    trainer = AlsTrainer(SMALL)
    interactions = interactions_of(activities(20, 15, seed=1))
    trainer.fit(interactions, SEED, lambda *step: told.append(step))
    assert told == [(step, 5) for step in range(1, 6)]
    assert trainer.steps == 5


def test_what_progress_raises_stops_the_fit() -> None:
    told: list[int] = []

    def stop(step: int, _total: int) -> None:
        told.append(step)
        if step == 2:
            raise TrainingCancelled("stopped")

    with pytest.raises(TrainingCancelled, match="stopped"):
        AlsTrainer(SMALL).fit(interactions_of(activities(20, 15, seed=1)), SEED, stop)
    assert told == [1, 2]


def test_the_defaults_are_those_of_the_service_replaced() -> None:
    assert AlsTrainer().parameters == {
        "name": "als",
        "factors": 64,
        "regularization": 0.05,
        "alpha": 2.0,
        "iterations": 15,
    }


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("factors", 0, "is not in 1..4096"),
        ("factors", 4097, "is not in 1..4096"),
        ("iterations", 0, "is not in 1..10000"),
        ("threads", 0, "is not in 1..1024"),
        ("regularization", 0.0, "is not a finite number above 0"),
        ("regularization", float("nan"), "is not a finite number above 0"),
        ("alpha", -2.0, "is not a finite number above 0"),
        ("alpha", float("inf"), "is not a finite number above 0"),
    ],
)
def test_a_parameter_out_of_bounds_is_refused_with_its_value_and_the_bound(
    name: str, value: float, bound: str
) -> None:
    with pytest.raises(InputError, match=f"{name} {value} {bound}"):
        AlsParameters(**{name: value})  # type: ignore[arg-type] # every parameter is a number
