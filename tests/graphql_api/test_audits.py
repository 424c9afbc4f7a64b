"""GraphQL over HTTP, as the reference implementation for JavaScript audits it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import node
from tests.conftest import Service

AUDITS = 61
"""How many audits graphql-http 1.23 has."""


@pytest.mark.slow
def test_every_audit_of_graphql_over_http_is_ok(service: Service, clients: Path) -> None:
    command = [node.tool("node"), "audit.mjs", f"{service.url}/graphql"]

    results = [json.loads(line) for line in node.run(command, clients).splitlines()]

    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) == AUDITS
