from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.als import AlsParameters, AlsTrainer
from adapters.factors import FactorRecommender
from adapters.neighbours import Neighbours
from adapters.snapshots import DirectorySnapshotStore
from bench.pairs import planted
from domain.errors import SnapshotCorrupt
from domain.model import BoolArray, IndexArray, Interactions
from domain.ports import Arrays, nobody
from domain.ranking import Ranked
from domain.trend import Trend
from tests.contracts import manifest
from tests.kernels import NEEDS_ANN, small_indices

pytestmark = NEEDS_ANN

PEOPLE, JOBS, FACTORS = 800, 6_000, 8
ASKED = 100
NOTHING = np.empty(0, dtype=np.int64)


@pytest.fixture(autouse=True, scope="module")
def small_catalogues_have_an_index() -> Iterator[None]:
    with small_indices(spare=8):
        yield


@pytest.fixture(scope="module")
def known() -> Interactions:
    return planted(PEOPLE, JOBS, pairs=60_000, seed=1)


@pytest.fixture(scope="module")
def model(known: Interactions) -> FactorRecommender:
    trainer = AlsTrainer(AlsParameters(FACTORS, 0.3, 4.0, iterations=3))
    return trainer.fit(known, 1, nobody).lifted(Trend(65.0).lift(known))


@pytest.fixture(scope="module")
def stored(model: FactorRecommender) -> Arrays:
    from adapters.approximate import build

    index, _ = build(model, seed=1)
    return {**model.arrays(), **index.arrays()}


@pytest.fixture
def found(model: FactorRecommender, stored: Arrays) -> FactorRecommender:
    """The same model with the index that lies beside it."""
    from adapters.approximate import JobIndex

    return model.indexed(JobIndex.from_arrays(stored))


def lists_of(
    model: FactorRecommender,
    k: int,
    eligible: BoolArray | None = None,
    excluded: list[IndexArray] | None = None,
) -> list[Ranked]:
    everything = np.ones(len(model.job_vectors), dtype=np.bool_)
    return model.recommend(
        np.arange(ASKED),
        k,
        everything if eligible is None else eligible,
        [NOTHING] * ASKED if excluded is None else excluded,
    )


def rows(ranked: Ranked) -> list[tuple[int, float]]:
    return list(zip(ranked.jobs.tolist(), ranked.scores.tolist(), strict=True))


@pytest.mark.parametrize(("k", "share"), [(1, 1.0), (10, 1.0), (100, 1.0), (10, 0.5), (10, 0.1)])
def test_laws_of_lists_and_their_recall(
    model: FactorRecommender, found: FactorRecommender, k: int, share: float
) -> None:
    random = np.random.default_rng(k)
    eligible = random.random(JOBS) < share
    best = lists_of(model, k, eligible)
    # What is excluded is among the best, where it matters
    excluded = [random.choice(own.jobs, min(5, len(own)), replace=False) for own in best]

    exact, lists = lists_of(model, k, eligible, excluded), lists_of(found, k, eligible, excluded)

    recalls = []
    for own, theirs, hidden in zip(lists, exact, excluded, strict=True):
        assert len(own) == len(theirs) == k
        assert len(set(own.jobs.tolist())) == k
        assert eligible[own.jobs].all()
        assert not np.isin(own.jobs, hidden).any()
        assert (np.diff(own.scores) <= 0).all()
        scores = dict(rows(theirs))
        assert all(scores.get(job, score) == score for job, score in rows(own))
        recalls.append(np.mean(own.scores >= theirs.scores[-1]))
    assert np.mean(recalls) >= 0.98


def test_a_list_does_not_depend_on_those_made_beside_it(found: FactorRecommender) -> None:
    everything = np.ones(JOBS, dtype=np.bool_)
    excluded = [np.array([person, person + 8]) for person in range(ASKED)]
    together = lists_of(found, 10, everything, excluded)
    for person in range(ASKED):
        one = slice(person, person + 1)
        (alone,) = found.recommend(np.arange(ASKED)[one], 10, everything, excluded[one])
        assert rows(alone) == rows(together[person])


def test_not_all_jobs_are_read(found: FactorRecommender, model: FactorRecommender) -> None:
    # Else the tests above tell nothing
    index = found.index
    assert index is not None
    finder = index.among(np.ones(JOBS, dtype=np.bool_), 100)
    assert finder is not None
    assert len(finder.best(model.arrays()["user_factors"][0], NOTHING)) == 108


def test_similar_jobs_are_found_and_score_as_in_exact_lists(
    model: FactorRecommender, found: FactorRecommender
) -> None:
    eligible = np.arange(JOBS) % 3 > 0
    recalls = []
    for job in range(0, JOBS, 20):
        own, theirs = (each.similar(job, 20, eligible) for each in (found, model))
        assert len(own) == 20
        assert eligible[own.jobs].all()
        assert job not in own.jobs
        assert (np.diff(own.scores) <= 0).all()
        scores = dict(rows(theirs))
        assert all(scores.get(job, score) == score for job, score in rows(own))
        recalls.append(np.mean(own.scores >= theirs.scores[-1]))
    assert np.mean(recalls) >= 0.98


@pytest.mark.parametrize("k", [101, JOBS])
def test_longer_lists_than_were_measured_are_exact(
    model: FactorRecommender, found: FactorRecommender, k: int
) -> None:
    assert list(map(rows, lists_of(found, k))) == list(map(rows, lists_of(model, k)))


@pytest.mark.parametrize("left", [0, 3, 10, 11])
def test_where_few_jobs_are_left_none_of_them_is_missing(
    model: FactorRecommender, found: FactorRecommender, left: int
) -> None:
    eligible = np.zeros(JOBS, dtype=np.bool_)
    eligible[np.random.default_rng(left).choice(JOBS, left, replace=False)] = True
    assert list(map(rows, lists_of(found, 10, eligible))) == list(
        map(rows, lists_of(model, 10, eligible))
    )
    assert rows(found.similar(0, 10, eligible)) == rows(model.similar(0, 10, eligible))


def test_where_what_is_excluded_leaves_few_none_of_them_is_missing(
    model: FactorRecommender, found: FactorRecommender
) -> None:
    everything = np.ones(JOBS, dtype=np.bool_)
    random = np.random.default_rng(2)
    excluded = [random.choice(JOBS, JOBS - 12, replace=False) for _ in range(ASKED)]
    assert list(map(rows, lists_of(found, 10, everything, excluded))) == list(
        map(rows, lists_of(model, 10, everything, excluded))
    )


def test_jobs_that_came_later_are_ranked_and_resemble_others(found: FactorRecommender) -> None:
    people = found.arrays()["user_factors"]
    # Nothing suits people better than what points their way alone
    apart = people[:7] * 50 / np.linalg.norm(people[:7], axis=1)[:, None]
    more = found.with_jobs(apart.astype(np.float32))
    eligible = np.ones(JOBS + 7, dtype=np.bool_)
    lists = more.recommend(np.arange(7), 3, eligible, [NOTHING] * 7)
    assert [ranked.jobs[0] for ranked in lists] == list(range(JOBS, JOBS + 7))
    assert (more.similar(JOBS + 2, 5, eligible).jobs != JOBS + 2).all()

    eligible[JOBS:] = False
    lists = more.recommend(np.arange(7), 3, eligible, [np.array([JOBS + 1])] * 7)
    assert max(ranked.jobs.max() for ranked in lists) < JOBS


def test_what_neighbours_add_to_is_found_wherever_it_lies(
    known: Interactions, model: FactorRecommender, found: FactorRecommender
) -> None:
    exact = model.beside(Neighbours(20.0, 50).learn(known))
    assert found.index is not None
    blended = exact.indexed(found.index)
    excluded = [known.history(person).jobs for person in range(ASKED)]

    lists, wanted = lists_of(blended, 3, None, excluded), lists_of(exact, 3, None, excluded)

    assert list(map(rows, lists)) == list(map(rows, wanted))


def test_somebody_whose_factors_are_zero_gets_no_jobs(
    model: FactorRecommender, found: FactorRecommender
) -> None:
    assert found.index is not None
    stranger = FactorRecommender(np.zeros((1, FACTORS), np.float32), model.job_vectors)
    everything = np.ones(JOBS, dtype=np.bool_)
    (ranked,) = stranger.indexed(found.index).recommend(np.array([0]), 5, everything, [NOTHING])
    assert len(ranked) == 0


def test_an_index_lies_in_a_snapshot_and_stays_there(
    model: FactorRecommender, stored: Arrays, found: FactorRecommender, tmp_path: Path
) -> None:
    from adapters.approximate import JobIndex

    store = DirectorySnapshotStore(tmp_path)
    store.write(manifest("a"), stored)

    opened = store.open("a").arrays
    index = JobIndex.from_arrays(opened)

    for name, cells in (("best", index.best), ("alike", index.alike)):
        bytes_ = opened[f"index_{name}"]
        begin = bytes_.ctypes.data
        # The vectors of a cell are those of the file, not a copy
        assert begin <= int(cells.file.invlists.get_codes(0)) < begin + bytes_.nbytes
    again = model.indexed(index)
    assert list(map(rows, lists_of(again, 10))) == list(map(rows, lists_of(found, 10)))


def test_the_same_seed_makes_the_same_bytes(model: FactorRecommender, stored: Arrays) -> None:
    from adapters.approximate import build

    again, measured = build(model, seed=1)
    for name, array in again.arrays().items():
        assert np.array_equal(array, stored[name])
    assert all(measured[f"index_{of}recall@10"] >= 0.98 for of in ("", "similar_"))
    assert measured["index_seconds"] > 0


@pytest.mark.parametrize("name", ["index_best", "index_alike", "index_probes"])
def test_what_cannot_be_read_is_refused(stored: Arrays, name: str) -> None:
    from adapters.approximate import JobIndex

    with pytest.raises(SnapshotCorrupt, match="no index of jobs that can be read"):
        JobIndex.from_arrays({**stored, name: np.zeros(400, dtype=np.uint8)})
    with pytest.raises(SnapshotCorrupt, match=name):
        JobIndex.from_arrays({key: array for key, array in stored.items() if key != name})


def test_an_index_of_other_jobs_is_refused(stored: Arrays) -> None:
    from adapters.approximate import JobIndex

    with pytest.raises(SnapshotCorrupt, match="its index is of shapes"):
        JobIndex.from_arrays({**stored, "job_factors": stored["job_factors"][:-1]})


def test_an_index_that_misses_too_much_is_measured_and_not_kept(
    model: FactorRecommender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from adapters import approximate

    monkeypatch.setattr(approximate, "_enough", lambda cells, _: replace(cells, probes=1))
    with caplog.at_level(logging.WARNING):
        arrays, measured = approximate.index_of(model, seed=1, threads=1)
    assert arrays == {}
    assert measured["index_recall@100"] < 0.98
    assert "exact lists are served: of the index index_recall@10 is 0." in caplog.text


def test_an_index_of_few_or_lengthless_jobs_can_be_made() -> None:
    from adapters.approximate import index_of

    for jobs in (np.zeros((3, 2)), np.eye(2), np.ones((1, 2))):
        model = FactorRecommender(np.ones((1, 2), np.float32), jobs.astype(np.float32))
        arrays, measured = index_of(model, seed=1, threads=1)
        assert set(arrays) == {"index_best", "index_alike", "index_probes"}
        assert measured["index_recall@10"] == 1
