"""What is compiled and known answers to the byte as the library alone does, on random documents."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types import ExecutionResult

from domain.model import User
from graphql_api.executing import Executor
from graphql_api.pricing import Toll
from graphql_api.schema import Context, create_schema
from tests.fakes import FakeCatalog
from tests.graphql_api.graph import ADMIN, SERVICE, Graph, adverts, graph_over, person
from tests.graphql_api.random_documents import Document, document

ROOTS = [
    *("recommendations", "batchRecommendations", "sessionRecommendations", "similarJobs"),
    *("job", "jobs", "employer", "employers", "employerTypes", "user", "resume", "whyNot"),
    *("model", "recommendations", "batchRecommendations", "similarJobs"),
]
CALLERS = [ADMIN, ADMIN, SERVICE, person(2)]


async def free_of_charge(_context: object, _price: int) -> None:
    """Let everybody pass."""


@pytest.fixture
def graph() -> Graph:
    users = [User(id_, 2027, "state", university="Leeds") for id_ in range(6)]
    return graph_over(FakeCatalog(adverts(12), users))


class Answering:
    """Answers each document thrice: by the library alone, compiled, and once it is known."""

    def __init__(self, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graph = graph
        self.schema = create_schema(toll=Toll(20_000, free_of_charge, lambda: 12))
        self.outcomes = Counter[str]()
        complete_of = Executor._complete_of  # noqa: SLF001 - to see that it is not for nothing

        def counted(*parts: Any) -> Any:
            complete = complete_of(*parts)
            self.outcomes["compiled" if complete else "not compiled"] += 1
            return complete

        monkeypatch.setattr(Executor, "_complete_of", counted)

    async def compare(self, asked: Document, number: int) -> None:
        self.schema.known.forget()
        expected = await self.answer(asked, number, StrawberryGraphQLCoreExecutionContext)
        self.schema.known.forget()
        compiled = await self.answer(asked, number, Executor)
        assert compiled == expected, (number, asked)
        if self.schema.known.find(asked.query, None) is not None:
            known = await self.answer(asked, number, Executor)
            assert known == expected, (number, asked)
            self.outcomes["known"] += 1
        self.outcomes["errors" if b'"errors":[{' in expected else "fine"] += 1
        self.outcomes["data"] += b'"data":{' in expected

    async def answer(
        self, asked: Document, number: int, executor: type[StrawberryGraphQLCoreExecutionContext]
    ) -> bytes:
        self.schema.execution_context_class = executor
        context = Context(self.graph.services, CALLERS[number % len(CALLERS)])
        result = await self.schema.execute(
            asked.query, variable_values=asked.variables, context_value=context
        )
        return told(result)


def told(result: ExecutionResult) -> bytes:
    """Return all that an answer tells, but ids of unforeseen errors.

    Root fields are worked out at the same time, so any may be the first to fail.
    """
    errors = sorted((error.formatted for error in result.errors or ()), key=orjson.dumps)
    whole = orjson.dumps([{"data": result.data}, {"errors": errors}, result.extensions])
    return re.sub(rb"[0-9a-f]{16}", b"ID", whole)


def compare_all(
    graph: Graph, numbers: Iterable[int], monkeypatch: pytest.MonkeyPatch
) -> Counter[str]:
    answering = Answering(graph, monkeypatch)
    definition = answering.schema._schema  # noqa: SLF001 - strawberry shows it nowhere else

    async def run() -> None:
        for number in numbers:
            await answering.compare(document(definition, number, ROOTS), number)

    asyncio.run(run())
    return answering.outcomes


def test_some_documents(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = compare_all(graph, range(10_000, 10_300), monkeypatch)
    assert min(outcomes["data"], outcomes["fine"], outcomes["known"]) > 100
    assert min(outcomes["errors"], outcomes["compiled"], outcomes["not compiled"]) > 20


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_ten_thousand_documents(graph: Graph, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    outcomes = compare_all(graph, range(part * 2_500, (part + 1) * 2_500), monkeypatch)
    assert min(outcomes["data"], outcomes["fine"], outcomes["known"]) > 1_000
    assert outcomes["compiled"] > 1_000
