"""Jobs that came after the training: placed by their texts beside those that a model knows."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np

from domain.errors import CatalogUnavailable
from domain.model import (
    FloatArray,
    IdArray,
    IdIndex,
    IndexArray,
    Interactions,
    Job,
    RecommendationSource,
)
from domain.ports import (
    Catalog,
    ContentModel,
    ContentTrainer,
    JobCursor,
    OnProgress,
    Recommender,
    TextReading,
)

MAX_NEW = 20_000
"""So many new jobs join a model, the newest; with as many it should be trained anew."""

_REMEMBERED_MODELS = 2
"""The live model, and one that it is compared with."""

_log = logging.getLogger(__name__)


class ContentLearning:
    """Learns, beside a model, what the texts of its jobs tell."""

    def __init__(self, catalog: Catalog, trainer: ContentTrainer) -> None:
        self._catalog = catalog
        self._trainer = trainer

    @property
    def steps(self) -> int:
        """How many steps learning takes."""
        return self._trainer.steps

    def begin(self, interactions: Interactions, seed: int) -> TextReading:
        """Begin to read the texts of the jobs that a model is going to know."""
        ids = interactions.jobs.ids.tolist()
        listed = self._catalog.jobs(ids)
        return self._trainer.begin([listed.get(id_) or Job(id_) for id_ in ids], seed)

    def learn(
        self,
        reading: TextReading,
        interactions: Interactions,
        recommender: Recommender,
        on_progress: OnProgress,
    ) -> ContentModel | None:
        """Learn; None where the model has no vectors of jobs, or the texts tell nothing.

        Args:
            reading: of the texts of the jobs in `interactions`.
            recommender: learned from `interactions`.
        """
        vectors = recommender.job_vectors
        if vectors is None:
            _log.info("the model has no vectors of jobs, so new jobs wait for the next training")
            return None
        jobs = interactions.shape[1]
        people = np.bincount(interactions.indices, minlength=jobs).astype(np.float32)
        return reading.fit(vectors, people, on_progress)


@dataclass(frozen=True)
class JobPool:
    """The jobs that a model can rank: those that it learned, and behind them new ones.

    Attributes:
        revision: of the catalogue.
        ids: shape (jobs,); by position. Both parts ascend.
        known: how many of them the model learned.
        recommender: ranks all of them.
        newest: shape (new jobs,), their positions, newest first.
        is_partial: whether it is what was last known, since the catalogue does not answer.
    """

    revision: int
    ids: IdArray
    known: int
    recommender: Recommender
    newest: IndexArray
    is_partial: bool = False

    @property
    def new_ids(self) -> IdArray:
        """The ids of the new jobs, ascending."""
        return self.ids[self.known :]

    @cached_property
    def _parts(self) -> tuple[IdIndex, IdIndex]:
        return IdIndex(self.ids[: self.known]), IdIndex(self.new_ids)

    def position(self, job_id: int) -> int | None:
        """Return a job's position, None where it is not in the pool."""
        found = int(self.positions(np.array([job_id], dtype=np.int64))[0])
        return None if found < 0 else found

    def positions(self, job_ids: IdArray) -> IndexArray:
        """Return the positions of jobs, -1 where one is not in the pool."""
        learned, others = self._parts
        positions = learned.positions(job_ids)
        if len(others):
            new = others.positions(job_ids)
            positions[new >= 0] = self.known + new[new >= 0]
        return positions

    def source(self, position: int, otherwise: RecommendationSource) -> RecommendationSource:
        """Return why a job stands in a list."""
        return RecommendationSource.NEW if position >= self.known else otherwise


class JobPools:
    """Keeps the pools of models up to date with the catalogue.

    Only texts that changed are placed, and only they are read where the catalogue knows which.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, tuple[JobPool, dict[int, tuple[Job, FloatArray]]]] = (
            OrderedDict()
        )

    def of(
        self,
        version: str,
        interactions: Interactions,
        recommender: Recommender,
        content: ContentModel | None,
        at: datetime,
    ) -> JobPool:
        """Return the pool of a model.

        A new job whose text tells nothing is not in it, nor is a closed one.

        Where the catalogue does not answer, the pool is as it was last known.

        Args:
            version: names the model.
            content: learned beside it; None leaves new jobs out.
        """
        known = interactions.jobs.ids

        def alone(revision: int = 0) -> JobPool:
            return JobPool(revision, known, len(known), recommender, known[:0])

        with self._lock:
            pool, placed = self._remembered.get(version, (None, {}))
            try:
                revision = self._catalog.revision
                if pool is None or pool.revision != revision:
                    found = {}
                    if content is not None:
                        found = self._placed(known, content, pool, placed, at)
                    if pool is not None and found is placed:
                        pool = replace(pool, revision=revision)
                    else:
                        placed = found
                        pool = _joined(alone(revision), placed)
            except CatalogUnavailable:
                return replace(pool or alone(), is_partial=True)
            self._remembered[version] = pool, placed
            self._remembered.move_to_end(version)
            if len(self._remembered) > _REMEMBERED_MODELS:
                self._remembered.popitem(last=False)
        return pool

    def remembered(self, version: str) -> JobPool | None:
        """Return the pool of a model as it was last known, None where there is none."""
        # Without the lock, which is held while texts are placed
        pool, _ = self._remembered.get(version, (None, {}))
        return pool

    def _placed(
        self,
        known: IdArray,
        content: ContentModel,
        pool: JobPool | None,
        before: dict[int, tuple[Job, FloatArray]],
        at: datetime,
    ) -> dict[int, tuple[Job, FloatArray]]:
        """Return the new jobs by id with their vectors; the same as before where nothing changed.

        Args:
            pool: what `before` was found for; None where nothing was.
        """
        changed = None if pool is None else self._catalog.changed_since(pool.revision)
        ids = self._catalog.absent(known, at, MAX_NEW)
        if len(ids) == MAX_NEW:
            _log.warning("only the newest %d of the new jobs are recommended", MAX_NEW)
        kept = set() if changed is None else (set(ids.tolist()) & before.keys()) - changed
        jobs = self._catalog.jobs([id_ for id_ in ids.tolist() if id_ not in kept])
        unread = [job for id_, job in jobs.items() if id_ not in before or before[id_][0] != job]
        if not unread and before.keys() == {*kept, *jobs}:
            return before
        fresh = {
            job.id: (job, vector)
            for job, vector in zip(unread, content.vectors(unread), strict=True)
        }
        return {id_: fresh.get(id_) or before[id_] for id_ in sorted({*kept, *jobs})}


def _joined(alone: JobPool, placed: dict[int, tuple[Job, FloatArray]]) -> JobPool:
    """Return the pool of a model and of the new jobs that have a place."""
    new = [(job, vector) for job, vector in placed.values() if vector.any()]
    if not new:
        return alone
    ids = np.array([job.id for job, _ in new], dtype=np.int64)
    posted = np.array([JobCursor.of(job).posted_at for job, _ in new])
    return replace(
        alone,
        ids=np.concatenate([alone.ids, ids]),
        recommender=alone.recommender.with_jobs(np.stack([vector for _, vector in new])),
        newest=alone.known + np.lexsort((ids, -posted)),
    )
