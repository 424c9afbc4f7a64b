"""Tastes known from elsewhere: what suits whom, where a dataset was made with it planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domain.errors import InputError
from domain.metrics import MetricArray
from domain.model import BoolArray, IdArray, IdIndex


@dataclass(frozen=True)
class Taste:
    """Some people, and the jobs that suit each of them.

    Attributes:
        name: as the dataset calls it.
        user_ids: shape (people,), strictly ascending.
        job_ids: shape (jobs,), strictly ascending.
    """

    name: str
    user_ids: IdArray
    job_ids: IdArray


def found(
    tastes: Sequence[Taste], user_ids: IdArray, lists: IdArray, ks: Sequence[int]
) -> dict[str, MetricArray]:
    """Return which share of each person's list suits one of their tastes.

    `taste@k` = suitable jobs among the first k, over k.

    Args:
        user_ids: shape (n,), the people whose lists these are.
        lists: shape (n, K), job ids, -1 where a list is short.
        ks: lengths, each from 1 to K.

    Returns:
        by metric@k, shape (n,).

    Raises:
        InputError: some of the people have no taste.
    """
    without = np.ones(len(user_ids), dtype=np.bool_)
    suits = np.zeros(lists.shape, dtype=np.bool_)
    for taste in tastes:
        has = _held(taste.user_ids, user_ids)
        without &= ~has
        suits[has] |= _held(taste.job_ids, lists[has].ravel()).reshape(lists[has].shape)
    if without.any():
        raise InputError(
            f"{without.sum():,} of the {len(user_ids):,} people measured have no taste in it",
            "truth",
        )
    counts = np.cumsum(suits, axis=1)
    return {f"taste@{k}": counts[:, k - 1] / k for k in ks}


def _held(held: IdArray, ids: IdArray) -> BoolArray:
    return IdIndex(held).positions(ids) >= 0
