"""An evaluation as people and programs read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from application.evaluating import Evaluation
from application.trading_off import TradeOff
from domain.significance import Estimate
from domain.splits import SplitKind

_SHOWN_WITH_INTERVAL = ("recall", "ndcg", "taste")
_SHOWN = ("precision", "map", "mrr", "hit_rate")
_SHOWN_OF_LISTS = {
    "coverage": "{:,.0f}",
    "never_shown": "{:.1%}",
    "gini": "{:.3f}",
    "novelty": "{:.2f}",
    "popularity_bias": "{:.2f}",
    "diversity": "{:.3f}",
    "overlap_with_live": "{:.3f}",
}

_SHOWN_OF_TRADE_OFF = ("recall", "ndcg", "gini", "never_shown", "coverage", "diversity")


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything measured as what JSON can hold."""
    setting = evaluation.setting
    return {
        "default": evaluation.default,
        "models": evaluation.metrics,
        "intervals": _each(evaluation.intervals, lambda estimate: [estimate.low, estimate.high]),
        "differences": _each(evaluation.differences, lambda difference: difference._asdict()),
        "groups": [asdict(group) for group in evaluation.groups],
        "sources": _each(evaluation.sources, lambda use: use._asdict()),
        "exposure_curves": {model: list(own) for model, own in evaluation.lorenz.items()},
        "training_curve": [point._asdict() for point in evaluation.curve],
        "setting": {
            **asdict(setting),
            "cutoff": None if setting.cutoff is None else setting.cutoff.isoformat(),
        },
        "k": list(evaluation.ks),
        "refused": dict(evaluation.refused),
        "cold": None if evaluation.cold is None else asdict(evaluation.cold),
        "trade_off": None if evaluation.trade_off is None else _trade_off(evaluation.trade_off),
    }


def as_lines(evaluation: Evaluation) -> Iterator[str]:
    """Return the tables that a terminal shows."""
    yield from evaluation.read.lines()
    yield from _setting(evaluation)
    for version, reason in evaluation.refused.items():
        yield f"model {version} was not measured: {reason}"
    for k in evaluation.ks:
        yield ""
        yield from _quality(evaluation, k)
    if evaluation.differences:
        yield ""
        yield from _differences(evaluation, evaluation.ks[-1])
    for k in evaluation.ks:
        yield ""
        yield from _lists(evaluation, k)
    yield ""
    yield from _sources(evaluation)
    yield ""
    yield from _groups(evaluation, f"recall@{evaluation.ks[-1]}")
    if (trade_off := evaluation.trade_off) is not None:
        yield ""
        yield from _varieties(trade_off)
    if (cold := evaluation.cold) is not None:
        yield ""
        yield (
            f"unseen jobs ranked among themselves: {cold.jobs:,} jobs, "
            f"{cold.targets:,} new pairs of {cold.people:,} people"
        )
        for name, recall in cold.recall.items():
            yield f"  {name:<18}recall@{cold.k} {recall:.4f}"


def _each(
    values: Mapping[str, Mapping[Any, Any]], encode: Callable[[Any], Any]
) -> dict[str, dict[str, Any]]:
    return {
        model: {str(name): encode(value) for name, value in own.items()}
        for model, own in values.items()
    }


def _setting(evaluation: Evaluation) -> Iterator[str]:
    setting = evaluation.setting
    at = "" if setting.cutoff is None else f" at {setting.cutoff:%Y-%m-%d %H:%M}"
    yield (
        f"{setting.split} split{at}: learned from {setting.pairs:,} pairs of {setting.users:,} "
        f"people and {setting.jobs:,} jobs"
    )
    yield (
        f"measured on {setting.targets:,} new pairs of {setting.people:,} people; the jobs of "
        f"{setting.unseen_targets:,} are unseen in the training part"
    )
    if setting.left_out:
        yield f"{setting.left_out:,} people with nothing to learn from are left out"
    yield "no list holds a job that its person did in the training part"
    if setting.split == SplitKind.TEMPORAL and setting.cutoff is None:
        yield "note: the times tell nothing, so pairs were held out by chance"
    if setting.split in {SplitKind.LAST, SplitKind.RANDOM}:
        yield (
            "note: the training part knows what others did later, so models that follow fashion "
            "do better here than in a service"
        )


def _quality(evaluation: Evaluation, k: int) -> Iterator[str]:
    """Compare models: means, and the interval that covers them in 95 of 100 cases."""
    some = evaluation.intervals[evaluation.default]
    with_interval = [name for name in _SHOWN_WITH_INTERVAL if f"{name}@{k}" in some]
    heads = "".join(f"{f'{name}@{k}':>11}{'95 %':^15}" for name in with_interval)
    rest = "".join(f"{name:>10}" for name in _SHOWN)
    yield f"{_name(evaluation)}{heads}{rest}{'p (ndcg)':>10}{'Holm':>8}"
    for model, metrics in evaluation.metrics.items():
        intervals = evaluation.intervals[model]
        cells = "".join(_with_interval(intervals[f"{name}@{k}"]) for name in with_interval)
        others = "".join(f"{metrics[f'{name}@{k}']:10.4f}" for name in _SHOWN)
        difference = evaluation.differences.get(model, {}).get(f"ndcg@{k}")
        p = "" if difference is None else f"{difference.p:10.3f}{difference.p_holm:8.3f}"
        yield f"{_name(evaluation, model)}{cells}{others}{p}"


def _differences(evaluation: Evaluation, k: int) -> Iterator[str]:
    """Tell how far the default lies above each other model, for the same people."""
    names = [f"recall@{k}", f"ndcg@{k}"]
    heads = "".join(f"{name:>12}{'95 %':^22}{'p':>6}{'Holm':>7}" for name in names)
    yield f"{_name(evaluation, text='above')}{heads}"
    for model, own in evaluation.differences.items():
        cells = ""
        for value, low, high, p, p_holm in (own[name] for name in names):
            span = f"{low:+.4f} to {high:+.4f}"
            cells += f"{value:+12.4f}{span:^22}{p:6.3f}{p_holm:7.3f}"
        yield f"{_name(evaluation, model)}{cells}"


def _with_interval(estimate: Estimate) -> str:
    span = f"{estimate.low:.4f}-{estimate.high:.4f}"
    return f"{estimate.value:11.4f}{span:^15}"


def _lists(evaluation: Evaluation, k: int) -> Iterator[str]:
    """Compare what the lists of models are like as a whole."""
    some = evaluation.metrics[evaluation.default]
    shown = {name: form for name, form in _SHOWN_OF_LISTS.items() if f"{name}@{k}" in some}
    heads = "".join(f"{name:>{len(name) + 2}}" for name in shown)
    yield f"{_name(evaluation, text=f'lists of {k}')}{heads}"
    for model, metrics in evaluation.metrics.items():
        cells = "".join(
            f"{form.format(metrics[f'{name}@{k}']):>{len(name) + 2}}"
            for name, form in shown.items()
        )
        yield f"{_name(evaluation, model)}{cells}"


def _sources(evaluation: Evaluation) -> Iterator[str]:
    """Tell where the jobs of lists come from, and which share of them was right."""
    yield f"{_name(evaluation, text=f'source @{evaluation.ks[-1]}')}{'':14}{'jobs':>12}{'right':>9}"
    for model, uses in evaluation.sources.items():
        for source, use in uses.items():
            right = use.hits / use.items
            yield f"{_name(evaluation, model)}{source.lower():14}{use.items:12,}{right:9.2%}"


def _groups(evaluation: Evaluation, metric: str) -> Iterator[str]:
    """Compare models within groups."""
    widths = {model: max(8, len(model) + 2) for model in evaluation.metrics}
    heads = "".join(f"{model:>{width}}" for model, width in widths.items())
    yield f"{_name(evaluation, text=metric)}{'people':>10}{heads}"
    for group in evaluation.groups:
        cells = "".join(
            f"{group.metrics[model][metric]:{width}.4f}" for model, width in widths.items()
        )
        yield f"{_name(evaluation, text=group.name)}{group.people:10,}{cells}"


def _trade_off(trade_off: TradeOff) -> dict[str, Any]:
    points = [point._asdict() for point in trade_off.points]
    return {"k": trade_off.k, "people": trade_off.people, "points": points}


def _varieties(trade_off: TradeOff) -> Iterator[str]:
    """Tell what variety costs in accuracy and brings in exposure."""
    k = trade_off.k
    heads = "".join(f"{f'{name}@{k}':>15}" for name in _SHOWN_OF_TRADE_OFF)
    yield f"{f'variety, {trade_off.people:,} people':<26}{heads}"
    for point in trade_off.points:
        cells = "".join(
            f"{_SHOWN_OF_LISTS.get(name, '{:.4f}').format(point.metrics[f'{name}@{k}']):>15}"
            for name in _SHOWN_OF_TRADE_OFF
        )
        value = f"{point.value:g}" if point.value else ""
        yield f"  {point.knob:<18}{value:<6}{cells}"


def _name(evaluation: Evaluation, model: str = "", text: str = "") -> str:
    """Return the first column: a model, the default with a star, or another text."""
    width = max(16, *(len(name) + 3 for name in evaluation.metrics))
    star = "*" if model and model == evaluation.default else " "
    return (text or f"{star} {model}").ljust(width)
