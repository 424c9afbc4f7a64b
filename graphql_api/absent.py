"""Keeps what is merely installed from being loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import cast


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Make modules look as if they were not installed, unless they are loaded already.

    For imports of libraries that look for companions which are of no use here. A package that
    loads a module of its own when asked for it has None in its place.
    """
    hidden = [name for name in names if name not in sys.modules]
    # By the import system's own rule; the type of the mapping does not tell
    nothing = cast("ModuleType", None)
    sys.modules.update(dict.fromkeys(hidden, nothing))
    parts = [name.rpartition(".") for name in hidden if "." in name]
    for package, _, part in parts:
        setattr(import_module(package), part, None)
    try:
        yield
    finally:
        for package, _, part in parts:
            delattr(sys.modules[package], part)
        for name in hidden:
            del sys.modules[name]
