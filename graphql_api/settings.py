"""Settings, read from options of the command line and from `JOBREC_...` variables."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.ranking import Unlisted

MIN_TOKEN_LENGTH = 16

Share = Annotated[float, Field(ge=0, le=1)]


class Access(StrEnum):
    """Whether callers need credentials."""

    OPEN = "open"
    REQUIRED = "required"


class Profile(StrEnum):
    """Whom a service is for."""

    DEV = "dev"
    PRODUCTION = "production"


class TrustedDocuments(StrEnum):
    """Whether a request may name a trusted document, and whether only those run."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class CatalogKind(StrEnum):
    """Where jobs and people live."""

    LMDB = "lmdb"
    REDIS = "redis"
    JSONL = "jsonl"


def _token(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError(f"expected at least {MIN_TOKEN_LENGTH} characters, which nobody guesses")
    return token


def _store(url: SecretStr) -> SecretStr:
    if urlsplit(url.get_secret_value()).scheme == "memory":
        return url
    return _redis(url, "expected memory://, redis:// or rediss://")


def _redis(url: SecretStr, expected: str = "expected redis:// or rediss://") -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    _ = parts.port  # raises where it is none
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError(expected)
    if find_spec("redis") is None:
        raise ValueError("Redis needs an extra: pip install jobrec[redis]")
    return url


class Settings(BaseSettings):
    """Everything that an owner may set; the variable of `port` is `JOBREC_PORT`.

    Bounds of what belongs to a policy are checked by the policy itself.
    """

    model_config = SettingsConfigDict(env_prefix="JOBREC_", frozen=True, extra="forbid")

    data: Path = Field(Path("dataset"), description="folder of the dataset")
    state: Path = Field(Path(".jobrec"), description="folder of models and run records")
    strict: bool = Field(default=False, description="stop at the first bad line")
    max_rejected: Share = Field(0.01, description="stop where more than this share is bad")

    factors: int = Field(64, description="ALS: length of the vectors")
    regularization: float = Field(0.05, description="ALS: weight of the vectors' length")
    alpha: float = Field(2.0, description="ALS: confidence = alpha x score")
    iterations: int = Field(15, description="ALS: passes over users and jobs")
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, description="processors to train with; 0 takes all that are available"
    )
    seed: int = Field(42, description="of everything random in training")
    apply_weight: float = Field(4.0, description="scoring: what an application adds")
    keep_models: int = Field(5, description="how many of the newest models are kept")
    hold_out: float = Field(0.1, description="share held out to measure a model; 0: none")
    margin: float = Field(0.1, description="go live if ndcg@10 is lower by at most this share")
    max_shrink: float = Field(0.3, description="go live if jobs or people shrank by at most this")

    catalog: CatalogKind = Field(
        CatalogKind.LMDB,
        description="where jobs and people live: lmdb, redis, or jsonl, read from the dataset",
    )
    catalog_url: Annotated[SecretStr, AfterValidator(_redis)] | None = Field(
        None, description="redis://... or rediss://..., for a catalogue in Redis"
    )
    catalog_prefix: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")] = Field(
        "jobrec", description="begins all keys in Redis, so that catalogues may share a server"
    )
    catalog_ca: Path | None = Field(
        None, description="file of the authorities that vouch for the Redis of rediss://"
    )
    catalog_connect_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        0.5, description="a connection to Redis is waited for so long"
    )
    catalog_answer_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        1.0, description="an answer of Redis is waited for so long"
    )
    catalog_connections: Annotated[int, Field(ge=1, le=1_000)] = Field(
        16, description="connections of a process to Redis, for reading and for changing each"
    )
    catalog_follow: bool = Field(
        True, description="import the dataset's jobs and people when they change"
    )
    unlisted: Unlisted = Field(
        Unlisted.HIDE, description="jobs absent from the catalogue: serve or hide"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="port to listen on")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="serving processes")
    profile: Profile = Field(
        Profile.DEV, description="dev, or production: no GraphiQL, no introspection, POST only"
    )
    admin_token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        None, description="token of an admin"
    )
    auth: Access | None = Field(
        None, description="may anybody ask: open, or required credentials; open on loopback"
    )
    hosts: str | None = Field(
        None, description="names it is called by, with commas; open on loopback: only localhost"
    )
    cors_origins: str | None = Field(
        None, description="origins of pages that may call, with commas; none but our own"
    )
    jwt_algorithms: str | None = Field(
        None, description="pinned, of HS256, RS256, ES256, EdDSA; HS256 by secret, RS256 by JWKS"
    )
    jwt_secret: SecretStr | None = Field(None, description="shared with the issuer, for HS256")
    jwt_jwks: str | None = Field(None, description="file or URL of the issuer's public keys")
    jwt_audience: str | None = Field(None, description="the audience that tokens must name")
    jwt_issuer: str | None = Field(None, description="the issuer that tokens must name")
    jwt_leeway: int = Field(10, description="seconds by which clocks may differ")
    max_cost: Annotated[int, Field(ge=1_000)] = Field(
        250_000, description="the most that one operation may cost"
    )
    rate_limit_requests: Annotated[int, Field(ge=0)] = Field(
        60_000, description="requests of one caller in a minute; 0: no limit"
    )
    rate_limit_cost: Annotated[int, Field(ge=0)] = Field(
        20_000_000, description="cost of one caller's operations in a minute; 0: no limit"
    )
    rate_limit_store: Annotated[SecretStr, AfterValidator(_store)] | None = Field(
        None, description="redis://... counts callers for all workers; else memory:// of each"
    )
    trusted_documents: TrustedDocuments = Field(
        TrustedDocuments.OFF, description="documents by their hash: off, optional or required"
    )
    documents: Path | None = Field(None, description="folder of the trusted documents' manifests")
    ws_connections: Annotated[int, Field(ge=1)] = Field(
        1_000, description="web sockets and event streams that a worker holds at once"
    )
    ws_connections_per_address: Annotated[int, Field(ge=1)] = Field(
        100, description="web sockets and event streams that a worker holds at once for one address"
    )
    ws_idle_seconds: Annotated[float, Field(gt=0)] = Field(
        300, description="a web socket without an operation is closed after this time"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning, error"
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of other pages that may call."""
        return tuple(_split(self.cors_origins or ""))

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: str | None) -> str | None:
        # The schema's library compares origins in this form; what does not serve needs none of it
        from strawberry.http.websocket_origin import normalize_origin

        for origin in _split(origins or ""):
            if normalize_origin(origin) != origin or not origin.startswith(("http://", "https://")):
                raise ValueError(
                    f"{origin!r} is no origin as browsers send it, such as https://jobs.example"
                )
        return origins

    def environment(self, *, secrets: bool) -> dict[str, str]:
        """Return the variables that give another process these settings.

        Args:
            secrets: whether the admin token and the like go along. The catalogue's URL always
                does: whoever learns or serves reads the catalogue.
        """
        variables: dict[str, str] = {}
        for name in type(self).model_fields:
            value: Any = getattr(self, name)
            if isinstance(value, SecretStr):
                is_passed = secrets or name == "catalog_url"
                value = value.get_secret_value() if is_passed else None
            elif isinstance(value, Path):
                value = value.absolute()
            if value is not None:
                variables[f"JOBREC_{name.upper()}"] = str(value)
        return variables


def _split(listed: str) -> list[str]:
    return [part.strip() for part in listed.split(",") if part.strip()]
