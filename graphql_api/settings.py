"""Settings: options of the command line, `JOBREC_...` variables, a settings file, defaults.

What comes first in this list wins.
"""

from __future__ import annotations

import re
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from domain.model import PROFILE
from domain.ranking import Unlisted
from domain.scoring import Rule
from graphql_api.settings_file import read_settings_file

MIN_TOKEN_LENGTH = 16

SHAPING = (
    "factors",
    "regularization",
    "alpha",
    "iterations",
    "neighbour_weight",
    "neighbours",
    "trend",
    "trend_half_life_days",
    "seed",
    "scoring",
    "impression_weight",
    "redirect_weight",
    "apply_weight",
    "email_click_weight",
    "penalty_weight",
    "cap",
    "half_life_days",
    "window_days",
)
"""What shapes a model, on whatever machine."""

IN_FILE = (*SHAPING, "proxies")
"""What a settings file may hold: what shapes a model, and what must not."""

Share = Annotated[float, Field(ge=0, le=1)]


class Access(StrEnum):
    """Whether callers need credentials."""

    OPEN = "open"
    REQUIRED = "required"


class EmployerTyping(StrEnum):
    """Whether a training learns types of employers."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Kernel(StrEnum):
    """How the best of all jobs are found."""

    AUTO = "auto"
    EXACT = "exact"
    APPROXIMATE = "approximate"


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


def _names(listed: object) -> object:
    return _split(listed) if isinstance(listed, str) else listed


def _proxies(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Accept names of fields of people; a name of ours that is misspelt would withhold nothing."""
    known = {name.replace("_", ""): name for name in ("user_id", *PROFILE)}
    for name in names or ():
        meant = known.get(re.sub(r"[\W_]", "", name).lower())
        if not name or not name.isprintable() or "," in name:
            raise ValueError(f"{name!r} is no name of a field of users.jsonl")
        if meant == "user_id":
            raise ValueError(f"{name!r} is who somebody is, and can be no proxy")
        if meant is not None and meant != name:
            raise ValueError(f"{name!r} is spelt {meant!r} in users.jsonl")
    if len(set(names or ())) < len(names or ()):
        raise ValueError(f"{list(names or ())} lists a name twice")
    return names


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


def employers_extra_missing() -> str | None:
    """Return what to say where the extra for types of employers is not installed, None if it is."""
    needed = ("gensim", "regex", "sklearn", "stopwordsiso")
    absent = ", ".join(name for name in needed if find_spec(name) is None)
    if not absent:
        return None
    return f'types of employers need an extra: pip install "jobrec[employers]" (no {absent})'


def _installed(typing: EmployerTyping) -> EmployerTyping:
    obstacle = employers_extra_missing() if typing is EmployerTyping.ON else None
    if obstacle:
        raise ValueError(obstacle)
    return typing


def ann_extra_missing() -> str | None:
    """Return what to say where the extra for the index is not installed, None if it is."""
    if find_spec("faiss") is not None:
        return None
    return 'an index of jobs needs an extra: pip install "jobrec[ann]"'


def _findable(kernel: Kernel) -> Kernel:
    obstacle = ann_extra_missing() if kernel is Kernel.APPROXIMATE else None
    if obstacle:
        raise ValueError(obstacle)
    return kernel


class Settings(BaseSettings):
    """Everything that an owner may set; the variable of `port` is `JOBREC_PORT`.

    Bounds of what belongs to a policy are checked by the policy itself.
    """

    model_config = SettingsConfigDict(env_prefix="JOBREC_", frozen=True, extra="forbid")

    data: Path = Field(Path("dataset"), description="folder of the dataset")
    state: Path = Field(Path(".jobrec"), description="folder of models and run records")
    strict: bool = Field(default=False, description="stop at the first bad line")
    max_rejected: Share = Field(0.01, description="stop where more than this share is bad")

    settings: Path | None = Field(
        None, description="TOML file of settings of learning, as tune writes it"
    )
    factors: int = Field(64, description="ALS: length of the vectors")
    regularization: float = Field(0.3, description="ALS: weight of the vectors' length")
    alpha: float = Field(4.0, description="ALS: confidence = alpha x score")
    iterations: int = Field(15, description="ALS: passes over users and jobs")
    neighbour_weight: float = Field(
        0.8, description="what neighbours of a person's jobs add to scores; 0: nothing"
    )
    neighbours: int = Field(100, description="so many neighbours of each job are kept")
    trend: float = Field(
        65.0, description="how much jobs gain in which many are interested lately; 0: nothing"
    )
    trend_half_life_days: float = Field(
        14.0, description="trend: interest counts half after so many days"
    )
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, description="processors to train with; 0 takes all that are available"
    )
    seed: int = Field(42, description="of everything random in training")
    scoring: Rule = Field(Rule.FUNNEL, description="scoring: funnel, logarithmic or presence")
    impression_weight: float = Field(1.0, description="scoring: what being shown a job adds")
    redirect_weight: float = Field(2.0, description="scoring: what going on to the employer adds")
    apply_weight: float = Field(4.0, description="scoring: what an application adds")
    email_click_weight: float = Field(2.0, description="scoring: what a click in an e-mail adds")
    penalty_weight: float = Field(1.0, description="funnel: what an ignored impression takes away")
    cap: int = Field(10, description="scoring: activities of a kind beyond so many add nothing")
    half_life_days: float = Field(0.0, description="scoring: halved after so many days; 0: never")
    window_days: float = Field(0.0, description="scoring: older activities count 0; 0: none do")
    keep_models: int = Field(5, description="how many of the newest models are kept")
    hold_out: float = Field(0.1, description="share held out to measure a model; 0: none")
    margin: float = Field(0.1, description="go live if ndcg@10 is lower by at most this share")
    max_shrink: float = Field(0.3, description="go live if jobs or people shrank by at most this")

    employers: Annotated[EmployerTyping, AfterValidator(_installed)] = Field(
        EmployerTyping.AUTO,
        description="learn types of employers: auto, where there are texts and the extra; on, off",
    )
    employer_types: Annotated[int, Field(ge=0, le=1_000)] = Field(
        0, description="how many types of employers; 0 leaves it to silhouette and stability"
    )

    kernel: Annotated[Kernel, AfterValidator(_findable)] = Field(
        Kernel.AUTO,
        description="how jobs are found: exact, approximate, or auto, by the size of the catalogue",
    )

    proxies: Annotated[
        tuple[str, ...] | None, NoDecode, BeforeValidator(_names), AfterValidator(_proxies)
    ] = Field(
        None,
        description="fields of users.jsonl that stand for protected attributes: neither read nor "
        "served",
    )

    max_per_employer: int = Field(
        default=0, ge=0, description="a list holds so many jobs of one employer at most; 0: any"
    )
    diversity: Share = Field(
        default=0.0, description="0 to 1, how much jobs that are alike stand back in a list"
    )
    spread: Share = Field(
        default=0.0,
        description="0 to 1, how much jobs stand back in which many are interested already",
    )
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
    memo_bytes: Annotated[int, Field(ge=0, le=1 << 36)] = Field(
        32 << 20, description="answers that a worker keeps to give them again; 0 for none"
    )
    ahead_bytes: Annotated[int, Field(ge=0, le=1 << 36)] = Field(
        64 << 20, description="lists that a worker makes before anybody asks for them; 0 for none"
    )
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from; the first wins."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _FileSource(settings_cls)

    def from_file(self) -> dict[str, Any]:
        """Return the values that the settings file gives, those that others override too."""
        return {} if self.settings is None else _read(self.settings)

    @property
    def withheld(self) -> frozenset[str]:
        """The fields of people that are proxies of protected attributes."""
        return PROFILE.intersection(self.proxies or ())

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of other pages that may call."""
        return tuple(_split(self.cors_origins or ""))

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: str | None) -> str | None:
        if not origins:
            return origins
        # The schema's library compares origins in this form; what does not serve needs none of it
        from strawberry.http.websocket_origin import normalize_origin

        for origin in _split(origins):
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
            if name == "settings":
                continue  # its values go along; by then the file may be another
            value: Any = getattr(self, name)
            if isinstance(value, SecretStr):
                is_passed = secrets or name == "catalog_url"
                value = value.get_secret_value() if is_passed else None
            elif isinstance(value, Path):
                value = value.absolute()
            elif isinstance(value, tuple):
                value = ",".join(value)
            if value is not None:
                variables[f"JOBREC_{name.upper()}"] = str(value)
        return variables


class _FileSource(PydanticBaseSettingsSource):
    """Reads the settings file that an option or a variable names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Take no field alone; the file is read whole."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values of the file."""
        named = self.current_state.get("settings")
        return {} if named is None else _read(Path(named))


def _read(path: Path) -> dict[str, Any]:
    return read_settings_file(path, {name: Settings.model_fields[name] for name in IN_FILE})


def _split(listed: str) -> list[str]:
    return [part.strip() for part in listed.split(",") if part.strip()]
