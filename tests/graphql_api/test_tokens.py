"""API tokens: the command line that looks after them, and the file that holds them."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.errors import InputError
from graphql_api.tokens import PREFIX, ApiTokens, Scope, TokensUnreadable
from tests.conftest import jobrec

pytestmark = pytest.mark.slow


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def tokens(tmp_path: Path) -> ApiTokens:
    return ApiTokens(tmp_path, now)


def create(state: Path, *options: str) -> str:
    made = jobrec("tokens", "create", "--state", state, *options)
    assert made.stderr == ""
    return made.stdout.strip()


def test_token_is_shown_once_and_stored_as_a_hash_that_its_owner_alone_may_read(
    tmp_path: Path,
) -> None:
    token = create(tmp_path, "--scope", "read", "--name", "front-end", "--expires", "90d")

    assert token.startswith(PREFIX)
    assert len(token) == len(PREFIX) + 43
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert token.removeprefix(PREFIX) not in path.read_text()
    listed = jobrec("tokens", "list", "--state", tmp_path).stdout
    assert "front-end" in listed
    assert token not in listed
    (shown,) = map(
        json.loads, jobrec("tokens", "list", "--json", "--state", tmp_path).stdout.splitlines()
    )
    made, end = (datetime.fromisoformat(shown[name]) for name in ("made_at", "expires_at"))
    assert (shown["name"], shown["scope"], end - made) == ("front-end", "read", timedelta(days=90))


def test_list_tells_what_has_expired_and_what_never_does(tmp_path: Path) -> None:
    old = ApiTokens(tmp_path, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    old.create("old", Scope.READ, timedelta(days=1))
    create(tmp_path, "--scope", "admin", "--name", "new")
    first, second = jobrec("tokens", "list", "--state", tmp_path).stdout.splitlines()
    assert " ".join(first.split()) == "old read made 2026-01-01 00:00 expired 2026-01-02 00:00"
    assert second.split()[:2] == ["new", "admin"]
    assert second.endswith("never expires")


def test_revoked_token_is_gone_and_its_name_free(tmp_path: Path) -> None:
    first = create(tmp_path, "--scope", "read", "--name", "a")
    revoked = jobrec("tokens", "revoke", "a", "--state", tmp_path)
    assert revoked.stdout == "token a is revoked\n"
    assert jobrec("tokens", "list", "--state", tmp_path).stdout == ""
    assert create(tmp_path, "--scope", "admin", "--name", "a") != first


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "--scope", "write", "--name", "b"], "'write' is not one of 'read', 'admin'"),
        (["create", "--scope", "read", "--name", "taken"], "there is a token 'taken' already"),
        (["create", "--scope", "read", "--name", "two words"], "the name is 'two words', expected"),
        (["create", "--scope", "read", "--name", "b", "--expires", "soon"], "--expires is 'soon'"),
        (["create", "--scope", "read", "--name", "b", "--expires", "0d"], "--expires is '0d'"),
        (
            ["create", "--scope", "read", "--name", "b", "--expires", "99999999999d"],
            "expected at most 3650d",
        ),
        (["create", "--scope", "read"], "Missing option '--name'"),
        (["revoke", "absent"], "there is no token 'absent'"),
    ],
)
def test_mistake_is_named_and_changes_nothing(
    tmp_path: Path, tokens: ApiTokens, arguments: list[str], says: str
) -> None:
    tokens.create("taken", Scope.READ)
    before = tokens.all()
    ended = jobrec("tokens", *arguments, "--state", tmp_path, check=False)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert ended.stdout == ""
    assert tokens.all() == before


def test_tokens_made_at_the_same_time_are_all_kept(tmp_path: Path, tokens: ApiTokens) -> None:
    names = [f"token-{number}" for number in range(6)]
    makers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "graphql_api", "tokens", "create"),
                *("--state", str(tmp_path), "--scope", "read", "--name", name),
            ],
            stdout=subprocess.DEVNULL,
        )
        for name in names
    ]
    assert [maker.wait(60) for maker in makers] == [0] * len(names)
    assert sorted(token.name for token in tokens.all()) == names


def test_reader_follows_what_others_write(tmp_path: Path, tokens: ApiTokens) -> None:
    reader = ApiTokens(tmp_path, now)
    assert reader.find(f"{PREFIX}x") is None
    made = tokens.create("a", Scope.ADMIN)
    found = reader.find(made)
    assert found is not None
    assert (found.name, found.scope, found.expires_at) == ("a", Scope.ADMIN, None)
    tokens.revoke("a")
    assert reader.find(made) is None


def test_file_that_is_damaged_is_not_overwritten(tmp_path: Path, tokens: ApiTokens) -> None:
    tokens.create("a", Scope.READ)
    path = tmp_path / "api-tokens.json"
    path.write_text("[{")
    for change in (lambda: tokens.create("b", Scope.READ), lambda: tokens.revoke("a")):
        with pytest.raises(TokensUnreadable, match=r"api-tokens\.json is not readable"):
            change()
    assert path.read_text() == "[{"


def test_state_that_is_no_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("")
    ended = jobrec(
        *("tokens", "create", "--scope", "read", "--name", "a", "--state", path), check=False
    )
    assert ended.returncode == 1
    assert "jobrec: cannot write" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["", ".", "-a", "ä", "a\n", "a" * 65])
def test_name_that_is_none_is_refused(tokens: ApiTokens, name: str) -> None:
    with pytest.raises(InputError, match="expected 1 to 64 letters"):
        tokens.create(name, Scope.READ)
