"""The whole service under load while its catalogue is gone for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from dependency_injector import providers
from pydantic import SecretStr

from adapters.snapshots import DirectorySnapshotStore
from domain.model import User
from graphql_api.app import create_app
from graphql_api.container import Container
from graphql_api.settings import Settings
from tests.conftest import CLIENT, TOKEN, free_port
from tests.fakes import FakeCatalog
from tests.graphql_api.graph import adverts, store_model

LISTS = """{ batchRecommendations(userIds: [0, 1, 2, 3], first: 5) {
  partial items { score job { id title employer { name } } } } }"""
CLIENTS, ANSWERS_EACH = 4, 25


class Followed(FakeCatalog):
    """A catalogue that the service can follow as it does files."""

    def refresh(self) -> None:
        """Do nothing: it is at hand."""


@contextmanager
def serving_over(catalog: FakeCatalog, folder: Path) -> Iterator[str]:
    """Serve over HTTP, in this process, with everything real but the catalogue."""
    store_model(DirectorySnapshotStore(folder / "state" / "models"))
    settings = Settings(  # type: ignore[call-arg] # pydantic fills in the others
        data=folder, state=folder / "state", admin_token=SecretStr(TOKEN), log_level="info"
    )
    with Container.catalog.override(providers.Object(catalog)):
        app = create_app(settings)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            client.get(f"http://127.0.0.1:{port}/healthz")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def load(url: str) -> list[dict[str, Any]]:
    """Ask from several clients at once and return all answers, each of which must be one."""

    def ask(_: int) -> list[dict[str, Any]]:
        with httpx.Client(timeout=20) as client:
            answers = [
                client.post(f"{url}/graphql", json={"query": LISTS}) for _ in range(ANSWERS_EACH)
            ]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json() for answer in answers]

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [answer for answers in pool.map(ask, range(CLIENTS)) for answer in answers]


def is_whole(answer: dict[str, Any]) -> bool:
    lists = answer["data"]["batchRecommendations"]
    titles = {item["job"]["title"] is not None for list_ in lists for item in list_["items"]}
    is_marked = answer["extensions"].get("partial") == "CATALOGUE_UNAVAILABLE"
    # Marked, each list of it, exactly where titles are lacking
    assert {list_["partial"] is not None for list_ in lists} == {is_marked}
    assert titles == {not is_marked}
    return not is_marked


@pytest.mark.slow
def test_no_request_fails_in_an_outage_and_answers_are_whole_again_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "graphql_api.outages")
    catalog = Followed(adverts(12), [User(id_) for id_ in range(6)])
    with serving_over(catalog, tmp_path) as url:
        before = load(url)
        catalog.is_down = True
        during = load(url)
        ready = CLIENT.get(f"{url}/readyz")
        catalog.is_down = False
        after = load(url)
        metrics = CLIENT.get(f"{url}/metrics").text

    assert not any("errors" in answer for answer in before + during + after)
    assert all(map(is_whole, before))
    assert not any(map(is_whole, during))
    assert all(map(is_whole, after))
    assert "the catalogue does not answer" in ready.json()["reasons"][0]
    assert 'jobrec_partial_answers_total{reason="CATALOGUE_UNAVAILABLE"}' in metrics
    assert "jobrec_catalogue_outages_total" in metrics
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
