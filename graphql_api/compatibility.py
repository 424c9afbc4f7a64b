"""What a change of the schema means for those who rely on it."""

from __future__ import annotations

from dataclasses import dataclass

from graphql import GraphQLSchema, GraphQLSyntaxError, SourceLocation, build_schema
from graphql.utilities import find_breaking_changes, find_dangerous_changes

from domain.errors import InputError


@dataclass(frozen=True)
class SchemaChanges:
    """Changes between two schemas, described in words.

    Attributes:
        breaking: operations that were valid may no longer be.
        dangerous: operations stay valid, and may be answered with what their client did not expect.
    """

    breaking: list[str]
    dangerous: list[str]


def changes_since(old: str, new: str) -> SchemaChanges:
    """Compare two schemas, in GraphQL's definition language.

    Raises:
        InputError: the old one is no schema.
    """
    before, after = _parsed(old), build_schema(new)
    return SchemaChanges(
        [change.description for change in find_breaking_changes(before, after)],
        [change.description for change in find_dangerous_changes(before, after)],
    )


def _parsed(sdl: str) -> GraphQLSchema:
    try:
        schema = build_schema(sdl)
    except GraphQLSyntaxError as error:
        (place, *_) = error.locations or [SourceLocation(1, 1)]
        raise InputError(
            f"the old schema cannot be read: line {place.line}: {error.message}", "--diff"
        ) from error
    except TypeError as error:  # so the library names what is no valid schema
        raise InputError(f"the old schema is not valid: {error}", "--diff") from error
    if schema.query_type is None:
        raise InputError("the old schema has no type Query: is it a schema?", "--diff")
    return schema
