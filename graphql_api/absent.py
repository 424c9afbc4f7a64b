"""Keeps what is merely installed from being loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Make packages look as if they were not installed, unless they are loaded already.

    For imports of libraries that look for companions which are of no use here.
    """
    hidden = [name for name in names if name not in sys.modules]
    # By the import system's own rule; the type of the mapping does not tell
    nothing = cast("ModuleType", None)
    sys.modules.update(dict.fromkeys(hidden, nothing))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
