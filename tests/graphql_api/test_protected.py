"""Protected attributes and proxies reach nothing: all are changed, and no byte of an answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, build_schema

from adapters.demo import write_demo
from graphql_api.schema import create_schema
from tests.conftest import CLIENT, Service, jobrec, serving

PROXIES = ["school_type", "languages", "university", "first_name", "postal_code"]
FLAGS = ("--factors", "8", "--iterations", "3", "--threads", "1", "--seed", "5")

LISTED = """
  userId shortfall
  items {
    rank score source
    job { id title location employer { name jobCount } similar(first: 3) { items { rank } } }
    reasons(first: 5) { job { id } kinds share contribution }
  }
"""
ASKED = f"""
query Everything($users: [ID!]!, $user: ID!, $job: ID!) {{
  batchRecommendations(userIds: $users, first: 20) {{ {LISTED} }}
  open: recommendations(userId: $user, first: 50, exclude: []) {{ {LISTED} }}
  varied: recommendations(userId: $user, variety: {{diversity: 0.3, spread: 0.3}})
    {{ {LISTED} user {{ id graduationYear degreeSubject degreeSubjectGroups }} }}
  filtered: recommendations(userId: $user, where: {{title: "graduate"}}) {{ {LISTED} }}
  session: sessionRecommendations(activities: [{{jobId: $job, kind: REDIRECT}}]) {{ {LISTED} }}
  resume(userId: $user) {{ id title }}
  whyNot(userId: $user, jobId: $job) {{ verdict rank score source }}
  similarJobs(jobId: $job, first: 20) {{ items {{ rank score job {{ id }} }} }}
  job(id: $job) {{ id title description isOpen }}
  jobs(first: 50, where: {{title: "graduate"}}) {{ edges {{ cursor node {{ id title }} }} }}
  user(id: $user) {{ id graduationYear degreeSubject degreeSubjectGroups degreeSubjectCategories }}
}}
"""


def changed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return people with every protected attribute and proxy another, or there or not."""
    others = [*rows[7:], *rows[:7]]
    return [
        {
            **row,
            **{name: other.get(name) for name in ("ethnicity", "gender", *PROXIES[:3])},
            "gender": ["another", "list"],
            "first_name": f"Name {number}",
            "postal_code": number,
            "ethnicity": None if number % 2 else f"Group {number % 5}",
        }
        for number, (row, other) in enumerate(zip(rows, others, strict=True))
    ]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Service]]:
    """Run two services whose people differ in nothing else."""
    folder = tmp_path_factory.mktemp("twins")
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    write_demo(folder / "a", scale=0.02, seed=7, until=until + timedelta(days=1), applies=100)
    shutil.copytree(folder / "a", folder / "b")
    users = folder / "b" / "users.jsonl"
    rows = [json.loads(line) for line in users.read_text().splitlines()]
    users.write_text("".join(f"{json.dumps(row)}\n" for row in changed(rows)))
    file = folder / "settings.toml"
    file.write_text(f"proxies = {json.dumps(PROXIES)}\n")
    with ExitStack() as running:
        yield tuple(  # type: ignore[misc] # two of them
            running.enter_context(
                serving(
                    folder / name,
                    folder / f"state-{name}",
                    *("--settings", str(file), *FLAGS),
                )
            )
            for name in ("a", "b")
        )


def bodies(service: Service, query: str, **variables: Any) -> bytes:
    answer = CLIENT.post(
        f"{service.url}/graphql",
        json={"query": query, "variables": variables},
        headers={"Authorization": f"Bearer {service.admin_token}"},
        timeout=30,
    )
    assert "errors" not in answer.json(), answer.text
    return answer.content


def people_of(service: Service) -> list[dict[str, Any]]:
    lines = (service.data / "users.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_every_answer_is_the_same_to_the_byte(twins: tuple[Service, Service]) -> None:
    one, other = twins
    rows, others = people_of(one), people_of(other)
    assert [row["user_id"] for row in rows] == [row["user_id"] for row in others]
    assert all(row.items() != twin.items() for row, twin in zip(rows, others, strict=True))
    activities = (one.data / "activities.jsonl").read_text().splitlines()
    pairs = [(row["user_id"], row["job_id"]) for row in map(json.loads, activities)]
    chosen = [pairs[place] for place in np.linspace(0, len(pairs) - 1, 40).astype(int)]
    answers = [
        [
            bodies(
                service,
                ASKED,
                users=[str(user), *(str(row["user_id"]) for row in rows[turn::60][:10])],
                user=str(user),
                job=str(job),
            )
            for turn, (user, job) in enumerate(chosen)
        ]
        for service in twins
    ]
    assert answers[0] == answers[1]
    asked = json.loads(answers[0][0])["data"]
    assert asked["user"]["degreeSubject"]
    assert {item["source"] for item in asked["open"]["items"]} == {"PERSONALISED"}


@pytest.mark.slow
def test_what_people_do_afterwards_counts_the_same_to_the_byte(
    twins: tuple[Service, Service],
) -> None:
    person = str(people_of(twins[0])[3]["user_id"])
    job = json.loads(bodies(twins[0], "{ jobs(first: 1) { edges { node { id } } } }"))
    job_id = job["data"]["jobs"]["edges"][0]["node"]["id"]
    query = f"query ($user: ID!) {{ recommendations(userId: $user, first: 30) {{ {LISTED} }} }}"
    before = bodies(twins[0], query, user=person)
    record = (
        "mutation ($user: ID!, $job: ID!) { recordActivities(input: "
        "{activities: [{userId: $user, jobId: $job, kind: APPLY}]}) { __typename } }"
    )
    for service in twins:
        bodies(service, record, user=person, job=job_id)
    after = [bodies(service, query, user=person) for service in twins]
    assert after[0] == after[1] != before


@pytest.mark.slow
def test_what_was_learned_is_the_same_to_the_byte(twins: tuple[Service, Service]) -> None:
    def learned(service: Service) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in service.state.glob("models/*/*.npy")}

    one, other = map(learned, twins)
    assert one == other
    assert "job_factors.npy" in one


@pytest.mark.slow
def test_proxies_are_neither_served_nor_taken_nor_named(twins: tuple[Service, Service]) -> None:
    service = twins[0]
    for query in (
        '{ user(id: "1") { schoolType } }',
        'mutation { upsertUsers(input: {users: [{id: "1", university: "Leeds"}]}) { __typename } }',
    ):
        (error,) = service.post(query, admin=True)["errors"]
        assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    printed = jobrec("schema", "--settings", service.data.parent / "settings.toml").stdout
    assert printed == create_schema(withheld=frozenset(PROXIES)).as_str() + "\n"
    stored = b"".join(path.read_bytes() for path in service.state.glob("catalogue/*.mdb"))
    universities = {row["university"] for row in people_of(service) if row["university"]}
    assert universities
    assert not any(name.encode() in stored for name in universities)


def test_the_schema_lacks_proxies_in_answers_and_in_inputs_and_nothing_else() -> None:
    whole = build_schema(create_schema().as_str()).type_map
    told = build_schema(create_schema(withheld=frozenset(PROXIES)).as_str()).type_map
    assert whole.keys() == told.keys()
    for name, type_ in whole.items():
        if not isinstance(type_, GraphQLObjectType | GraphQLInputObjectType):
            continue
        lost = set(type_.fields) - set(told[name].fields)  # type: ignore[attr-defined] # the same kind
        withheld = {"schoolType", "languages", "university"}
        assert lost == (withheld if name in {"User", "UserInput"} else set()), name
