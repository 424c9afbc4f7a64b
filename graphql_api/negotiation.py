"""Which media type a client wants its answer in: GraphQL over HTTP's `Accept`."""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType

from strawberry.http.streaming import SSETransport

_KEPT_HEADERS = 256
"""Clients send the same few headers again and again."""

_CHARSET = re.compile(r';\s*charset\*?\s*=\s*"?([^\s;"]*)', re.IGNORECASE)

RESPONSE_JSON = "application/graphql-response+json"
JSON = "application/json"
_STREAM, _PAGE = "text/event-stream", "text/html"
_ANSWERED = (JSON, RESPONSE_JSON, _STREAM, _PAGE)


class EventStream(SSETransport):
    """Answers with events who prefers them to JSON; many clients take them, and prefer JSON."""

    # Events are no more for caches than other answers
    headers = MappingProxyType({**SSETransport.headers, "Cache-Control": "no-store"})

    def accepts(self, accept: str) -> bool:
        """Tell by the header `Accept` whether to answer with events."""
        return _prefers_events(accept)


@lru_cache(_KEPT_HEADERS)
def _prefers_events(accept: str) -> bool:
    ranges = _ranges(accept)
    json = max(_quality(ranges, JSON), _quality(ranges, RESPONSE_JSON))
    return _quality(ranges, _STREAM) > json


@lru_cache(_KEPT_HEADERS)
def preferred(accept: str | None) -> str:
    """Return the JSON media type that a client prefers; plain JSON where it does not say."""
    ranges = _ranges(accept)
    return RESPONSE_JSON if _quality(ranges, RESPONSE_JSON) > _quality(ranges, JSON) else JSON


@lru_cache(_KEPT_HEADERS)
def media_type_and_charset(content_type: str) -> tuple[str, str]:
    """Return what a content type names, in lower case; the charset is utf-8 unless it names one."""
    media_type, _, parameters = content_type.partition(";")
    charset = _CHARSET.search(f";{parameters}")
    return media_type.strip().lower(), "utf-8" if charset is None else charset[1].lower()


@lru_cache(_KEPT_HEADERS)
def is_acceptable(accept: str | None) -> bool:
    """Tell whether a client takes any of the media types that are answered."""
    ranges = _ranges(accept)
    return any(_quality(ranges, media_type) > 0 for media_type in _ANSWERED)


def _ranges(accept: str | None) -> list[tuple[str, float]]:
    """Return the media ranges with their quality, in the client's order."""
    if accept is None or not accept.strip():
        return [("*/*", 1.0)]
    ranges = []
    for part in accept.split(","):
        media_range, *parameters = (text.strip().lower() for text in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = min(1.0, max(0.0, float(value)))
                except ValueError:
                    quality = 0.0
        ranges.append((media_range, quality))
    return ranges


def _quality(ranges: list[tuple[str, float]], media_type: str) -> float:
    """Return how welcome a media type is; of equal quality, the one named first is more so."""
    for candidate in (media_type, f"{media_type.split('/')[0]}/*", "*/*"):
        for place, (media_range, quality) in enumerate(ranges):
            if media_range == candidate:
                return quality - place * 1e-6 if quality else 0.0
    return 0.0
