"""The command line. Exit codes:

0    done
1    something unforeseen; the traceback says what
2    the command was called wrongly, or an argument is out of bounds
3    the dataset cannot be used
4    no usable model
5    the training failed
6    another training is under way
7    the promotion policy refused the model
8    the record of training runs cannot be read or written
9    the schema breaks clients of the one it is compared with
10   the catalogue cannot be read or written
130  interrupted
"""  # noqa: D415 - a title above a table

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Self, TextIO

import click
import orjson
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from adapters.jsonl import read_targets, read_tastes
from application.recommending import MAX_BATCH, Models, RecommendationList
from application.training import MEASURED_K, Training
from domain.errors import (
    CatalogUnavailable,
    DataError,
    InputError,
    JobrecError,
    ModelNotReady,
    RecordsUnavailable,
    SnapshotError,
    TrainingError,
)
from domain.model import MAX_ID, TimeWindow
from domain.ports import Begun, Busy, Recipe, TrainingRuns
from domain.runs import FailureKind, RunRequest, RunStatus, TrainingRun
from domain.splits import SplitKind
from graphql_api.catalogue_commands import catalogue_commands, import_command
from graphql_api.container import Container, recipe_of
from graphql_api.employer_commands import employer_commands
from graphql_api.forking import CAN_FORK, fork_workers
from graphql_api.runtime import available_cores, collect_garbage, training_environment
from graphql_api.settings import IN_FILE, SHAPING, Settings
from graphql_api.tokens import Scope

_BAD_DATA = 3
_EXIT_CODES: tuple[tuple[type[JobrecError], int], ...] = (
    (InputError, 2),
    (DataError, _BAD_DATA),
    (ModelNotReady, 4),
    (SnapshotError, 4),
    (TrainingError, 5),
    (RecordsUnavailable, 8),
    (CatalogUnavailable, 10),
)
_FAILED = 5
_BUSY = 6
_REFUSED = 7
_BREAKING = 9
_WATCH_SECONDS = 2.0
_MAX_LIFETIME = timedelta(days=3650)


def main() -> None:
    """Run the command line, and turn what went wrong into a message and an exit code."""
    try:
        cli(prog_name="jobrec", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"])
            shown = "a secret" if _is_secret(name) else repr(problem["input"])
            _complain(f"JOBREC_{name.upper()} is {shown}: {problem['msg']}")
        sys.exit(2)
    except JobrecError as error:
        _complain(str(error))
        sys.exit(next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1))


def _is_secret(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is None or "SecretStr" in str(field.annotation)


def _complain(message: str) -> None:
    click.echo(f"jobrec: {message}", err=True)


def _options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add options for settings, and hand the function one Settings in their place."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**given: Any) -> Any:  # noqa: ANN401 - whatever the command takes
            chosen = {name: given.pop(name) for name in names}
            settings = Settings(
                **{name: value for name, value in chosen.items() if value is not None}
            )
            if "settings" in names:
                _check_file(settings)
            return function(settings, **given)

        for name in reversed(names):
            field = Settings.model_fields[name]
            flag = f"--{name.replace('_', '-')}"
            text = f"{field.description} [JOBREC_{name.upper()}; default: {field.default}]"
            if field.annotation is bool:
                option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
            else:
                option = click.option(flag, name, metavar="VALUE", default=None, help=text)
            command = option(command)
        return command

    return decorate


def _check_file(settings: Settings) -> None:
    """Hold the values of a settings file against the policies' bounds, and blame the file.

    Raises:
        InputError: a value is out of bounds.
    """
    given = settings.from_file()
    if not given:
        return
    container = Container(settings=settings)
    try:
        container.trainer()
        container.scoring()
        container.learning()
    except InputError as error:
        name = error.argument or ""
        if name in given and given[name] == getattr(settings, name):
            raise InputError(f"{settings.settings}: {error}", name) from error
        raise


def _option(flag: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - whatever click takes
    """Make an option of one command, with its variable."""
    attributes.setdefault("envvar", f"JOBREC_{flag.removeprefix('--').upper()}")
    return click.option(flag, *names, show_envvar=True, **attributes)


_DATA = ("data", "state", "catalog", "catalog_follow", "strict", "max_rejected")
_ACCESS = (
    "profile",
    "auth",
    "hosts",
    "cors_origins",
    "jwt_algorithms",
    "jwt_jwks",
    "jwt_audience",
    "jwt_issuer",
    "jwt_leeway",
)
_FITTING = ("settings", *SHAPING, "threads")
_LEARNING = (
    *_FITTING,
    "keep_models",
    "hold_out",
    "margin",
    "max_shrink",
    "employers",
    "employer_types",
    "kernel",
)

_LISTS = ("unlisted", "max_per_employer", "diversity", "spread")

_LIMITS = (
    "max_cost",
    "rate_limit_requests",
    "rate_limit_cost",
    "trusted_documents",
    "documents",
    "memo_bytes",
    "ahead_bytes",
    "ws_connections",
    "ws_connections_per_address",
    "ws_idle_seconds",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jobrec")
@click.pass_context
def cli(context: click.Context) -> None:
    """Recommend jobs from what people did with jobs."""
    # These load more before they begin
    if context.invoked_subcommand not in {"serve", "train", "execute-run"}:
        collect_garbage()


@cli.command()
@_options("data")
@_option("--scale", default=1.0, show_default=True, help="size; 1 has 382,815 activities")
@_option("--seed", default=42, show_default=True, help="the same seed, the same bytes")
@_option("--until", help="the dataset's present, RFC 3339 [default: today, 00:00 UTC]")
@_option("--applies", default=0, show_default=True, help="applications to add")
def demo(settings: Settings, scale: float, seed: int, until: str | None, applies: int) -> None:
    """Write a synthetic dataset with planted tastes into the dataset folder."""
    from adapters.demo import write_demo

    if settings.data.is_dir() and any(settings.data.glob("*.jsonl*")):
        raise InputError(f"{settings.data} holds a dataset already; name another folder", "data")
    with _Bar("writing") as bar:
        summary = write_demo(
            settings.data,
            scale=scale,
            seed=seed,
            until=_moment(until) or datetime.now(UTC).replace(hour=0, minute=0, second=0),
            applies=applies,
            on_progress=bar.update,
        )
    click.echo(
        f"wrote {settings.data}: {summary.jobs:,} jobs, {summary.users:,} people, "
        f"{summary.impressions:,} impressions, {summary.redirects:,} redirects, "
        f"{summary.applies:,} applications"
    )


@cli.command()
@_options(*_DATA, *_LEARNING, "log_level")
@_option("--since", help="learn only from activities at or after this time, RFC 3339")
@_option("--until", help="learn only from activities before this time, RFC 3339")
@_option("--note", help="a remark for the list of runs")
@_option("--force", is_flag=True, help="go live even where the promotion policy refuses")
@_option("--every", metavar="TIME", help="train again and again, for example 6h, 30m, 45s")
@_option("--watch", is_flag=True, help="train again whenever the activities change")
def train(
    settings: Settings,
    since: str | None,
    until: str | None,
    note: str | None,
    force: bool,
    every: str | None,
    watch: bool,
) -> None:
    """Learn a model from the dataset and go live with it."""
    _configure_logging(settings)
    if watch and every:
        raise click.UsageError("give either --every or --watch")
    seconds = None if every is None else _seconds(every, "--every")
    container = Container(settings=settings)
    request = RunRequest(TimeWindow(_moment(since), _moment(until)), note, force)
    training = container.training()  # made first, so that a bad setting leaves no run behind
    collect_garbage()
    follow_dataset = container.follow_dataset()
    log = container.activity_log()
    while True:
        stamp = log.stamp()  # complains of missing activities before anything is imported
        follow_dataset(True)
        code, asked_at = _train_once(container.runs(), training, request)
        if seconds is not None:
            waited = (datetime.now(UTC) - asked_at).total_seconds()
            time.sleep(max(0.0, seconds - waited))
        elif watch:
            while log.stamp() == stamp:
                time.sleep(_WATCH_SECONDS)
        else:
            sys.exit(code)


def _train_once(
    runs: TrainingRuns, training: Training, request: RunRequest
) -> tuple[int, datetime]:
    """Carry one run out here, tell of it, and return the exit code and when it was asked for."""
    answer = runs.begin(request, "command line", None)
    if isinstance(answer, Busy):
        _complain(f"run {answer.run.id} is under way ({answer.run.phase}); try again after it")
        return _BUSY, datetime.now(UTC)
    if not isinstance(answer, Begun):
        raise TypeError(f"a request without a key cannot be {answer!r}")
    try:
        with _Bar("") as bar:
            run = training.execute(answer.run, bar.phase)
    finally:
        answer.lease.close()
    return _report(run), run.requested_at


@cli.command("execute-run", hidden=True)
@click.argument("run_id")
@click.argument("lease", type=int)
def execute_run(run_id: str, lease: int) -> None:
    """Carry out a run that a serving process began; it hands its lease over as a descriptor."""
    os.set_inheritable(lease, False)
    # Serving comes first: a lower priority, and a processor left to it where there are several
    os.nice(10)
    settings = Settings()  # type: ignore[call-arg] # pydantic fills it from the environment
    if settings.threads == 0:
        settings = settings.model_copy(update={"threads": max(1, available_cores() - 1)})
    _configure_logging(settings)
    container = Container(settings=settings)
    training = container.training()
    collect_garbage()
    container.follow_dataset()(True)
    training.execute(container.runs().get(run_id), lambda *_: None)


@cli.command()
@_options("host", "port", "workers", *_ACCESS, *_DATA, *_LEARNING, *_LISTS, *_LIMITS, "log_level")
def serve(settings: Settings) -> None:
    """Answer on /graphql; train first if there is no model."""
    from graphql_api.bounds import MAX_BODY_BYTES
    from graphql_api.documents import Documents

    # Made here too, so that settings that do not fit end the start and not each worker
    Container(settings=settings).authenticator()
    if settings.admin_token is None:
        token = secrets.token_urlsafe(24)
        settings = settings.model_copy(update={"admin_token": token})
        settings = Settings(**{**settings.model_dump(), "admin_token": token})
        click.echo(f"admin token for this start: {token}")
    os.environ.pop("JOBREC_SETTINGS", None)  # its values go along
    os.environ.update(settings.environment(secrets=True))
    Documents.load(settings.trusted_documents, settings.documents)  # complains here, not in workers
    container = Container(settings=settings)
    try:
        container.follow_dataset()(True)
    except CatalogUnavailable as error:
        # A model is known: its ids and scores, marked as partial, until the catalogue answers
        if container.snapshots().live() is None:
            raise
        _complain(str(error))
    # What it opened is for no worker to inherit
    container.reset_singletons()
    if container.snapshots().live() is None:
        click.echo("no model yet: training the first")
        code = _train_beside(settings)
        if code not in {0, _BUSY, _REFUSED}:
            sys.exit(code)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    click.echo(f"GraphiQL and GraphQL: http://{host}:{settings.port}/graphql")
    # The server hands SIGTERM on when it has stopped; unheard, it would end this before the folder
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="jobrec-metrics-") as folder:
        # Where workers leave their counts for each other; read when the library is imported
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        if settings.workers > 1:  # one worker is this process
            if CAN_FORK:
                fork_workers()
            collect_garbage()
        _run_server(
            "graphql_api.app:from_environment",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            log_level=settings.log_level,
            ws_max_size=MAX_BODY_BYTES,
            access_log=False,
            server_header=False,
            # A caller's word on where they call from counts where a proxy was named that says it
            proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
        )


def _train_beside(settings: Settings) -> int:
    """Train in a process of its own, which ends with this one; return its exit code."""

    def stop(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "graphql_api", "train"],
            env=training_environment(settings.environment(secrets=False)),
        ) as training:
            try:
                return training.wait()
            except BaseException:
                # As by Ctrl-C: it says in its record that it was stopped
                training.send_signal(signal.SIGINT)
                raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_server(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - whatever uvicorn takes
    """Run uvicorn, whose own exit code for a failed start means something else here."""
    import uvicorn

    try:
        uvicorn.run(*arguments, **options)
    except SystemExit as exit_:
        sys.exit(1 if exit_.code else 0)


@cli.command()
@_options("data", "state", "catalog", "settings", *_LISTS, "kernel")
@click.argument("user_id", required=False)
@_option("--users", type=click.File("r"), help="a file with an id a line, - for stdin")
@_option("--out", type=click.Path(path_type=Path), help="write JSON lines here")
@_option("--first", default=10, show_default=True, help="length of the lists")
@_option("--json", "as_json", is_flag=True, help="print JSON instead of a table")
def recommend(
    settings: Settings,
    user_id: str | None,
    users: TextIO | None,
    out: Path | None,
    first: int,
    as_json: bool,
) -> None:
    """Recommend jobs to USER_ID, or to each person of a file as JSON lines."""
    if (user_id is None) == (users is None):
        raise click.UsageError("give either USER_ID or --users FILE")
    if out is not None and users is None:
        raise click.UsageError("--out goes with --users FILE")
    container = Container(settings=settings)
    _load(container.models())
    container.follow_dataset()(True)
    recommending = container.recommending()
    if users is None:
        answer = recommending.for_users([_id(user_id or "", "USER_ID")], first)[0]
        if as_json:
            click.echo(orjson.dumps(_record(answer)))
            return
        jobs = container.catalog().jobs([item.job_id for item in answer.items])
        for item in answer.items:
            job = jobs.get(item.job_id)
            click.echo(
                f"{item.rank:3d}  {item.score:8.4f}  {item.source:12}  {item.job_id:<10d} "
                f"{'' if job is None else _title(job.title, job.employer)}"
            )
        return
    count = 0
    with _target(out) as target, _Bar("lists") as bar:
        for batch in _batches(_ids(users)):
            for answer in recommending.for_users(batch, first):
                target.write(orjson.dumps(_record(answer), option=orjson.OPT_APPEND_NEWLINE))
            count += len(batch)
            bar.update(count, None)
    click.echo(f"{count:,} lists written", err=True)


@cli.command()
@_options("data", "state", "catalog", "settings", "unlisted", "kernel")
@click.argument("job_id")
@_option("--first", default=10, show_default=True, help="length of the list")
@_option("--json", "as_json", is_flag=True, help="print JSON instead of a table")
def similar(settings: Settings, job_id: str, first: int, as_json: bool) -> None:
    """List the jobs that the same people are drawn to as to JOB_ID."""
    container = Container(settings=settings)
    _load(container.models())
    container.follow_dataset()(True)
    answer = container.recommending().similar(_id(job_id, "JOB_ID"), first)
    if answer is None:
        raise InputError(f"the model does not know job {job_id}", "JOB_ID")
    if as_json:
        items = [item._asdict() for item in answer.items]
        record = {"job_id": answer.job_id, "model": answer.model.version, "items": items}
        click.echo(orjson.dumps(record))
        return
    jobs = container.catalog().jobs([item.job_id for item in answer.items])
    for item in answer.items:
        job = jobs.get(item.job_id)
        text = "" if job is None else _title(job.title, job.employer)
        click.echo(f"{item.rank:3d}  {item.score:8.4f}  {item.job_id:<10d} {text}")


@cli.command()
@_options(*_DATA, *_FITTING, "hold_out", "log_level")
@_option("--test", "test_file", type=click.Path(path_type=Path), help="pairs to predict")
@_option(
    "--split",
    type=click.Choice([str(kind) for kind in SplitKind]),
    help="what to predict [default: temporal]",
)
@_option("--k", "ks", default="10,20", show_default=True, help="lengths of the lists")
@_option("--truth", type=click.Path(path_type=Path), help="tastes that lists should find")
@_option(
    "--models",
    "names",
    metavar="NAME,...",
    default="",
    help="recipes to measure beside the default instead of all, and versions of stored models",
)
@click.option(
    "--against",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="settings file to measure the same with, called by the file's name; may be repeated",
)
@_option(
    "--json",
    "json_file",
    envvar="JOBREC_EVALUATION_JSON",
    type=click.Path(path_type=Path),
    help="write all figures here",
)
@_option(
    "--html",
    "html_file",
    envvar="JOBREC_EVALUATION_HTML",
    type=click.Path(path_type=Path),
    help="write a report with plots here, one file that needs nothing else",
)
def evaluate(
    settings: Settings,
    test_file: Path | None,
    split: str | None,
    ks: str,
    truth: Path | None,
    names: str,
    against: tuple[Path, ...],
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Measure the recipe on what it has not seen, beside baselines and stored models."""
    from application.evaluating import EvaluationRequest
    from graphql_api.evaluation_page import as_page
    from graphql_api.evaluation_report import as_lines, as_record

    _configure_logging(settings)
    if test_file is not None and split is not None:
        raise click.UsageError("give either --test or --split")
    container = Container(settings=settings)
    request = EvaluationRequest(
        split=SplitKind(split or SplitKind.TEMPORAL),
        share=settings.hold_out,
        ks=tuple(_lengths(ks)),
        models=tuple(name.strip() for name in names.split(",") if name.strip()),
        rivals=tuple(_rival(settings, file) for file in against),
        with_curve=html_file is not None,
        with_trade_off=True,
    )
    # Opened first: whatever cannot be written should be known before the work
    with ExitStack() as files:
        json_target, html_target = (
            None if path is None else files.enter_context(_target(path))
            for path in (json_file, html_file)
        )
        if truth is not None:
            tastes, read = read_tastes(truth, container.tolerance())
            for line in read.lines():
                click.echo(line)
            request = replace(request, truth=tuple(tastes))
        if test_file is not None:
            given, read = read_targets(test_file, container.tolerance())
            for line in read.lines():
                click.echo(line)
            request = replace(request, given=given)
        # Several threads of a matrix product get in each other's way at the size of these blocks
        with _Bar("") as bar, threadpool_limits(1, "blas"):
            evaluation = container.evaluating().evaluate(request, bar.phase)
        for line in as_lines(evaluation):
            click.echo(line)
        if json_target is not None:
            json_target.write(orjson.dumps(as_record(evaluation), option=orjson.OPT_INDENT_2))
        if html_target is not None:
            html_target.write(as_page(evaluation).encode())


@cli.command()
@_options(*_DATA, *_FITTING, "hold_out", "log_level")
@_option(
    "--attributes",
    type=click.Path(path_type=Path),
    required=True,
    help="lines of a user_id and what the person says of themselves",
)
@_option("--test", "test_file", type=click.Path(path_type=Path), help="pairs to predict")
@_option(
    "--split",
    type=click.Choice([str(kind) for kind in SplitKind]),
    help="what to predict [default: temporal]",
)
@_option("--k", default=20, show_default=True, help="length of the lists")
@_option(
    "--min-group",
    default=20,
    show_default=True,
    envvar="JOBREC_MIN_GROUP",
    help="groups of fewer people are not told of",
)
@_option(
    "--json",
    "json_file",
    envvar="JOBREC_AUDIT_JSON",
    type=click.Path(path_type=Path),
    help="write all figures here",
)
def audit(
    settings: Settings,
    attributes: Path,
    test_file: Path | None,
    split: str | None,
    k: int,
    min_group: int,
    json_file: Path | None,
) -> None:
    """Compare what lists are worth to groups of people, and what they show them."""
    from application.evaluating import EvaluationRequest
    from graphql_api.audit_commands import as_lines, as_record, audited

    _configure_logging(settings)
    if test_file is not None and split is not None:
        raise click.UsageError("give either --test or --split")
    container = Container(settings=settings)
    request = EvaluationRequest(
        split=SplitKind(split or SplitKind.TEMPORAL), share=settings.hold_out, ks=(k,)
    )
    with nullcontext() if json_file is None else _target(json_file) as target:
        if test_file is not None:
            given, _ = read_targets(test_file, container.tolerance())
            request = replace(request, given=given)
        with _Bar("") as bar, threadpool_limits(1, "blas"):
            found = audited(container, request, attributes, min_group, bar.phase)
        for line in as_lines(found):
            click.echo(line)
        if target is not None:
            target.write(orjson.dumps(as_record(found), option=orjson.OPT_INDENT_2))


@cli.command()
@_options(*_DATA, *_FITTING, "hold_out", "log_level")
@_option("--test", "test_file", type=click.Path(path_type=Path), help="pairs to test with")
@_option(
    "--split",
    type=click.Choice([str(kind) for kind in SplitKind]),
    default=str(SplitKind.TEMPORAL),
    show_default=True,
    help="how the parts to validate and to test with are held out",
)
@_option("--metric", default="ndcg@20", show_default=True, help="what trials are judged by")
@_option("--minutes", type=float, help="how long to search")
@_option("--trials", type=int, help="how many trials to come to, earlier ones included")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="the settings file to write; the trials stay beside it, to go on with",
)
def tune(
    settings: Settings,
    test_file: Path | None,
    split: str,
    metric: str,
    minutes: float | None,
    trials: int | None,
    out: Path,
) -> None:
    """Search settings of learning that suit the data, and write them to a settings file."""
    from application.tuning import TuningRequest
    from graphql_api.tune_commands import search_settings

    _configure_logging(settings)
    request = TuningRequest(metric, SplitKind(split), settings.hold_out, None, minutes, trials)
    container = Container(settings=settings)
    tuning = container.tuning()
    if test_file is not None:
        given, read = read_targets(test_file, container.tolerance())
        for line in read.lines():
            click.echo(line)
        request = replace(request, given=given)
    with _Bar("") as bar, threadpool_limits(1, "blas"):
        ended = search_settings(tuning, request, out, bar.phase, click.echo, settings.proxies or ())
    if not ended:
        sys.exit(130)


def _rival(settings: Settings, file: Path) -> Recipe:
    """Return the recipe of another settings file, in which options of learning have no say."""
    rest = {name: value for name, value in settings if name not in IN_FILE}
    theirs = Settings(**{**rest, "settings": file})
    _check_file(theirs)
    return replace(recipe_of(theirs), name=file.stem)


def _lengths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--k is {text!r}, expected lengths such as 10,20") from None


@cli.command()
@_options("settings")
@click.option(
    "--diff",
    "old",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="OLD",
    help="print instead what changed since this schema, a file that this command printed",
)
def schema(settings: Settings, old: Path | None) -> None:
    """Print the schema in GraphQL's definition language."""
    from graphql_api.compatibility import changes_since
    from graphql_api.schema import create_schema

    sdl = create_schema(withheld=settings.withheld).as_str()
    if old is None:
        click.echo(sdl)
        return
    changes = changes_since(_read(old), sdl)
    for description in changes.breaking:
        click.echo(f"breaking: {description}")
    for description in changes.dangerous:
        click.echo(f"dangerous: {description}")
    click.echo(
        f"{len(changes.breaking)} breaking and {len(changes.dangerous)} dangerous changes "
        f"since {old}"
    )
    sys.exit(_BREAKING if changes.breaking else 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}", "--diff") from error


def _report(run: TrainingRun) -> int:
    """Tell what became of a run, and return the exit code."""
    report = run.data_report
    if report:
        for line in _health(report):
            click.echo(line)
    for name, value in run.metrics.items():
        if name.endswith(f"ndcg@{MEASURED_K}"):
            click.echo(f"{name} on the hold-out: {value:.4f}")
    if run.unmeasured:
        click.echo(f"not measured: {run.unmeasured}")
    if run.employers_note:
        click.echo(f"no types of employers: {run.employers_note}")
    for refusal in run.refusals:
        click.echo(f"promotion policy: {refusal}")
    if run.status is RunStatus.SUCCEEDED:
        seconds = (run.finished_at - run.requested_at).total_seconds() if run.finished_at else 0
        state = "is live" if run.promoted else "was NOT promoted"
        click.echo(f"model {run.model_version} {state} after {seconds:.1f} s")
        return 0 if run.promoted else _REFUSED
    _complain(f"the training ended as {run.status}: {run.failure}")
    return _BAD_DATA if run.failure_kind is FailureKind.DATA else _FAILED


def _health(report: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"activities: read {report['lines_read']:,} = used {report['lines_used']:,} "
        f"+ rejected {report['lines_rejected']:,}"
    )
    for cause, line in report["first_rejected"].items():
        yield f"  {report['rejected_by_cause'][cause]:,} x {cause}; first: {line}"
    yield (
        f"learned from {report['pairs']:,} pairs of {report['users']:,} people "
        f"and {report['jobs']:,} jobs"
    )
    for name, text in (
        ("outside_window", "activities outside the time window"),
        ("users_with_redirects_never_shown", "people redirected without ever being shown a job"),
        ("jobs_with_redirects_never_shown", "jobs redirected to without ever being shown"),
        ("users_sent_emails_never_opening", "people sent e-mails who never open one; kept alike"),
        ("users_not_in_catalogue", "active people who are not in the catalogue"),
        ("jobs_not_in_catalogue", "active jobs that are not in the catalogue"),
        ("pairs_in_the_future", "pairs with an activity in the future"),
    ):
        if report[name]:
            yield f"  note: {report[name]:,} {text}"
    yield f"  {report['only_fallback']:.1%} of the people in the catalogue get popular jobs only"


@cli.group()
def tokens() -> None:
    """Look after API tokens, by which programs call."""


@tokens.command("create")
@_options("state")
@click.option(
    "--scope", required=True, type=click.Choice([*map(str, Scope)]), help="what it may do"
)
@click.option("--name", required=True, help="what lists and records call it")
@click.option("--expires", metavar="TIME", help="how long it is valid, for example 90d or 12h")
def create_token(settings: Settings, scope: str, name: str, expires: str | None) -> None:
    """Make a token and print it, which nothing can do again."""
    lifetime = None if expires is None else _lifetime(expires)
    click.echo(Container(settings=settings).tokens().create(name, Scope(scope), lifetime))


@tokens.command("list")
@_options("state")
@_option("--json", "as_json", is_flag=True, help="print a JSON line a token")
def list_tokens(settings: Settings, as_json: bool) -> None:
    """List the tokens, oldest first."""
    now = datetime.now(UTC)
    for token in Container(settings=settings).tokens().all():
        if as_json:
            shown = {"name": token.name, "scope": token.scope, "made_at": token.made_at}
            click.echo(orjson.dumps({**shown, "expires_at": token.expires_at}))
            continue
        end = "never expires"
        if token.expires_at is not None:
            verb = "expired" if token.has_expired(now) else "expires"
            end = f"{verb} {token.expires_at:%Y-%m-%d %H:%M}"
        click.echo(f"{token.name:24}  {token.scope:5}  made {token.made_at:%Y-%m-%d %H:%M}  {end}")


@tokens.command("revoke")
@_options("state")
@click.argument("name")
def revoke_token(settings: Settings, name: str) -> None:
    """Refuse a token from now on, in running processes too."""
    Container(settings=settings).tokens().revoke(name)
    click.echo(f"token {name} is revoked")


@cli.group()
def models() -> None:
    """Look after stored models."""


@models.command("list")
@_options("state")
@_option("--json", "as_json", is_flag=True, help="print a JSON line a model")
def list_models(settings: Settings, as_json: bool) -> None:
    """List the stored models, newest first; the live one is marked with a star."""
    container = Container(settings=settings)
    live = container.snapshots().live()
    for manifest in container.management().stored():
        if as_json:
            record = {**asdict(manifest), "live": manifest.version == live}
            click.echo(orjson.dumps(record))
            continue
        quality = manifest.metrics.get(f"ndcg@{MEASURED_K}")
        click.echo(
            f"{'*' if manifest.version == live else ' '} {manifest.version}  "
            f"{manifest.users:>9,} people  {manifest.jobs:>9,} jobs  "
            f"{manifest.activities:>12,} activities  "
            f"ndcg@{MEASURED_K} {'-' if quality is None else f'{quality:.4f}'}"
        )


@models.command("show")
@_options("state")
@click.argument("version")
def show_model(settings: Settings, version: str) -> None:
    """Print everything recorded of a model as JSON, after checking its files."""
    manifest = Container(settings=settings).models().open(version).manifest
    click.echo(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))


@models.command("promote")
@_options("state")
@click.argument("version")
def promote_model(settings: Settings, version: str) -> None:
    """Make a stored model the live one."""
    click.echo(
        f"model {Container(settings=settings).management().promote(version).version} is live"
    )


@models.command("rollback")
@_options("state")
def rollback_model(settings: Settings) -> None:
    """Go back to the model that was live before the live one."""
    click.echo(f"model {Container(settings=settings).management().roll_back().version} is live")


@models.command("compare")
@_options("data", "state", "catalog")
@click.argument("a")
@click.argument("b")
@_option("--first", default=10, show_default=True, help="how many of the moved jobs to list")
def compare_models(settings: Settings, a: str, b: str, first: int) -> None:
    """Show how the lists of models A and B differ."""
    container = Container(settings=settings)
    comparison = container.management().compare(a, b, first)
    click.echo(f"{'':24}{comparison.a.version:>26}{comparison.b.version:>26}")
    for name in {**comparison.a.metrics, **comparison.b.metrics}:
        values = (comparison.a.metrics.get(name), comparison.b.metrics.get(name))
        cells = "".join(f"{'-' if value is None else f'{value:.4f}':>26}" for value in values)
        click.echo(f"{name:24}{cells}")
    click.echo(f"top-10 overlap over {comparison.people:,} people: {comparison.overlap:.3f}")
    jobs = container.catalog().jobs([moved.job_id for moved in comparison.moved])
    for moved in comparison.moved:
        job = jobs.get(moved.job_id)
        text = "" if job is None else _title(job.title, job.employer)
        click.echo(f"{moved.before:8.2%} ->{moved.after:8.2%}  {moved.job_id:<10d} {text}")


class _Bar:
    """A progress bar for whatever takes long, where standard error is a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def phase(self, phase: str, done: int, total: int) -> None:
        """Show progress within a phase; a new phase begins a new bar, or a plain line."""
        label = phase.lower()
        if label != self._label:
            self.__exit__()
            self._bar, self._label = None, label
            if not sys.stderr.isatty():
                click.echo(f"{label} ...", err=True)
        self.update(done, total)

    def update(self, done: int, total: int | None) -> None:
        """Show progress."""
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(desc=self._label, total=total, delay=1, leave=False, unit_scale=True)
        self._bar.update(done - self._bar.n)


def _load(models: Models) -> None:
    models.refresh()
    try:
        _ = models.live
    except ModelNotReady:
        raise ModelNotReady("there is no usable model; run `jobrec train` first") from None


def _configure_logging(settings: Settings) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(levelname)s %(message)s"
    )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is no date as in RFC 3339") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _seconds(text: str, option: str) -> float:
    unit = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}.get(text[-1:])
    if unit is None or not text[:-1].isdigit() or int(text[:-1]) < 1:
        raise click.UsageError(f"{option} is {text!r}, expected a time such as 45s, 30m, 6h or 1d")
    return float(int(text[:-1]) * unit)


def _lifetime(text: str) -> timedelta:
    seconds = _seconds(text, "--expires")
    if seconds > _MAX_LIFETIME.total_seconds():
        raise click.UsageError(f"--expires is {text!r}, expected at most {_MAX_LIFETIME.days}d")
    return timedelta(seconds=seconds)


def _id(text: str, argument: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_ID):
        raise InputError(
            f"{argument} is {text[:40]!r}, expected an integer from 0 to {MAX_ID}", argument
        )
    return int(text)


def _ids(file: TextIO) -> Iterator[int]:
    try:
        for number, line in enumerate(file, 1):
            yield _id(line.strip(), f"{file.name}, line {number}")
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name} is not UTF-8: {error}", "--users") from error


@contextmanager
def _target(out: Path | None) -> Iterator[BinaryIO]:
    """Open what is written to; a file takes its place only when it is whole."""
    if out is None:
        yield sys.stdout.buffer
        return
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}", "--out") from error
    finally:
        partial.unlink(missing_ok=True)


def _batches(ids: Iterator[int]) -> Iterator[list[int]]:
    while batch := list(islice(ids, MAX_BATCH)):
        yield batch


def _record(answer: RecommendationList) -> dict[str, Any]:
    return {
        "user_id": answer.user_id,
        "model": answer.model.version,
        "items": [
            {
                "rank": item.rank,
                "job_id": item.job_id,
                "score": item.score,
                "source": item.source,
            }
            for item in answer.items
        ],
        "shortfall": answer.shortfall,
    }


def _title(title: str | None, employer: str | None) -> str:
    return " · ".join(text for text in (title, employer) if text)


cli.add_command(employer_commands(_options))
cli.add_command(import_command(_options))
cli.add_command(catalogue_commands(_options))
