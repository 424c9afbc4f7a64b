"""Composition root: which adapter stands behind which port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dependency_injector import containers, providers

from adapters.factors import FactorRecommender
from adapters.jsonl import JsonlActivityLog, JsonlCatalog, JsonlItems, Tolerance, find_file
from adapters.lmdb_catalog import LmdbCatalog
from adapters.runs import SqliteTrainingRuns
from adapters.snapshots import DirectorySnapshotStore
from application.cataloguing import Cataloguing
from application.evaluating import Evaluating
from application.importing import Importing, Source
from application.managing import ModelManagement
from application.recommending import Models, Recommending
from application.training import LearningPolicy, Training
from domain.errors import DatasetMissing, InputError, SnapshotCorrupt, TrainingError
from domain.ports import (
    Arrays,
    Catalog,
    CatalogImport,
    CatalogStore,
    Clock,
    ItemKind,
    Recipe,
    Recommender,
    SnapshotStore,
    Trainer,
    TrainingRuns,
)
from domain.promotion import PromotionPolicy
from domain.ranking import RankingPolicy
from domain.scoring import ScoringPolicy
from domain.significance import Bootstrap
from graphql_api.runtime import available_cores
from graphql_api.settings import Settings
from graphql_api.tokens import ApiTokens

if TYPE_CHECKING:
    # Serving does without the libraries that only training needs
    from adapters.als import AlsTrainer

    # Learning does without the libraries that only serving needs
    from graphql_api.auth import Authenticator


def _now() -> datetime:
    return datetime.now(UTC)


def _trainer_by(parameters: Mapping[str, Any]) -> Trainer:
    """Return the trainer that a stored model's record names."""
    from adapters.als import AlsParameters, AlsTrainer

    values = dict(parameters)
    name = values.pop("name")
    if name != "als":
        raise TrainingError(f"this release has no trainer {name!r}")
    return AlsTrainer(AlsParameters(threads=available_cores(), **values))


def _recommender_by(parameters: Mapping[str, Any], arrays: Arrays) -> Recommender:
    """Return what the trainer that a stored model's record names has learned."""
    if parameters["name"] != "als":
        raise SnapshotCorrupt(f"this release has no trainer {parameters['name']!r}")
    return FactorRecommender.from_arrays(arrays)


def _als_trainer(settings: Settings) -> AlsTrainer:
    from adapters.als import AlsParameters, AlsTrainer

    return AlsTrainer(
        AlsParameters(
            factors=settings.factors,
            regularization=settings.regularization,
            alpha=settings.alpha,
            iterations=settings.iterations,
            threads=settings.threads or available_cores(),
        )
    )


def _authenticator(settings: Settings, tokens: ApiTokens, clock: Clock) -> Authenticator:
    from graphql_api.auth import authenticator_by

    return authenticator_by(settings, tokens, clock)


def _evaluating(
    log: JsonlActivityLog,
    trainer: Trainer,
    scoring: ScoringPolicy,
    models: Models,
    snapshots: SnapshotStore,
    learning: LearningPolicy,
) -> Evaluating:
    from adapters.baselines import baselines

    return Evaluating(
        log=log,
        recipe=Recipe(trainer.parameters["name"], scoring.score, trainer),
        baselines=baselines(),
        models=models,
        snapshots=snapshots,
        bootstrap=Bootstrap(seed=learning.seed),
        seed=learning.seed,
    )


def _redis_catalog(settings: Settings) -> CatalogStore:
    if settings.catalog_url is None:
        raise InputError("a catalogue in Redis needs the variable JOBREC_CATALOG_URL", "catalog")
    url = settings.catalog_url.get_secret_value()
    if settings.catalog_ca is not None and not url.startswith("rediss:"):
        raise InputError(
            "catalog_ca is given, but the catalogue's URL is not rediss://", "catalog_ca"
        )
    from adapters.redis_catalog import RedisAddress, RedisCatalog

    return RedisCatalog(
        RedisAddress(
            url,
            prefix=settings.catalog_prefix,
            ca=settings.catalog_ca,
            connect_seconds=settings.catalog_connect_seconds,
            answer_seconds=settings.catalog_answer_seconds,
            connections=settings.catalog_connections,
        )
    )


def _cataloguing(catalog: Catalog, clock: Clock) -> Cataloguing | None:
    """Return the write side of the catalogue; None where it is read from files."""
    # `isinstance` would read the port's property, and so ask a server that may be away
    if CatalogStore not in type(catalog).__mro__:
        return None
    return Cataloguing(cast("CatalogStore", catalog), clock)


def _importing(catalog: Catalog) -> Importing | None:
    """Return what takes files into the catalogue; None where it is read from them."""
    return Importing(catalog) if isinstance(catalog, CatalogImport) else None


def source_of(jobs: Path | None, users: Path | None, tolerance: Tolerance) -> Source:
    """Return files to import.

    Raises:
        DatasetMissing: one is not there.
    """
    items = JsonlItems(jobs, users, tolerance)
    kinds = {ItemKind.JOBS: jobs, ItemKind.USERS: users}
    held = frozenset(kind for kind, path in kinds.items() if path is not None)
    return Source(items.stamp(), held, lambda: iter(items), items.reports)


def _following(
    settings: Settings, tolerance: Tolerance, catalog: Catalog, importing: Importing | None
) -> Callable[[bool], None]:
    """Return what brings the catalogue up to date with the dataset's files.

    It takes whether to wait for another process that is about it.
    """

    def follow(wait: bool) -> None:
        if isinstance(catalog, JsonlCatalog):
            catalog.refresh()
        elif importing is not None and settings.catalog_follow:
            try:
                jobs, users = (find_file(settings.data, kind) for kind in ("jobs", "users"))
            except DatasetMissing:
                # A service goes on with the catalogue that it has; a command says what is wrong
                if wait or catalog.revision == 0:
                    raise
                return
            importing.follow(source_of(jobs, users, tolerance), wait=wait)

    return follow


def _libraries() -> Mapping[str, str]:
    return {name: version(name) for name in ("jobrec", "implicit", "numpy", "scipy")}


class Container(containers.DeclarativeContainer):
    """The object graph; `settings` is the one thing to hand in."""

    settings: providers.Provider[Settings] = providers.Dependency(instance_of=Settings)
    clock = providers.Object(_now)

    tolerance: providers.Provider[Tolerance] = providers.Factory(
        Tolerance,
        strict=settings.provided.strict,
        max_rejected=settings.provided.max_rejected,
    )
    activity_log: providers.Provider[JsonlActivityLog] = providers.ThreadSafeSingleton(
        JsonlActivityLog, settings.provided.data, tolerance, providers.Callable(available_cores)
    )
    catalog: providers.Provider[Catalog] = providers.Selector(
        settings.provided.catalog,
        lmdb=providers.ThreadSafeSingleton(
            LmdbCatalog, settings.provided.state.joinpath.call("catalogue")
        ),
        redis=providers.ThreadSafeSingleton(_redis_catalog, settings),
        jsonl=providers.ThreadSafeSingleton(JsonlCatalog, settings.provided.data, tolerance),
    )
    snapshots: providers.Provider[SnapshotStore] = providers.ThreadSafeSingleton(
        DirectorySnapshotStore, settings.provided.state.joinpath.call("models")
    )
    runs: providers.Provider[TrainingRuns] = providers.ThreadSafeSingleton(
        SqliteTrainingRuns, settings.provided.state, clock, snapshots.provided.live
    )
    tokens: providers.Provider[ApiTokens] = providers.ThreadSafeSingleton(
        ApiTokens, settings.provided.state, clock
    )
    authenticator: providers.Provider[Authenticator] = providers.ThreadSafeSingleton(
        _authenticator, settings, tokens, clock
    )
    trainer: providers.Provider[Trainer] = providers.ThreadSafeSingleton(_als_trainer, settings)

    scoring: providers.Provider[ScoringPolicy] = providers.Factory(
        ScoringPolicy.funnel, apply_weight=settings.provided.apply_weight
    )
    ranking: providers.Provider[RankingPolicy] = providers.Factory(
        RankingPolicy, unlisted=settings.provided.unlisted
    )
    promotion: providers.Provider[PromotionPolicy] = providers.Factory(
        PromotionPolicy,
        margin=settings.provided.margin,
        max_shrink=settings.provided.max_shrink,
        hold_out=settings.provided.hold_out,
    )
    learning: providers.Provider[LearningPolicy] = providers.Factory(
        LearningPolicy,
        seed=settings.provided.seed,
        keep_models=settings.provided.keep_models,
    )

    models: providers.Provider[Models] = providers.ThreadSafeSingleton(
        Models, snapshots, providers.Object(_recommender_by)
    )
    recommending: providers.Provider[Recommending] = providers.ThreadSafeSingleton(
        Recommending, models, catalog, ranking, clock
    )
    cataloguing: providers.Provider[Cataloguing | None] = providers.ThreadSafeSingleton(
        _cataloguing, catalog, clock
    )
    importing: providers.Provider[Importing | None] = providers.ThreadSafeSingleton(
        _importing, catalog
    )
    follow_dataset: providers.Provider[Callable[[bool], None]] = providers.ThreadSafeSingleton(
        _following, settings, tolerance, catalog, importing
    )
    management: providers.Provider[ModelManagement] = providers.ThreadSafeSingleton(
        ModelManagement, snapshots, models
    )
    training: providers.Provider[Training] = providers.ThreadSafeSingleton(
        Training,
        runs=runs,
        log=activity_log,
        catalog=catalog,
        trainer=trainer,
        make_trainer=providers.Object(_trainer_by),
        scoring=scoring,
        snapshots=snapshots,
        models=models,
        promotion=promotion,
        learning=learning,
        clock=clock,
        libraries=providers.Callable(_libraries),
    )
    evaluating: providers.Provider[Evaluating] = providers.ThreadSafeSingleton(
        _evaluating, activity_log, trainer, scoring, models, snapshots, learning
    )
