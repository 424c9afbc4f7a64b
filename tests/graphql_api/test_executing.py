"""The executor answers as the library's does, and puts together once what stands in many places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import Enum
from typing import Any

import pytest
import strawberry
from strawberry.extensions import SchemaExtension

from graphql_api.executing import Executor


@strawberry.enum
class Size(Enum):
    SMALL = "small"


@strawberry.type
class Employer:
    name: str
    size: Size | None = None
    asked: strawberry.Private[list[str]] = strawberry.field(default_factory=list)

    @strawberry.field
    def shout(self, mark: str = "!") -> str:
        self.asked.append(mark)
        return f"{self.name}{mark}"

    @strawberry.field
    def failing(self) -> str | None:
        raise ValueError(self.name)

    @strawberry.field
    async def awaited(self) -> str:
        return self.name


@strawberry.type
class Job:
    posted_at: int | None
    title: str
    employer: Employer | None
    others: list[Job] = strawberry.field(default_factory=list)


def jobs() -> list[Job]:
    ward = Employer(name="Ward", size=Size.SMALL)
    one = Job(posted_at=1, title="one", employer=ward)
    two = Job(posted_at=None, title="two", employer=ward, others=[one])
    three = Job(posted_at=2**40, title="three", employer=None, others=[one, two])
    untitled = Job(posted_at=3, title=None, employer=ward)  # type: ignore[arg-type] # on purpose
    return [one, two, one, three, untitled]


@strawberry.type
class Query:
    @strawberry.field
    def jobs(self) -> list[Job | None]:
        return [*jobs()]


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def growing(self) -> AsyncIterator[Job]:
        job = Job(posted_at=0, title="one", employer=Employer(name="Ward"))
        for number in range(3):
            job.posted_at = number
            yield job


def answered(query: str, *extensions: type[SchemaExtension], own: bool, **variables: Any) -> Any:
    schema = strawberry.Schema(
        Query,
        subscription=Subscription,
        extensions=list(extensions),
        execution_context_class=Executor if own else None,
    )
    result = asyncio.run(schema.execute(query, variable_values=variables))
    errors = [(error.message, error.path, error.locations) for error in result.errors or []]
    return result.data, errors


@pytest.mark.parametrize(
    "query",
    [
        "{ jobs { title } }",
        "{ jobs { when: postedAt __typename employer { name size } } }",
        "{ jobs { title others { title others { title } } } }",
        '{ jobs { employer { shout quiet: shout(mark: "") } } }',
        "{ jobs { employer { name failing } } }",
        "{ jobs { employer { name awaited } others { employer { awaited } } } }",
        "{ jobs { employer { name } employer { size } others { employer { name } } } }",
        (
            "query ($no: Boolean = false) { jobs { ...a postedAt @skip(if: $no) } }"
            " fragment a on Job { employer { name @include(if: $no) size } }"
        ),
    ],
)
def test_answers_and_errors_are_those_of_the_library(query: str) -> None:
    own = answered(query, own=True)
    assert own == answered(query, own=False)
    assert own[0] is not None


def test_what_stands_in_many_places_is_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ward = Employer(name="Ward")
    many = [Job(posted_at=number, title="", employer=ward) for number in range(100)]
    monkeypatch.setitem(globals(), "jobs", lambda: many)

    data, errors = answered(
        '{ jobs { employer { shout } } again: jobs { employer { shout(mark: "?") } } }', own=True
    )

    assert errors == []
    assert [job["employer"]["shout"] for job in data["jobs"]] == ["Ward!"] * 100
    assert [job["employer"]["shout"] for job in data["again"]] == ["Ward?"] * 100
    assert ward.asked == ["!", "?"]


def test_extensions_still_see_every_field() -> None:
    seen: list[str] = []

    class Watching(SchemaExtension):
        def resolve(self, _next: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(info.field_name)
            return _next(root, info, *args, **kwargs)

    answered("{ jobs { title } }", Watching, own=True)

    assert {"jobs", "title"} <= set(seen)


def test_each_event_of_a_subscription_is_put_together_anew() -> None:
    schema = strawberry.Schema(Query, subscription=Subscription, execution_context_class=Executor)

    async def told() -> list[Any]:
        events: Any = await schema.subscribe("subscription { growing { postedAt } }")
        return [event.data["growing"]["postedAt"] async for event in events]

    assert asyncio.run(told()) == [0, 1, 2]
