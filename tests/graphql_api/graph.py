"""The graph in this process, over fakes: what is asked of a catalogue can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from adapters.factors import FactorRecommender
from application.cataloguing import Cataloguing
from application.recommending import Models, Recommending
from domain.model import ActivityTally, Job, JobFilter, User
from domain.ports import JOB_FIELDS, JobCursor, JobPage, SnapshotStore
from domain.ranking import RankingPolicy
from domain.runs import Manifest
from domain.scoring import ScoringPolicy
from graphql_api.auth import Caller, Kind
from graphql_api.gathering import RememberedJobs
from graphql_api.outages import Outages
from graphql_api.runtime import Runtime
from graphql_api.schema import Context, Schema, Services, create_schema, micro_batches
from tests.fakes import (
    NOON,
    FakeCatalog,
    FakeRecentActivities,
    FakeSnapshotStore,
    ManualClock,
)

ADMIN = Caller(Kind.ADMIN, "admin")
SERVICE = Caller(Kind.SERVICE, "token:site")
ANONYMOUS = Caller(Kind.ANONYMOUS, "anonymous:127.0.0.1")


def person(user_id: int) -> Caller:
    return Caller(Kind.PERSON, f"person:{user_id}", str(user_id))


class CountedCatalog(FakeCatalog):
    """Tells what was read of it."""

    def __init__(self, jobs: Iterable[Job], users: Iterable[User] = ()) -> None:
        super().__init__(jobs, users)
        self.read: list[tuple[Any, ...]] = []

    def jobs(self, ids: Sequence[int], fields: frozenset[str] = JOB_FIELDS) -> Mapping[int, Job]:
        self.read.append(("jobs", sorted(ids), fields - {"id"}))
        return super().jobs(ids, fields)

    def users(self, ids: Sequence[int]) -> Mapping[int, User]:
        self.read.append(("users", sorted(ids)))
        return super().users(ids)

    def pages(
        self, wheres: Sequence[JobFilter], after: JobCursor | None, first: int
    ) -> list[JobPage]:
        self.read.append(("pages", sorted(str(where.employer) for where in wheres), first))
        return super().pages(wheres, after, first)

    def counts(self, wheres: Sequence[JobFilter]) -> list[int]:
        self.read.append(("counts", sorted(str(where.employer) for where in wheres)))
        return super().counts(wheres)


@dataclass
class Graph:
    """The graph over a catalogue."""

    catalog: FakeCatalog
    services: Services
    schema: Schema
    clock: ManualClock
    began: list[None] = field(default_factory=list)

    def post(self, query: str, caller: Caller = ADMIN, **variables: Any) -> dict[str, Any]:
        """Execute an operation and return what the answer would hold."""
        context = Context(self.services, caller)
        result = asyncio.run(
            self.schema.execute(query, variable_values=variables, context_value=context)
        )
        answer: dict[str, Any] = {"data": result.data, "extensions": result.extensions or {}}
        if result.errors:
            answer["errors"] = [error.formatted for error in result.errors]
        return answer

    def data(self, query: str, caller: Caller = ADMIN, **variables: Any) -> dict[str, Any]:
        """Execute an operation that must succeed."""
        answer = self.post(query, caller, **variables)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data


def graph_over(
    catalog: FakeCatalog, users: int = 6, jobs: int = 12, *, is_read_only: bool = False
) -> Graph:
    """Return the graph over a catalogue, with a model of people 0.. and jobs 0.. ."""
    snapshots, clock = FakeSnapshotStore(), ManualClock()
    store_model(snapshots, users, jobs)
    models = Models(snapshots, lambda _, held: FactorRecommender.from_arrays(held))
    models.refresh()
    began: list[None] = []
    runtime = Runtime([])
    outages = Outages(catalog, cast("Callable[[], object]", lambda: began.append(None)))
    recommending = Recommending(models, catalog, RankingPolicy(), clock)
    remembered = RememberedJobs(catalog, outages)
    services = SimpleNamespace(
        runtime=runtime,
        recommending=recommending,
        lists=micro_batches(runtime, recommending, catalog, remembered, clock, outages),
        remembered=remembered,
        models=models,
        catalog=catalog,
        snapshots=snapshots,
        clock=clock,
        outages=outages,
        cataloguing=None if is_read_only else Cataloguing(catalog, clock, FakeRecentActivities()),
    )
    # What is left out belongs to training
    return Graph(catalog, cast("Services", services), create_schema(), clock, began)


def store_model(
    snapshots: SnapshotStore, users: int = 6, jobs: int = 12, version: str = "1"
) -> None:
    """Store a model of people 0.. and jobs 0.. as the live one; person 0 has seen all jobs."""
    random = np.random.default_rng(0)
    tally = ActivityTally.from_events(
        [user for user in range(users) for _ in range(2)] + [0] * jobs,
        random.integers(0, jobs, 2 * users).tolist() + list(range(jobs)),
        [0] * (2 * users + jobs),
        [0.0] * (2 * users + jobs),
    )
    interactions = ScoringPolicy.funnel().interactions(tally)
    arrays = {
        **interactions.arrays(),
        "user_factors": random.standard_normal((len(interactions.users), 4), np.float32),
        "job_factors": random.standard_normal((len(interactions.jobs), 4), np.float32),
    }
    manifest = Manifest(version, NOON, users, jobs, 0, None, None, 0, {}, {"name": "als"})
    snapshots.write(manifest, arrays)
    snapshots.promote(version)


def adverts(count: int, employers: int = 3) -> list[Job]:
    return [
        Job(id_, title=f"Job {id_}", employer=f"Employer {id_ % employers}") for id_ in range(count)
    ]
