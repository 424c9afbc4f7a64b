"""An evaluation as one HTML page that needs nothing else: no script, no file, no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TypeVar

from application.evaluating import Evaluation, Group
from domain.significance import Difference
from graphql_api import charts
from graphql_api.charts import Axis, Interval, Line, Point, round_end, round_span

Value = TypeVar("Value")

_SURE = 0.05
"""A difference is called sure where its adjusted p-value lies below."""

_WITH_INTERVAL = ("recall", "ndcg", "taste")
_TABLE = ("recall", "ndcg", "precision", "map", "mrr", "hit_rate")
_NAMES = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "precision": "Precision",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "taste": "Taste",
}

_KNOBS = {
    "none": "plain",
    "spread": "spread",
    "diversity": "diversity",
    "max_per_employer": "jobs of an employer at most",
}


def as_page(evaluation: Evaluation) -> str:
    """Return the page."""
    k = evaluation.ks[-1]
    sections = (
        _verdict(evaluation, k),
        _quality(evaluation, k),
        _history(evaluation, k),
        _jobs(evaluation, k),
        _exposure(evaluation),
        _trade_off(evaluation, k),
        _varieties(evaluation),
        _curve(evaluation, k),
        *(_table(evaluation, length) for length in evaluation.ks),
        _lists(evaluation, k),
        _method(evaluation),
    )
    title = f"How good are the recommendations of {escape(evaluation.default)}?"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>"
        f"<h1>{title}</h1>{''.join(sections)}</main></body></html>\n"
    )


def verdict(evaluation: Evaluation) -> list[str]:
    """Say in plain words which model is best and how sure it is that the default is."""
    k = evaluation.ks[-1]
    name, default = f"ndcg@{k}", evaluation.default
    values = {model: own[name] for model, own in evaluation.metrics.items()}
    best = max(values, key=values.__getitem__)
    differences = {model: own[name] for model, own in evaluation.differences.items()}
    if not differences:
        return [f"Only {default} was measured, so there is nothing to compare it with."]
    ahead = [model for model, each in differences.items() if _is_ahead(each)]
    behind = [model for model, each in differences.items() if _is_behind(each)]
    unsure = [model for model in differences if model not in {*ahead, *behind}]
    said = []
    if len(ahead) == len(differences):
        said.append(f"{default}, the default, beats every other model measured, and surely so.")
    elif behind:
        said.append(f"{best} is best. {default}, the default, is surely worse than {_and(behind)}.")
    else:
        said.append(
            f"{best} has the best figures. Between {default}, the default, and {_and(unsure)} "
            f"the data cannot decide."
        )
    if ahead and len(ahead) < len(differences):
        said.append(f"The default surely beats {_and(ahead)}.")
    nearest = min(differences, key=lambda model: abs(differences[model].value))
    rival = best if best != default else nearest
    said.append(_by_how_much(default, rival, values[rival], differences[rival], k))
    said.extend(_of_taste(evaluation, k))
    return said


def _by_how_much(default: str, rival: str, theirs: float, difference: Difference, k: int) -> str:
    share = f" ({abs(difference.value) / theirs:.0%})" if theirs else ""
    where = "above" if difference.value >= 0 else "below"
    return (
        f"On NDCG@{k}, {default} lies {abs(difference.value):.4f}{share} {where} {rival}, with a "
        f"95 % interval of the difference from {_signed(difference.low)} to "
        f"{_signed(difference.high)} and p = {_p(difference.p_holm)}, adjusted for the number of "
        f"comparisons."
    )


def _of_taste(evaluation: Evaluation, k: int) -> Iterator[str]:
    """Tell how well known tastes are found, where they are known."""
    name, default = f"taste@{k}", evaluation.default
    own = evaluation.metrics[default].get(name)
    if own is None:
        return
    lifts = [
        f"{own / theirs:.1f} times as many as {other}"
        for other in ("popular", "random")
        if (theirs := evaluation.metrics.get(other, {}).get(name))
    ]
    than = f", {_and(lifts)}" if lifts else ""
    yield f"Of the jobs that {default} lists, {own:.0%} suit a known taste of their person{than}."


def _verdict(evaluation: Evaluation, k: int) -> str:
    first, *rest = verdict(evaluation)
    metrics = evaluation.metrics[evaluation.default]
    figures = (
        ("people measured", f"{evaluation.setting.people:,}"),
        (f"recall@{k}", f"{metrics[f'recall@{k}']:.3f}"),
        (f"people with a hit in {k}", f"{metrics[f'hit_rate@{k}']:.1%}"),
        ("jobs never shown", f"{metrics[f'never_shown@{k}']:.1%}"),
    )
    cells = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in figures)
    return (
        f'<section class="verdict"><p class="lead">{escape(first)}</p>'
        f"{''.join(f'<p>{escape(text)}</p>' for text in rest)}<dl>{cells}</dl></section>"
    )


def _quality(evaluation: Evaluation, k: int) -> str:
    names = [name for name in _WITH_INTERVAL if f"{name}@{k}" in _any(evaluation.intervals)]
    drawn = "".join(
        f"<figure><figcaption>{_NAMES[name]}@{k}</figcaption>"
        + charts.intervals(
            f"{_NAMES[name]}@{k} of each model with its 95 % interval",
            [
                Interval(model, colour, *evaluation.intervals[model][f"{name}@{k}"])
                for model, colour in _by_value(evaluation, f"{name}@{k}")
            ],
            _short,
            "{:.3f}".format,
        )
        + "</figure>"
        for name in names
    )
    return _section(
        "Quality",
        f"How much of what people did next stands among the first {k} jobs of their lists. Bars "
        f"are 95 % intervals over people; models whose bars overlap may still differ surely, since "
        f"the tests below compare them person by person.",
        f'<div class="row">{drawn}</div>',
    )


def _history(evaluation: Evaluation, k: int) -> str:
    groups = [group for group in evaluation.groups if group.name.startswith("history")]
    names = [group.name.removeprefix("history ") for group in groups]
    if len(groups) < 2:
        return _section(
            "By history length",
            "All people measured have histories of about one length, so there is nothing to draw.",
            "",
        )
    metric = f"recall@{k}"
    series = [
        Line(model, colour, [(at, group.metrics[model][metric]) for at, group in enumerate(groups)])
        for model, colour in _colours(evaluation).items()
    ]
    people = ", ".join(
        f"{name}: {group.people:,}" for name, group in zip(names, groups, strict=True)
    )
    high = max(y for line in series for _, y in line.points)
    chart = charts.lines(
        f"Recall@{k} by the number of jobs in people's histories",
        series,
        Axis(
            "jobs in the history",
            len(groups) - 1,
            lambda at: names[round(at)],
            range(len(groups)),
        ),
        Axis(f"recall@{k}", round_end(high), _short),
    )
    return _section(
        "By history length",
        f"Who did more can be known better. People by jobs in their history: {people}.",
        _figure(evaluation, chart),
    )


def _jobs(evaluation: Evaluation, k: int) -> str:
    groups = [group for group in evaluation.groups if group.name.endswith("jobs")]
    metric = f"recall@{k}"
    high = max((own[metric] for group in groups for own in group.metrics.values()), default=0)
    heads = "".join(
        f'<th scope="col">{escape(group.name)}<small>{group.people:,} people</small></th>'
        for group in groups
    )
    rows = "".join(
        f"<tr>{_row_head(evaluation, model, colour)}"
        f"{''.join(_bar(group, model, metric, high) for group in groups)}</tr>"
        for model, colour in _colours(evaluation).items()
    )
    return _section(
        "Old, new and unseen jobs",
        f"Recall@{k} of jobs by how long the training part has known them. New: first seen in its "
        f"last 30 days. Unseen jobs cannot be found by models that learn from activities alone.",
        _scrolled(f'<thead><tr><th scope="col">Model</th>{heads}</tr></thead>{rows}'),
    )


def _bar(group: Group, model: str, metric: str, high: float) -> str:
    value = group.metrics[model][metric]
    width = 100 * value / high if high else 0
    return f'<td class="bar"><i style="width:{width:.1f}%"></i><span>{value:.4f}</span></td>'


def _exposure(evaluation: Evaluation) -> str:
    series = [
        Line(
            model,
            colour,
            [
                (place / (len(evaluation.lorenz[model]) - 1), share)
                for place, share in enumerate(evaluation.lorenz[model])
            ],
        )
        for model, colour in _colours(evaluation).items()
    ]
    chart = charts.lines(
        "Lorenz curves of how often jobs are shown",
        series,
        Axis("share of jobs, the least shown first", 1.0, _percent),
        Axis("share of all places in lists", 1.0, _percent),
        diagonal=True,
    )
    return _section(
        "Exposure",
        "How evenly lists show the catalogue. On the dashed line all jobs would be shown alike; "
        "the later a curve rises, the fewer jobs get all places.",
        _figure(evaluation, chart),
    )


def _trade_off(evaluation: Evaluation, k: int) -> str:
    accuracy = {model: own[f"ndcg@{k}"] for model, own in evaluation.metrics.items()}
    high = round_end(max(accuracy.values()) * 1.08)
    drawn = "".join(
        f"<figure><figcaption>{caption}</figcaption>"
        + charts.scatter(
            f"NDCG@{k} of each model against {caption.lower()}",
            [
                Point(model, colour, evaluation.metrics[model][metric], accuracy[model])
                for model, colour in _colours(evaluation).items()
            ],
            Axis(f"{caption.lower()} (left is fairer)", 1.0, form),
            Axis(f"NDCG@{k}", high, _short),
        )
        + "</figure>"
        for metric, caption, form in (
            (f"gini@{k}", "Gini coefficient of exposure", _short),
            (f"never_shown@{k}", "Share of jobs never shown", _percent),
        )
    )
    return _section(
        "Accuracy and fairness to jobs",
        "Up is more accurate, left is fairer to the jobs of the catalogue. A model with another "
        "above it and to its left is worse in both.",
        f'<div class="row">{drawn}</div>',
    )


def _varieties(evaluation: Evaluation) -> str:
    found = evaluation.trade_off
    if found is None:
        return ""
    k, (plain, *others) = found.k, found.points
    knobs = list(dict.fromkeys(point.knob for point in others))
    colours = {_KNOBS[knob]: colour for colour, knob in enumerate(knobs)}
    ndcg = [point.metrics[f"ndcg@{k}"] for point in found.points]
    low, high = round_span(ndcg)
    drawn = ""
    for metric, caption, hint in (
        (f"gini@{k}", "Gini coefficient of exposure", "left is fairer"),
        (f"diversity@{k}", "Diversity in lists", "right is more varied"),
    ):
        series = [
            Line(
                _KNOBS[knob],
                colours[_KNOBS[knob]],
                [
                    (point.metrics[metric], point.metrics[f"ndcg@{k}"])
                    for point in (plain, *others)
                    if point.knob in {plain.knob, knob}
                ],
                ["", *(f"{point.value:g}" for point in others if point.knob == knob)],
            )
            for knob in knobs
        ]
        left, right = round_span([point.metrics[metric] for point in found.points])
        chart = charts.lines(
            f"NDCG@{k} by strength of variety against {caption.lower()}",
            series,
            Axis(f"{caption.lower()} ({hint})", right, _short, low=left),
            Axis(f"NDCG@{k}", high, _short, low=low),
        )
        drawn += f"<figure><figcaption>{caption}</figcaption>{_legend(colours)}{chart}</figure>"
    shown = {
        "recall": ("Recall", "{:.4f}"),
        "ndcg": ("NDCG", "{:.4f}"),
        "gini": ("Gini", "{:.3f}"),
        "never_shown": ("Never shown", "{:.1%}"),
        "coverage": ("Jobs shown", "{:,.0f}"),
        "diversity": ("Diversity in lists", "{:.3f}"),
    }
    heads = "".join(f'<th scope="col">{head}</th>' for head, _ in shown.values())
    rows = "".join(
        f'<tr><th scope="row">{_KNOBS[point.knob]}{f" {point.value:g}" if point.value else ""}</th>'
        + "".join(
            f"<td>{form.format(point.metrics[f'{name}@{k}'])}</td>"
            for name, (_, form) in shown.items()
        )
        + "</tr>"
        for point in found.points
    )
    return _section(
        "What variety costs",
        f"Lists of {k} of {evaluation.default} for {found.people:,} people, from the plain ones, "
        f"where the lines meet, to more and more spread, diversity, or fewer jobs of one employer. "
        f"Axes do not begin at 0. Exposure is that of these people's lists alone, so it compares "
        f"within this section only.",
        f'<div class="row">{drawn}</div>'
        + _scrolled(f'<thead><tr><th scope="col">Variety</th>{heads}</tr></thead>{rows}'),
    )


def _curve(evaluation: Evaluation, k: int) -> str:
    if len(evaluation.curve) < 2:
        return _section(
            "Training curve",
            f"There is none: {evaluation.default} learns in one step, or the training part is too "
            f"small to be cut once more.",
            "",
        )
    names = ("recall", "ndcg")
    series = [
        Line(
            f"{_NAMES[name]}@{k}",
            colour,
            [(point.steps, point.metrics[f"{name}@{k}"]) for point in evaluation.curve],
        )
        for colour, name in enumerate(names)
    ]
    high = max(y for line in series for _, y in line.points)
    last = evaluation.curve[-1].steps
    chart = charts.lines(
        f"Quality of {evaluation.default} by iterations of training",
        series,
        Axis(
            "iterations of training",
            last,
            lambda value: f"{value:.0f}",
            [point.steps for point in evaluation.curve],
        ),
        Axis("quality on the validation part", round_end(high), _short),
    )
    top = max(evaluation.curve, key=lambda point: point.metrics[f"ndcg@{k}"])
    return _section(
        "Training curve",
        f"{evaluation.default} after more and more iterations, learned from a part of the training "
        f"part and judged by the rest of it. NDCG@{k} is highest after {top.steps} of {last}.",
        f"<figure>{_legend({line.name: line.colour for line in series})}{chart}</figure>",
    )


def _table(evaluation: Evaluation, k: int) -> str:
    names = [name for name in (*_TABLE, "taste") if f"{name}@{k}" in _any(evaluation.intervals)]
    heads = "".join(f'<th scope="col">{_NAMES[name]}</th>' for name in names)
    rows = "".join(
        f"<tr>{_row_head(evaluation, model, colour)}"
        + "".join(_cell(evaluation, model, f"{name}@{k}") for name in names)
        + _difference(evaluation.differences.get(model), f"ndcg@{k}")
        + "</tr>"
        for model, colour in _by_value(evaluation, f"ndcg@{k}")
    )
    return _section(
        f"All models at {k}",
        "Means over people with 95 % intervals. The difference is how far the default lies above "
        "the model; p tells how probable so large a difference were if there was none, adjusted "
        "for the number of models by Holm's method beside it.",
        _scrolled(
            f'<thead><tr><th scope="col">Model</th>{heads}'
            f'<th scope="col">Default ahead by<small>NDCG@{k}</small></th>'
            f'<th scope="col">p</th><th scope="col">p, Holm</th></tr></thead>{rows}'
        ),
    )


def _cell(evaluation: Evaluation, model: str, name: str) -> str:
    value, low, high = evaluation.intervals[model][name]
    best = value == max(own[name].value for own in evaluation.intervals.values())
    shown = f"<b>{value:.4f}</b>" if best else f"{value:.4f}"
    if name.partition("@")[0] not in _WITH_INTERVAL:
        return f"<td>{shown}</td>"
    return f"<td>{shown}<small>{low:.4f}–{high:.4f}</small></td>"  # noqa: RUF001 - a range has an en dash


def _difference(differences: Mapping[str, Difference] | None, name: str) -> str:
    if differences is None:
        return '<td colspan="3" class="none">the default</td>'
    found = differences[name]
    return (
        f"<td>{_signed(found.value)}<small>{_signed(found.low)} to {_signed(found.high)}</small>"
        f"</td><td>{_p(found.p)}</td><td>{_p(found.p_holm)}</td>"
    )


def _lists(evaluation: Evaluation, k: int) -> str:
    shown = {
        "coverage": ("Jobs shown", "{:,.0f}"),
        "never_shown": ("Never shown", "{:.1%}"),
        "gini": ("Gini", "{:.3f}"),
        "novelty": ("Novelty, bits", "{:.2f}"),
        "popularity_bias": ("Popularity bias", "{:.2f}"),
        "diversity": ("Diversity in lists", "{:.3f}"),
        "overlap_with_live": ("Overlap with live", "{:.3f}"),
    }
    some = _any(evaluation.metrics)
    names = [name for name in shown if f"{name}@{k}" in some]
    heads = "".join(f'<th scope="col">{shown[name][0]}</th>' for name in names)
    rows = "".join(
        f"<tr>{_row_head(evaluation, model, colour)}"
        + "".join(
            f"<td>{shown[name][1].format(evaluation.metrics[model][f'{name}@{k}'])}</td>"
            for name in names
        )
        + f"<td>{'<br>'.join(_uses(evaluation, model))}</td></tr>"
        for model, colour in _colours(evaluation).items()
    )
    return _section(
        f"What lists of {k} are like",
        "Sources tell where the jobs of lists come from and which share of them people went on "
        "to: a model's own ranking, or popular jobs that complete short lists.",
        _scrolled(
            f'<thead><tr><th scope="col">Model</th>{heads}<th scope="col">Sources</th></tr></thead>'
            f"{rows}"
        ),
    )


def _uses(evaluation: Evaluation, model: str) -> Iterator[str]:
    for source, use in evaluation.sources[model].items():
        right = use.hits / use.items
        yield f"{source.lower().replace('_', '-')} {use.items:,}, {right:.2%} right"


def _method(evaluation: Evaluation) -> str:
    setting = evaluation.setting
    at = "" if setting.cutoff is None else f" at {setting.cutoff:%Y-%m-%d %H:%M}"
    refused = "".join(
        f"<p>Model {escape(version)} was not measured: {escape(reason)}.</p>"
        for version, reason in evaluation.refused.items()
    )
    return _section(
        "How it was measured",
        f"{setting.split} split{at}: learned from {setting.pairs:,} pairs of {setting.users:,} "
        f"people and {setting.jobs:,} jobs, measured on {setting.targets:,} new pairs of "
        f"{setting.people:,} people. The jobs of {setting.unseen_targets:,} of them are unseen in "
        f"the training part; {setting.left_out:,} people had nothing to learn from and are left "
        f"out. Lists are ranked over all jobs, never over a sample, without jobs that the person "
        f"did before. Intervals and tests are bootstraps over people.",
        refused,
    )


def _section(title: str, text: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{body}</section>"


def _scrolled(table: str) -> str:
    """Let a wide table scroll within the page, also by keyboard."""
    return f'<div class="wide" tabindex="0"><table>{table}</table></div>'


def _figure(evaluation: Evaluation, chart: str) -> str:
    return f"<figure>{_legend(_colours(evaluation))}{chart}</figure>"


def _legend(names: Mapping[str, int]) -> str:
    chips = "".join(
        f'<li class="s{colour % charts.SERIES}"><i></i>{escape(name)}</li>'
        for name, colour in names.items()
    )
    return f'<ul class="legend">{chips}</ul>'


def _row_head(evaluation: Evaluation, model: str, colour: int) -> str:
    star = " <em>default</em>" if model == evaluation.default else ""
    return f'<th scope="row" class="s{colour % charts.SERIES}"><i></i>{escape(model)}{star}</th>'


def _colours(evaluation: Evaluation) -> dict[str, int]:
    return {model: colour for colour, model in enumerate(evaluation.metrics)}


def _by_value(evaluation: Evaluation, name: str) -> Sequence[tuple[str, int]]:
    """Return models and their colours, the best first."""
    colours = _colours(evaluation)
    ordered = sorted(colours, key=lambda model: -evaluation.metrics[model][name])
    return [(model, colours[model]) for model in ordered]


def _any(values: Mapping[str, Mapping[str, Value]]) -> Mapping[str, Value]:
    return next(iter(values.values()))


def _is_ahead(difference: Difference) -> bool:
    return difference.value > 0 and difference.p_holm < _SURE


def _is_behind(difference: Difference) -> bool:
    return difference.value < 0 and difference.p_holm < _SURE


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")  # noqa: RUF001 - a minus of the width of a plus


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _short(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"


def _percent(value: float) -> str:
    return f"{value:.0%}"


_STYLE = """
:root{--paper:#fbfaf7;--card:#fff;--ink:#1d2530;--soft:#566070;--line:#e2e0d8;--wash:#eef3f1;
--c0:#0b6e63;--c1:#b34d12;--c2:#80650c;--c3:#3c5fb4;--c4:#93418f;--c5:#6b7280;--c6:#b3263c;
--c7:#2f7f2f}
@media (prefers-color-scheme:dark){:root{
--paper:#12161b;--card:#1a2027;--ink:#e8eaed;--soft:#a3adba;
--line:#303944;--wash:#1d2b2c;--c0:#4fc8b6;--c1:#f2955c;--c2:#dcbc4d;--c3:#8fb0ff;--c4:#dc92d8;
--c5:#a5adb8;--c6:#ff8595;--c7:#85cf85}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:clamp(1rem,4vw,3rem) clamp(.8rem,3vw,2rem)}
h1{font-size:clamp(1.5rem,4vw,2.3rem);line-height:1.15;letter-spacing:-.02em;margin:0 0 1.2rem;
text-wrap:balance}
h2{font-size:1.2rem;letter-spacing:-.01em;margin:0 0 .3rem}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;
padding:clamp(1rem,3vw,1.7rem);margin:0 0 1.1rem}
section>p{margin:0 0 1rem;color:var(--soft);max-width:75ch}
.verdict{background:var(--wash);border-color:transparent;border-left:5px solid var(--c0)}
.verdict>p{color:var(--ink);margin-bottom:.5rem}
.verdict .lead{font-size:clamp(1.1rem,2.6vw,1.4rem);line-height:1.35;font-weight:650;
text-wrap:balance}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1rem;margin:1.2rem 0 0}
dt{font-size:.82rem;color:var(--soft)}dd{margin:0;font-size:1.5rem;font-weight:650;
font-variant-numeric:tabular-nums}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:1.5rem}
figure{margin:0;min-width:0}figcaption{font-weight:600;font-size:.95rem;margin-bottom:.3rem}
section>figure{max-width:680px}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-family:inherit;fill:var(--ink);font-size:13px}
svg .axis{fill:var(--soft);font-size:12px}svg .strong{font-weight:600}
svg .grid{stroke:var(--line)}svg .faint{stroke:var(--soft)}
svg .mark{stroke:currentColor}svg .dot{fill:currentColor;stroke:var(--card);stroke-width:1.5}
.s0{color:var(--c0)}.s1{color:var(--c1)}.s2{color:var(--c2)}.s3{color:var(--c3)}
.s4{color:var(--c4)}.s5{color:var(--c5)}.s6{color:var(--c6)}.s7{color:var(--c7)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem;padding:0;margin:0 0 .6rem;
font-size:.88rem}

.legend i,th i{display:inline-block;width:.7em;height:.7em;border-radius:50%;
background:currentColor;margin-right:.45em}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.5rem .55rem;border-top:1px solid var(--line);white-space:nowrap;
vertical-align:top}
thead th{border-top:0;color:var(--soft);font-weight:600;vertical-align:bottom}
th:first-child{text-align:left;position:sticky;left:0;background:var(--card)}
tbody th{font-weight:600}
em{font-style:normal;font-size:.75rem;font-weight:500;opacity:.85;border:1px solid;
border-radius:99px;padding:0 .5em;margin-left:.3em}
small{display:block;color:var(--soft);font-size:.78rem;font-weight:400}
.none{text-align:center;color:var(--soft)}
.bar{position:relative;min-width:8rem}
.bar i{position:absolute;inset:.35rem auto .35rem 0;background:var(--c0);opacity:.2;
border-radius:0 4px 4px 0}
.bar span{position:relative}
@media (max-width:600px){svg text{font-size:17px}svg .axis{font-size:15px}}
@media print{section{break-inside:avoid}}
""".strip()
"""Colours hold 4.5:1 against their ground in both schemes."""
