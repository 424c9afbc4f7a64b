"""What jobrec is measured against answers rightly, or its figures would say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi import HTTPException
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from bench.reference import (
    AskedByJob,
    AskedByUser,
    AskedByUsers,
    Knowledge,
    Resembling,
    ScoredJob,
)

PEOPLE, JOBS, BARRED = 5, 30, [3, 4, 5]


@pytest.fixture
def knowledge() -> Knowledge:
    chance = np.random.default_rng(7)
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=4, num_threads=1)
    model.user_factors = chance.standard_normal((PEOPLE, 4), dtype=np.float32)
    model.item_factors = chance.standard_normal((JOBS, 4), dtype=np.float32)
    return Knowledge(
        model=model,
        applied=csr_matrix((chance.random((PEOPLE, JOBS)) < 0.2).astype(np.float32)),
        barred=np.array(BARRED, dtype=np.int32),
        users={100 + row: row for row in range(PEOPLE)},
        jobs={200 + column: column for column in range(JOBS)},
        job_ids=np.arange(200, 200 + JOBS),
    )


def best(knowledge: Knowledge, row: int, k: int) -> list[int]:
    scores = knowledge.model.item_factors @ knowledge.model.user_factors[row]
    scores[BARRED] = -np.inf
    scores[knowledge.applied[row].indices] = -np.inf
    order = np.argsort(-scores)
    return [int(200 + column) for column in order[:k] if np.isfinite(scores[column])]


def ids(items: list[ScoredJob]) -> list[int]:
    return [item.job_id for item in items]


@pytest.mark.parametrize("k", [1, 10, 100])
def test_a_list_is_the_best_by_inner_product_without_what_is_left_out(
    knowledge: Knowledge, k: int
) -> None:
    for row in range(PEOPLE):
        answer = knowledge.recommend(AskedByUser(user_id=100 + row, k=k))
        assert ids(answer.items) == best(knowledge, row, k)


def test_many_people_get_what_each_would(knowledge: Knowledge) -> None:
    asked = [104, 100, 104]
    answers = knowledge.recommend_bulk(AskedByUsers(user_ids=asked, k=10))
    assert [answer.user_id for answer in answers] == asked
    for answer in answers:
        assert ids(answer.items) == ids(
            knowledge.recommend(AskedByUser(user_id=answer.user_id)).items
        )


def test_a_job_resembles_others_only(knowledge: Knowledge) -> None:
    answer: Resembling = knowledge.similar(AskedByJob(job_id=210, k=5))
    assert len(answer.items) == 5
    assert 210 not in ids(answer.items)
    assert not {200 + column for column in BARRED} & set(ids(answer.items))


def test_nobody_unknown_is_answered(knowledge: Knowledge) -> None:
    with pytest.raises(HTTPException, match="unknown"):
        knowledge.recommend(AskedByUser(user_id=99))
