"""A model's life in real processes: the gate, going back, damage, limits, scheduled training."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.runs import SqliteTrainingRuns
from adapters.snapshots import DirectorySnapshotStore
from domain.runs import RunStatus, TrainingRun
from tests.conftest import (
    CLIENT,
    START_SECONDS,
    TOKEN,
    Service,
    free_port,
    jobrec,
    jobrec_anew,
    serving,
)
from tests.graphql_api.test_kill import command as command_of
from tests.graphql_api.test_kill import descendants

pytestmark = pytest.mark.slow

slow = pytest.mark.slow

PATIENCE = 60
REPORT = """linesRead linesUsed linesRejected outsideWindow pairs users jobs
    usersWithRedirectsNeverShown jobsWithRedirectsNeverShown usersNotInCatalogue
    jobsNotInCatalogue pairsInTheFuture onlyFallback"""
RUN = f"""id status phase promoted refusals failure
    model {{ version }} dataReport {{ {REPORT} }}"""
RETRAIN = f"""mutation ($input: RetrainInput!) {{ retrain(input: $input) {{ __typename
    ... on RetrainAccepted {{ run {{ {RUN} }} }}
    ... on TrainingInProgress {{ run {{ id }} }} }} }}"""
ONE_RUN = f"query ($id: ID!) {{ trainingRun(id: $id) {{ {RUN} }} }}"
BATCH = """query ($users: [ID!]!) { batchRecommendations(userIds: $users, first: 20) {
    userId shortfall model { version } items { rank score source job { id title } } } }"""
MODELS = "{ models { version users jobs activities metrics { name value } } }"
LIVE = "{ model { version } }"
PROMOTE = """mutation ($version: ID!) { promoteModel(input: {version: $version}) { __typename
    ... on ModelPromoted { model { version } } ... on ModelNotUsable { message } } }"""
ROLLBACK = """mutation { rollbackModel { __typename
    ... on ModelPromoted { model { version } } ... on ModelNotUsable { message } } }"""
COMPARE = """query ($a: ID!, $b: ID!, $first: Int! = 20) {
    compareModels(a: $a, b: $b, first: $first) {
    a { version } b { version } people meanOverlap metrics { name a b }
    moved { job { id } a b } } }"""
CANCEL = """mutation ($id: ID!) { cancelTrainingRun(input: {id: $id}) { __typename
    ... on TrainingRunCancelled { run { id status } }
    ... on TrainingRunEnded { run { id status } } } }"""


def eventually(what: str, is_so: Callable[[], bool], within: float = PATIENCE) -> None:
    deadline = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)


def begin(service: Service, **options: Any) -> str:
    answer = service.data_of(RETRAIN, admin=True, input=options)["retrain"]
    assert answer["__typename"] == "RetrainAccepted", answer
    run_id: str = answer["run"]["id"]
    return run_id


def run_of(service: Service, run_id: str) -> dict[str, Any]:
    run: dict[str, Any] = service.data_of(ONE_RUN, admin=True, id=run_id)["trainingRun"]
    return run


def retrain(service: Service, **options: Any) -> dict[str, Any]:
    """Retrain and return the run when it has ended and, if promoted, answers."""
    run_id = begin(service, **options)
    eventually("the run ends", lambda: run_of(service, run_id)["status"] not in _ACTIVE)
    run = run_of(service, run_id)
    if run["promoted"]:
        until_live(service, run_id)
    return run


_ACTIVE = {"QUEUED", "RUNNING"}


def live(service: Service) -> str | None:
    """Return the version that answers, None where none does yet."""
    model = service.post(LIVE)["data"]["model"]
    return None if model is None else str(model["version"])


def until_live(service: Service, version: str) -> None:
    eventually(f"model {version} answers", lambda: live(service) == version, within=2)


def lists(service: Service) -> bytes:
    """Return the body that answers 50 people at once."""
    people = [str(user) for user in range(1, 51)]
    answer = CLIENT.post(
        f"{service.url}/graphql",
        json={"query": BATCH, "variables": {"users": people}},
        timeout=30,
    )
    assert len(answer.json()["data"]["batchRecommendations"]) == 50
    return answer.content


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path: Path, content: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in content))


def degrade(data: Path) -> None:
    """Drop all activities of half the jobs."""
    path = data / "activities.jsonl"
    write_rows(path, [row for row in rows(path) if row["job_id"] % 2])


def damage(state: Path, version: str) -> Callable[[], None]:
    """Alter a byte of a stored model, and return what mends it."""
    path = state / "models" / version / "user_factors.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    def mend() -> None:
        path.write_bytes(whole)

    return mend


def store(state: Path) -> DirectorySnapshotStore:
    return DirectorySnapshotStore(state / "models")


def runs(state: Path) -> list[TrainingRun]:
    """Return the runs of a state folder, newest first."""
    return SqliteTrainingRuns(state, lambda: datetime.now(UTC)).recent(100)


def options(data: Path, state: Path) -> list[str]:
    return ["--data", str(data), "--state", str(state)]


@pytest.fixture(scope="module")
def twice_trained(trained: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder with two models, the newer one of another seed and live."""
    state = tmp_path_factory.mktemp("twice") / "state"
    shutil.copytree(trained, state)
    jobrec("train", *options(demo_data, state), "--seed", "7")
    return state


@pytest.fixture
def state(trained: Path, tmp_path: Path) -> Path:
    """Return a state folder of one's own, with one model."""
    shutil.copytree(trained, tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def data(demo_data: Path, tmp_path: Path) -> Path:
    """Return a dataset of one's own."""
    shutil.copytree(demo_data, tmp_path / "data")
    return tmp_path / "data"


# The gate


@dataclass(frozen=True)
class Story:
    """A dataset lost half its jobs: what admins did, and what people got meanwhile.

    Attributes:
        old: the version that was live at first.
        bodies: answers at first, after the refusal, after forcing, after going back.
    """

    service: Service
    old: str
    refused: dict[str, Any]
    forced: dict[str, Any]
    rolled_back: dict[str, Any]
    bodies: tuple[bytes, bytes, bytes, bytes]


@pytest.fixture(scope="module")
def story(
    demo_data: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    shutil.copytree(demo_data, folder / "data")
    shutil.copytree(trained, folder / "state")
    with serving(folder / "data", folder / "state") as service:
        old, first = str(live(service)), lists(service)
        degrade(folder / "data")
        refused = retrain(service)
        after_refusal = lists(service)
        forced = retrain(service, force=True)
        after_forcing = lists(service)
        rolled_back = service.data_of(ROLLBACK, admin=True)["rollbackModel"]
        until_live(service, old)
        bodies = (first, after_refusal, after_forcing, lists(service))
        yield Story(service, old, refused, forced, rolled_back, bodies)


@slow
def test_model_of_half_the_catalogue_is_refused_with_figures(story: Story) -> None:
    run = story.refused
    assert (run["status"], run["promoted"], run["failure"]) == ("SUCCEEDED", False, None)
    before = len(store(story.service.state).open(story.old).arrays["job_ids"])
    after = len({row["job_id"] for row in rows(story.service.data / "activities.jsonl")})
    of_jobs = [reason for reason in run["refusals"] if "jobs" in reason]
    assert of_jobs == [
        (
            f"it knows {after:,} jobs, the live model {before:,}: "
            f"{1 - after / before:.1%} fewer, at most 30.0% are accepted"
        )
    ]
    assert run["model"]["version"] == run["id"] != story.old


@slow
def test_old_model_answers_on_after_a_refusal(story: Story) -> None:
    assert story.bodies[1] == story.bodies[0]
    assert story.old.encode() in story.bodies[0]


@slow
def test_force_lets_a_refused_model_through_and_tells_the_reasons_all_the_same(
    story: Story,
) -> None:
    run = story.forced
    assert (run["status"], run["promoted"]) == ("SUCCEEDED", True)
    assert run["refusals"] == story.refused["refusals"]
    assert run["id"].encode() in story.bodies[2]
    assert story.bodies[2] != story.bodies[0]


@slow
def test_going_back_brings_the_old_lists_back_byte_for_byte(story: Story) -> None:
    assert story.rolled_back == {"__typename": "ModelPromoted", "model": {"version": story.old}}
    assert story.bodies[3] == story.bodies[0]


@slow
def test_models_are_listed_newest_first(story: Story) -> None:
    models = story.service.data_of(MODELS, admin=True)["models"]
    assert [model["version"] for model in models] == [
        story.forced["id"],
        story.refused["id"],
        story.old,
    ]
    for model in models:
        manifest = store(story.service.state).open(model["version"]).manifest
        assert (model["users"], model["jobs"]) == (manifest.users, manifest.jobs)
        assert {metric["name"]: metric["value"] for metric in model["metrics"]} == manifest.metrics
        assert manifest.metrics["ndcg@10"] > 0
    assert models[0]["activities"] == len(rows(story.service.data / "activities.jsonl"))
    assert models[2]["jobs"] > 1.5 * models[0]["jobs"]


@slow
def test_model_equals_itself(story: Story) -> None:
    found = story.service.data_of(COMPARE, admin=True, a=story.old, b=story.old)["compareModels"]
    assert (found["meanOverlap"], found["moved"]) == (1.0, [])
    assert found["people"] > 100
    assert {metric["name"] for metric in found["metrics"]} > {"ndcg@10", "recall@10", "map@10"}
    assert all(metric["a"] == metric["b"] for metric in found["metrics"])


@slow
def test_models_of_the_same_data_and_seed_are_equal(story: Story) -> None:
    a, b = story.refused["id"], story.forced["id"]
    found = story.service.data_of(COMPARE, admin=True, a=a, b=b)["compareModels"]
    assert (found["meanOverlap"], found["moved"]) == (1.0, [])


@slow
def test_comparison_names_the_jobs_that_moved_most(story: Story) -> None:
    found = story.service.data_of(COMPARE, admin=True, a=story.old, b=story.forced["id"], first=100)
    comparison = found["compareModels"]
    assert 0 < comparison["meanOverlap"] < 0.6
    changes = [abs(moved["b"] - moved["a"]) for moved in comparison["moved"]]
    assert len(changes) == 100
    assert changes == sorted(changes, reverse=True)
    gone = [moved for moved in comparison["moved"] if int(moved["job"]["id"]) % 2 == 0]
    assert gone
    assert all(moved["a"] > 0 and moved["b"] == 0 for moved in gone)

    few = story.service.data_of(COMPARE, admin=True, a=story.old, b=story.forced["id"], first=3)
    assert few["compareModels"]["moved"] == comparison["moved"][:3]


@slow
def test_comparison_with_an_unknown_model_is_null(story: Story) -> None:
    for a, b in ((story.old, "nobody's"), ("20200101T000000Z-000000", story.old), ("../x", "y")):
        found = story.service.data_of(COMPARE, admin=True, a=a, b=b)
        assert found["compareModels"] is None


@slow
@pytest.mark.parametrize("version", ["nobody's", "../state", "20200101T000000Z-000000", ""])
def test_unknown_model_cannot_be_promoted(story: Story, version: str) -> None:
    before = (story.service.state / "models" / "LIVE").read_bytes()
    found = story.service.data_of(PROMOTE, admin=True, version=version)["promoteModel"]
    assert found["__typename"] == "ModelNotUsable"
    assert repr(version) in found["message"]
    assert (story.service.state / "models" / "LIVE").read_bytes() == before
    assert live(story.service) == story.old


@slow
def test_damaged_model_cannot_be_promoted_and_a_whole_one_can(story: Story) -> None:
    service, version = story.service, story.refused["id"]
    pointer = service.state / "models" / "LIVE"
    before = pointer.read_bytes()
    mend = damage(service.state, version)
    found = service.data_of(PROMOTE, admin=True, version=version)["promoteModel"]
    assert found["__typename"] == "ModelNotUsable"
    assert f"{version}/user_factors.npy was altered" in found["message"]
    assert pointer.read_bytes() == before
    assert lists(service) == story.bodies[0]
    mend()

    found = service.data_of(PROMOTE, admin=True, version=version)["promoteModel"]

    assert found == {"__typename": "ModelPromoted", "model": {"version": version}}
    until_live(service, version)
    assert service.data_of(ROLLBACK, admin=True)["rollbackModel"]["model"]["version"] == story.old
    until_live(service, story.old)


@slow
def test_there_is_nothing_to_go_back_to_behind_the_first_model(story: Story) -> None:
    found = story.service.data_of(ROLLBACK, admin=True)["rollbackModel"]
    assert found == {
        "__typename": "ModelNotUsable",
        "message": "no model was live before the live one, or it is not stored",
    }
    assert live(story.service) == story.old


# Cancelling, and learning from a window


@pytest.fixture(scope="module")
def patient(
    demo_data: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run the service with trainings long enough to be cancelled."""
    state = tmp_path_factory.mktemp("patient") / "state"
    shutil.copytree(trained, state)
    with serving(demo_data, state, "--hold-out", "0", "--iterations", "300") as service:
        yield service


@slow
def test_cancelled_run_leaves_the_live_model_and_the_way_to_the_next(patient: Service) -> None:
    before = live(patient)
    run_id = begin(patient)
    eventually("it fits", lambda: run_of(patient, run_id)["phase"] == "FITTING")

    found = patient.data_of(CANCEL, admin=True, id=run_id)["cancelTrainingRun"]
    again = patient.data_of(CANCEL, admin=True, id=run_id)["cancelTrainingRun"]

    assert found == {
        "__typename": "TrainingRunCancelled",
        "run": {"id": run_id, "status": "CANCELLED"},
    }
    assert again == {"__typename": "TrainingRunEnded", "run": {"id": run_id, "status": "CANCELLED"}}
    next_run = retrain(patient)
    assert (next_run["status"], next_run["promoted"]) == ("SUCCEEDED", True)
    cancelled = run_of(patient, run_id)
    assert (cancelled["status"], cancelled["model"], cancelled["promoted"]) == (
        "CANCELLED",
        None,
        None,
    )
    assert before != run_id
    stored = {manifest.version for manifest in store(patient.state).manifests()}
    assert run_id not in stored


@slow
def test_run_that_has_ended_cannot_be_cancelled(patient: Service) -> None:
    (ended,) = [run for run in runs(patient.state) if run.requested_by == "command line"]
    found = patient.data_of(CANCEL, admin=True, id=ended.id)["cancelTrainingRun"]
    assert found == {
        "__typename": "TrainingRunEnded",
        "run": {"id": ended.id, "status": "SUCCEEDED"},
    }


@slow
def test_run_that_nobody_knows_cannot_be_cancelled(patient: Service) -> None:
    (error,) = patient.post(CANCEL, admin=True, id="nobody's")["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "id"}
    assert "nobody's" in error["message"]


@slow
def test_window_narrows_what_is_learned_from(patient: Service) -> None:
    times = [row["timestamp"] for row in rows(patient.data / "activities.jsonl")]
    middle = sorted(times)[len(times) // 2]
    since, until = (datetime.fromtimestamp(int(middle) + days * 86_400, UTC) for days in (-20, 10))
    inside = sum(since.timestamp() <= time < until.timestamp() for time in times)
    assert 0 < inside < len(times)

    run = retrain(patient, since=since.isoformat(), until=until.isoformat(), force=True)

    assert (run["status"], run["promoted"]) == ("SUCCEEDED", True)
    assert run["dataReport"]["outsideWindow"] == len(times) - inside
    manifest = store(patient.state).open(run["id"]).manifest
    assert manifest.activities == inside
    assert manifest.since is not None
    assert manifest.until is not None
    assert since <= manifest.since <= manifest.until < until


# Damage found at start


@slow
def test_newest_good_model_answers_where_the_live_one_is_damaged(
    demo_data: Path, twice_trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(twice_trained, tmp_path / "state")
    newer, older = [manifest.version for manifest in store(twice_trained).manifests()]
    damage(tmp_path / "state", newer)

    with serving(demo_data, tmp_path / "state") as service:
        assert live(service) == older
        ready = CLIENT.get(f"{service.url}/readyz")
        assert ready.status_code == 200
        assert ready.json()["model"] == older
        (reason,) = ready.json()["reasons"]
        assert f"the promoted model is not usable: {newer}/user_factors.npy was altered" in reason


@contextmanager
def not_ready(data: Path, state: Path) -> Iterator[Service]:
    """Run the service over a state from which it cannot answer."""
    port, log = free_port(), state.parent / "serve.log"
    command = [sys.executable, "-m", "graphql_api", "serve", *options(data, state)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "JOBREC_ADMIN_TOKEN": TOKEN},
        )
    service = Service(f"http://127.0.0.1:{port}", TOKEN, data, state, process, log)

    def is_alive() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(CLIENT.get(f"{service.url}/healthz").json() == {"alive": True})
        except httpx.TransportError:
            return False

    try:
        eventually("it listens", is_alive, START_SECONDS)
        yield service
    finally:
        process.terminate()
        process.wait(20)


@slow
def test_without_a_usable_model_it_says_so_until_one_is_trained(data: Path, state: Path) -> None:
    (manifest,) = store(state).manifests()
    damage(state, manifest.version)

    with not_ready(data, state) as service:
        ready = CLIENT.get(f"{service.url}/readyz")
        assert ready.status_code == 503
        assert ready.json()["ready"] is False
        (reason,) = ready.json()["reasons"]
        assert f"{manifest.version}/user_factors.npy was altered" in reason
        for field in ("model { version }", "recommendations(userId: 1) { userId }"):
            (error,) = service.post(f"{{ {field} }}")["errors"]
            assert error["extensions"] == {"code": "MODEL_NOT_READY", "retryAfter": 5}

        run = retrain(service)

        assert (run["status"], run["promoted"]) == ("SUCCEEDED", True)
        ready = CLIENT.get(f"{service.url}/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {"ready": True, "model": run["id"], "reasons": []},
        )


# On the command line


def test_models_on_the_command_line(demo_data: Path, twice_trained: Path, tmp_path: Path) -> None:
    shutil.copytree(twice_trained, tmp_path / "state")
    state = ["--state", str(tmp_path / "state")]
    newer, older = store(twice_trained).manifests()

    marks = [line.split()[:2] for line in jobrec("models", "list", *state).stdout.splitlines()]
    assert marks[0] == ["*", newer.version]
    assert marks[1][0] == older.version
    listed = [
        json.loads(line) for line in jobrec("models", "list", *state, "--json").stdout.splitlines()
    ]
    assert [(record["version"], record["live"]) for record in listed] == [
        (newer.version, True),
        (older.version, False),
    ]

    shown = json.loads(jobrec("models", "show", *state, older.version).stdout)
    assert (shown["version"], shown["seed"], shown["users"]) == (older.version, 42, older.users)
    assert shown["metrics"] == older.metrics

    compared = jobrec(
        "models", "compare", *options(demo_data, tmp_path / "state"), older.version, newer.version
    ).stdout
    assert f"ndcg@10{older.metrics['ndcg@10']:>43.4f}{newer.metrics['ndcg@10']:>26.4f}" in compared
    (overlap,) = re.findall(r"top-10 overlap over [\d,]+ people: ([\d.]+)", compared)
    assert 0.3 < float(overlap) < 1
    assert len(re.findall(r"^ +[\d.]+% -> +[\d.]+%  \d+", compared, re.MULTILINE)) == 10

    assert f"model {older.version} is live" in jobrec("models", "rollback", *state).stdout
    assert store(tmp_path / "state").live() == older.version
    assert (
        f"model {newer.version} is live"
        in jobrec("models", "promote", *state, newer.version).stdout
    )
    assert store(tmp_path / "state").live() == newer.version


def test_models_that_are_not_usable_exit_4_with_the_reason(state: Path) -> None:
    (manifest,) = store(state).manifests()
    damage(state, manifest.version)
    before = (state / "models" / "LIVE").read_bytes()
    for arguments, says in (
        (["show", manifest.version], f"{manifest.version}/user_factors.npy was altered"),
        (["promote", manifest.version], f"{manifest.version}/user_factors.npy was altered"),
        (["promote", "20200101T000000Z-000000"], "no model version '20200101T000000Z-000000'"),
        (["rollback"], "no model was live before"),
    ):
        result = jobrec("models", *arguments, "--state", state, check=False)
        assert (result.returncode, result.stdout) == (4, ""), arguments
        assert says in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert (state / "models" / "LIVE").read_bytes() == before


def test_refused_training_exits_7_and_force_lets_it_through(data: Path, state: Path) -> None:
    (old,) = store(state).manifests()
    degrade(data)

    refused = jobrec("train", *options(data, state), "--iterations", "2", check=False)
    assert refused.returncode == 7
    assert "promotion policy: it knows" in refused.stdout
    assert "at most 30.0% are accepted" in refused.stdout
    assert "was NOT promoted" in refused.stdout
    assert store(state).live() == old.version

    forced = jobrec("train", *options(data, state), "--iterations", "2", "--force")
    assert "promotion policy: it knows" in forced.stdout
    (newest, *_) = store(state).manifests()
    assert f"model {newest.version} is live" in forced.stdout
    assert store(state).live() == newest.version


@contextmanager
def training(data: Path, state: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a training that goes on, and end it at the latest with the block."""
    command = [sys.executable, "-m", "graphql_api", "train", *options(data, state), *arguments]
    log = state.parent / "train.log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=output, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[str], state: Path) -> None:
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert "Traceback" not in (state.parent / "train.log").read_text()


QUICK = ("--iterations", "1", "--factors", "8", "--hold-out", "0")


@slow
def test_training_at_intervals_goes_on_until_it_is_interrupted(data: Path, state: Path) -> None:
    before = len(runs(state))

    def scheduled() -> list[TrainingRun]:
        return [run for run in runs(state)[:-before] if run.status is RunStatus.SUCCEEDED]

    with training(data, state, *QUICK, "--every", "1s") as process:
        eventually("two more runs succeed", lambda: len(scheduled()) >= 2)
        interrupt(process, state)
    succeeded = scheduled()
    assert store(state).live() == succeeded[0].id
    gap = succeeded[0].requested_at - succeeded[1].requested_at
    assert 1 <= gap.total_seconds() < 5


@slow
def test_training_follows_changes_of_the_activities(data: Path, state: Path) -> None:
    with training(data, state, *QUICK, "--watch") as process:
        eventually("a model", lambda: len(store(state).manifests()) == 2)
        first = store(state).manifests()[0]
        with (data / "activities.jsonl").open("a") as file:
            file.write('{"timestamp":1,"job_id":1,"user_id":1,"type":"impression"}\n')
        eventually("a model of the change", lambda: len(store(state).manifests()) == 3)
        second = store(state).manifests()[0]
        assert second.activities == first.activities + 1
        eventually("it is live", lambda: store(state).live() == second.version)
        interrupt(process, state)
    assert len(store(state).manifests()) == 3


# Limits of the machine


@slow
def test_full_disk_fails_the_run_with_the_reason_and_the_old_model_answers_on(
    demo_data: Path, state: Path
) -> None:
    # 862 people x 512 numbers exceed a megabyte; the record of runs does not
    with serving(
        demo_data, state, "--factors", "512", "--iterations", "2", "--hold-out", "0"
    ) as service:
        before = lists(service)
        # A training inherits the limits of the process that begins it
        _, most = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (1 << 20, most))
        run = retrain(service)
        assert (run["status"], run["promoted"], run["model"]) == ("FAILED", None, None)
        assert run["failure"] == f"cannot store version {run['id']}: [Errno 27] File too large"
        assert lists(service) == before
        assert not [path for path in (state / "models").iterdir() if run["id"] in path.name]

        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (most, most))
        again = retrain(service)
        assert (again["status"], again["promoted"]) == ("SUCCEEDED", True)


def test_training_without_room_for_its_record_says_so_and_works_once_there_is(
    data: Path, state: Path
) -> None:
    before = runs(state)
    # The record is what has no room, not a catalogue
    kept = (*options(data, state), "--catalog", "jsonl")
    command = [sys.executable, "-m", "graphql_api", "train", *kept, *QUICK]
    limit = (state / "runs.sqlite3").stat().st_size // 2

    result = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )

    assert result.returncode == 8, result.stderr
    assert "Traceback" not in result.stderr
    assert f"jobrec: {state / 'runs.sqlite3'} cannot be used: " in result.stderr
    jobrec("train", *kept, *QUICK)
    succeeded, lost = runs(state)[: -len(before)]
    assert (succeeded.status, lost.status) == (RunStatus.SUCCEEDED, RunStatus.FAILED)
    assert store(state).live() == succeeded.id


def hang(trainer: int, state: Path) -> None:
    """Stop a training as if it hung in a library: it hears of nothing any more.

    Others must be able to write, so it is not stopped while it records a step.
    """
    with closing(sqlite3.connect(state / "runs.sqlite3", timeout=0)) as database:
        while True:
            os.kill(trainer, signal.SIGSTOP)
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(trainer, signal.SIGCONT)
            else:
                database.execute("ROLLBACK")
                return


@slow
def test_cancelled_training_that_does_not_stop_is_killed_and_the_next_one_begins(
    demo_data: Path, state: Path
) -> None:
    with serving(demo_data, state, "--iterations", "10000", "--hold-out", "0") as service:
        run_id = begin(service)
        eventually("it fits", lambda: run_of(service, run_id)["phase"] == "FITTING")
        (trainer,) = [
            process
            for process in descendants(service.process.pid)
            if b"execute-run" in command_of(process)
        ]
        hang(trainer, state)
        answer = service.data_of(CANCEL, admin=True, id=run_id)["cancelTrainingRun"]
        assert answer["__typename"] == "TrainingRunCancelled"
        eventually("its process is gone", lambda: command_of(trainer) == b"", within=30)
        eventually("the log tells", lambda: "did not stop and is killed" in service.log.read_text())
        next_id = begin(service)
        assert run_of(service, run_id)["status"] == "CANCELLED"
        service.data_of(CANCEL, admin=True, id=next_id)


@slow
def test_first_training_holds_no_secret_and_ends_with_the_service(
    demo_data: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-m", "graphql_api", "serve", *options(demo_data, state)]
    log = tmp_path / "serve.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--port", str(free_port()), "--iterations", "10000"],
            stdout=output,
            stderr=output,
            env={**os.environ, "JOBREC_ADMIN_TOKEN": TOKEN},
        ) as service,
    ):
        try:
            eventually("it fits", lambda: any(run.phase == "FITTING" for run in runs(state)))
            (trainer,) = [
                process
                for process in descendants(service.pid)
                if command_of(process).endswith(b"\0train\0")
            ]
            assert TOKEN.encode() in Path(f"/proc/{service.pid}/environ").read_bytes()
            assert TOKEN.encode() not in Path(f"/proc/{trainer}/environ").read_bytes()
        finally:
            service.terminate()
            service.wait(PATIENCE)
    eventually("the training is gone", lambda: command_of(trainer) == b"")
    (run,) = runs(state)
    assert (run.status, run.failure) == (RunStatus.CANCELLED, "interrupted from the keyboard")
    assert "Traceback" not in log.read_text()


@slow
def test_training_without_memory_fails_with_the_reason_and_the_old_model_stays(
    state: Path, tmp_path: Path
) -> None:
    # 100,000 people x 4,096 numbers take 1.6 GB; everything else takes less than 1 GB
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "activities.jsonl").write_text(
        "".join(
            f'{{"user_id":{user},"job_id":{user % 500},"type":"apply"}}\n'
            for user in range(100_000)
        )
    )
    (folder / "users.jsonl").touch()
    (folder / "jobs.jsonl").touch()
    before = store(state).live()
    command = [sys.executable, "-m", "graphql_api", "train", *options(folder, state)]
    limit = 1_000 << 20

    result = subprocess.run(
        [*command, "--factors", "4096", "--hold-out", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )

    assert result.returncode == 5, result.stderr
    assert "Traceback" not in result.stderr
    assert "the training ran out of memory" in result.stderr
    newest = runs(state)[0]
    assert (newest.status, newest.failure) == (RunStatus.FAILED, "the training ran out of memory")
    assert store(state).live() == before


# The health of the data


@slow
def test_report_of_the_demo_dataset_equals_counts_made_apart(story: Story, demo_data: Path) -> None:
    run = run_of(story.service, story.old)
    activities = rows(demo_data / "activities.jsonl")
    people = {row["user_id"] for row in rows(demo_data / "users.jsonl")}
    adverts = {row["job_id"] for row in rows(demo_data / "jobs.jsonl")}

    def ids(side: str, *kinds: str) -> set[int]:
        return {row[side] for row in activities if not kinds or row["type"] in kinds}

    expected = {
        "linesRead": len(activities),
        "linesUsed": len(activities),
        "linesRejected": 0,
        "outsideWindow": 0,
        "pairs": len({(row["user_id"], row["job_id"]) for row in activities}),
        "users": len(ids("user_id")),
        "jobs": len(ids("job_id")),
        "usersWithRedirectsNeverShown": len(
            ids("user_id", "redirect") - ids("user_id", "impression")
        ),
        "jobsWithRedirectsNeverShown": len(ids("job_id", "redirect") - ids("job_id", "impression")),
        "usersNotInCatalogue": len(ids("user_id") - people),
        "jobsNotInCatalogue": len(ids("job_id") - adverts),
        "pairsInTheFuture": 0,
        "onlyFallback": pytest.approx(len(people - ids("user_id")) / len(people)),
    }
    assert run["dataReport"] == expected
    assert run["dataReport"]["usersWithRedirectsNeverShown"] > 0
    assert run["dataReport"]["jobsNotInCatalogue"] > 0


def test_report_of_a_dataset_written_by_hand(tmp_path: Path) -> None:
    now = datetime.now(UTC).timestamp()
    write_rows(tmp_path / "users.jsonl", [{"user_id": user} for user in (1, 2, 3, 4, 5)])
    write_rows(
        tmp_path / "jobs.jsonl", [{"job_id": job, "description": "x"} for job in (10, 11, 12)]
    )
    write_rows(
        tmp_path / "activities.jsonl",
        [
            {"user_id": user, "job_id": job, "type": kind, "timestamp": when}
            for user, job, kind, when in (
                (1, 10, "impression", now - 100),
                (1, 10, "redirect", now + 86_400),  # in the future, like the next
                (1, 11, "impression", now + 86_400),
                (2, 10, "redirect", now - 50),  # never shown any job
                (2, 12, "apply", now - 40),  # the job never shown nor redirected to
                (3, 13, "redirect", now - 30),  # a job not listed and never shown
                (3, 11, "impression", now - 20),
                (9, 10, "impression", now - 10),  # a person not listed
            )
        ],
    )
    result = jobrec("train", *options(tmp_path, tmp_path / "state"))

    (run,) = runs(tmp_path / "state")
    report = run.data_report
    assert {kind: count for kind, count in report["activities"].items() if count} == {
        "impression": 4,
        "redirect": 3,
        "apply": 1,
    }
    assert (report["pairs"], report["users"], report["jobs"]) == (7, 4, 4)
    assert report["users_with_redirects_never_shown"] == 1
    assert report["jobs_with_redirects_never_shown"] == 1
    assert report["users_not_in_catalogue"] == 1
    assert report["jobs_not_in_catalogue"] == 1
    assert report["pairs_in_the_future"] == 2
    assert report["only_fallback"] == pytest.approx(2 / 5)
    assert "note: 2 pairs with an activity in the future" in result.stdout
    assert "40.0% of the people in the catalogue get popular jobs only" in result.stdout


# The same again


@slow
def test_same_data_and_seed_give_the_same_bytes_and_another_seed_does_not(
    demo_data: Path, tmp_path: Path
) -> None:
    def files(name: str, *arguments: str) -> list[bytes]:
        state = tmp_path / name
        jobrec_anew("train", *options(demo_data, state), "--hold-out", "0", *arguments)
        folder = state / "models" / str(store(state).live())
        return [(folder / f"{side}_factors.npy").read_bytes() for side in ("user", "job")]

    first = files("first", "--threads", "1")
    assert files("second", "--threads", "2") == first
    assert files("measured", "--hold-out", "0.1") == first
    other = files("other", "--seed", "43")
    assert other[0] != first[0]
    assert other[1] != first[1]
