"""The command line, in processes of its own: what it prints, and what it says when refused."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import pytest
from graphql import build_schema
from strawberry.printer import print_schema

from adapters.runs import SqliteTrainingRuns
from domain.ports import Begun
from domain.runs import RunRequest, RunStatus
from graphql_api.command_line import main
from graphql_api.schema import create_schema
from tests.conftest import jobrec, jobrec_anew

# Processes of their own take their time
pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRANGER = 999_999
COMMAND = [sys.executable, "-m", "graphql_api"]
PATIENCE = 60


@dataclass(frozen=True)
class Trained:
    """What `demo` and `train` left behind, and what they printed."""

    data: Path
    state: Path
    demo: subprocess.CompletedProcess[str]
    train: subprocess.CompletedProcess[str]

    @property
    def options(self) -> list[str]:
        return ["--data", str(self.data), "--state", str(self.state)]

    def ask(self, command: str, *arguments: str) -> Any:
        """Return a command's answer, read as JSON."""
        return json.loads(jobrec(command, *self.options, *arguments, "--json").stdout)

    def people(self, count: int) -> list[int]:
        """Return some people who did something."""
        with (self.data / "activities.jsonl").open() as lines:
            ids = {json.loads(line)["user_id"]: None for line in lines}
        return list(ids)[:count]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    data, state = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("state")
    demo = jobrec("demo", "--data", data, "--scale", "0.02", "--until", "2026-11-01")
    train = jobrec("train", "--data", data, "--state", state)
    return Trained(data, state, demo, train)


def runs_of(state: Path) -> SqliteTrainingRuns:
    return SqliteTrainingRuns(state, lambda: datetime.now(UTC))


def refused(code: int, *arguments: str | Path, **environment: str) -> str:
    """Run a command that must exit with a code, and return the one line that says why."""
    result = jobrec(*arguments, check=False, **environment)
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == code, result.stderr
    *before, message = result.stderr.strip().splitlines()
    # A usage error shows the usage first, a training its phases and what it read
    others = r"Usage: |Try |$|\w+ \.\.\.$|INFO "
    assert all(re.match(others, line) for line in before), result.stderr
    assert re.match(r"jobrec: |Error: ", message), message
    return message


class TestDemoThenTrain:
    def test_demo_says_what_it_wrote(self, trained: Trained) -> None:
        numbers = re.findall(r"(\d[\d,]*) (\w+)", trained.demo.stdout.split(": ", 1)[1])
        count = {what: int(number.replace(",", "")) for number, what in numbers}

        assert set(count) == {"jobs", "people", "impressions", "redirects", "applications"}
        activities = count["impressions"] + count["redirects"] + count["applications"]
        assert activities == lines_of(trained.data / "activities.jsonl")
        assert count["jobs"] == lines_of(trained.data / "jobs.jsonl")
        assert count["people"] == lines_of(trained.data / "users.jsonl")
        assert trained.demo.stderr == ""

    def test_train_says_what_it_read_and_what_went_live(self, trained: Trained) -> None:
        read = lines_of(trained.data / "activities.jsonl")
        first, second, *_, last = trained.train.stdout.splitlines()

        assert first == f"activities: read {read:,} = used {read:,} + rejected 0"
        assert re.fullmatch(r"learned from [\d,]+ pairs of [\d,]+ people and [\d,]+ jobs", second)
        (run,) = runs_of(trained.state).recent(5)
        assert run.status is RunStatus.SUCCEEDED
        assert re.fullmatch(rf"model {run.model_version} is live after [\d.]+ s", last)

    def test_progress_is_plain_lines_where_there_is_no_terminal(self, trained: Trained) -> None:
        lines = trained.train.stderr.splitlines()

        phases = [line for line in lines if not line.startswith("INFO ")]
        expected = ["reading", "evaluating", "fitting", "writing", "promoting"]
        assert phases == [f"{phase} ..." for phase in expected]
        assert "\r" not in trained.train.stderr

    def test_demo_spares_a_dataset_that_is_there(self, trained: Trained) -> None:
        before = (trained.data / "jobs.jsonl").read_bytes()

        message = refused(2, "demo", "--data", trained.data, "--scale", "0.02")

        assert str(trained.data) in message
        assert "another folder" in message
        assert (trained.data / "jobs.jsonl").read_bytes() == before

    def test_demo_writes_the_same_bytes_all_day(self, tmp_path: Path) -> None:
        contents: list[bytes] = []
        while len(contents) < 2:
            day = datetime.now(UTC).date()
            folder = tmp_path / str(len(contents)) / str(day)
            jobrec_anew("demo", "--data", folder, "--scale", "0.002")
            if datetime.now(UTC).date() != day:
                contents.clear()  # midnight passed: begin again
                continue
            contents.append((folder / "activities.jsonl").read_bytes())

        assert contents[0] == contents[1]


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n")


class TestRecommend:
    def test_a_person_gets_a_table(self, trained: Trained) -> None:
        person = str(trained.people(1)[0])

        table = jobrec("recommend", *trained.options, person).stdout.splitlines()

        assert len(table) == 10
        for rank, line in enumerate(table, 1):
            assert re.match(rf" *{rank}  +[\d.]+  (PERSONALISED|POPULAR) +\d+ ", line), line

    def test_the_table_and_the_json_say_the_same(self, trained: Trained) -> None:
        person = str(trained.people(1)[0])

        answer = trained.ask("recommend", person, "--first", "3")
        table = jobrec("recommend", *trained.options, person, "--first", "3").stdout

        assert answer["user_id"] == int(person)
        assert answer["shortfall"] is None
        assert [item["rank"] for item in answer["items"]] == [1, 2, 3]
        scores = [item["score"] for item in answer["items"]]
        assert scores == sorted(scores, reverse=True)
        rows = [line.split()[:4] for line in table.splitlines()]
        assert rows == [
            [str(item["rank"]), f"{item['score']:.4f}", item["source"], str(item["job_id"])]
            for item in answer["items"]
        ]

    def test_a_stranger_gets_popular_jobs(self, trained: Trained) -> None:
        items = trained.ask("recommend", str(STRANGER))["items"]

        assert len(items) == 10
        assert {item["source"] for item in items} == {"POPULAR"}

    def test_many_people_get_what_each_would_get_alone(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        people = [*trained.people(2), STRANGER]
        asked = [*people, people[0]]
        ids, out = tmp_path / "ids", tmp_path / "out.jsonl"
        ids.write_text("".join(f" {id_}\n" for id_ in asked))

        result = jobrec("recommend", *trained.options, "--users", ids, "--out", out, "--first", "4")

        singly = {id_: trained.ask("recommend", str(id_), "--first", "4") for id_ in people}
        assert [json.loads(line) for line in out.read_text().splitlines()] == [
            singly[id_] for id_ in asked
        ]
        assert (result.stdout, result.stderr) == ("", "4 lists written\n")

    def test_lists_come_while_ids_still_go_in(self, trained: Trained) -> None:
        with subprocess.Popen(
            [*COMMAND, "recommend", *trained.options, "--users", "-", "--first", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("".join(f"{number}\n" for number in range(1_000)))
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            assert ready, "nothing came before the input ended"
            rest, errors = process.communicate("1000\n", timeout=PATIENCE)

        answers = [json.loads(line) for line in rest.splitlines()]
        assert [answer["user_id"] for answer in answers] == list(range(1_001))
        assert errors == "1,001 lists written\n"

    def test_a_reader_that_goes_away_is_no_accident(self, trained: Trained) -> None:
        with subprocess.Popen(
            [*COMMAND, "recommend", *trained.options, "--users", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.close()
            process.stdout = None
            _, errors = process.communicate("1\n2\n", timeout=PATIENCE)

        assert "Traceback" not in errors

    def test_nobody_asked_for_is_nothing_written(self, trained: Trained, tmp_path: Path) -> None:
        ids, out = tmp_path / "ids", tmp_path / "out.jsonl"
        ids.touch()

        jobrec("recommend", *trained.options, "--users", ids, "--out", out)

        assert out.read_bytes() == b""

    @pytest.mark.parametrize(
        ("content", "fragments"),
        [
            (b"5\n\n6\n", ["line 2", "''"]),
            (b"5\n6\nx7\n", ["line 3", "'x7'", "an integer from 0"]),
            (b"-5\n", ["line 1", "'-5'", "an integer from 0"]),
            (b"9223372036854775808\n", ["9223372036854775808", "0 to 9223372036854775807"]),
            (b"5\n\xff\n", ["not UTF-8"]),
        ],
        ids=["blank", "no number", "negative", "too large", "no text"],
    )
    def test_a_bad_line_of_ids_is_named(
        self, trained: Trained, tmp_path: Path, content: bytes, fragments: list[str]
    ) -> None:
        ids = tmp_path / "ids.txt"
        ids.write_bytes(content)

        message = refused(2, "recommend", *trained.options, "--users", ids)

        assert all(fragment in message for fragment in fragments), message

    def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        ids, out = tmp_path / "ids", tmp_path / "out.jsonl"
        ids.write_text("1\n" * 1_000 + "x\n")
        out.write_text("what was there")

        refused(2, "recommend", *trained.options, "--users", ids, "--out", out, "--first", "1")

        assert out.read_text() == "what was there"

    def test_an_output_that_cannot_be_written_is_named(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        ids, out = tmp_path / "ids", tmp_path / "not" / "there"
        ids.write_text("1\n")

        assert str(out) in refused(2, "recommend", *trained.options, "--users", ids, "--out", out)


class TestSimilar:
    def test_a_job_gets_others_like_it(self, trained: Trained) -> None:
        (job,) = {item["job_id"] for item in trained.ask("recommend", "1", "--first", "1")["items"]}

        answer = trained.ask("similar", str(job), "--first", "5")
        table = jobrec("similar", *trained.options, str(job), "--first", "5").stdout

        ids = [item["job_id"] for item in answer["items"]]
        assert answer["job_id"] == job
        assert len(set(ids)) == len(ids) == 5
        assert job not in ids
        assert all(-1 <= item["score"] <= 1 for item in answer["items"])
        assert [line.split()[2] for line in table.splitlines()] == [str(id_) for id_ in ids]


def _without_value(sdl: str, name: str) -> str:
    """Return a schema without an enum value and its description."""
    return re.sub(rf'  """[^"]*"""\n  {name}\n', "", sdl)


class TestSchema:
    def test_is_what_strawberry_prints(self) -> None:
        printed = jobrec("schema").stdout

        assert printed == print_schema(create_schema()) + "\n"
        query_type = build_schema(printed).query_type
        assert query_type is not None
        assert query_type.fields

    def test_has_not_changed_since_itself(self, tmp_path: Path) -> None:
        old = tmp_path / "old.graphql"
        old.write_text(create_schema().as_str())

        compared = jobrec("schema", "--diff", old)

        assert compared.stdout == f"0 breaking and 0 dangerous changes since {old}\n"

    def test_names_what_breaks_or_endangers_clients_and_exits_9(self, tmp_path: Path) -> None:
        old = tmp_path / "old.graphql"
        sdl = create_schema().as_str()
        for now, then in (
            ("type Query {", "type Query {\n  horoscope: String\n"),
            ("rank: Int!", "rank: Float!"),
            ("first: Int! = 20", "first: Int! = 21"),
        ):
            assert now in sdl
            sdl = sdl.replace(now, then)
        old.write_text(_without_value(sdl, "FILTER"))

        compared = jobrec("schema", "--diff", old, check=False)

        *changes, summary = compared.stdout.splitlines()
        breaking = [line for line in changes if line.startswith("breaking: ")]
        dangerous = [line for line in changes if line.startswith("dangerous: ")]
        assert compared.returncode == 9
        assert compared.stderr == ""
        assert breaking + dangerous == changes
        assert any("Query.horoscope" in line and "removed" in line for line in breaking)
        assert any("Recommendation.rank" in line and "Int!" in line for line in breaking)
        assert any("jobs(first:)" in line and "21" in line for line in dangerous)
        assert any("FILTER" in line and "added" in line for line in dangerous)
        counts = f"{len(breaking)} breaking and {len(dangerous)} dangerous changes"
        assert summary == f"{counts} since {old}"

    def test_with_dangerous_changes_only_exits_0(self, tmp_path: Path) -> None:
        old = tmp_path / "old.graphql"
        old.write_text(_without_value(create_schema().as_str(), "FILTER"))

        compared = jobrec("schema", "--diff", old)

        assert compared.stdout.startswith("dangerous: ")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"type Query {", "line 1: Syntax Error: Expected Name, found <EOF>"),
            (b"type Query { a: Missing }", "not valid: Unknown type 'Missing'"),
            (b"{ model { version } }", "no type Query"),
            (b"\xff", "not UTF-8"),
        ],
    )
    def test_cannot_be_compared_with_what_is_no_schema(
        self, tmp_path: Path, content: bytes, reason: str
    ) -> None:
        old = tmp_path / "old.graphql"
        old.write_bytes(content)

        assert reason in refused(2, "schema", "--diff", old)


BAD_ARGUMENTS = [
    ("train --factors 0", ["factors", "0", "1..4096"]),
    ("train --factors many", ["FACTORS", "'many'", "integer"]),
    ("train --iterations 10001", ["iterations", "10001", "1..10000"]),
    ("train --threads -1", ["THREADS", "-1", "0"]),
    ("train --regularization 0", ["regularization", "0.0", "above 0"]),
    ("train --alpha nan", ["alpha", "nan", "finite", "above 0"]),
    ("train --apply-weight inf", ["apply_weight", "inf", "finite"]),
    ("train --seed 4294967296", ["seed", "4294967296", "0..4294967295"]),
    ("train --keep-models 0", ["keep_models", "0", "below 1"]),
    ("train --max-rejected 1.5", ["MAX_REJECTED", "1.5", "less than or equal to 1"]),
    ("train --since yesterday", ["'yesterday'", "RFC 3339"]),
    ("train --since 2026-02-01 --until 2026-01-01", ["2026-02-01", "not before", "2026-01-01"]),
    ("train --verbosely", ["--verbosely"]),
    ("recommend 1 --first 0", ["first", "0", "1 to 100"]),
    ("recommend 1 --first 101", ["first", "101", "1 to 100"]),
    ("recommend 1 --unlisted perhaps", ["UNLISTED", "'perhaps'", "'serve' or 'hide'"]),
    ("recommend me", ["USER_ID", "'me'", "an integer from 0"]),
    ("recommend 9223372036854775808", ["9223372036854775808", "0 to 9223372036854775807"]),
    ("recommend", ["USER_ID", "--users"]),
    ("recommend 1 --users -", ["USER_ID", "--users"]),
    ("recommend --users /not/there", ["--users", "/not/there"]),
    ("similar x", ["JOB_ID", "'x'", "an integer from 0"]),
    ("similar 999999", ["999999"]),
    ("serve --port 65536", ["PORT", "65536", "65535"]),
    ("serve --workers 0", ["WORKERS", "0", "1"]),
    ("recommend-all", ["recommend-all"]),
]
RefusedHere = Callable[[list[str]], str]


class TestABadArgument:
    @pytest.fixture
    def refused_here(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> RefusedHere:
        """Do as `refused` does, in this process: to start it so often would take long."""
        for name in list(os.environ):
            if name.startswith("JOBREC_"):
                monkeypatch.delenv(name)

        def run(arguments: list[str]) -> str:
            monkeypatch.setattr(sys, "argv", ["jobrec", *arguments])
            with pytest.raises(SystemExit) as exited:
                main()
            printed = capsys.readouterr()
            assert (exited.value.code, printed.out) == (2, "")
            return printed.err.strip().splitlines()[-1]

        return run

    @pytest.mark.parametrize(
        ("line", "fragments"),
        [
            *BAD_ARGUMENTS,
            ("train --log-level loud", ["LOG_LEVEL", "loud"]),
        ],
    )
    def test_is_named_with_its_value_and_the_bound(
        self,
        trained: Trained,
        tmp_path: Path,
        refused_here: RefusedHere,
        line: str,
        fragments: list[str],
    ) -> None:
        command, *arguments = line.split()
        state = tmp_path / "state" if command == "train" else trained.state
        takes_options = command in {"train", "recommend", "similar", "serve"}
        options = ["--data", str(trained.data), "--state", str(state)] if takes_options else []

        message = refused_here([command, *options, *arguments])

        assert all(fragment in message for fragment in fragments), message

    @pytest.mark.parametrize(
        ("arguments", "fragments"),
        [
            ("--scale 0", ["scale", "0"]),
            ("--seed -1", ["seed", "-1"]),
            ("--applies -1", ["applies", "-1"]),
            ("--scale large", ["--scale", "'large'"]),
            ("--until tomorrow", ["'tomorrow'", "RFC 3339"]),
        ],
    )
    def test_of_demo_writes_nothing(
        self, tmp_path: Path, refused_here: RefusedHere, arguments: str, fragments: list[str]
    ) -> None:
        folder = tmp_path / "data"

        message = refused_here(["demo", "--data", str(folder), *arguments.split()])

        assert all(fragment in message for fragment in fragments), message
        assert not folder.exists()

    def test_leaves_no_run_behind(self, trained: Trained, tmp_path: Path) -> None:
        refused(2, "train", "--data", trained.data, "--state", tmp_path, "--factors", "0")

        assert runs_of(tmp_path).recent(5) == []


class TestVariables:
    def test_work_in_place_of_options(self, trained: Trained) -> None:
        answer = jobrec(
            "recommend",
            str(STRANGER),
            "--json",
            JOBREC_DATA=str(trained.data),
            JOBREC_STATE=str(trained.state),
        )

        assert json.loads(answer.stdout) == trained.ask("recommend", str(STRANGER))

    def test_give_way_to_options(self, trained: Trained) -> None:
        answer = jobrec(
            "recommend",
            *trained.options,
            str(STRANGER),
            "--unlisted",
            "hide",
            JOBREC_DATA="/not/there",
            JOBREC_STATE="/not/there",
            JOBREC_UNLISTED="perhaps",
        )

        assert len(answer.stdout.splitlines()) == 10

    def test_choose_how_to_learn(self, trained: Trained, tmp_path: Path) -> None:
        jobrec(
            "train",
            "--data",
            trained.data,
            "--iterations",
            "2",
            JOBREC_STATE=str(tmp_path),
            JOBREC_FACTORS="3",
            JOBREC_ITERATIONS="4",
            JOBREC_SEED="7",
        )

        (run,) = runs_of(tmp_path).recent(5)
        assert run.parameters["seed"] == 7
        assert run.parameters["trainer"]["factors"] == 3
        assert run.parameters["trainer"]["iterations"] == 2

    @pytest.mark.parametrize(
        ("variable", "value", "bound"),
        [
            ("JOBREC_MAX_REJECTED", "5", "less than or equal to 1"),
            ("JOBREC_STRICT", "maybe", "boolean"),
            ("JOBREC_SEED", "1.5", "integer"),
        ],
    )
    def test_that_are_bad_are_named(
        self, trained: Trained, variable: str, value: str, bound: str
    ) -> None:
        message = refused(2, "train", *trained.options, **{variable: value})

        assert message.startswith(f"jobrec: {variable} is '{value}': ")
        assert bound in message


@pytest.fixture
def flawed(trained: Trained, tmp_path: Path) -> Path:
    """Return a copy of the dataset whose third line is bad."""
    folder = tmp_path / "flawed"
    shutil.copytree(trained.data, folder)
    path = folder / "activities.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"job_id":5.5}\n', *lines[2:]]))
    return folder


class TestBadData:
    def test_a_strict_training_stops_at_the_first_bad_line(
        self, flawed: Path, tmp_path: Path
    ) -> None:
        state = tmp_path / "state"
        result = jobrec("train", "--data", flawed, "--state", state, "--strict", check=False)

        assert result.returncode != 0
        assert "Traceback" not in result.stderr
        message = result.stderr.splitlines()[-1]
        assert 'activities.jsonl, line 3: wrong type: {"job_id":5.5}' in message
        (run,) = runs_of(state).recent(5)
        assert run.status is RunStatus.FAILED
        assert run.failure is not None
        assert run.failure in message
        assert not (state / "models" / "LIVE").exists()

    def test_a_tolerant_training_says_what_it_left_out(self, flawed: Path, tmp_path: Path) -> None:
        result = jobrec("train", "--data", flawed, "--state", tmp_path / "state")

        read = lines_of(flawed / "activities.jsonl")
        first, second, *_ = result.stdout.splitlines()
        assert first == f"activities: read {read:,} = used {read - 1:,} + rejected 1"
        assert second.startswith(
            '  1 x wrong type; first: activities.jsonl, line 3: wrong type: {"job_id":5.5}; '
            "expected job_id: "
        )

    def test_a_training_stops_where_more_is_bad_than_accepted(
        self, flawed: Path, tmp_path: Path
    ) -> None:
        result = jobrec(
            *("train", "--data", flawed, "--state", tmp_path / "state", "--max-rejected", "0"),
            check=False,
        )

        assert result.returncode != 0
        assert "Traceback" not in result.stderr
        read = lines_of(flawed / "activities.jsonl")
        assert f"1 of {read:,} lines are bad, more than 0.00% (--max-rejected)" in result.stderr
        assert "activities.jsonl, line 3: wrong type" in result.stderr

    @pytest.mark.parametrize("options", [["--strict"], ["--data", "/not/there"]])
    def test_a_training_that_cannot_use_its_data_exits_3(
        self, flawed: Path, tmp_path: Path, options: list[str]
    ) -> None:
        refused(3, "train", "--data", flawed, "--state", tmp_path / "state", *options)

    def test_a_missing_dataset_is_said_with_what_to_do(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        training = jobrec("train", "--data", tmp_path, "--state", tmp_path / "state", check=False)
        asking = refused(3, "recommend", "--data", tmp_path, "--state", trained.state, "1")

        assert training.returncode != 0
        for message, name in ((training.stderr, "activities"), (asking, "jobs")):
            assert f"no {name}.jsonl" in message
            assert str(tmp_path) in message
            assert "jobrec demo" in message


class TestOtherRefusals:
    @pytest.mark.parametrize("command", ["recommend", "similar"])
    def test_without_a_model_answers_exit_4(
        self, trained: Trained, tmp_path: Path, command: str
    ) -> None:
        message = refused(4, command, "--data", trained.data, "--state", tmp_path, "1")

        assert "no usable model" in message
        assert "jobrec train" in message

    def test_a_damaged_model_is_named_and_exits_4(self, trained: Trained, tmp_path: Path) -> None:
        state = tmp_path / "state"
        shutil.copytree(trained.state, state)
        damaged = next((state / "models").glob("*/scores.npy"))
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")

        result = jobrec("recommend", "--data", trained.data, "--state", state, "1", check=False)

        assert result.returncode == 4
        assert "Traceback" not in result.stderr
        assert f"{damaged.parent.name}/scores.npy was altered" in result.stderr

    def test_a_training_that_fails_exits_5(self, trained: Trained, tmp_path: Path) -> None:
        (tmp_path / "models").symlink_to("a-volume-that-is-not-mounted")

        message = refused(5, "train", "--data", trained.data, "--state", tmp_path)

        assert "cannot store version" in message
        (run,) = runs_of(tmp_path).recent(5)
        assert run.status is RunStatus.FAILED
        assert run.failure is not None
        assert run.failure in message

    def test_factors_that_overflow_are_said_with_what_to_do(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        result = jobrec(
            *("train", "--data", trained.data, "--state", tmp_path, "--alpha", "1e38"),
            check=False,
        )

        assert result.returncode == 5
        assert "Traceback" not in result.stderr
        assert "not finite" in result.stderr

    def test_a_training_while_another_is_under_way_exits_6(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        runs = runs_of(tmp_path)
        begun = runs.begin(RunRequest(), "another", None)
        assert isinstance(begun, Begun)

        message = refused(6, "train", "--data", trained.data, "--state", tmp_path)

        assert begun.run.id in message
        assert "under way" in message
        assert runs.recent(5) == [begun.run]
        begun.lease.close()
        jobrec("train", "--data", trained.data, "--state", tmp_path, "--iterations", "1")


@contextmanager
def training(trained: Trained, state: Path, errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a training that nobody would wait for, and end it at the latest with the block."""
    options = ["--data", str(trained.data), "--state", str(state), "--iterations", "10000"]
    with subprocess.Popen(
        [*COMMAND, "train", *options], stdout=subprocess.DEVNULL, stderr=errors
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(stream: IO[bytes] | int, wanted: bytes) -> bytes:
    descriptor = stream if isinstance(stream, int) else stream.fileno()
    seen = b""
    while wanted not in seen:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert ready, seen
        chunk = os.read(descriptor, 4096)
        assert chunk, seen
        seen += chunk
    return seen


class TestInterrupting:
    def test_a_training_cancels_it_and_exits_130(self, trained: Trained, tmp_path: Path) -> None:
        with training(trained, tmp_path, subprocess.PIPE) as process:
            assert process.stderr is not None
            read_until(process.stderr, b"fitting ...")
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=PATIENCE)[1]

        assert process.returncode == 130
        assert b"Traceback" not in errors
        (run,) = runs_of(tmp_path).recent(5)
        assert run.status is RunStatus.CANCELLED
        assert run.failure == "interrupted from the keyboard"
        assert not (tmp_path / "models" / "LIVE").exists()

    def test_on_a_terminal_a_bar_shows_the_progress_of_what_takes_long(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(ours, (24, 80))
        with training(trained, tmp_path, theirs) as process:
            os.close(theirs)
            shown = read_until(ours, b"%|")
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        os.close(ours)

        assert re.search(rb"fitting: +\d+%\|", shown)
        assert b"..." not in shown
