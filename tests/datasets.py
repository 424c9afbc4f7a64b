"""Small datasets on disk."""

from __future__ import annotations

from pathlib import Path


def write_two_tastes(folder: Path) -> None:
    """Write what thirty people did: half of them went on to eight jobs, half to eight others."""
    (folder / "activities.jsonl").write_text(
        "".join(
            f'{{"user_id": {user}, "job_id": {user % 2 + 2 * job}, "type": "redirect"}}\n'
            for user in range(30)
            for job in range(8)
        )
    )
