"""The most that a request may bring; what its document may ask, `limits` says."""

from __future__ import annotations

MAX_TOKENS = 2_000

MAX_DOCUMENT_LENGTH = 65_536
"""Characters: white space, comments and long strings are few tokens, and stay in caches."""

MAX_BODY_BYTES = 1 << 20
"""Of the body of a request, and of a message over a web socket."""

BODY_SECONDS = 30
"""For how long a request's body is waited for."""

MAX_HEADER_BYTES = 16_384
"""Of all headers of a request."""
