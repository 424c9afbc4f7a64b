"""Documents at random that fit the schema, most of them valid, each the same for its number.

They hold what a compiled answer may stumble over: aliases, fragments, directives, variables, fields
that are asked for twice, arguments out of bounds, unknown ids.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple, cast

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.pyutils import Undefined

DEPTH = 5

_SCALARS: dict[str, list[Any]] = {
    "Int": [1, 2, 3, 5, 10, 12, 1, 2, 3, 5, 0, 101],
    "Float": [0.0, 0.5, 1.0, 1.5],
    "Boolean": [True, False],
    "ID": ["0", "1", "2", "3", "5", "7", "11", "12", "40", "1", "2", "3", "x", "-1"],
    "String": ["Employer 1", "Employer 2", "Job 3", "job", "nobody", ""],
    "DateTime": ["2026-01-01T00:00:00Z", "2026-06-01T00:00:00+02:00"],
}


class Document(NamedTuple):
    """A request."""

    query: str
    variables: dict[str, Any]


class _Writer:
    def __init__(self, schema: GraphQLSchema, number: int) -> None:
        self.chance = random.Random(number)  # noqa: S311 - no secret
        self.schema = schema
        self.declared: list[str] = []
        self.variables: dict[str, Any] = {}
        self.fragments: list[str] = []

    def document(self, roots: list[str]) -> Document:
        query = self.schema.query_type
        assert query is not None
        chosen = self.chance.choices(roots, k=self.chance.choice([1, 1, 1, 2, 3]))
        fields = " ".join(self.field(query, name, DEPTH) for name in chosen)
        if self.chance.random() < 0.1:
            fields = f"...on Query {{ {fields} }}"
        head = f"query ({' '.join(self.declared)})" if self.declared else ""
        return Document(f"{head} {{ {fields} }} {' '.join(self.fragments)}", self.variables)

    def field(self, parent: GraphQLObjectType, name: str, depth: int) -> str:
        field = parent.fields[name]
        arguments = ", ".join(self.arguments(field.args))
        text = f"{name}({arguments})" if arguments else name
        if self.chance.random() < 0.15:
            text = f"{self.chance.choice('abcdefgh')}{self.chance.randrange(50)}: {text}"
        text += self.directive()
        inner = get_named_type(field.type)
        if is_object_type(inner):
            text += f" {{ {self.selections(inner, depth - 1)} }}"
        return text

    def selections(self, type_: GraphQLObjectType, depth: int) -> str:
        names = [
            name
            for name, field in type_.fields.items()
            if depth > 0 or is_leaf_type(get_named_type(field.type))
        ]
        if not names:
            return "__typename"
        # Of what leads on, little is taken, or documents grow beyond the limits
        leaves = [
            name for name in names if is_leaf_type(get_named_type(type_.fields[name].type))
        ] or names
        count = self.chance.randint(1, 3)
        chosen = [self.chance.choice(names if not place else leaves) for place in range(count)]
        parts = [self.field(type_, name, depth) for name in chosen]
        if self.chance.random() < 0.15:
            parts.append("__typename")
        if self.chance.random() < 0.15:
            parts = [self.fragment(type_, " ".join(parts))]
            parts += [self.field(type_, self.chance.choice(leaves), depth)]
        return " ".join(parts)

    def fragment(self, type_: GraphQLObjectType, inside: str) -> str:
        kind = self.chance.randrange(3)
        if kind == 0:
            return f"...{self.directive()} {{ {inside} }}"
        if kind == 1:
            return f"...on {type_.name}{self.directive()} {{ {inside} }}"
        name = f"F{len(self.fragments)}"
        self.fragments.append(f"fragment {name} on {type_.name} {{ {inside} }}")
        return f"...{name}{self.directive()}"

    def directive(self) -> str:
        if self.chance.random() > 0.05:
            return ""
        condition = self.chance.choice(["true", "false"])
        if self.chance.random() < 0.5:
            condition = self.variable("Boolean!", condition == "true")
        return f" @{self.chance.choice(['skip', 'include'])}(if: {condition})"

    def arguments(self, arguments: dict[str, GraphQLArgument]) -> list[str]:
        given = []
        for name, argument in arguments.items():
            is_needed = is_non_null_type(argument.type) and argument.default_value is Undefined
            if is_needed or self.chance.random() < 0.3:
                value = self.value(argument.type)
                if self.chance.random() < 0.5:
                    given.append(f"{name}: {self.variable(str(argument.type), value)}")
                else:
                    given.append(f"{name}: {_literal(argument.type, value)}")
        return given

    def variable(self, type_: str, value: Any) -> str:
        name = f"v{len(self.declared)}"
        self.declared.append(f"${name}: {type_}")
        self.variables[name] = value
        return f"${name}"

    def value(self, type_: GraphQLInputType) -> Any:
        if is_non_null_type(type_):
            return self.value(type_.of_type)
        if self.chance.random() < 0.03:
            return None
        if is_list_type(type_):
            return [self.value(type_.of_type) for _ in range(self.chance.randrange(4))]
        if is_enum_type(type_):
            return self.chance.choice([*type_.values])
        if is_input_object_type(type_):
            return {
                name: self.value(field.type)
                for name, field in type_.fields.items()
                if is_non_null_type(field.type) or self.chance.random() < 0.3
            }
        return self.chance.choice(_SCALARS[type_.name])  # type: ignore[union-attr] # a scalar


def _literal(type_: GraphQLInputType, value: Any) -> str:
    inner = get_named_type(type_)
    if value is None:
        return "null"
    if isinstance(value, list):
        # As they are spelled, a list of lists is none of the arguments
        item_type = cast("GraphQLInputType", inner)
        return f"[{', '.join(_literal(item_type, item) for item in value)}]"
    if isinstance(inner, GraphQLInputObjectType):
        fields = inner.fields
        return f"{{{', '.join(f'{k}: {_literal(fields[k].type, v)}' for k, v in value.items())}}}"
    if isinstance(inner, GraphQLEnumType) or not isinstance(value, str | bool):
        return str(value)
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def document(schema: GraphQLSchema, number: int, roots: list[str]) -> Document:
    """Return the document of a number, which asks for some of the root fields."""
    return _Writer(schema, number).document(roots)
