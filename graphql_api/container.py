"""Composition root: which adapter stands behind which port."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from adapters.content import TextModel, TextTrainer
from adapters.jsonl import (
    JsonlActivityLog,
    JsonlCatalog,
    JsonlItems,
    Tolerance,
    find_file,
    read_employer_notes,
)
from adapters.kept_log import KeptActivityLog
from adapters.kept_tally import KeptTally
from adapters.live_log import JsonlRecentActivities
from adapters.lmdb_catalog import LmdbCatalog
from adapters.runs import SqliteTrainingRuns
from adapters.snapshots import DirectorySnapshotStore
from application.cataloguing import Cataloguing
from application.employers import EmployerLearning
from application.importing import Importing, Source
from application.managing import ModelManagement
from application.new_jobs import ContentLearning
from application.recommending import Models, Recommending
from application.recording import Recording
from application.training import LearningPolicy, Training
from domain.employers import UNTYPED, EmployerTypes
from domain.errors import DatasetMissing, InputError, SnapshotCorrupt, TrainingError
from domain.model import FloatArray
from domain.ports import (
    ActivityLog,
    Arrays,
    Catalog,
    CatalogImport,
    CatalogStore,
    Clock,
    EmployerLearner,
    IndexJobs,
    ItemKind,
    LoadRecommender,
    Optimizer,
    RecentActivities,
    Recipe,
    Recommender,
    SnapshotStore,
    Trainer,
    TrainingRuns,
)
from domain.promotion import PromotionPolicy
from domain.ranking import RankingPolicy
from domain.scoring import ScoringPolicy
from domain.trend import Trend
from domain.variety import Variety
from graphql_api.absent import absent
from graphql_api.runtime import available_cores
from graphql_api.settings import (
    SHAPING,
    EmployerTyping,
    Kernel,
    Settings,
    ann_extra_missing,
    employers_extra_missing,
)
from graphql_api.tokens import ApiTokens

# It wires web frameworks, too, and so loads those that are installed: a tenth of a second and more
with absent("fast_depends", "fastapi", "starlette", "werkzeug", "yaml"):
    from dependency_injector import containers, providers

if TYPE_CHECKING:
    # Serving does without what only training and measuring need
    from adapters.als import AlsTrainer
    from adapters.factors import FactorRecommender
    from adapters.neighbours import Neighbours
    from application.evaluating import Evaluating
    from application.tuning import Tuning

    # Learning does without the libraries that only serving needs
    from graphql_api.auth import Authenticator


_log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


_TRAINERS = {"als", "blend"}
"""What stored models may have been learned by."""


def _trainer_by(parameters: Mapping[str, Any]) -> Trainer:
    """Return the trainer that a stored model's record names."""
    from adapters.als import AlsParameters, AlsTrainer
    from adapters.neighbours import Neighbours

    if parameters["name"] not in _TRAINERS:
        raise TrainingError(f"this release has no trainer {parameters['name']!r}")
    neighbours, trend = Neighbours.of(parameters), Trend.of(parameters)
    known = {"name", *neighbours.parameters, *trend.parameters}
    values = {name: value for name, value in parameters.items() if name not in known}
    als = AlsTrainer(AlsParameters(threads=available_cores(), **values))
    return _blended(als, neighbours, trend)


def load_kernel() -> type[FactorRecommender]:
    """Load what makes lists, and SciPy with it; commands that neither learn nor rank do without."""
    # SciPy looks at all that NumPy has, also at its translator of Fortran: a third of the time
    with absent("numpy.f2py"):
        from adapters.factors import FactorRecommender
    return FactorRecommender


def _recommender_by(kernel: Kernel, parameters: Mapping[str, Any], arrays: Arrays) -> Recommender:
    """Return what the trainer that a stored model's record names has learned."""
    if parameters["name"] not in _TRAINERS:
        raise SnapshotCorrupt(f"this release has no trainer {parameters['name']!r}")
    exact = load_kernel().from_arrays(arrays, parameters)
    return exact if kernel is Kernel.EXACT else _indexed(exact, kernel, arrays)


def _indexed(exact: FactorRecommender, kernel: Kernel, arrays: Arrays) -> FactorRecommender:
    """Return a model with the index that lies beside it, or as it is where that is of no use."""
    if "index_probes" not in arrays:
        if kernel is Kernel.APPROXIMATE:
            _log.warning("the model has no index of its jobs, so exact lists are served")
        return exact
    from adapters.factors import is_large

    if obstacle := ann_extra_missing():
        _log.warning("the model's index is not used: %s", obstacle)
        return exact
    if kernel is Kernel.AUTO and not is_large(exact):
        return exact
    from adapters.approximate import JobIndex

    try:
        return exact.indexed(JobIndex.from_arrays(arrays))
    except SnapshotCorrupt as error:
        _log.warning("the model's index is not used: %s", error)
        return exact


def _loading(kernel: Kernel) -> LoadRecommender:
    return partial(_recommender_by, kernel)


def _index_jobs(settings: Settings) -> IndexJobs | None:
    """Return what builds an index of a model's jobs, None where none is to be."""
    if settings.kernel is Kernel.EXACT:
        return None
    threads = settings.threads or available_cores()

    def index_jobs(recommender: Recommender, seed: int) -> tuple[Arrays, Mapping[str, float]]:
        from adapters.factors import is_large

        if settings.kernel is Kernel.AUTO and not is_large(recommender):
            return {}, {}
        if obstacle := ann_extra_missing():
            _log.warning("so many jobs would be found faster with an index: %s", obstacle)
            return {}, {}
        # Models of usual size are learned without the library
        from adapters.approximate import index_of

        return index_of(recommender, seed, threads)

    return index_jobs


def _threads(settings: Settings) -> int:
    return settings.threads or available_cores()


def _als(settings: Settings) -> AlsTrainer:
    from adapters.als import AlsParameters, AlsTrainer

    return AlsTrainer(
        AlsParameters(
            factors=settings.factors,
            regularization=settings.regularization,
            alpha=settings.alpha,
            iterations=settings.iterations,
            threads=_threads(settings),
        )
    )


def _trainer(settings: Settings) -> Trainer:
    from adapters.neighbours import Neighbours

    neighbours = Neighbours(settings.neighbour_weight, settings.neighbours)
    trend = Trend(settings.trend, settings.trend_half_life_days)
    return _blended(_als(settings), neighbours, trend)


def _blended(als: AlsTrainer, neighbours: Neighbours, trend: Trend) -> Trainer:
    from adapters.blending import BlendTrainer

    return BlendTrainer(als, neighbours, trend) if neighbours.weight or trend.weight else als


def _authenticator(settings: Settings, tokens: ApiTokens, clock: Clock) -> Authenticator:
    from graphql_api.auth import authenticator_by

    return authenticator_by(settings, tokens, clock)


def _evaluating(
    settings: Settings,
    log: JsonlActivityLog,
    trainer: Trainer,
    scoring: ScoringPolicy,
    models: Models,
    snapshots: SnapshotStore,
    learning: LearningPolicy,
    dataset: JsonlCatalog,
) -> Evaluating:
    from adapters.baselines import baselines
    from application.cold_start import ColdStart
    from application.evaluating import Evaluating
    from application.trading_off import TradingOff
    from domain.significance import Bootstrap

    recipe = Recipe(trainer.parameters["name"], scoring.score, trainer)
    # What ALS does alone stands beside, so that an owner sees what the rest is good for
    alone = Recipe("als", scoring.score, _als(settings))
    return Evaluating(
        log=log,
        recipe=recipe,
        baselines=baselines() if recipe.name == alone.name else (alone, *baselines()),
        models=models,
        snapshots=snapshots,
        bootstrap=Bootstrap(seed=learning.seed),
        seed=learning.seed,
        # What is measured is the dataset, whatever a catalogue has kept of it
        cold_start=ColdStart(dataset, ContentLearning(dataset, TextTrainer())),
        trading_off=TradingOff(dataset),
    )


def _employer_learner(settings: Settings) -> EmployerLearner:
    from adapters.employers import TextEmployerLearner, TypingPolicy
    from adapters.texts import stop_words, tokeniser

    typing = TypingPolicy(types=settings.employer_types or None)
    return TextEmployerLearner(tokeniser(), stop_words(), typing=typing)


def employer_map(known: EmployerTypes) -> FloatArray:
    """Return where each employer stands on a map, shape (n, 2); 0 where it has no type.

    Raises:
        InputError: the extra is not installed.
    """
    if obstacle := employers_extra_missing():
        raise InputError(obstacle, "report")
    from adapters.employer_map import places

    mapped = np.zeros((len(known.keys), 2), dtype=np.float32)
    typed = known.type_of != UNTYPED
    mapped[typed] = places(known.vectors[typed], known.facts["seed"])
    return mapped


def _employer_learning(
    settings: Settings, catalog: Catalog, tolerance: Tolerance
) -> EmployerLearning:
    return EmployerLearning(
        catalog,
        partial(read_employer_notes, settings.data, tolerance),
        partial(_employer_learner, settings),
        employers_extra_missing(),
    )


def _employer_phase(settings: Settings, learning: EmployerLearning) -> EmployerLearning | None:
    return None if settings.employers is EmployerTyping.OFF else learning


def recipe_of(settings: Settings) -> Recipe:
    """Return the way from activities to a model that `train` takes with these settings."""
    container = Container(settings=settings)
    trainer = container.trainer()
    return Recipe(trainer.parameters["name"], container.scoring().score, trainer)


def _tuning(
    settings: Settings, log: JsonlActivityLog, optimizer: Optimizer, learning: LearningPolicy
) -> Tuning:
    from application.tuning import Tuning
    from domain.significance import Bootstrap
    from domain.tuning import NEIGHBOURHOOD

    return Tuning(
        log=log,
        make_recipe=lambda values: recipe_of(Settings(**{**settings.model_dump(), **values})),
        start={name: getattr(settings, name) for name in SHAPING},
        space=NEIGHBOURHOOD,
        optimizer=optimizer,
        bootstrap=Bootstrap(seed=learning.seed),
        seed=learning.seed,
    )


def _optimizer() -> Optimizer:
    if find_spec("optuna") is None:
        raise InputError('tuning needs an extra: pip install "jobrec[tune]"')
    from adapters.optimizer import TpeOptimizer

    return TpeOptimizer()


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
        ),
        settings.state / "erasures",
        settings.withheld,
    )


def _cataloguing(catalog: Catalog, clock: Clock, recent: RecentActivities) -> Cataloguing | None:
    """Return the write side of the catalogue; None where it is read from files."""
    # `isinstance` would read the port's property, and so ask a server that may be away
    if CatalogStore not in type(catalog).__mro__:
        return None
    return Cataloguing(cast("CatalogStore", catalog), clock, recent)


def _variety(settings: Settings) -> Variety:
    return Variety(settings.max_per_employer or None, settings.diversity, settings.spread)


def _importing(catalog: Catalog) -> Importing | None:
    """Return what takes files into the catalogue; None where it is read from them."""
    return Importing(catalog) if isinstance(catalog, CatalogImport) else None


def source_of(
    jobs: Path | None, users: Path | None, tolerance: Tolerance, withheld: frozenset[str]
) -> Source:
    """Return files to import.

    Args:
        withheld: fields of people that are not decoded.

    Raises:
        DatasetMissing: one is not there.
    """
    items = JsonlItems(jobs, users, tolerance, withheld)
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
            source = source_of(jobs, users, tolerance, settings.withheld)
            importing.follow(source, wait=wait)

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
    kept_tally: providers.Provider[KeptTally] = providers.ThreadSafeSingleton(
        KeptTally, settings.provided.state.joinpath.call("tally")
    )
    recent: providers.Provider[RecentActivities] = providers.ThreadSafeSingleton(
        JsonlRecentActivities, settings.provided.data, kept_tally
    )
    dataset: providers.Provider[JsonlCatalog] = providers.ThreadSafeSingleton(
        JsonlCatalog, settings.provided.data, tolerance, settings.provided.withheld
    )
    catalog: providers.Provider[Catalog] = providers.Selector(
        settings.provided.catalog,
        lmdb=providers.ThreadSafeSingleton(
            LmdbCatalog,
            settings.provided.state.joinpath.call("catalogue"),
            withheld=settings.provided.withheld,
        ),
        redis=providers.ThreadSafeSingleton(_redis_catalog, settings),
        jsonl=dataset,
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
    trainer: providers.Provider[Trainer] = providers.ThreadSafeSingleton(_trainer, settings)

    scoring: providers.Provider[ScoringPolicy] = providers.Factory(
        ScoringPolicy,
        name=settings.provided.scoring.value,
        cap=settings.provided.cap,
        impression_weight=settings.provided.impression_weight,
        redirect_weight=settings.provided.redirect_weight,
        apply_weight=settings.provided.apply_weight,
        penalty_weight=settings.provided.penalty_weight,
        email_click_weight=settings.provided.email_click_weight,
        half_life_days=settings.provided.half_life_days,
        window_days=settings.provided.window_days,
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

    variety: providers.Provider[Variety] = providers.Factory(_variety, settings)
    models: providers.Provider[Models] = providers.ThreadSafeSingleton(
        Models,
        snapshots,
        providers.Callable(_loading, settings.provided.kernel),
        providers.Object(TextModel.from_arrays),
    )
    threads: providers.Provider[int] = providers.Callable(_threads, settings)
    content: providers.Provider[ContentLearning] = providers.Factory(
        ContentLearning, catalog, providers.Factory(TextTrainer, threads=threads)
    )
    recommending: providers.Provider[Recommending] = providers.ThreadSafeSingleton(
        Recommending,
        models,
        catalog,
        ranking,
        clock,
        recent,
        variety,
        settings.provided.ahead_bytes,
    )
    recording: providers.Provider[Recording] = providers.Factory(Recording, recent, clock)
    cataloguing: providers.Provider[Cataloguing | None] = providers.ThreadSafeSingleton(
        _cataloguing, catalog, clock, recent
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
    employer_learning: providers.Provider[EmployerLearning] = providers.ThreadSafeSingleton(
        _employer_learning, settings, catalog, tolerance
    )
    training_log: providers.Provider[ActivityLog] = providers.ThreadSafeSingleton(
        KeptActivityLog,
        activity_log,
        kept_tally,
        catalog.provided.erasures,
        catalog.provided.erased_at,
        providers.Callable(available_cores),
    )
    training: providers.Provider[Training] = providers.ThreadSafeSingleton(
        Training,
        runs=runs,
        log=training_log,
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
        content=content,
        employers=providers.Callable(_employer_phase, settings, employer_learning),
        index_jobs=providers.Callable(_index_jobs, settings),
    )
    evaluating: providers.Provider[Evaluating] = providers.ThreadSafeSingleton(
        _evaluating,
        settings,
        activity_log,
        trainer,
        scoring,
        models,
        snapshots,
        learning,
        dataset,
    )
    optimizer: providers.Provider[Optimizer] = providers.ThreadSafeSingleton(_optimizer)
    tuning: providers.Provider[Tuning] = providers.ThreadSafeSingleton(
        _tuning, settings, activity_log, optimizer, learning
    )
