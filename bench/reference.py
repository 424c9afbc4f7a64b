"""The service that jobrec replaces, as such services are written: FastAPI over implicit.

Three POST routes over a snapshot of jobrec's: `/recommend`, `/recommend/bulk` and `/similar`. They
answer ids and scores alone, know no catalogue, no tokens and no limits, and leave out what jobrec
leaves out: jobs that are closed or unlisted, and jobs to which the person applied.
`python -m bench.reference` serves it; see `serve`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import BaseModel, Field
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

A = TypeVar("A", bound=BaseModel)
B = TypeVar("B")

_LOWEST = float(np.finfo(np.float32).min) / 2
"""implicit lists what it had to leave out at the lowest score there is."""

_DATA, _STATE, _IN_THREADS = "BENCH_DATA", "BENCH_STATE", "BENCH_IN_THREADS"


class AskedByUser(BaseModel):
    """For whom, and how many."""

    user_id: int
    k: int = Field(default=10, ge=1, le=100)


class AskedByUsers(BaseModel):
    """For whom, and how many for each."""

    user_ids: list[int] = Field(max_length=1_000)
    k: int = Field(default=10, ge=1, le=100)


class AskedByJob(BaseModel):
    """Like which job, and how many."""

    job_id: int
    k: int = Field(default=10, ge=1, le=100)


class ScoredJob(BaseModel):
    """A job in a list."""

    job_id: int
    score: float


class Recommended(BaseModel):
    """A list for somebody."""

    user_id: int
    items: list[ScoredJob]


class Resembling(BaseModel):
    """What resembles a job."""

    job_id: int
    items: list[ScoredJob]


@dataclass(frozen=True)
class Knowledge:
    """What is loaded at the start.

    Attributes:
        model: holds the factors of people and jobs.
        applied: shape (people, jobs), what each person applied to.
        barred: positions of jobs that nobody is shown; None where there are none.
        users: the position of each person.
        jobs: the position of each job.
        job_ids: shape (jobs,).
    """

    model: AlternatingLeastSquares
    applied: csr_matrix
    barred: NDArray[np.int32] | None
    users: dict[int, int]
    jobs: dict[int, int]
    job_ids: NDArray[np.int64]

    @classmethod
    def load(cls, data: Path, state: Path) -> Knowledge:
        """Read the live snapshot, and ask the catalogue once which jobs are open."""
        from adapters.snapshots import DirectorySnapshotStore
        from domain.model import ActivityKind
        from graphql_api.container import Container
        from graphql_api.settings import Settings

        store = DirectorySnapshotStore(state / "models")
        version = store.live()
        if version is None:
            raise SystemExit(f"{state} holds no live model")
        arrays = store.open(version).arrays
        model = AlternatingLeastSquares(factors=arrays["job_factors"].shape[1], num_threads=1)
        model.user_factors = np.array(arrays["user_factors"])
        model.item_factors = np.array(arrays["job_factors"])
        has_applied = (arrays["kinds"] & ActivityKind.APPLY.flag) != 0
        applied = csr_matrix(
            (has_applied.astype(np.float32), arrays["indices"], arrays["indptr"]),
            shape=(len(model.user_factors), len(model.item_factors)),
            copy=True,
        )
        applied.eliminate_zeros()
        settings = Settings(data=data, state=state)  # type: ignore[call-arg] # pydantic fills in the rest
        catalog = Container(settings=settings).catalog()
        ids = np.array(arrays["job_ids"])
        standing = catalog.standing(ids, datetime.now(UTC), None)
        barred = np.flatnonzero(~(standing.listed & standing.open)).astype(np.int32)
        return cls(
            model=model,
            applied=applied,
            barred=barred if len(barred) else None,
            users={user_id: row for row, user_id in enumerate(arrays["user_ids"].tolist())},
            jobs={job_id: column for column, job_id in enumerate(ids.tolist())},
            job_ids=ids,
        )

    def recommend(self, asked: AskedByUser) -> Recommended:
        """Return a list for one person."""
        row = _known(self.users, asked.user_id, "user")
        ids, scores = self.model.recommend(
            row,
            self.applied[row],
            N=min(asked.k, len(self.job_ids)),
            filter_already_liked_items=True,
            filter_items=self.barred,
        )
        return Recommended(user_id=asked.user_id, items=self._items(ids, scores))

    def recommend_bulk(self, asked: AskedByUsers) -> list[Recommended]:
        """Return a list for each person."""
        rows = [_known(self.users, user_id, "user") for user_id in asked.user_ids]
        ids, scores = self.model.recommend(
            rows,
            self.applied[rows],
            N=min(asked.k, len(self.job_ids)),
            filter_already_liked_items=True,
            filter_items=self.barred,
        )
        return [
            Recommended(user_id=user_id, items=self._items(ids[row], scores[row]))
            for row, user_id in enumerate(asked.user_ids)
        ]

    def similar(self, asked: AskedByJob) -> Resembling:
        """Return what resembles a job; implicit lists the job itself first."""
        column = _known(self.jobs, asked.job_id, "job")
        most = min(asked.k + 1, len(self.job_ids))
        ids, scores = self.model.similar_items(column, N=most, filter_items=self.barred)
        others = ids != column
        items = self._items(ids[others][: asked.k], scores[others][: asked.k])
        return Resembling(job_id=asked.job_id, items=items)

    def _items(self, ids: NDArray[np.int32], scores: NDArray[np.float32]) -> list[ScoredJob]:
        pairs = zip(self.job_ids[ids].tolist(), scores.tolist(), strict=True)
        return [ScoredJob(job_id=job_id, score=score) for job_id, score in pairs if score > _LOWEST]


def create_app() -> FastAPI:
    """Return the service, by the variables that `serve` sets."""
    threadpool_limits(1, "blas")
    knowledge = Knowledge.load(Path(os.environ[_DATA]), Path(os.environ[_STATE]))
    # What this release of FastAPI measures by itself costs time, and the replaced service had none
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    at_once: Callable[..., Any] = _as_is if _IN_THREADS in os.environ else _on_the_loop
    app.post("/recommend")(at_once(knowledge.recommend))
    app.post("/recommend/bulk")(at_once(knowledge.recommend_bulk))
    app.post("/similar")(at_once(knowledge.similar))
    return app


def serve(data: str, state: str, port: str, workers: str, in_threads: str = "") -> None:
    """Serve until the process is ended, with the options that jobrec gives its server.

    Args:
        in_threads: anything for plain `def` routes, which run in a thread pool; else `async def`.
    """
    import uvicorn

    os.environ.update({_DATA: data, _STATE: state, **({_IN_THREADS: "1"} if in_threads else {})})
    uvicorn.run(
        "bench.reference:create_app",
        factory=True,
        port=int(port),
        workers=int(workers),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


def _known(positions: dict[int, int], id_: int, kind: str) -> int:
    position = positions.get(id_)
    if position is None:
        raise HTTPException(404, f"{kind} {id_} is unknown")
    return position


def _as_is(function: Callable[[A], B]) -> Callable[[A], B]:
    return function


def _on_the_loop(function: Callable[[A], B]) -> Callable[[A], Any]:
    """Return the route as `async def`."""

    @wraps(function)
    async def route(asked: A) -> B:
        return function(asked)

    return route


if __name__ == "__main__":
    serve(*sys.argv[1:])
