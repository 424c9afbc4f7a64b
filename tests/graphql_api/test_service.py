"""The real service over HTTP: a demo dataset in, recommendations out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CLIENT, Service, serving

# Processes of their own take their time
pytestmark = pytest.mark.slow

LIST = """userId shortfall model { version users jobs }
          items { rank score source job { id title employer { name } isOpen } }"""
RECOMMEND = f"""query ($user: ID!, $first: Int! = 10, $where: JobFilter) {{
    recommendations(userId: $user, first: $first, where: $where) {{ {LIST} }} }}"""
BATCH = f"query ($users: [ID!]!) {{ batchRecommendations(userIds: $users) {{ {LIST} }} }}"
RUN = """id status phase step totalSteps promoted refusals failure note
         model { version } dataReport { linesRead linesUsed rejected { cause lines } }"""
RETRAIN = f"""mutation ($input: RetrainInput!) {{ retrain(input: $input) {{ __typename
    ... on RetrainAccepted {{ replayed run {{ {RUN} }} }}
    ... on TrainingInProgress {{ run {{ id }} }}
    ... on IdempotencyKeyReused {{ message }} }} }}"""
ONE_RUN = f"query ($id: ID!) {{ trainingRun(id: $id) {{ {RUN} }} }}"

UNKNOWN = "900000000"


def ended(service: Service, run_id: str) -> dict[str, Any]:
    """Ask for a run, as a front end would, until it has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run: dict[str, Any] = service.data_of(ONE_RUN, admin=True, id=run_id)["trainingRun"]
        if run["status"] in {"SUCCEEDED", "FAILED", "CANCELLED"}:
            return run
        time.sleep(0.05)
    pytest.fail(f"run {run_id} did not end within 60 s: {run}")


def retrain(service: Service, **options: Any) -> dict[str, Any]:
    answer = service.data_of(RETRAIN, admin=True, input=options)["retrain"]
    assert answer["__typename"] == "RetrainAccepted", answer
    return ended(service, answer["run"]["id"])


def until_live(service: Service, version: str) -> None:
    deadline = time.monotonic() + 5
    while service.data_of("{ model { version } }")["model"]["version"] != version:
        assert time.monotonic() < deadline, f"model {version} did not go live within 5 s"


def test_known_person_gets_personal_open_jobs_with_titles(service: Service) -> None:
    found = service.data_of(RECOMMEND, user="1")["recommendations"]

    assert found["userId"] == "1"
    assert found["shortfall"] is None
    assert [item["rank"] for item in found["items"]] == list(range(1, 11))
    assert {item["source"] for item in found["items"]} == {"PERSONALISED"}
    assert len({item["job"]["id"] for item in found["items"]}) == 10
    assert all(item["job"]["isOpen"] for item in found["items"])
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)


def test_unknown_person_gets_popular_jobs_marked_as_such(service: Service) -> None:
    found = service.data_of(RECOMMEND, user=UNKNOWN)["recommendations"]
    assert [item["source"] for item in found["items"]] == ["POPULAR"] * 10


def test_batch_of_100_people_equals_100_single_queries(service: Service) -> None:
    users = [str(user) for user in (*range(1, 98), 1, int(UNKNOWN), 5)]
    batch = service.data_of(BATCH, users=users)["batchRecommendations"]
    singles = [service.data_of(RECOMMEND, user=user)["recommendations"] for user in users]
    assert batch == singles


def test_what_a_person_applied_to_is_left_out_unless_asked_for(service: Service) -> None:
    lines = (service.data / "activities.jsonl").read_text().splitlines()
    applied = [line for line in map(json.loads, lines) if line["type"] == "apply"]
    assert applied
    for line in applied[:20]:
        answer = service.data_of(RECOMMEND, user=str(line["user_id"]), first=100)
        shown = {item["job"]["id"] for item in answer["recommendations"]["items"]}
        assert str(line["job_id"]) not in shown


def test_filter_narrows_the_list_and_says_when_it_is_short(service: Service) -> None:
    first = service.data_of(RECOMMEND, user="1")["recommendations"]["items"][0]["job"]
    where = {"employer": first["employer"]["name"].upper()}
    found = service.data_of(RECOMMEND, user="1", first=100, where=where)["recommendations"]
    assert found["items"]
    assert {item["job"]["employer"]["name"] for item in found["items"]} == {
        first["employer"]["name"]
    }
    assert found["shortfall"] == "FILTER"


def test_similar_jobs_are_never_the_job_itself_and_finite(service: Service) -> None:
    query = """query ($job: ID!) { similarJobs(jobId: $job, first: 100) {
        job { id } items { rank score job { id } } } }"""
    found = service.data_of(query, job="3")["similarJobs"]
    ids = [item["job"]["id"] for item in found["items"]]
    assert found["job"]["id"] == "3"
    assert len(set(ids)) == len(ids)
    assert "3" not in ids
    assert all(-1 <= item["score"] <= 1 for item in found["items"])
    assert service.data_of(query, job=UNKNOWN)["similarJobs"] is None


def test_job_and_pages_of_the_catalogue(service: Service) -> None:
    page = """query ($first: Int!, $after: String) { jobs(first: $first, after: $after) {
        edges { cursor node { id postedAt } } pageInfo { hasNextPage endCursor } } }"""
    seen: list[str] = []
    dates: list[str] = []
    after = None
    while True:
        found = service.data_of(page, first=100, after=after)["jobs"]
        seen += [edge["node"]["id"] for edge in found["edges"]]
        dates += [edge["node"]["postedAt"] for edge in found["edges"]]
        if not found["pageInfo"]["hasNextPage"]:
            break
        after = found["pageInfo"]["endCursor"]
    lines = (service.data / "jobs.jsonl").read_text().splitlines()
    assert sorted(seen, key=int) == sorted(
        (str(json.loads(line)["job_id"]) for line in lines), key=int
    )
    assert dates == sorted(dates, reverse=True)

    one = service.data_of("query ($id: ID!) { job(id: $id) { id title } }", id=seen[0])["job"]
    assert one["id"] == seen[0]
    assert one["title"]
    assert service.data_of("{ job(id: 900000000) { id } }")["job"] is None
    some = service.data_of(
        f"{{ jobs(ids: [{seen[3]}, {UNKNOWN}]) {{ edges {{ node {{ id }} }} }} }}"
    )
    assert some["jobs"]["edges"] == [{"node": {"id": seen[3]}}]


@pytest.mark.parametrize(
    ("field", "argument", "says"),
    [
        (
            "recommendations(userId: 1, first: 0) { userId }",
            "first",
            "first is 0, expected 1 to 100",
        ),
        ("recommendations(userId: 1, first: 101) { userId }", "first", "first is 101"),
        ("recommendations(userId: -1) { userId }", "userId", "userId is '-1', expected an integer"),
        ('recommendations(userId: "x") { userId }', "userId", "userId is 'x'"),
        ('recommendations(userId: "01") { userId }', "userId", "userId is '01'"),
        (
            f'jobs(where: {{title: "{"x" * 201}"}}) {{ edges {{ cursor }} }}',
            "title",
            "title has 201 characters, at most 200",
        ),
        (
            'recommendations(userId: "9223372036854775808") { userId }',
            "userId",
            "9223372036854775807",
        ),
        ("similarJobs(jobId: 1, first: 1000) { job { id } }", "first", "first is 1000"),
        ('jobs(after: "nonsense") { edges { cursor } }', "after", "'nonsense', which is no cursor"),
        (
            f"batchRecommendations(userIds: {list(range(1001))}) {{ userId }}",
            "userIds",
            "1,001 ids",
        ),
        (
            'recommendations(userId: 1, where: {postedAfter: "2026-01-01T00:00:00"}) { userId }',
            "postedAfter",
            "has no time zone",
        ),
    ],
)
def test_bad_argument_is_named_with_its_value_and_its_siblings_still_answer(
    service: Service, field: str, argument: str, says: str
) -> None:
    answer = service.post(f"{{ bad: {field} model {{ version }} }}")
    (error,) = answer["errors"]
    assert says in error["message"]
    assert error["path"] == ["bad"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}
    assert answer["data"]["bad"] is None
    assert answer["data"]["model"]["version"]


def test_mistakes_in_a_document_have_codes(service: Service) -> None:
    for query, code in (("{", "GRAPHQL_PARSE_FAILED"), ("{ nope }", "GRAPHQL_VALIDATION_FAILED")):
        (error,) = service.post(query)["errors"]
        assert error["extensions"]["code"] == code


@pytest.mark.parametrize("body", [b"null", b"123", b'"x"', b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_body_that_is_no_request_is_refused_as_json(service: Service, body: bytes) -> None:
    answer = CLIENT.post(
        f"{service.url}/graphql", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


def test_too_large_a_body_is_refused_also_without_a_length(service: Service) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    answer = CLIENT.post(
        f"{service.url}/graphql", content=chunks(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["extensions"]["code"] == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize(
    "operation",
    [
        "mutation { retrain(input: {}) { __typename } }",
        'mutation { cancelTrainingRun(input: {id: "x"}) { __typename } }',
        'mutation { promoteModel(input: {version: "x"}) { __typename } }',
        "mutation { rollbackModel { __typename } }",
        "{ models { version } }",
        '{ compareModels(a: "x", b: "y") { people } }',
    ],
)
def test_what_admins_do_is_forbidden_to_others(service: Service, operation: str) -> None:
    (error,) = service.post(operation)["errors"]
    assert error["extensions"]["code"] == "FORBIDDEN"
    for given in ("Bearer wrong", service.admin_token):
        answer = CLIENT.post(
            f"{service.url}/graphql", json={"query": operation}, headers={"Authorization": given}
        )
        assert answer.status_code == 401
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "UNAUTHENTICATED"


def test_retraining_runs_beside_serving_and_then_switches(service: Service) -> None:
    before = service.data_of("{ model { version } }")["model"]["version"]
    begun = service.data_of(RETRAIN, admin=True, input={"note": "beside"})["retrain"]
    assert begun["__typename"] == "RetrainAccepted"
    assert begun["replayed"] is False

    versions = set()
    while service.data_of(ONE_RUN, id=begun["run"]["id"])["trainingRun"]["status"] in {
        "QUEUED",
        "RUNNING",
    }:
        found = service.data_of(RECOMMEND, user="2")["recommendations"]
        assert len(found["items"]) == 10
        versions.add(found["model"]["version"])
        time.sleep(0.02)

    run = ended(service, begun["run"]["id"])
    assert before in versions
    assert (run["status"], run["promoted"], run["refusals"]) == ("SUCCEEDED", True, [])
    assert run["note"] == "beside"
    report = run["dataReport"]
    assert report["linesRead"] == report["linesUsed"] > 0
    until_live(service, run["model"]["version"])
    assert run["model"]["version"] != before


def test_same_key_gives_the_same_run_and_another_input_is_told(service: Service) -> None:
    first = service.data_of(RETRAIN, admin=True, input={"idempotencyKey": "k1"})["retrain"]
    again = service.data_of(RETRAIN, admin=True, input={"idempotencyKey": "k1"})["retrain"]
    other = service.data_of(RETRAIN, admin=True, input={"idempotencyKey": "k1", "note": "x"})
    assert again["replayed"] is True
    assert again["run"]["id"] == first["run"]["id"]
    assert other["retrain"]["__typename"] == "IdempotencyKeyReused"
    assert first["run"]["id"] in other["retrain"]["message"]
    busy = service.data_of(RETRAIN, admin=True, input={})["retrain"]
    assert (busy["__typename"], busy["run"]["id"]) == ("TrainingInProgress", first["run"]["id"])
    ended(service, first["run"]["id"])


NEWEST_FAILURE = "{ trainingRuns(first: 1) { failure } }"
SAFE_FAILURE = "the data cannot be used"


def test_run_that_fails_says_why_and_the_old_model_answers(demo_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in demo_data.iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    with serving(data, tmp_path / "state") as service:
        before = service.data_of(RECOMMEND, user="1")
        (data / "activities.jsonl").write_text('{"nothing": "useful"}\n')
        run = retrain(service)
        assert (run["status"], run["promoted"]) == ("FAILED", None)
        assert "missing field" in run["failure"]
        assert "activities.jsonl, line 1" in run["failure"]
        # Lines of the data may be personal
        for query in (f'{{ trainingRun(id: "{run["id"]}") {{ failure }} }}', NEWEST_FAILURE):
            (shown,) = service.data_of(query).values()
            assert shown in ({"failure": SAFE_FAILURE}, [{"failure": SAFE_FAILURE}])
        assert service.data_of(RECOMMEND, user="1") == before


def test_probes_and_metrics(service: Service) -> None:
    assert CLIENT.get(f"{service.url}/healthz").json() == {"alive": True}
    ready = CLIENT.get(f"{service.url}/readyz")
    live = service.data_of("{ model { version } }")["model"]["version"]
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "model": live, "reasons": []}
    service.post("{ job(id: -1) { id } }")
    text = CLIENT.get(f"{service.url}/metrics").text
    assert 'jobrec_requests_total{operation="job",outcome="BAD_USER_INPUT"}' in text
    assert 'jobrec_request_seconds_count{operation="model"}' in text
    assert f'jobrec_model_info{{version="{live}"}} 1.0' in text
    assert "jobrec_model_age_seconds" in text
    assert 'jobrec_training_run_seconds_count{outcome="succeeded"}' in text


def test_token_is_in_no_line_of_the_log(service: Service) -> None:
    service.data_of("{ models { version } }", admin=True)
    assert service.admin_token not in service.log.read_text()


def test_at_most_five_errors_are_told(service: Service) -> None:
    fields = " ".join(f'a{n}: recommendations(userId: "x{n}") {{ userId }}' for n in range(9))
    answer = service.post(f"{{ {fields} }}")
    assert [error["path"] for error in answer["errors"]] == [[f"a{n}"] for n in range(5)]
    assert answer["data"] == {f"a{n}": None for n in range(9)}


@pytest.mark.slow
def test_what_nobody_foresaw_is_masked_and_the_log_has_it_under_the_id_told(
    demo_data: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with serving(demo_data, state, "--iterations", "1") as service:
        for path in state.glob("runs.sqlite3*"):
            path.write_bytes(b"no database, but long enough to be taken for one" * 100)
        answer = service.post("{ trainingRuns { id } model { version } }")
        (error,) = answer["errors"]
        assert error["path"] == ["trainingRuns"]
        assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
        correlation_id = error["extensions"]["correlationId"]
        assert error["message"].endswith(f"the log has it under {correlation_id}")
        assert "sqlite" not in json.dumps(answer)
        assert answer["data"]["trainingRuns"] is None
        assert answer["data"]["model"]["version"]
        (line,) = [line for line in service.log.read_text().splitlines() if correlation_id in line]
        assert "runs.sqlite3 cannot be used" in line
