"""One training at a time over real processes, and what becomes of runs whose process is gone."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.runs import FileLease, SqliteTrainingRuns
from domain.errors import RecordsUnavailable, TrainingCancelled, TrainingError
from domain.model import TimeWindow
from domain.ports import Begun, Busy, Replayed
from domain.runs import RunRequest, RunStatus, TrainingPhase
from tests.contracts import START, begin, end
from tests.fakes import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
KEYED = RunRequest(TimeWindow(until=START), note="keyed")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def runs(state: Path) -> SqliteTrainingRuns:
    return SqliteTrainingRuns(state, ManualClock(START))


class Trainer:
    """A process that begins and ends runs as it is told, a line a command."""

    SCRIPT = textwrap.dedent(
        """
        import json, sys
        from datetime import UTC, datetime
        from pathlib import Path
        from adapters.runs import SqliteTrainingRuns
        from domain.ports import Begun
        from domain.runs import RunRequest, RunStatus

        answer = None
        print("ready", flush=True)
        for line in sys.stdin:
            command, argument = json.loads(line)
            if command == "open":
                runs = SqliteTrainingRuns(Path(argument), lambda: datetime.now(UTC))
                told = "open"
            elif command == "begin":
                answer = runs.begin(RunRequest(), "child", argument)
                told = [type(answer).__name__, answer.run.id]
            elif command == "update":
                told = runs.update(answer.run.id, status=RunStatus(argument)).revision
            elif command == "close":
                answer.lease.close()
                told = "closed"
            print(json.dumps(told), flush=True)
        """
    )

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, command: str, argument: Any = None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, argument]) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, command: str, argument: Any = None) -> Any:
        self.tell(command, argument)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL


@contextmanager
def trainers(state: Path, count: int) -> Iterator[list[Trainer]]:
    children: list[Trainer] = []
    try:
        children.extend(Trainer() for _ in range(count))
        for child in children:
            assert child.do("open", str(state)) == "open"
        yield children
    finally:
        for child in children:
            child.process.kill()
            child.process.communicate()


class TestAKilledTraining:
    def test_is_marked_as_failed_with_a_reason(self, runs: SqliteTrainingRuns, state: Path) -> None:
        with trainers(state, 1) as (child,):
            kind, run_id = child.do("begin")
            assert kind == "Begun"
            child.do("update", "RUNNING")
            assert runs.reap() == []
            assert isinstance(runs.begin(RunRequest(), "admin", None), Busy)
            child.kill()

            (lost,) = runs.reap()

        assert lost.id == run_id
        assert lost.status is RunStatus.FAILED
        assert lost.phase is TrainingPhase.ENDED
        assert lost.finished_at == START
        assert lost.failure is not None
        assert "was killed" in lost.failure
        statuses = [change.status for change in runs.changes(run_id, 0)]
        assert statuses == [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.FAILED]

    def test_is_never_repeated(self, runs: SqliteTrainingRuns, state: Path) -> None:
        with trainers(state, 1) as (child,):
            _, run_id = child.do("begin", "key")
            child.kill()
        assert [run.id for run in runs.reap()] == [run_id]

        again = runs.begin(RunRequest(), "child", "key")

        assert isinstance(again, Replayed)
        assert again.run.status is RunStatus.FAILED
        assert runs.reap() == []
        assert [run.id for run in runs.recent(10)] == [run_id]
        assert len(runs.changes(run_id, 0)) == 2

    def test_makes_room_for_the_next_even_if_nobody_reaped_it(
        self, runs: SqliteTrainingRuns, state: Path
    ) -> None:
        with trainers(state, 1) as (child,):
            _, run_id = child.do("begin")
            child.kill()

        begun = begin(runs)

        assert runs.get(run_id).status is RunStatus.FAILED
        assert [run.id for run in runs.recent(10)] == [begun.run.id, run_id]
        begun.lease.close()

    def test_that_had_ended_stays_as_it_ended(self, runs: SqliteTrainingRuns, state: Path) -> None:
        with trainers(state, 1) as (child,):
            _, run_id = child.do("begin")
            child.do("update", "SUCCEEDED")
            child.kill()

        assert runs.reap() == []
        assert runs.get(run_id).status is RunStatus.SUCCEEDED
        begin(runs).lease.close()


class TestAnInheritedLease:
    HOLDER = "import sys; print('holding', flush=True); sys.stdin.read()"

    @contextmanager
    def holding(self, descriptor: int, *, depth: int) -> Iterator[subprocess.Popen[str]]:
        """Run a child of a child ... that holds the descriptor until its input ends."""
        script = self.HOLDER
        for _ in range(depth - 1):
            # The process between lets its own hold go, and stays until its child has ended
            script = (
                "import os, subprocess, sys\n"
                f"child = subprocess.Popen([sys.executable, '-c', {script!r}],"
                f" pass_fds=[{descriptor}])\n"
                f"os.close({descriptor})\n"
                "child.wait()"
            )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[descriptor],
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            yield process

    @pytest.mark.parametrize("depth", [1, 2], ids=["child", "grandchild"])
    def test_keeps_others_out_after_the_parent_let_go(
        self, runs: SqliteTrainingRuns, depth: int
    ) -> None:
        begun = begin(runs)
        with self.holding(begun.lease.fileno(), depth=depth):
            begun.lease.close()

            assert isinstance(runs.begin(RunRequest(), "admin", None), Busy)
            assert runs.reap() == []
            assert runs.get(begun.run.id) == begun.run

        # The holder has ended, and its run is lost
        assert [run.id for run in runs.reap()] == [begun.run.id]

    def test_is_not_passed_on_unless_asked_for(self, runs: SqliteTrainingRuns) -> None:
        begun = begin(runs)
        with subprocess.Popen(
            [sys.executable, "-c", self.HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            close_fds=False,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            begun.lease.close()

            assert [run.id for run in runs.reap()] == [begun.run.id]


def race(children: list[Trainer]) -> list[Any]:
    """Let all begin at the same moment."""
    for child in children:
        child.tell("begin")
    return [child.hear() for child in children]


class TestTwoAtTheSameMoment:
    ROUNDS = 20

    def test_one_begins_and_the_other_is_told_by_whom(
        self, runs: SqliteTrainingRuns, state: Path
    ) -> None:
        winners = []
        runs.recent(1)  # prepares the folder: see TestTheRecord
        with trainers(state, 2) as children:
            for _ in range(self.ROUNDS):
                answers = race(children)
                assert sorted(kind for kind, _ in answers) == ["Begun", "Busy"]
                assert len({run_id for _, run_id in answers}) == 1
                winner = children[0 if answers[0][0] == "Begun" else 1]
                winners.append(answers[0][1])
                winner.do("update", "SUCCEEDED")
                winner.do("close")

        assert [run.id for run in reversed(runs.recent(100))] == winners
        assert len(set(winners)) == self.ROUNDS

    def test_one_begins_even_if_the_state_folder_is_new(self, state: Path) -> None:
        with trainers(state, 2) as children:
            for number in range(self.ROUNDS):
                for child in children:
                    child.do("open", str(state / str(number)))

                answers = race(children)

                assert sorted(kind for kind, _ in answers) == ["Begun", "Busy"]
                children[0 if answers[0][0] == "Begun" else 1].do("close")

    def test_one_begins_even_if_a_lost_run_is_to_be_cleared_away(
        self, runs: SqliteTrainingRuns, state: Path
    ) -> None:
        runs.recent(1)  # prepares the folder: see TestTheRecord
        with trainers(state, 2) as children:
            for _ in range(self.ROUNDS):
                answers = race(children)
                assert sorted(kind for kind, _ in answers) == ["Begun", "Busy"]
                # Without a word of its end: it is lost
                children[0 if answers[0][0] == "Begun" else 1].do("close")
        runs.reap()

        statuses = [run.status for run in runs.recent(100)]
        assert statuses == [RunStatus.FAILED] * self.ROUNDS


class TestTheRightToTrain:
    def test_is_given_back_if_the_run_cannot_be_recorded(
        self, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_disk() -> Any:
            raise OSError("the disk is full")

        monkeypatch.setattr("time.sleep", lambda _seconds: None)
        with pytest.raises(OSError, match="the disk is full"):
            SqliteTrainingRuns(state, no_disk).begin(RunRequest(), "admin", None)

        begin(SqliteTrainingRuns(state, ManualClock())).lease.close()

    def test_held_without_a_run_is_waited_for_but_not_forever(
        self, runs: SqliteTrainingRuns, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state.mkdir()
        waited: list[float] = []
        monkeypatch.setattr("time.sleep", waited.append)
        lease = FileLease.take(state / "training.lock")
        assert lease is not None

        with pytest.raises(
            TrainingError, match=r"training\.lock is locked, but by no training run"
        ):
            runs.begin(RunRequest(), "admin", None)
        assert 1 <= sum(waited) <= 10
        lease.close()
        begin(runs).lease.close()

    def test_is_taken_as_soon_as_its_holder_lets_go(
        self, runs: SqliteTrainingRuns, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        end(runs, begin(runs))
        lease = FileLease.take(state / "training.lock")
        assert lease is not None
        # The holder has recorded its end, and lets go while the next one waits
        monkeypatch.setattr("time.sleep", lambda _seconds: lease.close())

        begin(runs).lease.close()

    def test_is_a_file_that_others_may_not_touch(
        self, runs: SqliteTrainingRuns, state: Path
    ) -> None:
        begin(runs).lease.close()

        assert (state / "training.lock").stat().st_mode & 0o077 == 0

    def test_leaks_no_descriptors(self, runs: SqliteTrainingRuns) -> None:
        begun = begin(runs)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough

        for _ in range(20):
            assert isinstance(runs.begin(RunRequest(), "admin", None), Busy)
            runs.reap()
            runs.recent(1)

        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names are enough
        begun.lease.close()


class TestTheRecord:
    def test_a_new_folder_is_waited_for_while_another_prepares_it(
        self, runs: SqliteTrainingRuns, state: Path
    ) -> None:
        state.mkdir()
        with closing(sqlite3.connect(state / "runs.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("CREATE TABLE runs_to_be (id)")
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(runs.recent, 5)
                wait([asked], timeout=0.5)
                other.execute("COMMIT")
                assert asked.result() == []

    def test_is_read_by_every_process(self, runs: SqliteTrainingRuns, state: Path) -> None:
        begun = begin(runs, KEYED, "key")
        other = SqliteTrainingRuns(state, ManualClock())

        assert other.get(begun.run.id) == begun.run
        assert other.recent(1) == [begun.run]
        changed = runs.update(begun.run.id, step=3)
        assert other.changes(begun.run.id, 1) == [changed]
        assert other.begin(KEYED, "admin", "key") == Replayed(changed)
        begun.lease.close()

    def test_of_old_runs_keeps_how_they_ended_and_of_new_ones_every_step(
        self, runs: SqliteTrainingRuns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("adapters.runs._STEPS_KEPT", 2)
        ended = []
        for _ in range(4):
            begun = begin(runs)
            for step in range(3):
                runs.update(begun.run.id, step=step)
            ended.append(end(runs, begun))

        oldest, older, newer, newest = ended
        assert [len(runs.changes(run.id, 0)) for run in ended] == [1, 1, 5, 5]
        assert runs.changes(oldest.id, 0) == [oldest]
        assert runs.changes(older.id, 2) == [older]
        assert runs.recent(9) == [newest, newer, older, oldest]

    def test_that_is_no_database_is_named(self, runs: SqliteTrainingRuns, state: Path) -> None:
        state.mkdir()
        (state / "runs.sqlite3").write_text("no database, but long enough to be taken for one" * 9)
        with pytest.raises(RecordsUnavailable, match=r"runs\.sqlite3 cannot be used: .*database"):
            runs.recent(1)

    def test_in_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        runs = SqliteTrainingRuns(tmp_path / "file" / "state", ManualClock())
        with pytest.raises(RecordsUnavailable, match=r"runs\.sqlite3 cannot be used: .*Not a dir"):
            begin(runs)

    def test_survives_a_restart(self, runs: SqliteTrainingRuns, state: Path) -> None:
        begun = begin(runs, KEYED, "key")
        ended = end(runs, begun)

        later = SqliteTrainingRuns(state, ManualClock())

        assert later.recent(5) == [ended]
        assert later.begin(KEYED, "admin", "key") == Replayed(ended)
        assert later.reap() == []

    def test_is_not_changed_by_a_run_that_was_cancelled_from_another_process(
        self, runs: SqliteTrainingRuns, state: Path
    ) -> None:
        begun = begin(runs)
        SqliteTrainingRuns(state, ManualClock()).update(begun.run.id, status=RunStatus.CANCELLED)

        with pytest.raises(TrainingCancelled):
            runs.update(begun.run.id, step=1)
        assert runs.get(begun.run.id).status is RunStatus.CANCELLED
        begun.lease.close()

    def test_of_a_change_that_fails_is_left_as_it_was(self, runs: SqliteTrainingRuns) -> None:
        begun = begin(runs)

        with pytest.raises(TypeError):
            runs.update(begun.run.id, parameters={"not for JSON": object()})

        assert runs.get(begun.run.id) == begun.run
        assert runs.changes(begun.run.id, 0) == [begun.run]
        assert runs.update(begun.run.id, step=1).revision == begun.run.revision + 1
        begun.lease.close()

    def test_takes_hostile_text_for_text(self, runs: SqliteTrainingRuns) -> None:
        hostile = "'; DROP TABLE runs; -- \N{PILE OF POO}\n\0"
        begun = begin(runs, RunRequest(note=hostile), hostile)

        assert runs.get(begun.run.id).request.note == hostile
        assert isinstance(runs.begin(RunRequest(note=hostile), "admin", hostile), Replayed)
        assert isinstance(begun, Begun)
        begun.lease.close()


class TestALostRun:
    @pytest.mark.parametrize(
        ("live", "status", "promoted"),
        [
            ("v1", RunStatus.SUCCEEDED, True),
            ("v0", RunStatus.FAILED, None),
            (None, RunStatus.FAILED, None),
        ],
    )
    def test_succeeded_if_its_model_is_live_and_failed_otherwise(
        self, state: Path, live: str | None, status: RunStatus, promoted: bool | None
    ) -> None:
        runs = SqliteTrainingRuns(state, ManualClock(), lambda: live)
        begun = begin(runs)
        runs.update(begun.run.id, model_version="v1")
        begun.lease.close()

        (lost,) = runs.reap()

        assert (lost.status, lost.promoted) == (status, promoted)
        assert (lost.failure is None) == (status is RunStatus.SUCCEEDED)

    def test_ids_sort_by_the_time_of_the_request_within_one_second_too(self, state: Path) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        moments = iter([start + timedelta(milliseconds=step) for step in range(400)])
        runs = SqliteTrainingRuns(state, lambda: next(moments))
        ids = []
        for _ in range(20):
            begun = begin(runs)
            end(runs, begun)
            ids.append(begun.run.id)
        assert ids == sorted(ids)


def test_what_is_decoded_is_known_before_there_are_threads() -> None:
    # Else the first threads that decode at once crash the process, now and then
    known = (
        "from adapters import runs, snapshots; from graphql_api import tokens; "
        "from domain.runs import Manifest, RunRequest, TrainingRun; "
        "known = [vars(each).get('__msgspec_cache__') "
        "for each in (TrainingRun, RunRequest, Manifest)]; assert None not in known, known"
    )
    subprocess.run([sys.executable, "-c", known], check=True)
