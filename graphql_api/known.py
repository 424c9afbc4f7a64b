"""Operations that were asked for before: what depends on their document alone is known by now.

An operation is known once it has got as far as being executed. Whoever asks for it again is spared
parsing, validating and the limits, which look at nothing but the document, and the library's way of
going about all that. Who asks, what it costs and what the variables are is looked at each time.
"""

from __future__ import annotations

from collections import OrderedDict

from graphql import DocumentNode, FieldNode, GraphQLSchema, OperationDefinitionNode, OperationType

from graphql_api.executing import Executor, compiled_roots
from graphql_api.pricing import Prices
from graphql_api.profiles import question_of_schema

KNOWN_OPERATIONS = 256


class KnownOperation:
    """A query that may run.

    Attributes:
        label: see `label_of`.
        roots: see `compiled_roots`.
        template: executes it, once it was executed.
    """

    template: Executor | None = None

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation_name: str | None
    ) -> None:
        self.document = document
        self.operation_name = operation_name
        self.label = label_of(document)
        self.roots = compiled_roots(schema, document, operation_name)
        self.prices = Prices(schema, document, operation_name)


class KnownOperations:
    """The queries that were asked for last."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str | None], KnownOperation] = OrderedDict()

    def find(self, query: str | None, operation_name: object) -> KnownOperation | None:
        """Return a query if it is known; the name is what came, whatever it is."""
        if query is None or not isinstance(operation_name, str | None):
            return None
        known = self._known.get((query, operation_name))
        if known is not None:
            self._known.move_to_end((query, operation_name))
        return known

    def keep(
        self,
        schema: GraphQLSchema,
        query: str,
        document: DocumentNode,
        operation_name: str | None,
    ) -> None:
        """Keep an operation, if it is a query for data: not everybody may ask for the schema."""
        kinds = {operation.operation for operation in _operations(document)}
        if kinds != {OperationType.QUERY} or question_of_schema(document) is not None:
            return
        self._known[query, operation_name] = KnownOperation(schema, document, operation_name)
        if len(self._known) > KNOWN_OPERATIONS:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """Forget all."""
        self._known.clear()


def label_of(document: DocumentNode) -> str:
    """Name an operation by its root field, from a set that callers cannot enlarge."""
    operations = _operations(document)
    if len(operations) != 1:
        return "several"
    fields = operations[0].selection_set.selections
    first = fields[0]
    return first.name.value if len(fields) == 1 and isinstance(first, FieldNode) else "several"


def is_stream(document: DocumentNode) -> bool:
    """Tell whether a document is a subscription, which takes as long as it is followed."""
    kinds = [operation.operation for operation in _operations(document)]
    return kinds == [OperationType.SUBSCRIPTION]


def _operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    return [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
