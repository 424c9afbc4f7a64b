"""What the load generator tells of answers that are right, wrong and refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench import wrk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(wrk.missing() is not None, reason="wrk is not installed"),
]


class Answering(BaseHTTPRequestHandler):
    """Answers as the body asks for, and notes what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.seen.append((body, self.headers["Authorization"]))
        asked = json.loads(body)
        answer = b'{"data": null, "errors": []}' if asked.get("wrong") else b'{"data": {}}'
        self.send_response(asked.get("status", 200))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    Answering.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_bodies_are_sent_in_turns_with_the_headers_and_failures_are_counted(
    url: str, tmp_path: Path
) -> None:
    bodies = [{"number": 1}, {"number": 2, "wrong": True}, {"number": 3, "status": 503}]
    path = tmp_path / "bodies.jsonl"
    path.write_text("".join(f"{json.dumps(body)}\n" for body in bodies))
    shot = wrk.fire(url, path, 1, 1, {"Authorization": "Bearer a=b"})
    sent = [json.loads(body)["number"] for body, _ in Answering.seen]
    # wrk looks at one beforehand
    assert sent[:6] == [2, 3, 1, 2, 3, 1]
    assert {header for _, header in Answering.seen} == {"Bearer a=b"}
    assert shot.requests > 6
    assert shot.sent >= shot.requests
    assert abs(shot.wrong - shot.requests / 3) <= 1
    assert abs(shot.refused - shot.requests / 3) <= 1
    assert shot.failed == shot.wrong + shot.refused
    assert 0 < shot.p50 <= shot.p99 <= shot.slowest
    assert shot.rate == pytest.approx(shot.requests / shot.seconds)


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bodies.jsonl"
    path.write_text("{}\n")
    with pytest.raises(RuntimeError, match="unable to connect"):
        wrk.fire("http://127.0.0.1:1/", path, 1, 1)
