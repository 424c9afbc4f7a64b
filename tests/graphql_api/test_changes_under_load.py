"""Close, dismiss, apply, post: each is seen in the next answer of every worker, under load."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from tests.conftest import NewState, Service, serving
from tests.graphql_api.test_cataloguing import CLOSE, UPSERT
from tests.graphql_api.test_live import RECORD, done
from tests.graphql_api.test_workers import Worker, light_load, workers_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux who answers"),
]

SEEN_SECONDS = 1.0
ROUNDS = 6
NOBODY = "987654321"
JOBS = "items { source job { id } }"
ANSWERS = f"""query ($user: ID!, $job: ID!, $near: ID!, $title: String!) {{
  listed: recommendations(userId: $user, first: 100) {{ {JOBS} }}
  filtered: recommendations(userId: $user, first: 100, where: {{title: $title}}) {{ {JOBS} }}
  popular: recommendations(userId: "{NOBODY}", first: 100, where: {{title: $title}}) {{ {JOBS} }}
  session: sessionRecommendations(activities: [{{jobId: $near, kind: REDIRECT}}], first: 100)
    {{ {JOBS} }}
  similar: similarJobs(jobId: $near, first: 100) {{ items {{ job {{ id }} }} }}
  found: jobs(where: {{title: $title}}, first: 100) {{ edges {{ node {{ id isOpen }} }} }}
  likeIt: similarJobs(jobId: $job, first: 5) {{ items {{ job {{ id }} }} }}
  why: whyNot(userId: $user, jobId: $job) {{ verdict source }}
}}"""


@dataclass
class Two:
    """Both workers of a service, each over a connection that it keeps."""

    service: Service
    workers: list[tuple[Worker, http.client.HTTPConnection]]

    def change(self, turn: int, query: str, **variables: Any) -> dict[str, Any]:
        """Send a mutation to one of them, each in turn."""
        worker, connection = self.workers[turn % len(self.workers)]
        return worker.ask_over(connection, query, **variables)

    def answers(self, **variables: Any) -> list[dict[str, Any]]:
        """Return the next answer of each."""
        return [worker.ask_over(held, ANSWERS, **variables) for worker, held in self.workers]


@pytest.fixture(scope="module")
def service(
    demo_data: Path, new_state: NewState, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("changes")
    copytree(demo_data, folder / "data")
    with serving(folder / "data", new_state(), "--workers", "2") as running:
        yield running


@pytest.fixture
def two(service: Service) -> Iterator[Two]:
    with ExitStack() as held:
        found = workers_of(service)
        assert len(found) == 2
        yield Two(service, [(worker, held.enter_context(worker.connected())) for worker in found])


@pytest.fixture(scope="module")
def people(demo_data: Path) -> list[str]:
    """Return those who did most."""
    counts: dict[str, int] = {}
    for line in (demo_data / "activities.jsonl").read_text().splitlines():
        user = str(json.loads(line)["user_id"])
        counts[user] = counts.get(user, 0) + 1
    return sorted(counts, key=lambda user: -counts[user])[:50]


def shown(answer: dict[str, Any], *parts: str) -> dict[str, str]:
    """Return where the jobs of some lists of an answer come from, by id."""
    return {
        item["job"]["id"]: item.get("source", "")
        for part in parts
        for item in answer[part]["items"]
    }


LISTS = ("listed", "filtered", "popular", "session", "similar")


def top_of(two: Two, user: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the two best open jobs of somebody, with their titles."""
    query = """query ($user: ID!) { recommendations(userId: $user, first: 2) {
      items { job { id title description } } } }"""
    first, second = two.change(0, query, user=user)["recommendations"]["items"]
    return first["job"], second["job"]


def test_a_closed_job_is_gone_from_the_next_answer(two: Two, people: list[str]) -> None:
    with light_load(two.service) as load:
        for turn, user in enumerate(people[:ROUNDS]):
            job, near = top_of(two, user)
            asked = {"user": user, "job": job["id"], "near": near["id"], "title": job["title"]}
            assert all(job["id"] in shown(answer, *LISTS) for answer in two.answers(**asked))

            outcome = two.change(turn, CLOSE, ids=[job["id"]])["closeJobs"]["outcomes"][0]

            for answer in two.answers(**asked):
                assert job["id"] not in shown(answer, *LISTS)
                assert answer["why"]["verdict"] == "CLOSED"
                nodes = [edge["node"] for edge in answer["found"]["edges"]]
                assert {"id": job["id"], "isOpen": True} not in nodes
            assert outcome["change"] == "UPDATED"
    assert load.answers
    assert load.wrong == []


@pytest.mark.parametrize(("kind", "verdict"), [("DISMISS", "DISMISSED"), ("APPLY", "EXCLUDED")])
def test_what_somebody_did_is_heeded_in_the_next_answer(
    two: Two, people: list[str], kind: str, verdict: str
) -> None:
    some = people[10:20] if kind == "DISMISS" else people[20:30]
    with light_load(two.service) as load:
        for turn, user in enumerate(some[:ROUNDS]):
            job, near = top_of(two, user)
            asked = {"user": user, "job": job["id"], "near": near["id"], "title": job["title"]}

            two.change(turn, RECORD, done=[done(user, job["id"], kind)])

            for answer in two.answers(**asked):
                assert job["id"] not in shown(answer, "listed", "filtered")
                assert answer["why"]["verdict"] == verdict
                # It is theirs alone
                assert job["id"] in shown(answer, "popular")
    assert load.answers
    assert load.wrong == []


def test_a_posted_job_is_recommended_found_and_has_similar_jobs_in_the_next_answer(
    two: Two, people: list[str]
) -> None:
    waits = []
    with light_load(two.service) as load:
        for turn, user in enumerate(people[30 : 30 + ROUNDS]):
            _, near = top_of(two, user)
            job_id, title = str(70_000_000 + turn), f"{near['title']} zephyr{turn}"
            posted = {"id": job_id, "title": title, "description": near["description"]}
            asked = {"user": user, "job": job_id, "near": near["id"], "title": f"zephyr{turn}"}
            assert all(answer["likeIt"] is None for answer in two.answers(**asked))

            began = time.monotonic()
            two.change(turn, UPSERT, jobs=[posted])
            answers = two.answers(**asked)
            waits.append(time.monotonic() - began)

            for answer in answers:
                for part in ("listed", "filtered", "popular", "session"):
                    assert shown(answer, part).get(job_id) == "NEW", part
                assert job_id in shown(answer, "similar")
                assert near["id"] in shown(answer, "likeIt")
                assert answer["found"]["edges"] == [{"node": {"id": job_id, "isOpen": True}}]
                assert answer["why"] == {"verdict": "RANKED", "source": "NEW"}
            # Closed again, it is gone again
            two.change(turn + 1, CLOSE, ids=[job_id])
            for answer in two.answers(**asked):
                assert job_id not in shown(answer, *LISTS)
    assert statistics.median(waits) < SEEN_SECONDS, waits
    assert load.answers
    assert load.wrong == []
