"""The README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from graphql import build_schema, parse, validate

from domain.model import ActivityKind
from domain.scoring import ScoringPolicy
from graphql_api.schema import create_schema
from graphql_api.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text()
QUERIES = re.findall(r"```graphql\n(.*?)```", README, re.DOTALL)


def test_it_shows_five_queries() -> None:
    assert len(QUERIES) == 5


@pytest.mark.parametrize("query", QUERIES)
def test_its_queries_fit_the_schema(query: str) -> None:
    assert validate(build_schema(create_schema().as_str()), parse(query)) == []


def test_its_funnel_table_is_what_the_policy_gives() -> None:
    rows = re.findall(r"^\| [a-z]+ \| (\d+) \| (\d+) \| (\d+) \|", README, re.MULTILINE)
    assert len(rows) == 5
    for shown, redirected, score in rows:
        counts = np.zeros((1, len(ActivityKind)), dtype=np.uint32)
        counts[0, ActivityKind.IMPRESSION] = int(shown)
        counts[0, ActivityKind.REDIRECT] = int(redirected)
        assert ScoringPolicy.funnel().scores(counts)[0] == int(score)


def test_its_settings_table_names_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| [^|]*\| `JOBREC_([A-Z_]+)` \| ([^|]+) \|", README, re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if field.default is None:
            continue
        expected = "off" if field.default is False else str(field.default)
        assert rows[name.upper()].strip("` ") == expected, name
