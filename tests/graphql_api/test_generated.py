"""Whatever fits the schema is answered: documents that schemathesis makes up, on a real server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from graphql import (
    REMOVE,
    ArgumentNode,
    FieldNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    NameNode,
    NullValueNode,
    ObjectFieldNode,
    StringValueNode,
    ValueNode,
    Visitor,
    parse,
    print_ast,
    visit,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.graphql import nodes

from tests.conftest import NewState, Service, serving

CASES = 200
SETTINGS = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(min_value=datetime(1000, 1, 1), timezones=OFFSETS)  # noqa: DTZ001 - the strategy adds the zone


@pytest.fixture(scope="module")
def fuzzed(demo_data: Path, new_state: NewState) -> Iterator[Service]:
    """Run a service of its own: what is made up may retrain and promote."""
    with serving(demo_data, new_state()) as running:
        yield running
        log = running.log.read_text()
    assert "unexpected error" not in log, log


@pytest.fixture(scope="module")
def cases(fuzzed: Service) -> Any:
    """Return the schema, as introspection of the running service tells it."""
    schemathesis.graphql.scalar(
        "DateTime", TIMES.map(lambda moment: nodes.String(moment.astimezone(UTC).isoformat()))
    )
    return schemathesis.graphql.from_url(f"{fuzzed.url}/graphql")


def answer_of(case: Case[Any], headers: dict[str, str]) -> dict[str, Any]:
    """Send a case, and return the answer, which must be one of something executed."""
    answer = case.call(headers=headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert "data" in body, body
    return body


def fields_in(value: object, name: str = "") -> int:
    """Count the fields of an answer; `parameters` is one value, whatever it holds."""
    if isinstance(value, list):
        return sum(fields_in(each) for each in value)
    if isinstance(value, dict) and name != "parameters":
        return sum(1 + fields_in(inner, key) for key, inner in value.items())
    return 0


def check(strategy: st.SearchStrategy[Case[Any]], test: Callable[[Case[Any]], None]) -> None:
    SETTINGS(given(strategy)(test))()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["anybody", "admin"])
def test_documents_that_fit_the_schema_meet_no_unexpected_error(
    role: str, fuzzed: Service, cases: Any
) -> None:
    is_admin = role == "admin"
    headers = {"Authorization": f"Bearer {fuzzed.admin_token}"} if is_admin else {}
    expected = {"BAD_USER_INPUT"} if is_admin else {"BAD_USER_INPUT", "FORBIDDEN"}
    seen: Counter[str] = Counter()

    def meets_what_is_expected(case: Case[Any]) -> None:
        answer = answer_of(case, headers)
        codes = [error["extensions"]["code"] for error in answer.get("errors", [])]
        assert set(codes) <= expected
        seen.update(codes or ["OK"])

    check(cases.as_strategy(), meets_what_is_expected)
    assert seen.total() >= CASES
    assert set(seen) == expected | {"OK"}


_LISTS_OF_IDS = {"userIds", "ids", "excludeJobIds", "liked", "disliked"}


class InBounds(Visitor):
    """Puts arguments within the bounds that the schema's types cannot tell."""

    def enter_argument(self, node: ArgumentNode, *_: Any) -> Any:
        name = node.name.value
        if name == "after":
            return REMOVE
        value: ValueNode = node.value
        if name == "first":
            value = self._number(value, 1, 100)
        elif name in {"userId", "jobId", "id"}:
            value = self._number(value, 0, 2_000)
        elif name in _LISTS_OF_IDS and isinstance(value, ListValueNode):
            value = ListValueNode(
                values=tuple(self._number(each, 0, 2_000) for each in value.values)
            )
        return ArgumentNode(name=node.name, value=value)

    def enter_object_field(self, node: ObjectFieldNode, *_: Any) -> Any:
        name = node.name.value
        value: ValueNode = node.value
        if isinstance(value, NullValueNode):
            return node
        if name in {"userId", "jobId"}:
            value = self._number(value, 0, 2_000)
        elif name in {"maxPerEmployer", "maxPerType"}:
            value = self._number(value, 0, 5)
        elif name in {"diversity", "spread"}:
            value = FloatValueNode(value=f"0.{self._number(value, 0, 9).value}")
        return ObjectFieldNode(name=node.name, value=value)

    def enter_field(self, node: FieldNode, *_: Any) -> Any:
        # By id or by name, never by both
        if node.name.value == "employer" and node.arguments:
            id_ = ArgumentNode(
                name=NameNode(value="id"), value=StringValueNode(value="somebody", block=False)
            )
            return FieldNode(
                name=node.name,
                alias=node.alias,
                directives=node.directives,
                arguments=(id_,),
                selection_set=node.selection_set,
            )
        return None

    @staticmethod
    def _number(node: ValueNode, low: int, high: int) -> IntValueNode:
        """Return a number made of whatever was there."""
        text = print_ast(node).encode()
        return IntValueNode(value=str(low + int.from_bytes(text) % (high - low + 1)))


@pytest.mark.slow
def test_queries_within_the_bounds_meet_no_error_and_hold_no_more_fields_than_they_cost(
    fuzzed: Service, cases: Any
) -> None:
    headers = {"Authorization": f"Bearer {fuzzed.admin_token}"}
    answered = refused = 0

    def meets_no_error(case: Case[Any]) -> None:
        nonlocal answered, refused
        case.body = print_ast(visit(parse(str(case.body)), InBounds()))
        response = case.call(headers=headers)
        answer = response.json()
        if "data" not in answer:
            # Lists in lists may cost more than is allowed, whatever their bounds
            (error,) = answer["errors"]
            assert error["extensions"]["code"] == "COST_LIMIT_EXCEEDED", answer
            refused += 1
            return
        assert response.status_code == 200, response.text
        assert "errors" not in answer, answer
        assert fields_in(answer["data"]) <= answer["extensions"]["cost"]["requested"]
        answered += 1

    check(cases.include(name_regex=r"^Query\.").as_strategy(), meets_no_error)
    assert answered + refused >= CASES
    assert answered > CASES // 2
