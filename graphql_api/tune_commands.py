"""What `jobrec tune` does: search, tell how it goes, and write the settings file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from adapters.studies import JsonlStudy
from application.evaluating import OnStage
from application.tuning import Search, Standing, Tested, Tuning, TuningRequest
from domain.errors import InputError
from domain.significance import Estimate
from graphql_api.settings_file import as_settings_file

Say = Callable[[str], None]


def search_settings(
    tuning: Tuning,
    request: TuningRequest,
    out: Path,
    on_stage: OnStage,
    say: Say,
    proxies: Sequence[str] = (),
) -> bool:
    """Search, and keep the best so far in `out`; tell whether the search came to its end.

    The study lies beside `out`, so that the same command goes on after a stop.

    Args:
        proxies: those in force, which the file must not lose.
    """
    search = tuning.prepare(request, on_stage)
    for line in search.read.lines():
        say(line)
    say(search.describe())
    say(search.searched())
    study = out.with_name(f"{out.name}.study.jsonl")
    written: Standing | None = None

    def on_trial(standing: Standing) -> None:
        nonlocal written
        say(_progress(standing, request.metric))
        _write(out, standing, request, None, proxies)
        written = standing

    try:
        standing = search.run(partial(JsonlStudy, study), on_stage, on_trial)
        tested = _tested(search, standing, request, say, on_stage)
    except KeyboardInterrupt:
        if written is None:
            say(f"interrupted before the first trial; {out} is not written")
        else:
            say(f"interrupted: {out} holds the best so far; the same command goes on")
        return False
    _write(out, standing, request, tested, proxies)
    say(_verdict(standing))
    say(f"wrote {out}; use it by --settings {out}")
    return True


def _tested(
    search: Search, standing: Standing, request: TuningRequest, say: Say, on_stage: OnStage
) -> Tested:
    tested = search.test(standing.chosen, on_stage)
    for line in _outcome(tested, request.metric):
        say(line)
    return tested


def _progress(standing: Standing, metric: str) -> str:
    last, best = standing.last, standing.best
    outcome = f"{last.score:.4f}" if last.score is not None else f"no score ({last.failure})"
    left = "" if standing.left is None else f", {standing.left / 60:.1f} min left"
    return (
        f"trial {last.number}: {metric} {outcome} in {last.seconds:.1f} s; "
        f"best {best.score:.4f} of trial {best.number}{left}"
    )


def _verdict(standing: Standing) -> str:
    if standing.best.number == 0:
        return "nothing better than the settings in force was found; they are kept"
    gain = f"{standing.gain.value:+.4f} ({standing.gain.low:+.4f} to {standing.gain.high:+.4f})"
    found = f"trial {standing.best.number} ({_changed(standing)})"
    if standing.is_sure:
        return f"{found} gains {gain} over the settings in force, for people it was not chosen by"
    return (
        f"for people it was not chosen by, the gain {gain} of the best, {found}, is within noise: "
        f"the settings in force are kept"
    )


def _outcome(tested: Tested, metric: str) -> Iterator[str]:
    yield f"test, on {tested.people:,} people, by pairs that had no say in the choice:"
    yield f"  settings in force: {metric} {_span(tested.start)}"
    yield f"  chosen settings:   {metric} {_span(tested.found)}"
    gain = tested.gain
    yield f"  gain {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}), p {gain.p:.3f}"
    if tested.found != tested.start and gain.low <= 0:
        # The best of many trials is flattered by chance
        yield "  the test part does not confirm a gain: consider keeping the settings in force"


def _span(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def _changed(standing: Standing) -> str:
    start = standing.start_values
    changed = {name: own for name, own in standing.best.values.items() if own != start[name]}
    return ", ".join(
        f"{name} {own:.4g}" if isinstance(own, float) else f"{name} {own}"
        for name, own in changed.items()
    )


def _write(
    out: Path,
    standing: Standing,
    request: TuningRequest,
    tested: Tested | None,
    proxies: Sequence[str],
) -> None:
    """Write the file whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    remarks = [
        f"written by jobrec tune at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"data {standing.data}, {standing.trials:,} trials, {request.split} split",
        "intervals cover in 95 of 100 cases",
        f"validation, on {standing.judges:,} people who had no say in which trial is best:",
        f"  settings in force: {request.metric} {_span(standing.start)}",
        f"  best trial:        {request.metric} {_span(standing.found)}",
        _verdict(standing),
        *(_outcome(tested, request.metric) if tested else ["not measured on the test part"]),
    ]
    values = {**standing.chosen, **({"proxies": proxies} if proxies else {})}
    partial_file = out.with_name(f".{out.name}.partial")
    try:
        partial_file.write_text(as_settings_file(values, remarks), encoding="utf-8")
        partial_file.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}", "--out") from error
    finally:
        partial_file.unlink(missing_ok=True)
