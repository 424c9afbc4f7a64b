"""What is kept of known operations: nothing of who asked, and no more than there is room for."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from graphql_api.known import KnownOperation
from graphql_api.pricing import Toll
from graphql_api.schema import Context, create_schema
from tests.fakes import FakeCatalog
from tests.graphql_api.graph import ADMIN, adverts, graph_over

QUERY = """query ($id: ID!, $first: Int = 5) {
    recommendations(userId: $id) { userId }
    more: recommendations(userId: $id, first: $first) { userId }
}"""


class Asking:
    """Asks the same query again and again."""

    def __init__(self) -> None:
        self._graph = graph_over(FakeCatalog(adverts(12)))
        self._schema = create_schema(toll=Toll(20_000, self._spend, lambda: 12))

    @staticmethod
    async def _spend(_context: object, _price: int) -> None:
        """Let everybody pass."""

    def ask(self, **variables: Any) -> Any:
        return asyncio.run(self.answer(QUERY, **variables))

    async def answer(self, query: str, **variables: Any) -> Any:
        context = Context(self._graph.services, ADMIN)
        return await self._schema.execute(query, variable_values=variables, context_value=context)

    def contexts(self) -> list[Context]:
        """Return those of requests that are held anywhere."""
        own = self._graph.services
        return [
            each for each in gc.get_objects() if isinstance(each, Context) and each.services is own
        ]

    @property
    def known(self) -> KnownOperation:
        known = self._schema.known.find(QUERY, None)
        assert known is not None
        return known


def test_nothing_is_kept_of_who_asked() -> None:
    asking = Asking()
    for id_ in ("1", "2"):
        assert not asking.ask(id=id_).errors
    gc.collect()
    assert asking.known.template is not None
    assert not asking.contexts()
    assert not asking.known.template.variable_values.coerced


def test_an_answer_leaves_nothing_to_the_garbage_collector() -> None:
    asking = Asking()
    query = "query ($id: ID!) { recommendations(userId: $id) { items { job { id title } } } }"

    async def garbage() -> int:
        for id_ in range(1, 4):
            assert not (await asking.answer(query, id=str(id_))).errors
        gc.collect()
        assert not (await asking.answer(query, id="4")).errors
        return gc.collect()

    gc.disable()
    try:
        assert asyncio.run(garbage()) == 0
    finally:
        gc.enable()


def test_variables_that_an_operation_does_not_have_take_no_memory() -> None:
    asking = Asking()
    costs = {
        asking.ask(id="1", **{f"unused{number}": number}).extensions["cost"]["requested"]
        for number in range(5)
    }
    assert len(costs) == 1
    assert len(asking.known.prices._kept) == 1  # noqa: SLF001 - what it holds is no one else's matter
    assert asking.ask(id="1", first=50).extensions["cost"]["requested"] > max(costs)


@pytest.mark.filterwarnings("error")
def test_an_argument_that_does_not_fit_leaves_no_field_unawaited() -> None:
    asking = Asking()
    for _ in range(2):
        result = asking.ask(id="1", first=None)
        assert [error.extensions["code"] for error in result.errors]
    gc.collect()
