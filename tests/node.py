"""Node.js projects of this repository, installed into temporary copies."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PATIENCE_SECONDS = 240


def tool(name: str) -> str:
    """Return the path of `node` or `npm`; without it, the test is skipped, in CI it fails."""
    path = shutil.which(name)
    if path is None:
        missing = "install Node.js 20.19 or later and npm"
        if "CI" in os.environ:
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def copy(project: Path, folder: Path) -> None:
    """Copy a project's own files, without what is installed or made from them."""
    ignored = shutil.ignore_patterns("node_modules", "dist", "generated")
    shutil.copytree(project, folder, ignore=ignored, dirs_exist_ok=True)


def install(project: Path, folder: Path) -> None:
    """Copy a project into a folder, and install there exactly what its lock file names."""
    npm = tool("npm")
    copy(project, folder)
    # What npm has kept is held against the hashes of the lock file, too
    run([npm, "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"], folder)


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
