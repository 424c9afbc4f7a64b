"""What tests share: the real service on a demo dataset."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx
import pytest
from hypothesis import settings
from selenium import webdriver

from adapters.demo import write_demo
from tests import node
from tests.browser import chromium
from tests.processes import run_module

TOKEN = "a token of the tests"  # noqa: S105 - not a secret
START_SECONDS = 60

# How long an example takes is up to what else the machine does
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Hundreds of processes shall not compile the same sources each
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Every call has a connection of its own, so that each worker of a service gets its share; the
# client is one, for loading the authorities of TLS takes longer than most answers
CLIENT = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


@dataclass(frozen=True)
class Service:
    """A running `jobrec serve`."""

    url: str
    admin_token: str
    data: Path
    state: Path
    process: subprocess.Popen[str]
    log: Path

    def post(self, query: str, *, admin: bool = False, **variables: Any) -> dict[str, Any]:
        """Send one operation and return the whole answer."""
        headers = {"Authorization": f"Bearer {self.admin_token}"} if admin else {}
        answer = CLIENT.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, headers=headers
        )
        body: dict[str, Any] = answer.json()
        return body

    def data_of(self, query: str, *, admin: bool = False, **variables: Any) -> dict[str, Any]:
        """Send one operation that must succeed and return its data."""
        answer = self.post(query, admin=admin, **variables)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data


NewState = Callable[[], Path]


def jobrec(
    *arguments: str | Path, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    done = run_module("graphql_api", [*map(str, arguments)], _environment(environment), 120)
    if check:
        done.check_returncode()
    return done


def jobrec_anew(
    *arguments: str | Path, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new interpreter, where how that begins is of importance."""
    return subprocess.run(
        [sys.executable, "-m", "graphql_api", *map(str, arguments)],
        check=check,
        capture_output=True,
        text=True,
        timeout=120,
        env=_environment(environment),
    )


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("JOBREC_")}
    # Types of employers take seconds of every training; the tests that want them say so
    own = {"JOBREC_EMPLOYERS": "off", **own}
    return {**own, "PYTHONWARNINGS": "default", **extra}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


PERSONAL = re.compile(
    r"ethnicity|gender|graduation_year|school_type|languages|university|degree_subject",
    re.IGNORECASE,
)


def assert_discreet(log: str, *secrets: str) -> None:
    """Check that no line of a service's log holds a secret or a field of a person."""
    for number, line in enumerate(log.splitlines(), 1):
        for secret in secrets:
            assert secret not in line, f"line {number} of the log holds a token"
        assert not PERSONAL.search(line), f"line {number} of the log is personal"


@contextmanager
def serving(
    data: Path, state: Path, *options: str, token: str = TOKEN, **environment: str
) -> Iterator[Service]:
    """Run `jobrec serve` until the block ends; ready when entered."""
    port = free_port()
    log = state.parent / f"serve-{port}.log"
    command = [sys.executable, "-m", "graphql_api", "serve", "--data", str(data)]
    command += ["--state", str(state), "--port", str(port), *options]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment({"JOBREC_ADMIN_TOKEN": token, **environment}),
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, token, process, log)
        yield Service(url, token, data, state, process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            assert_discreet(log.read_text(errors="replace"), token)


def _wait_until_ready(url: str, token: str, process: subprocess.Popen[str], log: Path) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    deadline = datetime.now(UTC) + timedelta(seconds=START_SECONDS)
    while datetime.now(UTC) < deadline:
        if process.poll() is not None:
            pytest.fail(f"serve ended with {process.returncode}:\n{log.read_text()}")
        try:
            answer = CLIENT.post(
                f"{url}/graphql",
                json={"query": "{ model { version } }"},
                headers=headers,
                timeout=5,
            )
        except httpx.TransportError:
            # Not listening yet: ask again, as a load balancer would
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            if answer.status_code == 200 and answer.json()["data"]["model"]:
                return
    pytest.fail(f"serve was not ready within {START_SECONDS} s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a demo dataset of a twentieth of the reference size."""
    folder = tmp_path_factory.mktemp("demo")
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    write_demo(folder, scale=0.05, seed=7, until=until, applies=400)
    return folder


@pytest.fixture(scope="session")
def trained(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder with a model of the demo dataset, to copy."""
    state = tmp_path_factory.mktemp("trained") / "state"
    jobrec("train", "--data", demo_data, "--state", state)
    return state


@pytest.fixture(scope="session")
def new_state(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> NewState:
    """Return what makes state folders of one's own, with a model of the demo dataset."""
    return lambda: copytree(trained, tmp_path_factory.mktemp("state") / "state")


@pytest.fixture(scope="session")
def service(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the real service on the demo dataset."""
    with serving(demo_data, tmp_path_factory.mktemp("state") / "state") as running:
        yield running


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with GraphQL clients from npm, ready to run."""
    folder = tmp_path_factory.mktemp("clients")
    node.install(Path(__file__).parent / "clients", folder)
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Run a fresh browser."""
    with chromium(tmp_path / "profile") as chrome:
        yield chrome
