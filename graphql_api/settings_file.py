"""A settings file: the settings of learning in TOML, as `jobrec tune` writes and `train` takes.

TOML, because it carries remarks (where the values come from), is read by the standard library, and
people may edit it. It holds no secret, no folder and nothing of serving, so it can be shared.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from domain.errors import InputError


def read_settings_file(path: Path, fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Return the values of a file; bounds that belong to a policy are left to the policy.

    Args:
        fields: what the file may hold, by name.

    Raises:
        InputError: the file cannot be read, is no TOML, or holds an unknown key or a wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the settings file {path}: {error}", "settings") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the settings file {path} is no TOML: {error}", "settings") from error
    for name, value in values.items():
        if name not in fields:
            raise InputError(
                f"{path}: unknown key {name!r}; a settings file may hold {', '.join(fields)}", name
            )
        try:
            # As JSON and strictly: in Python's eyes true is a whole number
            of_type: TypeAdapter[Any] = TypeAdapter(fields[name].annotation or Any)
            values[name] = of_type.validate_json(orjson.dumps(value, default=str), strict=True)
        except ValidationError as error:
            expected = error.errors()[0]["msg"]
            raise InputError(f"{path}: {name} = {value!r}: {expected}", name) from error
    return values


def as_settings_file(values: Mapping[str, Any], remarks: Sequence[str]) -> str:
    """Return the text of a file, remarks first."""
    lines = [f"# {remark}".rstrip() for remark in remarks]
    # What JSON writes of a number or a word, TOML reads
    lines += ["", *(f"{name} = {orjson.dumps(value).decode()}" for name, value in values.items())]
    return "\n".join(lines) + "\n"
