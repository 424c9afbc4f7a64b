"""What an operation selects further down, known before it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionSetNode,
    value_from_ast_untyped,
)
from strawberry.types import Info

from application.recommending import MAX_FIRST
from domain.errors import InputError


def most_asked_for(info: Info[Any, Any], name: str, default: int) -> int:
    """Return the largest `first` of the fields of a name below this one, 0 where there is none.

    Fields that `@skip` and `@include` leave out count.

    Args:
        default: `first` of a field that does not give it.

    Raises:
        InputError: one is out of bounds.
    """
    raw = info._raw_info  # noqa: SLF001 - the public way converts the whole operation
    ahead = _Ahead(name, default, raw.fragments, info.variable_values)
    return max((ahead.most(node.selection_set) for node in raw.field_nodes), default=0)


class _Ahead:
    """Looks through the selections below a field; into each fragment once."""

    def __init__(
        self,
        name: str,
        default: int,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: dict[str, Any],
    ) -> None:
        self._name = name
        self._default = default
        self._fragments = fragments
        self._variables = variables
        self._seen: set[str] = set()

    def most(self, selections: SelectionSetNode | None) -> int:
        """Return the largest `first` in a selection set, 0 where there is none."""
        most = 0
        for node in () if selections is None else selections.selections:
            if isinstance(node, FieldNode):
                if node.name.value == self._name:
                    most = max(most, self._first(node))
                most = max(most, self.most(node.selection_set))
            elif isinstance(node, InlineFragmentNode):
                most = max(most, self.most(node.selection_set))
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in self._seen:
                self._seen.add(node.name.value)
                most = max(most, self.most(self._fragments[node.name.value].selection_set))
        return most

    def _first(self, node: FieldNode) -> int:
        given = (each.value for each in node.arguments or () if each.name.value == "first")
        value = next(given, None)
        first = None if value is None else value_from_ast_untyped(value, self._variables)
        # A variable that is not given is as good as no argument
        first = first if isinstance(first, int) else self._default
        if not 1 <= first <= MAX_FIRST:
            raise InputError(
                f"first of {self._name} is {first}, expected 1 to {MAX_FIRST}", "first"
            )
        return first
