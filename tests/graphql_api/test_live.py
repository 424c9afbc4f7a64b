"""What people do is seen in the next answer, whichever process gives it."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from shutil import copytree
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from graphql import parse

from application.recording import MAX_RECORDED
from graphql_api.auth import Caller, Kind
from graphql_api.pricing import price
from graphql_api.schema import create_schema
from tests.conftest import NewState, Service, serving
from tests.graphql_api.test_service import RETRAIN, ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIST = """query ($user: ID!, $exclude: [ActivityKind!]! = [APPLY]) {
  recommendations(userId: $user, first: 10, exclude: $exclude) {
    items {
      rank score source trend job { id }
      reasons(first: 100) { share contribution kinds job { id } }
    }
  }
}"""
LOAD = "query ($user: ID!) { recommendations(userId: $user) { items { rank job { id } } } }"
RECORD = """mutation ($done: [RecordedActivityInput!]!) {
  recordActivities(input: {activities: $done}) { recorded outcomes { recorded message } }
}"""
WHY_NOT = """query ($user: ID!, $job: ID!) {
  whyNot(userId: $user, jobId: $job) { verdict rank score source job { id } }
}"""
SESSION = """query ($did: [ActivityInput!]!) {
  sessionRecommendations(activities: $did, first: 3) {
    userId items { source reasons { job { id } } }
  }
}"""

PATIENCE = 30.0
"""Seconds within which a process has followed."""


def done(user: int | str, job: int | str, kind: str) -> dict[str, str]:
    return {"userId": str(user), "jobId": str(job), "kind": kind}


def jobs_of(answer: dict[str, Any]) -> list[str]:
    return [item["job"]["id"] for item in answer["recommendations"]["items"]]


@pytest.fixture(scope="module")
def pair(
    demo_data: Path, new_state: NewState, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run the service by two processes, on data of its own to write to."""
    folder = tmp_path_factory.mktemp("live")
    copytree(demo_data, folder / "data")
    with serving(folder / "data", new_state(), "--workers", "2") as running:
        yield running


@pytest.fixture(scope="module")
def users(demo_data: Path) -> list[str]:
    with (demo_data / "activities.jsonl").open() as lines:
        return sorted({str(json.loads(line)["user_id"]) for line in lines})


class TestWhoMayRecord:
    def test_a_person_only_for_themselves(self) -> None:
        person = Caller(Kind.PERSON, "person:7", "7")

        person.authorise("recordActivities", ["7", "7"])
        with pytest.raises(Exception, match="themselves only"):
            person.authorise("recordActivities", ["7", "8"])

    def test_a_service_for_anybody_and_nobody_without_a_name(self) -> None:
        Caller(Kind.SERVICE, "token:x").authorise("recordActivities", ["7", "8"])
        with pytest.raises(Exception, match="is for admins and services and persons"):
            Caller(Kind.ANONYMOUS, "anonymous:x").authorise("recordActivities", ["7"])

    def test_a_person_may_ask_only_of_themselves_why_not(self) -> None:
        with pytest.raises(Exception, match="themselves only"):
            Caller(Kind.PERSON, "person:7", "7").authorise("whyNot", ["8"])


def test_what_takes_more_costs_more() -> None:
    schema = create_schema()._schema  # noqa: SLF001 - strawberry shows it nowhere else

    def cost(query: str, jobs: int = 7_000) -> int:
        return price(schema, parse(query), None, {}, jobs)

    plain = cost("{ recommendations(userId: 1) { items { rank } } }")
    assert cost("{ recommendations(userId: 1) { items { rank reasons { share } } } }") > 2 * plain
    assert cost("{ sessionRecommendations(activities: []) { items { rank } } }") > plain
    why = "{ whyNot(userId: 1, jobId: 2) { rank } }"
    assert cost(why, 700_000) > 50 * cost(why)
    record = "mutation { recordActivities(input: {activities: []}) { recorded } }"
    assert cost(record) > MAX_RECORDED


@pytest.mark.slow
class TestTwoProcesses:
    def test_each_dismissal_and_application_is_seen_in_the_next_answer_under_load(
        self, pair: Service, users: list[str]
    ) -> None:
        stopping = threading.Event()

        def ask(number: int) -> int:
            asked = 0
            with httpx.Client() as client:
                while not stopping.is_set():
                    user = users[(number * 97 + asked) % len(users)]
                    body = {"query": LOAD, "variables": {"user": user}}
                    answer = client.post(f"{pair.url}/graphql", json=body, timeout=30).json()
                    assert "errors" not in answer
                    asked += 1
            return asked

        with ThreadPoolExecutor(2) as pool:
            load = [pool.submit(ask, number) for number in range(2)]
            try:
                for number, user in enumerate(users[:8]):
                    kind = ("DISMISS", "APPLY")[number % 2]
                    top = jobs_of(pair.data_of(LIST, user=user))[0]
                    answer = pair.data_of(RECORD, admin=True, done=[done(user, top, kind)])
                    assert answer["recordActivities"]["recorded"] == 1
                    # Each on a connection of its own, so that both processes answer
                    for _ in range(4):
                        assert top not in jobs_of(pair.data_of(LIST, user=user))
                    expected = {"DISMISS": "DISMISSED", "APPLY": "EXCLUDED"}[kind]
                    why = pair.data_of(WHY_NOT, user=user, job=top)["whyNot"]
                    assert (why["verdict"], why["rank"]) == (expected, None)
            finally:
                stopping.set()
            assert all(worker.result() > 0 for worker in load)

    def test_a_newcomer_is_folded_in_and_told_why(self, pair: Service) -> None:
        user, job = "987654321", jobs_of(pair.data_of(LIST, user="987654321"))[3]
        before = pair.data_of(LIST, user=user)["recommendations"]["items"]
        assert {item["source"] for item in before} == {"POPULAR"}
        assert all(item["reasons"] == [] for item in before)

        pair.data_of(RECORD, admin=True, done=[done(user, job, "REDIRECT")])

        items = pair.data_of(LIST, user=user)["recommendations"]["items"]
        assert {item["source"] for item in items} == {"FOLD_IN"}
        for item in items:
            (reason,) = item["reasons"]
            assert (reason["job"]["id"], reason["kinds"]) == (job, ["REDIRECT"])
            assert reason["contribution"] + item["trend"] == pytest.approx(item["score"])
            assert reason["share"] == pytest.approx(reason["contribution"] / item["score"])
            found = pair.data_of(WHY_NOT, user=user, job=item["job"]["id"])["whyNot"]
            assert (found["rank"], found["score"]) == (item["rank"], item["score"])

    def test_each_activity_has_its_outcome(self, pair: Service) -> None:
        answer = pair.data_of(
            RECORD,
            admin=True,
            done=[
                done("55555", "1", "APPLY"),
                done("x", "1", "APPLY"),
                {**done("55555", "1", "APPLY"), "at": "2999-01-01T00:00:00Z"},
            ],
        )["recordActivities"]

        assert answer["recorded"] == 1
        assert [outcome["recorded"] for outcome in answer["outcomes"]] == [True, False, False]
        assert "userId is 'x'" in answer["outcomes"][1]["message"]
        assert "2999" in answer["outcomes"][2]["message"]

    def test_a_visitor_is_answered_by_what_they_tell(self, pair: Service) -> None:
        job = jobs_of(pair.data_of(LIST, user="987654322"))[0]

        answer = pair.data_of(SESSION, did=[{"jobId": job, "kind": "REDIRECT"}])

        assert answer["sessionRecommendations"]["userId"] is None
        for item in answer["sessionRecommendations"]["items"]:
            assert item["source"] == "FOLD_IN"
            assert item["reasons"] == [{"job": {"id": job}}]

    @pytest.mark.parametrize("first", [0, 101])
    def test_reasons_are_bounded(self, pair: Service, first: int) -> None:
        items = f"items {{ reasons(first: {first}) {{ share }} }}"
        query = f"{{ recommendations(userId: 1) {{ {items} }} }}"

        (error,) = pair.post(query)["errors"]

        assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "first"}

    def test_after_a_training_dismissals_hold_and_lists_are_learned_ones_again(
        self, pair: Service, users: list[str]
    ) -> None:
        user = users[30]
        top = jobs_of(pair.data_of(LIST, user=user))[0]
        pair.data_of(RECORD, admin=True, done=[done(user, top, "DISMISS")])

        run = pair.data_of(RETRAIN, admin=True, input={"force": True})["retrain"]["run"]
        assert ended(pair, run["id"])["status"] == "SUCCEEDED"

        # Each process follows by itself
        query = """query ($user: ID!) { recommendations(userId: $user) {
            model { version } items { source job { id } } } }"""
        deadline = time.monotonic() + PATIENCE
        while (answer := pair.data_of(query, user=user)["recommendations"])["model"] != {
            "version": run["id"]
        }:
            assert time.monotonic() < deadline, "the new model did not go live in time"
        assert top not in [item["job"]["id"] for item in answer["items"]]
        assert {item["source"] for item in answer["items"]} == {"PERSONALISED"}
        assert (pair.data / "activities.live.jsonl").exists()
