"""What is asked for at the same moment is made in one go, and everybody gets their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import pytest

from graphql_api.batching import MicroBatches
from graphql_api.runtime import Runtime
from graphql_api.schema import PlainList, PlainTerms
from tests.fakes import FakeCatalog
from tests.graphql_api.graph import adverts, graph_over


class Making:
    """Makes lists of squares, and tells what was made at once; waits in threads until let go."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.are_brief = True
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.is_failing = False

    def make(self, terms: str, ids: Sequence[int]) -> list[str]:
        self.batches.append((terms, [*ids]))
        if not self.are_brief:
            self.begun.release()
            assert self.go.wait(20)
        if self.is_failing:
            raise ValueError("it went wrong")
        return [f"{terms}{id_**2}" for id_ in ids]

    def make_briefly(self, terms: str, ids: Sequence[int]) -> list[str] | None:
        return self.make(terms, ids) if self.are_brief else None


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime([])
    runtime.start()
    yield runtime
    runtime.stop()


def batches(runtime: Runtime, making: Making, most: int = 4) -> MicroBatches[str, str]:
    return MicroBatches(runtime, making.make, making.make_briefly, most, 2)


def ran(*asked: Coroutine[Any, Any, Any]) -> list[Any]:
    async def run() -> list[Any]:
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(run())


def test_what_is_asked_for_at_once_is_made_at_once(runtime: Runtime) -> None:
    making = Making()
    lists = batches(runtime, making)
    answers = ran(*(lists.one("a", id_) for id_ in (3, 1, 3)), lists.one("b", 2))
    assert answers == ["a9", "a1", "a9", "b4"]
    assert making.batches == [("a", [3, 1, 3]), ("b", [2])]


def test_no_batch_holds_more_than_it_may(runtime: Runtime) -> None:
    making = Making()
    lists = batches(runtime, making)
    assert ran(*(lists.one("a", id_) for id_ in range(9))) == [f"a{id_**2}" for id_ in range(9)]
    assert [len(ids) for _, ids in making.batches] == [4, 4, 1]


@pytest.mark.parametrize("are_brief", [True, False])
def test_a_failure_goes_to_all_who_asked_and_the_next_are_answered(
    runtime: Runtime, *, are_brief: bool
) -> None:
    making = Making()
    making.are_brief, making.is_failing = are_brief, True
    making.go.set()
    lists = batches(runtime, making)
    failures = ran(lists.one("a", 1), lists.one("a", 2))
    assert [str(failure) for failure in failures] == ["it went wrong"] * 2
    making.is_failing = False
    assert ran(lists.one("a", 3)) == ["a9"]


def test_while_all_lanes_are_taken_the_next_batch_grows(runtime: Runtime) -> None:
    making = Making()
    making.are_brief = False
    lists = batches(runtime, making)

    async def run() -> list[str]:
        tasks = []
        for terms in "ab":
            tasks.append(asyncio.create_task(lists.one(terms, 1)))
            assert await asyncio.to_thread(making.begun.acquire, timeout=20)
        for id_ in (2, 3):
            tasks.append(asyncio.create_task(lists.one("c", id_)))
            # However often the loop goes round
            for _ in range(5):
                await asyncio.sleep(0)
        assert len(making.batches) == 2
        making.go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == ["a1", "b1", "c4", "c9"]
    assert making.batches == [("a", [1]), ("b", [1]), ("c", [2, 3])]


def test_who_has_left_keeps_nobody_from_their_list(runtime: Runtime) -> None:
    making = Making()
    making.are_brief = False
    lists = batches(runtime, making)

    async def run() -> str:
        leaving, staying = (asyncio.create_task(lists.one("a", id_)) for id_ in (1, 2))
        assert await asyncio.to_thread(making.begun.acquire, timeout=20)
        leaving.cancel()
        making.go.set()
        return await staying

    assert asyncio.run(run()) == "a4"


@pytest.mark.parametrize("are_brief", [True, False])
def test_a_batch_of_many_is_made_by_itself(runtime: Runtime, *, are_brief: bool) -> None:
    making = Making()
    making.are_brief = are_brief
    making.go.set()
    assert ran(batches(runtime, making).all("a", [1, 2, 3, 4, 5])) == [
        ["a1", "a4", "a9", "a16", "a25"]
    ]
    assert making.batches == [("a", [1, 2, 3, 4, 5])]


def test_whoever_asks_is_told_what_goes_wrong_around_the_making(runtime: Runtime) -> None:
    def fail(_terms: str, _ids: Sequence[int]) -> list[str]:
        raise ValueError("it went wrong")

    lists = MicroBatches(runtime, Making().make, fail, 4, 2)
    failures = ran(lists.one("a", 1), lists.one("b", 2))
    assert [str(failure) for failure in failures] == ["it went wrong"] * 2


def test_whoever_asks_after_the_threads_have_ended_is_told() -> None:
    ended = Runtime([])
    ended.start()
    ended.stop()
    making = Making()
    making.are_brief = False
    lists = batches(ended, making)
    assert [type(failure) for failure in ran(lists.one("a", 1))] == [RuntimeError]


def test_lists_of_many_rows_are_made_in_a_thread() -> None:
    graph = graph_over(FakeCatalog(adverts(12)))
    in_threads: list[int] = []
    lists = graph.services.lists
    make = lists._make

    def made(terms: PlainTerms, ids: Sequence[int]) -> Sequence[PlainList]:
        assert threading.current_thread() is not threading.main_thread()
        in_threads.append(len(ids))
        return make(terms, ids)

    lists._make = made
    query = """query ($ids: [ID!]!, $first: Int!) {
        batchRecommendations(userIds: $ids, first: $first) { userId }
    }"""
    # The first time, nothing is at hand yet
    for people, first in ((1, 1), (10, 100), (11, 100)):
        graph.data(query, ids=[str(id_) for id_ in range(people)], first=first)
    assert in_threads == [1, 11]
