from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from adapters import factors as kernel
from adapters.factors import FactorRecommender, HalfStep, within_reach
from domain.errors import SnapshotCorrupt
from domain.model import History
from tests.kernels import KERNELS, Made, small_indices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from domain.model import FloatArray
    from domain.ranking import Ranked

Rows = list[tuple[int, float]]


@pytest.fixture(autouse=True, scope="module")
def small_catalogues_have_an_index() -> Iterator[None]:
    with small_indices():
        yield


def rows_of(ranked: Ranked) -> Rows:
    return list(zip(ranked.jobs.tolist(), ranked.scores.tolist(), strict=True))


def nobody_excluded(people: int) -> list[NDArray[np.int64]]:
    return [np.empty(0, dtype=np.int64)] * people


def every_job(jobs: FloatArray) -> NDArray[np.bool_]:
    return np.ones(len(jobs), dtype=np.bool_)


def brute_force(user: NDArray[np.float64], jobs: FloatArray, k: int, barred: set[int]) -> Rows:
    """Rank every job in float64, ties by position."""
    if not user.any():
        return []
    scored = [
        (job, float(np.dot(vector.astype(np.float64), user)))
        for job, vector in enumerate(jobs)
        if job not in barred
    ]
    return sorted(scored, key=lambda row: (-row[1], row[0]))[:k]


@st.composite
def small_whole_numbers(draw: st.DrawFn, most_rows: int) -> FloatArray:
    """Draw factors whose products are exact in any order of adding, and often equal."""
    rows = draw(st.integers(0, most_rows))
    matrix: FloatArray = draw(
        arrays(np.float32, (rows, 3), elements=st.sampled_from([-1, 0, 1, 2]))
    )
    return matrix


@KERNELS
@given(
    users=small_whole_numbers(most_rows=6),
    jobs=small_whole_numbers(most_rows=20),
    k=st.integers(0, 25),
    block_cells=st.sampled_from([1, 20, 45, 1 << 20]),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_lists_are_those_of_brute_force_with_ties_by_job_whatever_the_block(
    made: Made, users: FloatArray, jobs: FloatArray, k: int, block_cells: int, data: st.DataObject
) -> None:
    positions = st.sets(st.integers(0, max(0, len(jobs) - 1))) if len(jobs) else st.just(set())
    barred = data.draw(positions)
    excluded = [data.draw(positions) for _ in users]
    eligible = np.array([job not in barred for job in range(len(jobs))], dtype=np.bool_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "BLOCK_CELLS", block_cells)
        patch.setattr(kernel, "LEAST_PEOPLE", 1)
        lists = made(FactorRecommender(users, jobs)).recommend(
            np.arange(len(users)),
            k,
            eligible,
            [np.array(sorted(own), np.int64) for own in excluded],
        )
    expected = [
        brute_force(user.astype(np.float64), jobs, k, barred | own)
        for user, own in zip(users, excluded, strict=True)
    ]
    assert expected == [rows_of(ranked) for ranked in lists]


@given(
    n=st.integers(1, 600),
    k=st.integers(1, 700) | st.integers(1, 5),
    kinds=st.sampled_from([1, 3, 1_000_000]),
    share_barred=st.sampled_from([0.0, 0.3, 0.99]),
    error=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=200)
def test_what_is_within_reach_holds_the_best_of_a_full_sort(
    n: int, k: int, kinds: int, share_barred: float, error: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    exact = random.integers(-kinds, kinds, (4, n)).astype(np.float32)
    exact[random.random((4, n)) < share_barred] = -np.inf
    exact[1] = -np.inf
    rough = exact + random.uniform(-error, error, (4, n)).astype(np.float32)

    rows, columns = within_reach(rough, k, np.full(4, error))

    for row, scores in enumerate(exact):
        full = [column for column in np.argsort(-scores, kind="stable") if scores[column] > -np.inf]
        own = columns[rows == row]
        assert len(set(own.tolist())) == len(own)
        found = own[np.lexsort((own, -scores[own]))]
        assert full[:k] == found[:k].tolist()
        assert (scores[found] > -np.inf).all()


@KERNELS
@pytest.mark.parametrize("width", [1, 5, 13, 64, 100])
@pytest.mark.parametrize("k", [1, 10, 77])
def test_equal_jobs_are_ordered_by_id_though_a_matrix_product_rounds_them_apart(
    made: Made, width: int, k: int
) -> None:
    random = np.random.default_rng(width)
    kinds = random.standard_normal((40, width)).astype(np.float32)
    jobs = kinds[random.integers(0, len(kinds), 1_500)]
    users = random.standard_normal((30, width)).astype(np.float32)
    lists = made(FactorRecommender(users, jobs)).recommend(
        np.arange(len(users)), k, every_job(jobs), nobody_excluded(len(users))
    )
    for user, ranked in zip(users, lists, strict=True):
        expected = brute_force(user.astype(np.float64), jobs, k, set())
        assert [job for job, _ in expected] == ranked.jobs.tolist()
        assert ranked.scores.tolist() == pytest.approx([score for _, score in expected], rel=1e-4)


@KERNELS
@pytest.mark.parametrize("block_cells", [1, 700 * 7, 1 << 20])
def test_a_batch_gives_everybody_the_bits_that_they_get_alone(
    made: Made, block_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "BLOCK_CELLS", block_cells)
    monkeypatch.setattr(kernel, "LEAST_PEOPLE", 1)
    random = np.random.default_rng(3)
    users = random.standard_normal((50, 33)).astype(np.float32)
    jobs = random.standard_normal((700, 33)).astype(np.float32)
    model = made(FactorRecommender(users, jobs))
    order = random.permutation(np.repeat(np.arange(50), 2))
    together = model.recommend(order, 20, every_job(jobs), nobody_excluded(100))
    alone = [
        model.recommend(order[at : at + 1], 20, every_job(jobs), nobody_excluded(1))[0]
        for at in range(100)
    ]
    assert [rows_of(ranked) for ranked in alone] == [rows_of(ranked) for ranked in together]


@KERNELS
def test_a_batch_gives_the_bits_of_single_lists_also_where_only_rounding_tells_jobs_apart(
    made: Made,
) -> None:
    random = np.random.default_rng(4)
    users = random.standard_normal((24, 61)).astype(np.float32)
    noise = random.integers(-4, 5, (900, 61)) * np.finfo(np.float32).eps
    jobs = (random.standard_normal(61) * (1 + noise)).astype(np.float32)
    model = made(FactorRecommender(users, jobs))
    together = model.recommend(np.arange(24), 20, every_job(jobs), nobody_excluded(24))
    alone = [
        model.recommend(np.array([user]), 20, every_job(jobs), nobody_excluded(1))[0]
        for user in range(24)
    ]
    assert [rows_of(ranked) for ranked in alone] == [rows_of(ranked) for ranked in together]


@KERNELS
def test_lists_are_shorter_where_fewer_jobs_are_left_and_are_never_padded(made: Made) -> None:
    users, jobs = np.ones((1, 2), np.float32), np.eye(2, dtype=np.float32)
    model = made(FactorRecommender(users, jobs))
    (all_jobs,) = model.recommend(np.array([0]), 50, every_job(jobs), nobody_excluded(1))
    assert rows_of(all_jobs) == [(0, 1.0), (1, 1.0)]
    (one_left,) = model.recommend(np.array([0]), 50, every_job(jobs), [np.array([0])])
    assert rows_of(one_left) == [(1, 1.0)]


@KERNELS
@pytest.mark.parametrize(
    ("eligible", "excluded"), [([False, False], []), ([True, True], [0, 1]), ([True, False], [0])]
)
def test_where_every_job_is_barred_the_list_is_empty(
    made: Made, eligible: list[bool], excluded: list[int]
) -> None:
    model = made(FactorRecommender(np.ones((1, 2), np.float32), np.eye(2, dtype=np.float32)))
    (ranked,) = model.recommend(
        np.array([0]), 5, np.array(eligible), [np.array(excluded, dtype=np.int64)]
    )
    assert rows_of(ranked) == []


@KERNELS
def test_one_persons_exclusions_do_not_touch_the_next_list(made: Made) -> None:
    model = made(FactorRecommender(np.ones((2, 2), np.float32), np.eye(2, dtype=np.float32)))
    lists = model.recommend(
        np.array([0, 1]), 5, np.ones(2, np.bool_), [np.array([0]), np.empty(0, np.int64)]
    )
    assert [ranked.jobs.tolist() for ranked in lists] == [[1], [0, 1]]


@KERNELS
def test_somebody_whose_factors_are_zero_gets_no_jobs_from_the_model(made: Made) -> None:
    users = np.array([[0, 0], [1, 0]], dtype=np.float32)
    model = made(FactorRecommender(users, np.eye(2, dtype=np.float32)))
    lists = model.recommend(np.array([0, 1]), 2, np.ones(2, np.bool_), nobody_excluded(2))
    assert [len(ranked) for ranked in lists] == [0, 2]


def test_few_jobs_of_very_many_are_scored_by_themselves_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(8)
    users = random.standard_normal((9, 13)).astype(np.float32)
    jobs = random.standard_normal((300, 13)).astype(np.float32)
    users[4] = 0
    lift = random.random(300).astype(np.float32)
    eligible = random.random(300) < 0.3
    excluded = [np.array([person, 20 * person]) for person in range(9)]

    def answers() -> list[Rows]:
        model = FactorRecommender(users, jobs, lift=lift)
        lists = model.recommend(np.arange(9), 120, eligible, excluded)
        return [rows_of(ranked) for ranked in [*lists, model.similar(7, 120, eligible)]]

    apart = answers()
    monkeypatch.setattr(kernel, "SHORTLISTED_JOBS", 100)
    assert answers() == apart


@KERNELS
def test_nobody_asked_for_is_no_list(made: Made) -> None:
    model = made(FactorRecommender(np.ones((1, 2), np.float32), np.eye(2, dtype=np.float32)))
    assert model.recommend(np.empty(0, np.int64), 2, np.ones(2, np.bool_), []) == []


@KERNELS
@given(jobs=small_whole_numbers(most_rows=15), k=st.integers(0, 18), data=st.data())
@settings(deadline=None, max_examples=200)
def test_similar_jobs_are_those_of_brute_force(
    made: Made, jobs: FloatArray, k: int, data: st.DataObject
) -> None:
    if not len(jobs):
        return
    job = data.draw(st.integers(0, len(jobs) - 1))
    barred = data.draw(st.sets(st.integers(0, len(jobs) - 1)))
    eligible = np.array([other not in barred for other in range(len(jobs))])
    found = made(FactorRecommender(np.ones((1, 3), np.float32), jobs)).similar(job, k, eligible)

    own = [int(value) for value in jobs[job]]
    ranks: list[tuple[Fraction, int]] = []
    for other, vector in enumerate(jobs):
        length = sum(int(value) ** 2 for value in vector)
        inner = sum(int(value) * mine for value, mine in zip(vector, own, strict=True))
        if length and any(own) and other != job and other not in barred:
            # The cosine's square with its sign orders like the cosine, and is exact
            ranks.append((-Fraction(inner * abs(inner), length), other))
    assert [other for _, other in sorted(ranks)[:k]] == found.jobs.tolist()
    cosines = [
        float(np.dot(jobs[other], jobs[job]))
        / float(np.linalg.norm(jobs[other]) * np.linalg.norm(jobs[job]))
        for other in found.jobs
    ]
    assert found.scores.tolist() == pytest.approx(cosines, abs=1e-6)


@KERNELS
def test_jobs_of_one_direction_are_equally_similar_and_ordered_by_id(made: Made) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        direction = random.integers(1, 50, 16)
        # Whole multiples are exact, so all of these point the very same way
        jobs = np.outer(random.permutation(np.arange(1, 21)), direction).astype(np.float32)
        found = made(FactorRecommender(jobs, jobs)).similar(7, 12, every_job(jobs))
        assert found.jobs.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]


@KERNELS
@pytest.mark.parametrize("width", [5, 13, 64, 100])
def test_equal_jobs_are_equally_similar_and_ordered_by_id(made: Made, width: int) -> None:
    random = np.random.default_rng(width)
    kinds = random.standard_normal((40, width)).astype(np.float32)
    kind_of = random.integers(0, len(kinds), 600)
    jobs = kinds[kind_of]
    model = made(FactorRecommender(jobs, jobs))
    precise = kinds.astype(np.float64) / np.linalg.norm(kinds.astype(np.float64), axis=1)[:, None]
    for job in range(0, 600, 20):
        cosines = (precise @ precise[kind_of[job]])[kind_of]
        others = sorted(set(range(600)) - {job}, key=lambda other: (-cosines[other], other))
        assert others[:77] == model.similar(job, 77, every_job(jobs)).jobs.tolist()


@KERNELS
@pytest.mark.parametrize("width", [2, 7, 64])
def test_similarities_lie_in_minus_1_to_1_and_never_hold_the_job_itself(
    made: Made, width: int
) -> None:
    random = np.random.default_rng(width)
    jobs = random.standard_normal((60, width)).astype(np.float32)
    jobs = np.concatenate([jobs, jobs, -jobs, np.zeros((3, width), np.float32)])
    model = made(FactorRecommender(jobs, jobs))
    for job in range(60):
        found = model.similar(job, 500, every_job(jobs))
        assert len(found) == 179
        assert len(set(found.jobs.tolist())) == 179
        assert job not in found.jobs
        assert np.isfinite(found.scores).all()
        assert (np.abs(found.scores) <= 1).all()
        assert found.jobs[0] == job + 60
        assert found.jobs[-1] == job + 120


@KERNELS
def test_a_job_without_factors_resembles_none_and_none_resembles_it(made: Made) -> None:
    jobs = np.array([[0, 0], [1, 0], [1, 1]], dtype=np.float32)
    model = made(FactorRecommender(jobs, jobs))
    assert rows_of(model.similar(0, 5, every_job(jobs))) == []
    assert model.similar(1, 5, every_job(jobs)).jobs.tolist() == [2]


def test_memory_mapped_factors_answer_alike_and_are_not_written_to(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    users, jobs = (random.standard_normal((n, 9)).astype(np.float32) for n in (6, 40))
    stored: dict[str, Any] = {}
    for name, array in {"user_factors": users, "job_factors": jobs}.items():
        np.save(tmp_path / f"{name}.npy", array)
        stored[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    excluded = [np.array([person, person + 1]) for person in range(6)]
    eligible = np.arange(40) % 3 > 0

    def answers(model: FactorRecommender) -> list[Rows]:
        lists = model.recommend(np.arange(6), 8, eligible, excluded)
        return [rows_of(ranked) for ranked in [*lists, model.similar(2, 8, eligible)]]

    assert answers(FactorRecommender(users, jobs)) == answers(FactorRecommender.from_arrays(stored))
    assert np.array_equal(np.load(tmp_path / "user_factors.npy"), users)
    assert np.array_equal(np.load(tmp_path / "job_factors.npy"), jobs)


def test_arrays_make_the_same_recommender_again() -> None:
    users, jobs = np.ones((2, 3), np.float32), np.eye(3, dtype=np.float32)
    again = FactorRecommender.from_arrays(FactorRecommender(users, jobs).arrays())
    assert {name: array.tolist() for name, array in again.arrays().items()} == {
        "user_factors": users.tolist(),
        "job_factors": jobs.tolist(),
    }


@KERNELS
@pytest.mark.parametrize("position", [-1, 3])
def test_a_position_outside_the_model_is_an_error_and_never_somebody_else(
    made: Made, position: int
) -> None:
    matrix = np.eye(3, dtype=np.float32)
    model = made(FactorRecommender(matrix, matrix))
    with pytest.raises(IndexError, match=str(position)):
        model.recommend(np.array([0, position]), 2, every_job(matrix), nobody_excluded(2))
    with pytest.raises(IndexError, match=str(position)):
        model.similar(position, 2, every_job(matrix))


@KERNELS
def test_exclusions_must_be_given_for_everybody(made: Made) -> None:
    matrix = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="2 exclusions are given for 3"):
        made(FactorRecommender(matrix, matrix)).recommend(
            np.arange(3), 2, every_job(matrix), nobody_excluded(2)
        )


GOOD = np.ones((2, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("users", "jobs", "message"),
    [
        (GOOD.astype(np.float64), GOOD, r"user_factors is float64 of shape \(2, 3\)"),
        (GOOD, GOOD[0], r"job_factors is float32 of shape \(3,\)"),
        (GOOD, GOOD.astype(np.int32), r"job_factors is int32"),
        (GOOD, GOOD[:, :2], "users have 3 factors, jobs 2"),
    ],
)
def test_factors_that_do_not_fit_together_are_refused(
    users: NDArray[Any], jobs: NDArray[Any], message: str
) -> None:
    with pytest.raises(SnapshotCorrupt, match=message):
        FactorRecommender(users, jobs)


@pytest.mark.parametrize("missing", ["user_factors", "job_factors"])
def test_a_missing_array_is_refused_by_name(missing: str) -> None:
    stored = {"user_factors": GOOD, "job_factors": GOOD}
    del stored[missing]
    with pytest.raises(SnapshotCorrupt, match=missing):
        FactorRecommender.from_arrays(stored)


class TestFoldIn:
    """Histories become factors by the trainer's own half-step."""

    @staticmethod
    def model(alpha: float = 2.0, regularization: float = 0.05) -> tuple[Any, FactorRecommender]:
        random = np.random.default_rng(5)
        # Else it warns where BLAS may use several threads
        with threadpool_limits(1, "blas"):
            library = AlternatingLeastSquares(
                factors=6, alpha=alpha, regularization=regularization, num_threads=1
            )
        library.user_factors = random.standard_normal((3, 6), np.float32)
        library.item_factors = random.standard_normal((40, 6), np.float32)
        jobs = np.array(library.item_factors)
        jobs.flags.writeable = False
        return library, FactorRecommender(
            library.user_factors, jobs, HalfStep(alpha, regularization)
        )

    @staticmethod
    def histories(count: int = 5) -> list[History]:
        random = np.random.default_rng(6)
        return [
            History(
                np.sort(random.choice(40, size, replace=False)),
                random.uniform(0.2, 20, size).astype(np.float32),
                np.ones(size, np.uint8),
            )
            for size in range(1, count + 1)
        ]

    @pytest.mark.parametrize("alpha", [1.0, 2.0, 40.0])
    def test_scores_are_those_of_the_library_for_a_recalculated_person(self, alpha: float) -> None:
        library, recommender = self.model(alpha)
        everything, nothing = np.ones(40, np.bool_), np.empty(0, np.int64)
        for history in self.histories():
            row = csr_matrix((history.scores, ([0] * len(history), history.jobs)), shape=(1, 40))
            expected = library.item_factors @ library.recalculate_user(0, row)

            (ranked,) = recommender.fold_in([history], 40, everything, [nothing])

            assert ranked.scores == pytest.approx(expected[ranked.jobs], rel=1e-4, abs=1e-4)

    def test_a_batch_gives_each_history_the_list_that_it_gets_alone(self) -> None:
        _, recommender = self.model()
        everything, nothing = np.ones(40, np.bool_), np.empty(0, np.int64)
        histories = self.histories(9)

        together = recommender.fold_in(histories, 10, everything, [nothing] * 9)

        for history, ranked in zip(histories, together, strict=True):
            (alone,) = recommender.fold_in([history], 10, everything, [nothing])
            assert alone.jobs.tolist() == ranked.jobs.tolist()
            assert alone.scores.tolist() == ranked.scores.tolist()

    def test_contributions_add_up_to_the_scores(self) -> None:
        _, recommender = self.model()
        for history in self.histories():
            (ranked,) = recommender.fold_in(
                [history], 40, np.ones(40, np.bool_), [np.empty(0, np.int64)]
            )

            found = recommender.contributions(history, ranked.jobs)

            assert found.shape == (40, len(history))
            assert found.sum(axis=1) == pytest.approx(ranked.scores, rel=1e-5, abs=1e-5)

    def test_a_history_of_nothing_gets_nothing(self) -> None:
        _, recommender = self.model()
        empty = History(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.uint8))

        (ranked,) = recommender.fold_in([empty], 5, np.ones(40, np.bool_), [np.empty(0, np.int64)])

        assert len(ranked) == 0

    @pytest.mark.parametrize("position", [-1, 40])
    def test_a_job_beyond_the_catalogue_is_refused(self, position: int) -> None:
        _, recommender = self.model()
        beyond = History(np.array([position]), np.ones(1, np.float32), np.ones(1, np.uint8))

        with pytest.raises(IndexError, match="positions reach"):
            recommender.fold_in([beyond], 5, np.ones(40, np.bool_), [np.empty(0, np.int64)])

    def test_further_jobs_leave_what_the_learned_ones_weigh(self) -> None:
        _, recommender = self.model()
        (history, *_) = self.histories(1)
        more = recommender.with_jobs(np.ones((3, 6), np.float32))

        before = recommender.contributions(history, np.arange(40))

        assert more.contributions(history, np.arange(40)) == pytest.approx(before)
