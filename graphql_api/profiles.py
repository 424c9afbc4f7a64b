"""What a production service keeps to itself: its schema, and guesses at what a caller meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphql import DocumentNode, FieldNode, GraphQLError, Node
from strawberry.extensions import SchemaExtension

_INTROSPECTION = {"__schema", "__type"}
_SUGGESTION = re.compile(r" Did you mean [^?]*\?")


class HiddenSchema(SchemaExtension):
    """Refuses questions about the schema, but to admins; it comes after what validates."""

    def on_validate(self) -> Iterator[None]:
        """Leave the error with the operation."""
        context = self.execution_context
        document = context.graphql_document
        if not (
            document is None or context.pre_execution_errors or context.context.caller.is_admin
        ):
            question = question_of_schema(document)
            if question is not None:
                context.pre_execution_errors = [_disabled(question)]
        yield


def without_suggestion(message: str) -> str:
    """Leave out which names of the schema resemble the one that was given."""
    return _SUGGESTION.sub("", message)


def question_of_schema(document: DocumentNode) -> FieldNode | None:
    """Return a field that asks for the schema; `__typename` does not."""
    pending: list[Node] = [*document.definitions]
    while pending:
        node = pending.pop()
        if isinstance(node, FieldNode) and node.name.value in _INTROSPECTION:
            return node
        selection_set = getattr(node, "selection_set", None)
        if selection_set is not None:
            pending += selection_set.selections
    return None


def _disabled(question: FieldNode) -> GraphQLError:
    return GraphQLError(
        f"{question.name.value} is for admins here; the schema comes with the service's source",
        nodes=question,
        extensions={"code": "INTROSPECTION_DISABLED"},
    )
