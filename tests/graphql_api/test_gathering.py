"""What an answer is made of is read level by level, and only what is selected."""

from __future__ import annotations

from typing import Any

import pytest

from domain.model import Job, User
from domain.ports import JOB_FIELDS
from tests.graphql_api.graph import CountedCatalog, Graph, adverts, graph_over

BATCH = "{ batchRecommendations(userIds: [0, 1, 2, 3], first: 4) { items { %s } } }"


@pytest.fixture
def graph() -> Graph:
    return graph_over(CountedCatalog(adverts(12), [User(id_) for id_ in range(6)]))


def reads(graph: Graph, query: str, **variables: Any) -> list[tuple[Any, ...]]:
    """Return what a query reads of the catalogue, beside what may be shown."""
    assert isinstance(graph.catalog, CountedCatalog)
    graph.catalog.read.clear()
    graph.data(query, **variables)
    return list(graph.catalog.read)


@pytest.mark.parametrize(
    "selected",
    [
        "rank score",
        "job { id }",
        "job { title @skip(if: true) id }",
        "job { ...names @include(if: false) id }",
    ],
)
def test_nothing_is_read_where_only_ids_are_selected(graph: Graph, selected: str) -> None:
    fragment = " fragment names on Job { title }" if "...names" in selected else ""
    assert reads(graph, BATCH % selected + fragment) == []


def test_the_jobs_of_a_batch_come_in_one_read_of_what_is_selected(graph: Graph) -> None:
    ((method, ids, fields),) = reads(graph, BATCH % "job { title } again: job { employer { name }}")
    assert (method, fields) == ("jobs", {"title", "employer"})
    assert len(ids) == len(set(ids)) >= 4


def test_a_job_and_those_that_resemble_it_come_in_one_read(graph: Graph) -> None:
    query = "{ similarJobs(jobId: 1, first: 3) { job { title } items { job { location } } } }"
    ((_, ids, fields),) = reads(graph, query)
    assert 1 in ids
    assert len(ids) == 4
    assert fields == {"title", "location"}


def test_fragments_variables_and_directives_are_followed(graph: Graph) -> None:
    query = """query ($no: Boolean = false, $first: Int = 3) {
      recommendations(userId: 1, first: 2) { ...list }
    }
    fragment list on RecommendationList { items { ... on Recommendation { job { ...advert } } } }
    fragment advert on Job {
      location @include(if: $no)
      ... @skip(if: $no) { isOpen }
      similar(first: $first) { items { job { title } } }
    }"""
    first, second = reads(graph, query)
    assert first[2] == {"posted_at", "closes_at", "closed"}
    assert second[2] == {"title"}
    jobs = graph.data(query)["recommendations"]["items"]
    assert [len(item["job"]["similar"]["items"]) for item in jobs] == [3, 3]
    wider = graph.data(query, first=5)["recommendations"]["items"]
    assert [len(item["job"]["similar"]["items"]) for item in wider] == [5, 5]


def test_each_level_is_read_once_whatever_leads_there(graph: Graph) -> None:
    read = reads(
        graph,
        """{ batchRecommendations(userIds: [0, 1, 2], first: 3) { items { job {
          title
          few: similar(first: 2) { job { location } items { job { title } } }
          more: similar(first: 4) { items { job { description similar { items { job { title }
          } } } } }
          employer { jobCount jobs(first: 2) { edges { node { id similar { items {
            job { location } } } } } } }
        } } } }""",
    )
    assert [entry[0] for entry in read] == ["jobs", "counts", "pages", "jobs", "jobs"]
    assert [set(entry[2]) for entry in read if entry[0] == "jobs"] == [
        {"title", "employer"},
        {"location", "title", "description"},
        {"title", "location"},
    ]
    assert read[1][1] == read[2][1] == sorted(set(read[1][1]))


def test_aliases_with_other_arguments_get_answers_of_their_own(graph: Graph) -> None:
    job = graph.data(
        """{ job(id: 1) {
          two: similar(first: 2) { items { job { title } } }
          three: similar(first: 3) { items { job { id } } }
          employer { name jobCount one: jobs(first: 1) { ...page } two: jobs(first: 2) { ...page } }
        } }
        fragment page on JobConnection { edges { node { id } } pageInfo { hasNextPage } }"""
    )["job"]
    assert [item["job"]["title"] for item in job["two"]["items"]] == [
        f"Job {item['job']['id']}" for item in job["three"]["items"][:2]
    ]
    assert len(job["three"]["items"]) == 3
    employer = job["employer"]
    assert (employer["name"], employer["jobCount"]) == ("Employer 1", 4)
    assert [len(employer[alias]["edges"]) for alias in ("one", "two")] == [1, 2]
    assert employer["two"]["pageInfo"]["hasNextPage"]


def test_an_employer_is_asked_for_by_name_and_paged(graph: Graph) -> None:
    query = """query ($after: String) { employer(name: "EMPLOYER 2") {
      name jobCount jobs(first: 3, after: $after) {
        edges { node { id title } } pageInfo { endCursor hasNextPage } } } }"""
    seen: list[str] = []
    after = None
    for _ in range(2):
        employer = graph.data(query, after=after)["employer"]
        seen += [edge["node"]["id"] for edge in employer["jobs"]["edges"]]
        after = employer["jobs"]["pageInfo"]["endCursor"]
    assert (employer["name"], employer["jobCount"]) == ("Employer 2", 4)
    assert seen == ["2", "5", "8", "11"]
    assert not employer["jobs"]["pageInfo"]["hasNextPage"]
    assert graph.data('{ employer(name: "nobody") { name } }') == {"employer": None}


def test_what_stands_in_a_page_is_not_read_again(graph: Graph) -> None:
    assert reads(graph, "{ jobs(first: 3) { edges { node { title employer { name } } } } }") == []


def test_people_come_in_one_read(graph: Graph) -> None:
    query = "{ batchRecommendations(userIds: [1, 2, 1, 9]) { user { id } } }"
    assert reads(graph, query) == [("users", [1, 2, 9])]
    people = [list_["user"] for list_ in graph.data(query)["batchRecommendations"]]
    assert people == [{"id": "1"}, {"id": "2"}, {"id": "1"}, None]


@pytest.mark.parametrize(
    ("selected", "argument"),
    [
        ("similar(first: 0) { items { rank } }", "first"),
        ("employer { jobs(first: 101) { edges { cursor } } }", "first"),
        ('employer { jobs(after: "x") { edges { cursor } } }', "after"),
    ],
)
def test_arguments_below_are_bounded(graph: Graph, selected: str, argument: str) -> None:
    (error,) = graph.post(f"{{ job(id: 1) {{ {selected} }} }}")["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}


def test_a_job_that_the_model_does_not_know_has_no_similar_jobs() -> None:
    graph = graph_over(CountedCatalog(adverts(14)))
    assert graph.data("{ job(id: 13) { similar { items { rank } } } }") == {
        "job": {"similar": None}
    }


def test_jobs_are_read_once_while_the_catalogue_stays_as_it_is(graph: Graph) -> None:
    titles = BATCH % "job { id title }"
    graph.data(titles)
    ((_, ids, fields),) = reads(graph, titles)
    assert fields == JOB_FIELDS - {"id", "description"}
    assert reads(graph, titles) == []
    assert reads(graph, BATCH % "job { location }") == []
    graph.catalog.put(Job(ids[0], "Another title"))
    graph.data(titles)  # finds out what may be shown now
    assert [read[1] for read in reads(graph, titles)] == [ids]
    shown = [
        item["job"]["title"]
        for list_ in graph.data(titles)["batchRecommendations"]
        for item in list_["items"]
        if item["job"]["id"] == str(ids[0])
    ]
    assert {*shown} == {"Another title"}


def test_texts_of_jobs_are_read_each_time(graph: Graph) -> None:
    texts = BATCH % "job { description }"
    for _ in range(3):
        ((_, _, fields),) = reads(graph, texts)
        assert fields == {"description"}


def test_a_job_that_the_catalogue_lacks_is_not_looked_for_again(graph: Graph) -> None:
    catalog = graph.catalog
    assert isinstance(catalog, CountedCatalog)
    read = graph.services.remembered.at(7)
    catalog.read.clear()
    for _ in range(2):
        assert read([1, 99], frozenset({"title"})).keys() == {1}
    assert len(catalog.read) == 1
    assert graph.services.remembered.at(8)([1], frozenset({"title"}))[1].title is not None
    assert len(catalog.read) == 2


def test_what_is_remembered_does_not_end_an_outage(graph: Graph) -> None:
    titles = BATCH % "job { title }"
    for _ in range(2):
        graph.data(titles)
    graph.services.outages.begin("it is away")
    graph.data(titles)
    assert graph.services.outages.trouble == "it is away"
