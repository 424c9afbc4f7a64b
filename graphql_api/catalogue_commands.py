"""Commands about the catalogue: importing files, changing items, looking after the store."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from adapters.jsonl import find_file
from adapters.lmdb_catalog import LmdbCatalog
from application.cataloguing import MAX_CHANGES, Cataloguing, Refusal
from application.importing import Importing
from domain.errors import InputError
from domain.model import Job, ReadReport, User
from domain.ports import Change
from graphql_api.container import Container, source_of
from graphql_api.settings import Settings

Decorate = Callable[[Callable[..., Any]], Callable[..., Any]]

T = TypeVar("T", Job, User, int)

_SETTINGS = ("data", "state", "catalog", "strict", "max_rejected", "settings")
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)


def import_command(options: Callable[..., Decorate]) -> click.Command:
    """Return the command that imports files.

    Args:
        options: makes options of settings.
    """

    @click.command("import")
    @options(*_SETTINGS)
    @click.option("--jobs", type=_FILE, help="a file of jobs instead of the dataset's, - for stdin")
    @click.option("--users", type=_FILE, help="likewise of people")
    @click.option("--incremental", is_flag=True, help="put items in and take none out")
    def import_files(
        settings: Settings, jobs: Path | None, users: Path | None, incremental: bool
    ) -> None:
        """Take jobs and people from files into the catalogue.

        An import that was stopped goes on where it was, but for stdin, which begins anew.
        """
        container = Container(settings=settings)
        importing = _importing(container)
        if jobs is None and users is None:
            jobs, users = (find_file(settings.data, name) for name in ("jobs", "users"))
        if jobs == users:
            raise InputError("jobs and people cannot come from the same file", "--users")
        with _readable(jobs) as jobs_file, _readable(users) as users_file:
            source = source_of(jobs_file, users_file, container.tolerance(), settings.withheld)
            outcome = importing.run(source, full=not incremental)
        for report in outcome.reports:
            for line in report.lines():
                click.echo(line)
        if outcome.resumed:
            click.echo(f"went on after {outcome.resumed:,} items that were taken before")
        state = "is changed" if outcome.is_changed else "is as it was"
        click.echo(f"{outcome.items:,} items: the catalogue {state}")

    return import_files


def catalogue_commands(options: Callable[..., Decorate]) -> click.Group:
    """Return the commands that change the catalogue and look after it."""

    @click.group()
    def catalogue() -> None:
        """Change jobs and people, and look after their store."""

    @catalogue.command("upsert-jobs")
    @options(*_SETTINGS)
    @click.argument("file", type=_FILE)
    def upsert_jobs(settings: Settings, file: Path) -> None:
        """Put the jobs of FILE in, whole; it is like a dataset's jobs.jsonl, - for stdin."""
        container = Container(settings=settings)
        change = _cataloguing(container).upsert_jobs
        with _readable(file) as path:
            source = source_of(path, None, container.tolerance(), settings.withheld)
            jobs = (item for item in source.items() if isinstance(item, Job))
            _tell(_outcomes(jobs, lambda job: job.id, change))
        _report(source.reports())

    @catalogue.command("upsert-users")
    @options(*_SETTINGS)
    @click.argument("file", type=_FILE)
    def upsert_users(settings: Settings, file: Path) -> None:
        """Put the people of FILE in, whole; it is like a dataset's users.jsonl, - for stdin."""
        container = Container(settings=settings)
        change = _cataloguing(container).upsert_users
        with _readable(file) as path:
            source = source_of(None, path, container.tolerance(), settings.withheld)
            users = (item for item in source.items() if isinstance(item, User))
            _tell(_outcomes(users, lambda user: user.id, change))
        _report(source.reports())

    @catalogue.command("close-jobs")
    @options("state", "catalog")
    @click.argument("ids", type=int, nargs=-1, required=True)
    def close_jobs(settings: Settings, ids: Sequence[int]) -> None:
        """Mark jobs as closed, from the next answer on."""
        change = _cataloguing(Container(settings=settings)).close_jobs
        _tell(_outcomes(iter(ids), int, change))

    @catalogue.command("remove-jobs")
    @options("state", "catalog")
    @click.argument("ids", type=int, nargs=-1, required=True)
    def remove_jobs(settings: Settings, ids: Sequence[int]) -> None:
        """Take jobs out."""
        change = _cataloguing(Container(settings=settings)).remove_jobs
        _tell(_outcomes(iter(ids), int, change))

    @catalogue.command("erase-user")
    @options("data", "state", "catalog")
    @click.argument("user_id", type=int)
    def erase_user(settings: Settings, user_id: int) -> None:
        """Forget a person, and destroy what was recorded of them beside the dataset.

        The next training leaves out what the dataset's own files tell of them.
        """
        erasure = _cataloguing(Container(settings=settings)).erase_user(user_id, "command line")
        click.echo(f"{erasure.change} at {erasure.at.isoformat(timespec='seconds')}")

    @catalogue.command()
    @options("state", "catalog")
    @click.argument("target", type=click.Path(path_type=Path))
    def backup(settings: Settings, target: Path) -> None:
        """Copy the store into the new folder TARGET, while all goes on.

        To go back, stop the service and put the copy in the place of the folder `catalogue`.
        """
        _lmdb(settings).backup(target)
        click.echo(f"wrote {target}")

    @catalogue.command()
    @options("state", "catalog")
    def compact(settings: Settings) -> None:
        """Give free space back to the disk, while all goes on; changes wait meanwhile."""
        before, after = _lmdb(settings).compact()
        click.echo(f"{before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now")

    return catalogue


def _importing(container: Container) -> Importing:
    importing = container.importing()
    if importing is None:
        raise InputError("this catalogue is read from the dataset's files as they are", "--catalog")
    return importing


def _cataloguing(container: Container) -> Cataloguing:
    cataloguing = container.cataloguing()
    if cataloguing is None:
        raise InputError("this catalogue is read from files; change those", "--catalog")
    return cataloguing


def _lmdb(settings: Settings) -> LmdbCatalog:
    catalog = Container(settings=settings).catalog()
    if not isinstance(catalog, LmdbCatalog):
        raise InputError("only a catalogue in LMDB is looked after here", "--catalog")
    return catalog


def _outcomes(
    items: Iterator[T],
    id_of: Callable[[T], int],
    change: Callable[[Sequence[T | Refusal]], list[Change | Refusal]],
) -> Iterator[tuple[int, Change | Refusal]]:
    """Yield each item's id and what became of it."""
    while batch := list(islice(items, MAX_CHANGES)):
        yield from zip(map(id_of, batch), change(batch), strict=True)


def _tell(outcomes: Iterator[tuple[int, Change | Refusal]]) -> None:
    """Print how many items became what, and each that was refused or is missing."""
    counts: Counter[str] = Counter()
    for id_, outcome in outcomes:
        if isinstance(outcome, Refusal):
            counts["refused"] += 1
            click.echo(f"{id_}: refused: {outcome.reason}", err=True)
            continue
        counts[outcome.lower()] += 1
        if outcome is Change.MISSING:
            click.echo(f"{id_}: missing", err=True)
    click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()) or "nothing")


def _report(reports: Sequence[ReadReport]) -> None:
    for report in reports:
        for line in report.lines():
            click.echo(line, err=True)


@contextmanager
def _readable(path: Path | None) -> Iterator[Path | None]:
    """Hand out a file; what comes by stdin is kept in one until it is read."""
    if path != Path("-"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="jobrec-import-") as folder:
        kept = Path(folder) / "stdin"
        with kept.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield kept
