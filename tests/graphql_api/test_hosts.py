"""The names a service is called by: a foreign page must not rebind its own to this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.conftest import CLIENT, TOKEN, NewState, Service, serving

QUERY = {"query": "{ model { version } }"}


def ask(service: Service, host: str, **headers: str) -> httpx.Response:
    return CLIENT.post(f"{service.url}/graphql", json=QUERY, headers={"Host": host, **headers})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
def test_loopback_answers_to_its_own_names(service: Service, host: str) -> None:
    assert ask(service, host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example", "[::2]", ""])
def test_open_loopback_answers_to_no_other_name(service: Service, host: str) -> None:
    answer = ask(service, host, Origin=f"http://{host}")
    assert answer.status_code == 421
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "UNKNOWN_HOST"}
    assert "JOBREC_HOSTS" in error["message"]


def test_web_socket_under_another_name_is_refused(service: Service) -> None:
    port = int(service.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as rebound,
        pytest.raises(InvalidStatus) as refused,
    ):
        connect(
            f"ws://evil.example:{port}/graphql",
            sock=rebound,
            subprotocols=[Subprotocol("graphql-transport-ws")],
        )
    assert refused.value.response.status_code == 403


@pytest.mark.slow
def test_names_that_the_owner_lists_are_taken_beside_loopbacks(
    demo_data: Path, new_state: NewState
) -> None:
    with serving(demo_data, new_state(), "--hosts", "jobs.example, api.example") as service:
        assert ask(service, "Jobs.Example:443").status_code == 200
        assert ask(service, "api.example").status_code == 200
        assert ask(service, "127.0.0.1").status_code == 200
        assert ask(service, "other.example").status_code == 421


@pytest.mark.slow
def test_where_credentials_are_required_any_name_will_do(
    demo_data: Path, new_state: NewState
) -> None:
    with serving(demo_data, new_state(), "--auth", "required") as service:
        answer = ask(service, "jobs.example", Authorization=f"Bearer {TOKEN}")
        assert answer.status_code == 200
