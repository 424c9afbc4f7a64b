"""`jobrec tune`: what is left when it is interrupted."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from application.tuning import TuningRequest
from graphql_api import container
from graphql_api.container import Container
from graphql_api.settings import Settings
from graphql_api.tune_commands import search_settings
from tests.application.test_tuning import quiet
from tests.datasets import write_two_tastes


@pytest.fixture
def wired(tmp_path: Path) -> Container:
    write_two_tastes(tmp_path)
    settings = Settings(  # type: ignore[call-arg] # pydantic fills the rest
        data=tmp_path, state=tmp_path / "state", threads=1, factors=4, iterations=2
    )
    return Container(settings=settings)


def test_an_interrupted_search_leaves_a_valid_file_with_the_best_so_far(
    wired: Container, tmp_path: Path
) -> None:
    out, said = tmp_path / "learning.toml", list[str]()

    def interrupt(stage: str, done: int, total: int) -> None:
        del done, total
        if stage == "trial 2":
            raise KeyboardInterrupt

    assert not search_settings(wired.tuning(), TuningRequest(trials=9), out, interrupt, said.append)
    assert said[-1] == f"interrupted: {out} holds the best so far; the same command goes on"
    values = tomllib.loads(out.read_text())
    assert values["factors"] >= 1
    assert Settings(settings=out).factors == values["factors"]  # type: ignore[call-arg] # pydantic fills the rest
    assert "not measured on the test part" in out.read_text()
    assert search_settings(wired.tuning(), TuningRequest(trials=3), out, quiet, said.append)
    assert "# test, on" in out.read_text()


def test_without_the_optimiser_the_extra_is_named(
    wired: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r'pip install "jobrec\[tune\]"'):
        wired.tuning()


def test_proxies_in_force_stay_in_the_file(wired: Container, tmp_path: Path) -> None:
    out, said = tmp_path / "learning.toml", list[str]()
    assert search_settings(
        wired.tuning(), TuningRequest(trials=1), out, quiet, said.append, ("school_type",)
    )
    assert Settings(settings=out).proxies == ("school_type",)  # type: ignore[call-arg] # pydantic fills the rest
