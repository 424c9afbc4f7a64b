"""A service that is told to stop leaves nothing behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import NewState, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def state(new_state: NewState) -> Path:
    """Return the state of a service with a model."""
    return new_state()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_stopped_service_leaves_no_temporary_files(
    demo_data: Path, state: Path, tmp_path: Path, sent: signal.Signals, workers: str
) -> None:
    with serving(demo_data, state, "--workers", workers, TMPDIR=str(tmp_path)) as service:
        assert list(tmp_path.glob("jobrec-metrics-*/*.db"))
        service.process.send_signal(sent)
        assert service.process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []
