"""The schema that front ends rely on."""

from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    build_schema,
)
from graphql.utilities import find_breaking_changes

from graphql_api.schema import create_schema

COMMITTED = Path(__file__).parents[2] / "graphql_api" / "schema.graphql"


def test_committed_schema_is_the_one_served() -> None:
    assert COMMITTED.read_text().strip() == create_schema().as_str().strip(), (
        "run `jobrec schema > graphql_api/schema.graphql` and look at the difference"
    )


def test_no_breaking_change_against_the_committed_schema() -> None:
    committed = build_schema(COMMITTED.read_text())
    served = build_schema(create_schema().as_str())
    assert [change.description for change in find_breaking_changes(committed, served)] == []


def test_every_type_field_argument_and_enum_value_is_described() -> None:
    undescribed = []
    schema = build_schema(create_schema().as_str())
    for name, type_ in schema.type_map.items():
        if name.startswith("__") or name in {"ID", "Int", "Float", "String", "Boolean"}:
            continue
        if not type_.description:
            undescribed.append(name)
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for field_name, field in type_.fields.items():
                if not field.description:
                    undescribed.append(f"{name}.{field_name}")
                for argument_name, argument in getattr(field, "args", {}).items():
                    if not argument.description:
                        undescribed.append(f"{name}.{field_name}({argument_name})")
        if isinstance(type_, GraphQLEnumType):
            undescribed += [
                f"{name}.{value_name}"
                for value_name, value in type_.values.items()
                if not value.description
            ]
    assert undescribed == []


def test_protected_attributes_have_no_place_in_the_schema() -> None:
    served = create_schema().as_str().lower()
    assert "ethnic" not in served
    assert "gender" not in served
