"""The keys of an issuer: when they are loaded, and which are used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import InputError
from graphql_api.claims import JwtRefused, KeysUnavailable
from graphql_api.jwts import REFRESH_SECONDS, KeySet
from tests.graphql_api.issuer import Issuer, Published, publishing

OLD_SECONDS = 601


class Watch:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def published(issuer: Issuer) -> Iterator[Published]:
    with publishing(issuer.key_set()) as keys:
        yield keys


def only(issuer: Issuer, *kids: str) -> dict[str, list[dict[str, str]]]:
    return {"keys": [key for key in issuer.key_set()["keys"] if key["kid"] in kids]}


def is_known(keys: KeySet, kid: str | None) -> bool:
    """Ask as one request does."""
    try:
        asyncio.run(keys.key(kid))
    except JwtRefused:
        return False
    return True


def test_keys_are_loaded_once_for_all_requests(published: Published, watch: Watch) -> None:
    keys = KeySet(published.url, watch)
    assert published.fetches == 0
    assert [is_known(keys, kid) for kid in ("RS256", "ES256", "EdDSA")] == [True] * 3
    watch.now += REFRESH_SECONDS + 1
    assert is_known(keys, "RS256")
    assert published.fetches == 1


def test_new_key_is_found_after_a_minute_at_the_latest(
    published: Published, issuer: Issuer, watch: Watch
) -> None:
    keys = KeySet(published.url, watch)
    published.content = only(issuer, "RS256")
    assert is_known(keys, "RS256")
    published.content = only(issuer, "RS256", "ES256")
    watch.now += REFRESH_SECONDS - 1
    assert not is_known(keys, "ES256")
    assert published.fetches == 1
    watch.now += 1
    assert is_known(keys, "ES256")
    assert published.fetches == 2


def test_key_that_was_withdrawn_is_forgotten(
    published: Published, issuer: Issuer, watch: Watch
) -> None:
    keys = KeySet(published.url, watch)
    assert is_known(keys, "ES256")
    published.content = only(issuer, "RS256")
    watch.now += OLD_SECONDS
    assert not is_known(keys, "ES256")
    assert is_known(keys, "RS256")


def test_keys_stay_in_use_while_no_others_can_be_had(published: Published, watch: Watch) -> None:
    keys = KeySet(published.url, watch)
    assert is_known(keys, "RS256")
    published.content = None
    watch.now += OLD_SECONDS
    assert is_known(keys, "RS256")
    with pytest.raises(KeysUnavailable):
        is_known(keys, "new")


def test_loading_that_failed_is_tried_again_soon_but_not_at_every_request(
    published: Published, issuer: Issuer, watch: Watch
) -> None:
    keys = KeySet(published.url, watch)
    published.content = None
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            is_known(keys, "RS256")
    assert published.fetches == 1
    published.content = issuer.key_set()
    watch.now += 5
    assert is_known(keys, "RS256")


def test_requests_that_come_together_load_once(published: Published, watch: Watch) -> None:
    keys = KeySet(published.url, watch)

    async def together() -> None:
        await asyncio.gather(*(keys.key("RS256") for _ in range(20)))

    asyncio.run(together())
    assert published.fetches == 1


def test_without_a_kid_only_an_only_key_is_meant(
    published: Published, issuer: Issuer, watch: Watch
) -> None:
    assert not is_known(KeySet(published.url, watch), None)
    published.content = only(issuer, "RS256")
    assert is_known(KeySet(published.url, watch), None)


def test_key_that_is_for_another_use_checks_no_signature(
    published: Published, issuer: Issuer, watch: Watch
) -> None:
    rsa, *others = issuer.key_set()["keys"]
    published.content = {"keys": [{**rsa, "use": "enc"}, *others]}
    keys = KeySet(published.url, watch)
    assert not is_known(keys, "RS256")
    assert is_known(keys, "ES256")


def test_file_is_read_again_when_a_key_is_unknown(
    tmp_path: Path, issuer: Issuer, watch: Watch
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(only(issuer, "RS256")))
    keys = KeySet(str(path), watch)
    assert is_known(keys, "RS256")
    path.write_text(json.dumps(issuer.key_set()))
    watch.now += REFRESH_SECONDS
    assert is_known(keys, "ES256")


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"keys": []}', '{"keys": [1]}'])
def test_file_that_holds_no_keys_is_told_at_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="JOBREC_JWT_JWKS is"):
        KeySet(str(path))


def test_address_that_hands_out_no_keys_has_none(published: Published, watch: Watch) -> None:
    published.content = {"nothing": "useful"}
    with pytest.raises(KeysUnavailable):
        is_known(KeySet(published.url, watch), "RS256")
