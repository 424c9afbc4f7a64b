"""Changing the catalogue: item by item, for admins, heeded by the next answer."""

from __future__ import annotations

from typing import Any

import pytest

from application.cataloguing import MAX_CHANGES
from domain.model import User
from tests.fakes import FakeCatalog
from tests.graphql_api.graph import ANONYMOUS, SERVICE, Graph, adverts, graph_over, person

OUTCOMES = "... on CatalogueChanged { refused outcomes { id change refusal } }"
READ_ONLY = "... on CatalogueReadOnly { message }"
UPSERT = f"""mutation ($jobs: [JobInput!]!) {{
  upsertJobs(input: {{jobs: $jobs}}) {{ {OUTCOMES} {READ_ONLY} }} }}"""
CLOSE = f"mutation ($ids: [ID!]!) {{ closeJobs(input: {{ids: $ids}}) {{ {OUTCOMES} }} }}"
REMOVE = f"mutation ($ids: [ID!]!) {{ removeJobs(input: {{ids: $ids}}) {{ {OUTCOMES} }} }}"
UPSERT_USERS = f"""mutation ($users: [UserInput!]!) {{
  upsertUsers(input: {{users: $users}}) {{ {OUTCOMES} }} }}"""
ERASE = f"""mutation ($id: ID!) {{ eraseUser(input: {{id: $id}}) {{
  ... on UserErased {{ change at }} {READ_ONLY} }} }}"""

LISTS = """{ recommendations(userId: 1, first: 12) { items { job { id } } }
  popular: recommendations(userId: 99, first: 12) { items { job { id } } }
  similarJobs(jobId: 2, first: 12) { items { job { id } } }
  job(id: 3) { similar(first: 12) { items { job { id } } } } }"""


@pytest.fixture
def graph() -> Graph:
    return graph_over(FakeCatalog(adverts(12), [User(id_, university="Leeds") for id_ in range(6)]))


def changes(graph: Graph, mutation: str, **variables: Any) -> list[str]:
    """Return what became of each item."""
    (result,) = graph.data(mutation, **variables).values()
    return [outcome["change"] or outcome["refusal"] for outcome in result["outcomes"]]


def shown(graph: Graph) -> list[set[str]]:
    """Return which jobs stand in each list."""
    data = graph.data(LISTS)
    lists = [data["recommendations"], data["popular"], data["similarJobs"], data["job"]["similar"]]
    return [{item["job"]["id"] for item in list_["items"]} for list_ in lists]


def test_each_item_has_its_own_outcome_and_a_bad_one_loses_no_other(graph: Graph) -> None:
    result = graph.data(
        UPSERT,
        jobs=[
            {"id": "1", "title": "Nurse", "employer": "Ward"},
            {"id": "x", "title": "?"},
            {"id": "90", "title": "t" * 1_001},
            {"id": "91", "postedAt": "2026-02-01T00:00:00"},
            {"id": "92", "postedAt": "2026-02-01T00:00:00Z", "closesAt": "2026-01-01T00:00:00Z"},
            {"id": "93", "title": "New"},
        ],
    )["upsertJobs"]
    outcomes = result["outcomes"]
    assert result["refused"] == 4
    assert [outcome["id"] for outcome in outcomes] == ["1", "x", "90", "91", "92", "93"]
    assert [outcome["change"] for outcome in outcomes] == [
        "UPDATED", None, None, None, None, "CREATED",
    ]  # fmt: skip
    reasons = [outcome["refusal"] or "" for outcome in outcomes]
    assert "'x', expected an integer" in reasons[1]
    assert "1,001 characters, at most 1,000" in reasons[2]
    assert "no time zone" in reasons[3]
    assert "is before postedAt" in reasons[4]
    jobs = graph.data("{ jobs(ids: [1, 90, 91, 92, 93]) { edges { node { title } } } }")["jobs"]
    assert [edge["node"]["title"] for edge in jobs["edges"]] == ["Nurse", "New"]


def test_a_job_that_is_closed_or_removed_is_in_no_list_from_the_next_request_on(
    graph: Graph,
) -> None:
    before = shown(graph)
    assert all({"4", "5"} <= ids for ids in before)
    assert changes(graph, CLOSE, ids=["4", "400", "-1"])[:2] == ["UPDATED", "MISSING"]
    assert changes(graph, REMOVE, ids=["5"]) == ["REMOVED"]
    assert shown(graph) == [ids - {"4", "5"} for ids in before]
    assert graph.data("{ job(id: 4) { isOpen } gone: job(id: 5) { id } }") == {
        "job": {"isOpen": False},
        "gone": None,
    }


def test_every_worker_heeds_what_another_changed(graph: Graph) -> None:
    other = graph_over(graph.catalog)
    before = shown(other)
    assert changes(graph, CLOSE, ids=["4"]) == ["UPDATED"]
    assert shown(other) == shown(graph) == [ids - {"4"} for ids in before]


def test_search_follows_changes(graph: Graph) -> None:
    graph.data(UPSERT, jobs=[{"id": "1", "title": "Night nurse", "employer": "Ward"}])
    found = '{ jobs(where: {employer: "ward", title: "NURSE"}) { edges { node { id } } } }'
    assert graph.data(found)["jobs"]["edges"] == [{"node": {"id": "1"}}]
    assert graph.data('{ employer(name: "Employer 1") { jobCount } }')["employer"]["jobCount"] == 3


def test_too_many_items_are_refused_as_a_whole(graph: Graph) -> None:
    ids = list(range(MAX_CHANGES + 1))
    (error,) = graph.post(REMOVE, ids=ids)["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "input"}
    assert "1,001 items, at most 1,000" in error["message"]


def test_an_erased_person_is_unknown_from_the_next_request_on_until_they_come_back(
    graph: Graph,
) -> None:
    query = """{ recommendations(userId: 1) { user { university } items { source } }
      batchRecommendations(userIds: [1, 2]) { user { id } items { source } } user(id: 1) { id } }"""
    assert graph.data(query)["recommendations"]["items"][0]["source"] == "PERSONALISED"
    erased = graph.data(ERASE, id="1")["eraseUser"]
    assert erased == {"change": "REMOVED", "at": graph.clock.now.isoformat()}
    after = graph.data(query)
    first, second = after["batchRecommendations"]
    for list_ in (after["recommendations"], first):
        assert list_["user"] is None
        assert {item["source"] for item in list_["items"]} == {"POPULAR"}
    assert after["user"] is None
    assert second["items"][0]["source"] == "PERSONALISED"
    assert graph.data(ERASE, id="77")["eraseUser"]["change"] == "MISSING"
    assert changes(graph, UPSERT_USERS, users=[{"id": "1", "university": "York"}]) == ["CREATED"]
    back = graph.data(query)["recommendations"]
    assert back["user"] == {"university": "York"}
    assert back["items"][0]["source"] == "PERSONALISED"


def test_the_log_tells_of_an_erasure_but_not_of_whom(
    graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    graph.data(UPSERT_USERS, users=[{"id": "7654321"}])
    graph.data(ERASE, id="7654321")
    (line,) = [record.message for record in caplog.records if "erased" in record.message]
    assert line.endswith("by admin")
    assert "7654321" not in caplog.text


def test_a_profile_out_of_bounds_is_refused_without_repeating_it(graph: Graph) -> None:
    (reason,) = changes(graph, UPSERT_USERS, users=[{"id": "1", "graduationYear": 3_456}])
    assert "1900 to 2100" in reason
    assert "3456" not in reason


def test_a_catalogue_of_files_says_that_it_is_read_only() -> None:
    graph = graph_over(FakeCatalog(adverts(12)), is_read_only=True)
    for mutation, variables in ((UPSERT, {"jobs": []}), (ERASE, {"id": "1"})):
        (result,) = graph.data(mutation, **variables).values()
        assert "change the files" in result["message"]


def test_the_fields_of_people_are_for_themselves_services_and_admins(graph: Graph) -> None:
    ask = {
        "root": "{ user(id: 2) { university } }",
        "list": "{ recommendations(userId: 2) { user { university } } }",
        "batch": "{ batchRecommendations(userIds: [2]) { ...f } }"
        " fragment f on RecommendationList { who: user { university } }",
    }
    for query in ask.values():
        for caller in (person(2), SERVICE):
            assert "Leeds" in str(graph.data(query, caller))
        for caller in (person(3), ANONYMOUS):
            answer = graph.post(query, caller)
            (error,) = answer["errors"]
            assert error["extensions"]["code"] == "FORBIDDEN"
            assert "Leeds" not in str(answer)


def test_only_admins_change_the_catalogue(graph: Graph) -> None:
    for caller in (ANONYMOUS, SERVICE, person(1)):
        (error,) = graph.post(REMOVE, caller, ids=["1"])["errors"]
        assert error["extensions"]["code"] == "FORBIDDEN"
