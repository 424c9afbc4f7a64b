"""Documents that a request names by their hash, instead of carrying them.

*Trusted documents* stand in manifests, which a front end's build writes: JSON objects of hash and
document, as graphql-codegen's client preset does (`persistedDocuments`, with SHA-256).
A request names one by `documentId: "sha256:<hex>"` (GraphQL over HTTP, appendix A).

*Registered documents* come from clients at run time, in the shape of Apollo's automatic persisted
queries: `extensions: {persistedQuery: {version: 1, sha256Hash: "<hex>"}}`, first alone and, where
that is not found, once with the document. They save bytes and are not trusted. Each worker process
keeps its own.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from domain.errors import InputError
from graphql_api.bounds import MAX_DOCUMENT_LENGTH
from graphql_api.settings import TrustedDocuments

if TYPE_CHECKING:
    from graphql import GraphQLError

MAX_REGISTERED = 1_000
MAX_REGISTERED_LENGTH = 16_384

UNREGISTERED = frozenset({"PERSISTED_QUERY_NOT_FOUND", "PERSISTED_QUERY_NOT_SUPPORTED"})
"""Codes that answer a well-formed question; the client goes on with the whole document."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREFIX = "sha256:"


class Documents:
    """Finds the document that a request names, and refuses what may not run.

    Args:
        mode: whether trusted documents can be named, and whether only they run.
        trusted: the documents by their hash, in hexadecimal digits.
    """

    def __init__(self, mode: TrustedDocuments, trusted: Mapping[str, str]) -> None:
        self._mode = mode
        self._trusted = trusted
        self._registered: OrderedDict[str, str] = OrderedDict()

    @classmethod
    def load(cls, mode: TrustedDocuments, folder: Path | None) -> Documents:
        """Read the manifests of a folder, `*.json`.

        Raises:
            InputError: there is none, or one is not a manifest.
        """
        if mode is TrustedDocuments.OFF:
            return cls(mode, {})
        if folder is None:
            raise InputError(f"trusted documents are {mode}: name the folder of their manifests")
        manifests = sorted(folder.glob("*.json"))
        if not manifests:
            raise InputError(f"trusted documents are {mode}, and {folder} holds no *.json")
        trusted: dict[str, str] = {}
        for path in manifests:
            trusted |= _manifest(path)
        return cls(mode, trusted)

    def resolve(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request with the document that it names, as it is where it names none.

        Raises:
            GraphQLError: the document is not to be found, or may not run; `code` says why.
        """
        query = request.get("query") or None
        extensions = request.get("extensions")
        persisted = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
        if request.get("documentId") is not None:
            if query is not None:
                raise _refusal("BAD_REQUEST", "give either query or documentId")
            query = self._named(request["documentId"])
        elif persisted is not None and isinstance(query, str | None):
            query = self._persisted(persisted, query)
        if isinstance(query, str):
            self._check(query)
        return {**request, "query": query}

    def _named(self, document_id: object) -> str:
        document = None
        if isinstance(document_id, str):
            document = self._trusted.get(document_id.removeprefix(_PREFIX))
        if document is None or not str(document_id).startswith(_PREFIX):
            raise _refusal(
                "DOCUMENT_NOT_FOUND",
                f"documentId is {str(document_id)[:80]!r}, which is no sha256:<hex> of a "
                "trusted document here",
            )
        return document

    def _persisted(self, given: object, query: str | None) -> str:
        sha256 = _hash_of(given)
        if query is None:
            document = self._trusted.get(sha256) or self._recall(sha256)
            if document is None and self._mode is TrustedDocuments.REQUIRED:
                raise _refusal("PERSISTED_QUERY_NOT_SUPPORTED", "PersistedQueryNotSupported")
            if document is None:
                # Clients know these very words as the request to send the document along
                raise _refusal("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
            return document
        if _digest(query) != sha256:
            raise _refusal(
                "PERSISTED_QUERY_HASH_MISMATCH",
                f"sha256Hash is {sha256}, but that of the query is {_digest(query)}",
            )
        self._register(sha256, query)
        return query

    def _register(self, sha256: str, query: str) -> None:
        if self._mode is TrustedDocuments.REQUIRED or len(query) > MAX_REGISTERED_LENGTH:
            return
        self._registered[sha256] = query
        self._registered.move_to_end(sha256)
        if len(self._registered) > MAX_REGISTERED:
            self._registered.popitem(last=False)

    def _recall(self, sha256: str) -> str | None:
        if sha256 in self._registered:
            self._registered.move_to_end(sha256)
        return self._registered.get(sha256)

    def _check(self, query: str) -> None:
        if len(query) > MAX_DOCUMENT_LENGTH:
            raise _refusal(
                "LENGTH_LIMIT_EXCEEDED",
                f"the document has {len(query):,} characters, at most {MAX_DOCUMENT_LENGTH:,} "
                "are allowed",
            )
        if self._mode is TrustedDocuments.REQUIRED and _digest(query) not in self._trusted:
            raise _refusal(
                "DOCUMENT_NOT_TRUSTED",
                f"only trusted documents run here, and {_PREFIX}{_digest(query)} is none",
            )


def _manifest(path: Path) -> dict[str, str]:
    try:
        listed = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path} is no manifest of documents: {error}") from error
    documents = {}
    for key, document in listed.items():
        sha256 = key.removeprefix(_PREFIX)
        if sha256 != _digest(document):
            raise InputError(
                f"{path} lists a document as {key!r}, whose hash is {_PREFIX}{_digest(document)}"
            )
        documents[sha256] = document
    return documents


def _hash_of(persisted_query: object) -> str:
    match persisted_query:
        case {"version": 1, "sha256Hash": str() as sha256} if _SHA256.fullmatch(sha256):
            return sha256
    raise _refusal(
        "BAD_REQUEST",
        f"persistedQuery is {str(persisted_query)[:120]}, expected version 1 and sha256Hash, "
        "64 hexadecimal digits",
    )


def _digest(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()


def _refusal(code: str, message: str) -> GraphQLError:
    # Loaded by whoever answers; what only starts them checks its manifests without
    from graphql import GraphQLError

    return GraphQLError(message, extensions={"code": code})
