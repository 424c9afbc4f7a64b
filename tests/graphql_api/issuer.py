"""An issuer of JWTs for tests: its keys, what it publishes of them, and what attackers make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "jobrec"
ISSUER = "https://login.example"
SECRET = "a secret of the tests, long enough for every size of HMAC that there is"  # noqa: S105 - not a secret


class Issuer:
    """Signs tokens by four algorithms; the `kid` of a key is its algorithm's name."""

    def __init__(self) -> None:
        self.rsa = generate_rsa(public_exponent=65537, key_size=2048)
        self._ec = generate_private_key(SECP256R1())
        self._ed = Ed25519PrivateKey.generate()
        self.keys: dict[str, Any] = {
            "RS256": self.rsa,
            "ES256": self._ec,
            "EdDSA": self._ed,
            "HS256": SECRET,
        }

    def key_set(self) -> dict[str, Any]:
        """Return what it publishes."""
        public = {
            "RS256": RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True),
            "ES256": ECAlgorithm.to_jwk(self._ec.public_key(), as_dict=True),
            "EdDSA": OKPAlgorithm.to_jwk(self._ed.public_key(), as_dict=True),
        }
        return {"keys": [{**key, "kid": kid, "use": "sig"} for kid, key in public.items()]}

    def token(
        self,
        algorithm: str = "RS256",
        *,
        kid: str | None = None,
        key: Any = None,
        without: str = "",
        **claims: Any,
    ) -> str:
        """Sign a token that is valid for five minutes, but for what is asked otherwise."""
        now = int(time.time())
        payload = {"aud": AUDIENCE, "iss": ISSUER, "iat": now, "exp": now + 300, **claims}
        payload.pop(without, None)
        return jwt.encode(
            payload,
            self.keys[algorithm] if key is None else key,
            algorithm,
            headers={"kid": kid or algorithm},
        )


def unsigned(token: str, algorithm: str) -> str:
    """Return a token's claims under a header that says that nobody signed them."""
    header = _encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    return f"{header}.{token.split('.')[1]}."


def confused(token: str, public: RSAPrivateKey, form: str) -> str:
    """Sign a token's claims by HMAC, with the issuer's public RSA key as the secret."""
    key = public.public_key().public_bytes(
        Encoding.PEM,
        PublicFormat.SubjectPublicKeyInfo if form == "SPKI" else PublicFormat.PKCS1,
    )
    header = _encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "RS256"}).encode())
    signed = f"{header}.{token.split('.')[1]}"
    return f"{signed}.{_encode(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def altered(token: str, **claims: Any) -> str:
    """Return a token with other claims and the old signature."""
    header, payload, signature = token.split(".")
    old = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return f"{header}.{_encode(json.dumps({**old, **claims}).encode())}.{signature}"


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class Published:
    """A key set on a web server.

    Attributes:
        content: what it answers; None for a server that fails.
        fetches: how often it was asked.
        is_open: unset, the server keeps whoever asks waiting.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content: Mapping[str, Any] | None = content
        self.fetches = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self.url = ""


@contextmanager
def publishing(content: Mapping[str, Any]) -> Iterator[Published]:
    """Serve a key set until the block ends."""
    published = Published(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            published.fetches += 1
            published.is_open.wait(30)
            self.send_response(500 if published.content is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(published.content).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        published.url = f"http://127.0.0.1:{server.server_port}/keys.json"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield published
        finally:
            published.is_open.set()
            server.shutdown()
            thread.join()
