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
from domain.tuning import Choice, Numbers, SearchSpace, Trial, Values

_DRAWN_BY_CHANCE = 10


class TpeOptimizer(Optimizer):
    """Tree-structured Parzen estimator, over all dimensions together.

    Bergstra et al.: Algorithms for Hyper-Parameter Optimization (2011). The first ten trials are
    drawn by chance. Nothing is kept between proposals, so a search that goes on after a stop
    proposes what it would have proposed without one.
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
        study.add_trials(
            [_frozen(trial, distributions) for trial in trials if space.holds(trial.values)]
        )
        proposed: Values = study.ask(distributions).params
        return proposed


def _distribution(dimension: Numbers | Choice) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def _frozen(trial: Trial, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    return create_trial(
        params={name: trial.values[name] for name in distributions},
        distributions=distributions,
        value=trial.score,
        state=TrialState.PRUNED if trial.score is None else TrialState.COMPLETE,
    )
