"""Commands about employers: their kinds, who resembles whom, and a page to look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from domain.employers import EmployerTypes
from domain.errors import InputError, SnapshotMissing
from graphql_api.container import Container, employer_map
from graphql_api.employer_report import page
from graphql_api.settings import Settings, employers_extra_missing

Decorate = Callable[[Callable[..., Any]], Callable[..., Any]]


def employer_commands(options: Callable[..., Decorate]) -> click.Group:
    """Return the commands.

    Args:
        options: makes options of settings.
    """

    @click.group()
    def employers() -> None:
        """Tell what kinds of employers there are, and who resembles whom."""

    @employers.command("list")
    @options("state")
    def list_types(settings: Settings) -> None:
        """List the kinds of employers with their words and most typical members."""
        known = _live(settings)
        for number, type_ in enumerate(known.types, 1):
            click.echo(f"{number:>3}  {type_.size:>6,} employers  {', '.join(type_.expressions)}")
            click.echo(f"     such as {', '.join(known.names[i] for i in type_.examples)}")
        untyped = int((known.type_of < 0).sum())
        if untyped:
            click.echo(f"{untyped:,} of {len(known.keys):,} employers have too little text")

    @employers.command()
    @options("state")
    @click.argument("name")
    def show(settings: Settings, name: str) -> None:
        """Show an employer, its kind, and the employers that resemble it."""
        known = _live(settings)
        position = _position(known, name)
        type_ = known.type_at(position)
        jobs = int(known.job_counts[position])
        click.echo(f"{known.names[position]}: {jobs:,} job{'' if jobs == 1 else 's'}")
        click.echo(f"kind: {'too little text' if type_ is None else ', '.join(type_.expressions)}")
        _tell_similar(known, position, 5)

    @employers.command()
    @options("state")
    @click.argument("name")
    @click.option("--first", default=10, show_default=True, type=click.IntRange(1, 100))
    def similar(settings: Settings, name: str, first: int) -> None:
        """List the employers that resemble one, best first."""
        known = _live(settings)
        _tell_similar(known, _position(known, name), first)

    @employers.command()
    @options("state")
    def expressions(settings: Settings) -> None:
        """Print what the texts were reduced to, with its measures, as tab-separated values."""
        click.echo("expression\temployers\tidf\tspread\tnpmi")
        for kept in _live(settings).expressions:
            association = "" if math.isnan(kept.npmi) else f"{kept.npmi:.3f}"
            click.echo(
                f"{kept.text}\t{kept.employers}\t{kept.idf:.3f}\t{kept.spread:.1f}\t{association}"
            )

    @employers.command()
    @options("state")
    @click.option(
        "--html",
        required=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help="where to write the page",
    )
    def report(settings: Settings, html: Path) -> None:
        """Write one page with a map of the employers, their kinds and the words of each."""
        known = _live(settings)
        text = page(known, employer_map(known))
        try:
            html.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {html}: {error}", "--html") from error
        click.echo(f"wrote {html}")

    return employers


def _live(settings: Settings) -> EmployerTypes:
    """Return what the live model knows of employers.

    Raises:
        SnapshotMissing: there is no live model, or it learned nothing of employers.
    """
    container = Container(settings=settings)
    version = container.snapshots().live()
    if version is None:
        raise SnapshotMissing("there is no usable model; run `jobrec train` first")
    known = container.models().open(version).employers
    if known is None:
        advice = employers_extra_missing() or "run `jobrec train --employers on`"
        raise SnapshotMissing(f"model {version} learned no types of employers; {advice}")
    return known


def _position(known: EmployerTypes, name: str) -> int:
    position = known.position(name)
    if position is None:
        raise InputError(f"there is no employer {name[:80]!r}", "name")
    return position


def _tell_similar(known: EmployerTypes, position: int, first: int) -> None:
    for other in known.similar(position, first):
        type_ = known.type_at(other.position)
        click.echo(
            f"{other.score:7.3f}  {known.names[other.position]}  "
            f"({'' if type_ is None else type_.label})"
        )
