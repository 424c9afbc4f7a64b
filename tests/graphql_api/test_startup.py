"""What a serving process loads, which is most of what its start takes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from graphql_api.absent import absent
from graphql_api.forking import CAN_FORK
from tests.conftest import NewState

# Only learning, measuring, tests, other catalogues and tokens of other issuers need these
IDLE = {
    *("implicit", "tqdm", "sklearn", "gensim", "regex", "optuna", "pandas", "redis"),
    *("jwt", "cryptography", "fastapi", "werkzeug", "yaml", "numpy.f2py"),
    *("adapters.als", "adapters.baselines", "adapters.demo", "adapters.employers"),
    *("adapters.redis_catalog", "application.evaluating", "application.tuning"),
}

# Packages that an answer is made with; what asks for it in the test loads others
ANSWERING = {
    *("domain", "application", "adapters", "graphql_api", "strawberry", "graphql", "starlette"),
    *("numpy", "scipy", "lmdb", "msgspec", "orjson", "pydantic", "limits", "prometheus_client"),
    "threadpoolctl",
}

ANSWER = """
import asyncio, gc, sys
import httpx
import graphql_api.__main__
from graphql_api.app import from_environment

async def answer():
    app = from_environment()
    transport = httpx.ASGITransport(app)
    query = "{ recommendations(userId: 1) { items { job { title } } } }"
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        answer = (await client.post("/graphql", json={"query": query})).json()
    assert answer["data"]["recommendations"]["items"], answer
    assert gc.isenabled() and gc.get_freeze_count()

asyncio.run(answer())
print(*sys.modules)
"""

BEGIN = """
import os, sys
from contextlib import suppress
import graphql_api.__main__

sys.argv = ["jobrec", "serve", "--help"]
with suppress(SystemExit):
    graphql_api.__main__.main()
assert "numpy" in sys.modules
variables = [f"{name}={value}" for name, value in os.environ.items() if "BLAS_NUM" in name]
print(len(os.listdir("/proc/self/task")), *variables)
"""

SUPERVISE = """
import sys
from graphql_api import command_line

command_line._run_server = lambda *_, **__: print(*sys.modules)
command_line.CAN_FORK = {can_fork}
command_line.cli(["serve", "--workers", "2"])
"""


@pytest.fixture(scope="module")
def answering(demo_data: Path, new_state: NewState) -> set[str]:
    """Return the modules of a process that has answered."""
    return _loaded_by(ANSWER, demo_data, new_state())


def test_a_worker_loads_nothing_that_answering_does_not_need(answering: set[str]) -> None:
    assert {"strawberry", "adapters.factors"} <= answering
    # The command line is what starts workers, not what they run
    assert answering & {*IDLE, "graphql_api.command_line"} == set()


@pytest.mark.skipif(not CAN_FORK, reason="workers are not forked here")
def test_what_forks_workers_has_loaded_all_that_they_answer_with_and_no_more(
    demo_data: Path, new_state: NewState, answering: set[str]
) -> None:
    loaded = _loaded_by(SUPERVISE.format(can_fork=True), demo_data, new_state())
    ours = {name for name in answering if name.partition(".")[0] in ANSWERING}
    assert {"graphql_api.app", "scipy.sparse", "lmdb"} <= ours
    # Each makes a schema of its own, which loads another small module
    assert ours - loaded <= {"strawberry.federation.schema_directives", "graphql_api.__main__"}
    assert loaded & IDLE == set()
    servers = {"uvloop", "httptools", "websockets", "uvicorn.lifespan.on"}
    assert servers <= loaded


def test_what_supervises_workers_that_are_not_forked_loads_none_of_what_they_answer_with(
    demo_data: Path, new_state: NewState
) -> None:
    loaded = _loaded_by(SUPERVISE.format(can_fork=False), demo_data, new_state())
    assert "graphql_api.command_line" in loaded
    idle = {"graphql", "strawberry", "scipy", "adapters.factors", "graphql_api.schema"}
    assert loaded & {*IDLE, *idle} == set()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for threads")
@pytest.mark.parametrize("variables", [{}, {"OPENBLAS_NUM_THREADS": "1"}])
def test_a_server_begins_without_threads_and_leaves_trainings_theirs(
    demo_data: Path, new_state: NewState, variables: dict[str, str]
) -> None:
    told = _loaded_by(BEGIN, demo_data, new_state(), **variables)
    assert told == {"1", *(f"{name}={value}" for name, value in variables.items())}


def test_what_is_absent_for_a_while_can_be_loaded_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rarely_installed.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with absent("rarely_installed", "json"):
        import_module("json")  # loaded before
        with pytest.raises(ModuleNotFoundError, match="rarely_installed"):
            import_module("rarely_installed")
    import_module("rarely_installed")


LAZY = """
from importlib import import_module

def __getattr__(name):
    return import_module(f"{__name__}.{name}")
"""


def test_a_module_that_its_package_loads_when_asked_is_absent_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazy").mkdir()
    (tmp_path / "lazy" / "__init__.py").write_text(LAZY)
    (tmp_path / "lazy" / "part.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with absent("lazy.part"):
        package = import_module("lazy")
        assert package.part is None
        with pytest.raises(ModuleNotFoundError, match=r"lazy\.part"):
            import_module("lazy.part")
    assert package.part is import_module("lazy.part")


def _loaded_by(script: str, data: Path, state: Path, **variables: str) -> set[str]:
    """Run a script in a process of its own, and return what it prints last, such as modules."""
    hidden = "JOBREC_", "OPENBLAS_NUM"
    own = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    finished = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **own,
            **variables,
            "JOBREC_DATA": str(data),
            "JOBREC_STATE": str(state),
            "JOBREC_ADMIN_TOKEN": "a token of the tests",
        },
    )
    assert not finished.returncode, finished.stderr
    return set(finished.stdout.splitlines()[-1].split())
