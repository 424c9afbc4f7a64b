"""The file that only an audit reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.attributes import read_attributes
from domain.errors import DataError, DatasetMissing


def written(folder: Path, text: str) -> Path:
    path = folder / "attributes.jsonl"
    path.write_text(text)
    return path


def test_values_are_texts_by_person_and_what_is_not_said_is_none(tmp_path: Path) -> None:
    path = written(
        tmp_path, '{"user_id": "7", "gender": "f", "year": 1999}\n{"user_id": 3, "gender": null}\n'
    )
    attributes = read_attributes(path)
    assert attributes.user_ids.tolist() == [3, 7]
    assert attributes.values == {"gender": [None, "f"], "year": [None, "1999"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: expected a JSON object"),
        ("[1]", "line 1: expected a JSON object"),
        ('{"gender": "secret"}', "line 1: user_id: expected an integer"),
        ('{"user_id": 1, "a": ["secret"]}', "line 1: a: expected a text"),
        ('{"user_id": 1, "a": "' + 101 * "x" + '"}', "line 1: a: longer than 100"),
        ('{"user_id": 1, "a": "b"}\n{"user_id": "1"}', "line 2: the person has a line already"),
        ('{"user_id": 1}', "at least one attribute"),
    ],
)
def test_a_bad_line_is_named_by_its_place_and_never_quoted(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_attributes(written(tmp_path, text))
    assert "secret" not in str(error.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissing, match=r"none\.jsonl"):
        read_attributes(tmp_path / "none.jsonl")
