"""Proposing what to try next, by the library optuna."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from domain.ports import Optimizer
from domain.tuning import Choice, Numbers, SearchSpace, Trial, Value, Values

_DRAWN_BY_CHANCE = 10

_OFF = 0.25
"""Off is drawn as if it were so large a part of the range, beyond its high end."""


class TpeOptimizer(Optimizer):
    """Tree-structured Parzen estimator, over all dimensions together.

    Bergstra et al.: Algorithms for Hyper-Parameter Optimization (2011). Points are drawn
    by chance until there are ten trials. Nothing is kept between proposals, so a search that goes
    on after a stop proposes what it would have proposed without one.
    """

    def propose(self, space: SearchSpace, trials: Sequence[Trial], seed: int) -> Values:
        """Return a point of the space; see the port. Trials without a score count as the worst."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        distributions = {name: _distribution(own) for name, own in space.dimensions.items()}
        # A generator of its own for each proposal: the draws must not hang on earlier ones
        own_seed = (seed + len(trials)) % 2**32
        study = optuna.create_study(
            direction="maximize",
            sampler=TPESampler(seed=own_seed, multivariate=True, n_startup_trials=_DRAWN_BY_CHANCE),
        )
        inside = [trial for trial in trials if space.holds(trial.values)]
        study.add_trials([_frozen(trial, space, distributions) for trial in inside])
        drawn = study.ask(distributions).params
        return {name: _decoded(drawn[name], own) for name, own in space.dimensions.items()}


def _distribution(dimension: Numbers | Choice) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    high = _beyond(dimension, 1.0) if dimension.or_off else dimension.high
    return FloatDistribution(dimension.low, high, log=dimension.is_log)


def _beyond(dimension: Numbers, share: float) -> float:
    """Return a place beyond the high end; all such places stand for off."""
    part = share * _OFF
    if dimension.is_log:
        return float(dimension.high * (dimension.high / dimension.low) ** part)
    return float(dimension.high + (dimension.high - dimension.low) * part)


def _encoded(value: Value, dimension: Numbers | Choice) -> Value:
    if isinstance(dimension, Numbers) and dimension.or_off and value == 0:
        return _beyond(dimension, 0.5)
    return value


def _decoded(value: Value, dimension: Numbers | Choice) -> Value:
    return value if dimension.holds(value) else 0.0


def _frozen(
    trial: Trial, space: SearchSpace, distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    return create_trial(
        params={name: _encoded(trial.values[name], own) for name, own in space.dimensions.items()},
        distributions=distributions,
        value=trial.score,
        state=TrialState.PRUNED if trial.score is None else TrialState.COMPLETE,
    )
