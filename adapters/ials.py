"""Implicit ALS with what the library implicit lacks: frequency-scaled regularisation.

Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation
Benchmarks (2021). The loss is, over the pairs S with scores s and all pairs,

    sum_S alpha s (x_u . y_i - 1)^2 + unobserved_weight sum_all (x_u . y_i)^2
    + regularization (sum_u f_u^nu |x_u|^2 + sum_i f_i^nu |y_i|^2)

with f_u = |S_u| + unobserved_weight |jobs|, likewise f_i, and nu = `frequency_exponent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from adapters.factors import FactorRecommender, HalfStep
from domain.errors import InputError, NothingToLearn, TrainingError
from domain.model import FloatArray, Interactions
from domain.ports import OnProgress, Recommender, Trainer

_BLOCK_ENTRIES = 1 << 13
"""Rows are solved in blocks of so many entries, whose vectors fit the cache."""

_CG_STEPS = 3
_INITIAL_LENGTH = 0.1


@dataclass(frozen=True)
class IalsParameters:
    """How frequency-scaled iALS learns.

    Attributes:
        factors: length of the vectors.
        regularization: weight of the vectors' squared length, above 0.
        alpha: a pair weighs alpha times its score on top of `unobserved_weight`.
        unobserved_weight: what a pair never seen weighs, above 0.
        frequency_exponent: 0 regularises all alike, 1 in proportion to what is known of each.
        iterations: passes over users and jobs.
        threads: processors to use.

    Raises:
        InputError: a value is out of bounds.
    """

    factors: int = 64
    regularization: float = 0.01
    alpha: float = 1.0
    unobserved_weight: float = 0.1
    frequency_exponent: float = 1.0
    iterations: int = 15
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("factors", 1, 4096),
            ("iterations", 1, 10_000),
            ("threads", 1, 1024),
            ("frequency_exponent", 0, 2),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} {value} is not in {low}..{high}", name)
        for name in ("regularization", "alpha", "unobserved_weight"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise InputError(f"{name} {value} is not a finite number above 0", name)


class IalsTrainer(Trainer):
    """Solves rows in blocks by conjugate gradients, from where the last pass left them."""

    def __init__(self, parameters: IalsParameters | None = None) -> None:
        self._parameters = parameters or IalsParameters()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything that shapes the factors, for the manifest; the threads do not."""
        values = asdict(self._parameters)
        del values["threads"]
        return {"name": "ials", **values}

    @property
    def steps(self) -> int:
        """One step an iteration."""
        return self._parameters.iterations

    @contextmanager
    def prepared(self) -> Iterator[Trainer]:
        """Return the same: there is nothing to make ready."""
        yield self

    def brief(self, steps: int) -> Trainer:
        """Return the same with at most so many iterations."""
        few = min(steps, self._parameters.iterations)
        return IalsTrainer(replace(self._parameters, iterations=few))

    def fit(self, interactions: Interactions, seed: int, on_progress: OnProgress) -> Recommender:
        """Learn factors; see the port.

        Raises:
            NothingToLearn: there is no interaction.
            TrainingError: the factors are not finite.
        """
        if not interactions.indices.size:
            raise NothingToLearn("no activity scores above 0, so there is nothing to learn from")
        parameters = self._parameters
        user_items = csr_matrix(
            (
                interactions.scores * np.float32(parameters.alpha),
                interactions.indices,
                interactions.indptr,
            ),
            shape=interactions.shape,
        )
        item_users = user_items.T.tocsr()
        random = np.random.default_rng(seed)
        scale = _INITIAL_LENGTH / np.sqrt(parameters.factors)
        users, jobs = (
            (random.standard_normal((count, parameters.factors)) * scale).astype(np.float32)
            for count in interactions.shape
        )
        with threadpool_limits(parameters.threads, "blas"), np.errstate(all="ignore"):
            for iteration in range(parameters.iterations):
                self._solve(user_items, users, jobs)
                self._solve(item_users, jobs, users)
                on_progress(iteration + 1, parameters.iterations)
        for side, matrix in (("users", users), ("jobs", jobs)):
            if not np.isfinite(matrix).all():
                raise TrainingError(
                    f"the factors of {side} are not finite; "
                    f"try a regularization above {parameters.regularization}"
                )
        return FactorRecommender(users, jobs, HalfStep.of(self.parameters))

    def _solve(self, matrix: csr_matrix, rows: FloatArray, columns: FloatArray) -> None:
        """Improve the rows' vectors in place, the columns' being given."""
        parameters = self._parameters
        weight = np.float32(parameters.unobserved_weight)
        gramian = weight * (columns.T @ columns)
        frequencies = np.diff(matrix.indptr) + parameters.unobserved_weight * len(columns)
        damping = parameters.regularization * frequencies**parameters.frequency_exponent
        for start, end in _blocks(matrix.indptr):
            rows[start:end] = _descended(
                matrix[start:end],
                rows[start:end],
                columns,
                gramian,
                damping[start:end, None].astype(np.float32),
            )


def _descended(
    matrix: csr_matrix,
    rows: FloatArray,
    columns: FloatArray,
    gramian: FloatArray,
    damping: FloatArray,
) -> FloatArray:
    """Take some steps of conjugate gradients for all rows of a block at once."""
    gathered = columns[matrix.indices]
    owners = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))

    def applied(vectors: FloatArray) -> FloatArray:
        weights = np.einsum("ef,ef->e", gathered, vectors[owners]) * matrix.data
        seen = csr_matrix((weights, matrix.indices, matrix.indptr), shape=matrix.shape) @ columns
        result: FloatArray = vectors @ gramian + seen + damping * vectors
        return result

    solution = rows.copy()
    residual = matrix @ columns - applied(solution)
    direction = residual.copy()
    length = np.einsum("rf,rf->r", residual, residual)
    for _ in range(_CG_STEPS):
        image = applied(direction)
        step = _ratio(length, np.einsum("rf,rf->r", direction, image))
        solution += step * direction
        residual -= step * image
        before, length = length, np.einsum("rf,rf->r", residual, residual)
        direction = residual + _ratio(length, before) * direction
    return solution


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Divide, giving 0 where a row is solved already."""
    result: FloatArray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)[:, None]
    return result


def _blocks(indptr: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Cut rows into stretches of about `_BLOCK_ENTRIES` entries."""
    start, rows = 0, len(indptr) - 1
    while start < rows:
        reach = np.searchsorted(indptr, indptr[start] + _BLOCK_ENTRIES, side="right") - 1
        end = min(rows, max(start + 1, int(reach)))
        yield start, end
        start = end
