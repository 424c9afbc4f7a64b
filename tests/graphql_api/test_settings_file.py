"""A settings file: what it may hold, and what wins over it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.als import AlsParameters, AlsTrainer
from domain.errors import InputError
from domain.scoring import ScoringPolicy
from domain.tuning import NEIGHBOURHOOD
from graphql_api.container import Container
from graphql_api.settings import IN_FILE, SHAPING, Settings
from graphql_api.settings_file import as_settings_file
from tests.conftest import jobrec

REFERENCE = Path(__file__).parents[2] / "examples" / "reference.toml"


def file_of(folder: Path, text: str) -> Path:
    path = folder / "learning.toml"
    path.write_text(text)
    return path


def test_options_win_over_variables_over_the_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path, "factors = 8\nalpha = 3\niterations = 4\n")
    monkeypatch.setenv("JOBREC_SETTINGS", str(path))
    monkeypatch.setenv("JOBREC_ALPHA", "5")
    monkeypatch.setenv("JOBREC_FACTORS", "9")
    settings = Settings(factors=10)  # type: ignore[call-arg] # pydantic fills the rest
    assert (settings.factors, settings.alpha, settings.iterations) == (10, 5.0, 4)
    assert settings.regularization == Settings.model_fields["regularization"].default


def test_another_process_gets_the_values_and_not_the_file(tmp_path: Path) -> None:
    settings = Settings(settings=file_of(tmp_path, "factors = 8\n"))  # type: ignore[call-arg] # pydantic fills the rest
    variables = settings.environment(secrets=False)
    assert variables["JOBREC_FACTORS"] == "8"
    assert "JOBREC_SETTINGS" not in variables


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("factor = 8", "learning.toml: unknown key 'factor'; a settings file may hold factors,"),
        ("admin_token = 'x'", "unknown key 'admin_token'"),
        ("factors = true", "learning.toml: factors = True: Input should be a valid integer"),
        ("scoring = 'much'", "learning.toml: scoring = 'much': Input should be 'funnel', 'logar"),
        ("alpha = 'much'", "learning.toml: alpha = 'much': Input should be a valid number"),
        ("factors", "learning.toml is no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Settings(settings=file_of(tmp_path, text))  # type: ignore[call-arg] # pydantic fills the rest


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("['user_id']", "'user_id' is who somebody is, and can be no proxy"),
        ("['degreeSubject']", "'degreeSubject' is spelt 'degree_subject' in users.jsonl"),
        ("['Degree Subject']", "'Degree Subject' is spelt 'degree_subject' in users.jsonl"),
        ("['']", "'' is no name of a field of users.jsonl"),
        ("['a,b']", "'a,b' is no name of a field of users.jsonl"),
        ("['first_name', 'first_name']", "['first_name', 'first_name'] lists a name twice"),
        ("[1]", "proxies = [1]: Input should be a valid string"),
        ("'university'", "proxies = 'university': Input should be a valid array"),
    ],
)
def test_what_can_be_no_proxy_is_refused_with_its_name(
    tmp_path: Path, listed: str, message: str
) -> None:
    path = file_of(tmp_path, f"proxies = {listed}\n")
    with pytest.raises((InputError, ValidationError), match=re.escape(message)):
        Settings(settings=path)  # type: ignore[call-arg] # pydantic fills the rest


def test_proxies_that_are_read_are_withheld_here_and_in_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path, "proxies = ['gender', 'school_type', 'first_name', 'languages']\n")
    settings = Settings(settings=path)  # type: ignore[call-arg] # pydantic fills the rest
    assert settings.withheld == {"school_type", "languages"}
    monkeypatch.setenv("JOBREC_PROXIES", settings.environment(secrets=False)["JOBREC_PROXIES"])
    assert Settings() == settings.model_copy(update={"settings": None})  # type: ignore[call-arg] # pydantic fills the rest


def test_everything_that_shapes_a_model_may_stand_in_a_file(tmp_path: Path) -> None:
    defaults = Settings()  # type: ignore[call-arg] # pydantic fills the rest
    others = {name: getattr(defaults, name) for name in IN_FILE} | {
        "proxies": ("school_type",),
        "scoring": "logarithmic",
        "half_life_days": 90.0,
        "cap": 3,
    }
    settings = Settings(settings=file_of(tmp_path, as_settings_file(others, [])))  # type: ignore[call-arg] # pydantic fills the rest
    assert {name: getattr(settings, name) for name in IN_FILE} == others
    assert {*NEIGHBOURHOOD.dimensions} <= {*IN_FILE}
    assert NEIGHBOURHOOD.holds({name: getattr(defaults, name) for name in IN_FILE})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the settings file .*none\.toml"):
        Settings(settings=tmp_path / "none.toml")  # type: ignore[call-arg] # pydantic fills the rest


def test_what_is_written_is_read_again() -> None:
    values = {"factors": 31, "regularization": 1e-5, "alpha": 0.1 + 0.2}
    text = as_settings_file(values, ["a remark", "", "two"])
    assert tomllib.loads(text) == values
    assert text.startswith("# a remark\n#\n# two\n")


@pytest.mark.slow
def test_tune_writes_a_file_that_train_takes_and_a_bound_is_blamed_on_its_file(
    tmp_path: Path,
) -> None:
    data, out = tmp_path / "data", tmp_path / "learning.toml"
    where = ("--data", data, "--state", tmp_path / "state", "--threads", "1")
    jobrec("demo", "--data", data, "--scale", "0.1", "--until", "2026-11-01")
    alone = ("--neighbour-weight", "0", "--trend", "0")
    bad = (*alone, "--factors", "1", "--iterations", "1", "--regularization", "500")
    tuned = jobrec("tune", *where, *bad, "--trials", "6", "--out", out)
    assert "trials learn from" in tuned.stdout
    searched = re.findall(r"^searching (.*)$", tuned.stdout, re.MULTILINE)
    assert [name in searched[0] for name in ("scoring", "half_life_days", "apply")] == [1, 1, 0]
    assert "for people it was not chosen by" in tuned.stdout
    assert "test, on" in tuned.stdout
    text = out.read_text()
    assert re.search(r"^# data [0-9a-f]{16}, 6 trials, temporal split$", text, re.MULTILINE)
    found = tomllib.loads(text)
    assert set(found) == set(SHAPING)
    assert found["scoring"] == "presence", "the first points to try are far better than bad ones"
    assert "is live" in jobrec("train", *where, "--settings", out).stdout
    before, figures = tmp_path / "before.toml", tmp_path / "figures.json"
    before.write_text(
        "factors = 1\niterations = 1\nregularization = 500\nneighbour_weight = 0\ntrend = 0\n"
    )
    measured = ("evaluate", *where, "--models", "popular", "--settings", out, "--against", before)
    shown = jobrec(*measured, "--json", figures).stdout
    record = json.loads(figures.read_text())
    assert list(record["models"]) == ["als", "before", "popular"]
    gain = record["differences"]["before"]["ndcg@20"]
    assert gain["low"] > 0
    assert f"{gain['value']:+.4f}" in shown
    renamed = jobrec(
        "evaluate", *where, "--against", before.rename(tmp_path / "als.toml"), check=False
    )
    assert renamed.returncode == 2
    assert "two models have one name: blend, als, als" in renamed.stderr
    out.write_text("factors = 0\n")
    refused = jobrec("train", *where, "--settings", out, check=False)
    assert refused.returncode == 2
    assert "learning.toml: factors 0 is not in 1..4096" in refused.stderr


def test_the_reference_is_als_alone_with_the_replaced_services_parameters() -> None:
    settings = Settings(settings=REFERENCE)  # type: ignore[call-arg] # pydantic fills the rest
    container = Container(settings=settings)
    assert container.trainer().parameters == AlsTrainer(AlsParameters()).parameters
    assert container.scoring() == ScoringPolicy.funnel()
