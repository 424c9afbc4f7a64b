"""The kernels that the same tests run on: exact, and with an index of jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import pytest

from adapters.factors import FactorRecommender

Made = Callable[[FactorRecommender], FactorRecommender]

# In CI it is missed by failing
NEEDS_ANN = pytest.mark.skipif(
    find_spec("faiss") is None and "CI" not in os.environ, reason='pip install "jobrec[ann]"'
)


def exact(model: FactorRecommender) -> FactorRecommender:
    """Return a model as it is."""
    return model


def indexed(model: FactorRecommender) -> FactorRecommender:
    """Return a model with an index of which all is read, so that it misses nothing."""
    import faiss

    from adapters.approximate import JobIndex

    if not len(model.job_vectors):
        return model
    faiss.omp_set_num_threads(1)  # threads would wait for one another longer than they work
    index = JobIndex.of(model, seed=1)
    every = (replace(cells, probes=cells.file.nlist) for cells in (index.best, index.alike))
    return model.indexed(JobIndex(*every))


KERNELS = pytest.mark.parametrize("made", [exact, pytest.param(indexed, marks=NEEDS_ANN)])


@contextmanager
def small_indices(spare: int = 1_500) -> Iterator[None]:
    """Let an index serve small catalogues, too, and look up so many jobs more than asked for.

    With many spare ones equal scores at the end of a list are ordered as in exact lists.
    """
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("faiss") is not None:
            from adapters import approximate

            patch.setattr(approximate, "SPARE", spare)
        yield
