"""What a document may ask, decided before anything of it is executed.

One pass over the document: each fragment is measured once and its figures are added wherever it
is spread, so the work is linear in the document even where its expansion is exponential.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionSetNode,
)


@dataclass(frozen=True)
class Limits:
    """The most that one operation may hold, fragments expanded.

    Attributes:
        depth: levels of fields.
        aliases: fields under another name.
        root_fields: fields of the operation itself.
        directives: uses of directives.
        selections: fields in all.
    """

    depth: int = 15
    aliases: int = 30
    root_fields: int = 20
    directives: int = 50
    selections: int = 1_000


_CODES = {
    "depth": ("DEPTH_LIMIT_EXCEEDED", "levels"),
    "aliases": ("ALIAS_LIMIT_EXCEEDED", "aliases"),
    "root_fields": ("ROOT_FIELD_LIMIT_EXCEEDED", "root fields"),
    "directives": ("DIRECTIVE_LIMIT_EXCEEDED", "directives"),
    "selections": ("SELECTION_LIMIT_EXCEEDED", "selections after fragments"),
}


@dataclass(frozen=True)
class _Size:
    depth: int = 0
    aliases: int = 0
    root_fields: int = 0
    directives: int = 0
    selections: int = 0

    def beside(self, other: _Size) -> _Size:
        """Return the size of both, one beside the other."""
        return _Size(
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.root_fields + other.root_fields,
            self.directives + other.directives,
            self.selections + other.selections,
        )


def violations(document: DocumentNode, limits: Limits) -> list[GraphQLError]:
    """Return an error for each limit that an operation exceeds, naming figure and bound."""
    measured = _Measuring(document)
    errors = []
    for operation in document.definitions:
        if not isinstance(operation, OperationDefinitionNode):
            continue
        size = measured.operation(operation)
        for limit in fields(limits):
            found, most = getattr(size, limit.name), getattr(limits, limit.name)
            if found > most:
                code, what = _CODES[limit.name]
                shown = f"{found:,}" if found < 1_000_000 else "over a million"
                errors.append(
                    GraphQLError(
                        f"the operation has {shown} {what}, at most {most:,} are allowed",
                        nodes=operation,
                        extensions={"code": code},
                    )
                )
    return errors


def nameless_choice(document: DocumentNode, operation_name: str | None) -> list[GraphQLError]:
    """Return an error where a document holds several operations and none is named."""
    operations = [
        node for node in document.definitions if isinstance(node, OperationDefinitionNode)
    ]
    if len(operations) < 2 or operation_name is not None:
        return []
    return [
        GraphQLError(
            f"the document holds {len(operations)} operations; name one in operationName",
            extensions={"code": "OPERATION_NAME_REQUIRED"},
        )
    ]


class _Measuring:
    """Sizes of the parts of one document; each fragment is measured once."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._sizes: dict[str, _Size] = {}

    def operation(self, node: OperationDefinitionNode) -> _Size:
        """Measure an operation with all that it spreads."""
        own = _Size(directives=len(node.directives or ()))
        return own.beside(self._selections(node.selection_set))

    def _selections(self, node: SelectionSetNode | None) -> _Size:
        """Measure a selection set; its own fields count as roots until they are nested."""
        size = _Size()
        for selection in node.selections if node is not None else ():
            own = _Size(directives=len(selection.directives or ()))
            if isinstance(selection, FieldNode):
                inner = self._selections(selection.selection_set)
                inside = _Size(
                    depth=inner.depth + 1,
                    aliases=inner.aliases + (selection.alias is not None),
                    root_fields=1,
                    directives=inner.directives,
                    selections=inner.selections + 1,
                )
            elif isinstance(selection, FragmentSpreadNode):
                inside = self._fragment(selection.name.value)
            else:
                inside = self._selections(getattr(selection, "selection_set", None))
            size = size.beside(own).beside(inside)
        return size

    def _fragment(self, name: str) -> _Size:
        if name not in self._sizes:
            # A fragment that spreads itself, which validation refuses, counts as empty within
            self._sizes[name] = _Size()
            node = self._fragments.get(name)
            if node is not None:
                own = _Size(directives=len(node.directives or ()))
                self._sizes[name] = own.beside(self._selections(node.selection_set))
        return self._sizes[name]
