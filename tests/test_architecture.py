"""What keeps the house in order and no other tool checks; import-linter runs in `make check`."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grimp
import pytest

from adapters.catalog_records import Person
from application.histories import Person as HistoryPerson
from domain import ports
from domain.model import PROFILE, History, Interactions, JobFilter, User
from tests import fakes

ROOT = Path(__file__).parents[1]
ADAPTERS = sorted(path.stem for path in (ROOT / "adapters").glob("*.py") if path.stem != "__init__")
PORTS = {
    name: port
    for name, port in vars(ports).items()
    if inspect.isclass(port)
    and getattr(port, "_is_protocol", False)
    and port.__module__ == ports.__name__
}


@pytest.mark.parametrize("name", ["domain", "application", "adapters", "graphql_api"])
def test_packages_are_those_of_this_project_and_not_published_ones_of_the_same_name(
    name: str,
) -> None:
    package = importlib.import_module(name)
    assert [Path(path) for path in package.__path__] == [ROOT / name]


# Vendored files and licences are kept as their authors wrote them
AS_WRITTEN = re.compile(r"graphql_api/static/graphiql/vendor/.*|(.*/)?LICENSES\.md")
# Written so that this file does not name them either
# Names and endings apart, so that this file names no host either
FORBIDDEN_HOSTS = {
    "pypi": "org",
    "pypi.python": "org",
    "pythonhosted": "org",
    "npmjs": "org|com",
    "yarnpkg": "com",
    "unpkg": "com",
    "jsdelivr": "net",
    "cdnjs.cloudflare": "com",
    "esm": "sh",
    "skypack": "dev",
    "googleapis": "com",
    "golang": "org",
    "crates": "io",
}
REGISTRIES_AND_CDNS = "|".join(
    rf"\b{re.escape(name)}\.(?:{endings})\b" for name, endings in FORBIDDEN_HOSTS.items()
)
HOMES_AND_WORK_FOLDERS = r"(?<![\w.~*-])/(home|Users|root|work|workspace|workspaces)/\w"


def tracked_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = [name for name in listed.stdout.split("\0") if name]
    return [
        ROOT / name for name in names if not AS_WRITTEN.fullmatch(name) and (ROOT / name).is_file()
    ]


@pytest.mark.parametrize(
    "forbidden",
    [
        pytest.param(REGISTRIES_AND_CDNS, id="package registry or CDN"),
        pytest.param(HOMES_AND_WORK_FOLDERS, id="home or work folder"),
    ],
)
def test_no_tracked_file_names_a_host_or_folder_that_others_may_not_have(forbidden: str) -> None:
    pattern, found = re.compile(forbidden), []
    files = tracked_files()
    assert files
    for path in files:
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


@pytest.mark.parametrize(
    ("forbidden", "line"),
    [
        (REGISTRIES_AND_CDNS, f'<script src="https://{".".join(["unpkg", "com"])}/react">'),
        (REGISTRIES_AND_CDNS, ".".join(["https://cdn", "jsdelivr", "net/npm/graphiql"])),
        (HOMES_AND_WORK_FOLDERS, 'DATA = "/home/somebody/data"'),
        (HOMES_AND_WORK_FOLDERS, "/".join(["cd ", "work", "main && make"])),
    ],
)
def test_the_patterns_find_what_they_are_for(forbidden: str, line: str) -> None:
    assert re.search(forbidden, line)


@pytest.mark.parametrize(
    "line",
    [
        "/".join(["https:", "", "example.org", "work", "1"]),
        "/".join([".", "work", "x"]),
        "a/home/b",
        "/works",
    ],
)
def test_the_pattern_of_folders_passes_over_what_only_looks_like_them(line: str) -> None:
    assert not re.search(HOMES_AND_WORK_FOLDERS, line)


def implementations() -> list[type[Any]]:
    modules = [fakes, *(importlib.import_module(f"adapters.{name}") for name in ADAPTERS)]
    return [
        cls
        for module in modules
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and cls.__module__ == module.__name__
        and not getattr(cls, "_is_protocol", False)
        and any(port in cls.__mro__ for port in PORTS.values())
    ]


@pytest.mark.parametrize("port", sorted(PORTS))
def test_every_port_has_an_implementation_that_inherits_from_it(port: str) -> None:
    assert any(PORTS[port] in cls.__mro__ for cls in implementations())


@pytest.mark.parametrize("cls", implementations(), ids=lambda cls: cls.__name__)
def test_an_implementation_forgets_no_method_of_its_port(cls: type[Any]) -> None:
    assert not inspect.isabstract(cls)


@pytest.mark.parametrize("port", sorted(PORTS))
def test_a_forgotten_method_of_a_port_fails_at_construction(port: str) -> None:
    forgetful: type[Any] = type("Forgetful", (PORTS[port],), {})
    with pytest.raises(TypeError, match="abstract"):
        forgetful()


PERSONAL = {"domain.auditing", "application.auditing", "adapters.attributes"}
"""Who knows what people say of themselves."""


def test_what_people_say_of_themselves_is_known_to_the_audit_alone() -> None:
    graph = grimp.build_graph("domain", "application", "adapters", "graphql_api", cache_dir=None)
    importers = {
        importer
        for module in PERSONAL
        for importer in graph.find_modules_that_directly_import(module)
    }
    assert importers - PERSONAL == {"graphql_api.audit_commands"}
    assert graph.find_modules_that_directly_import("graphql_api.audit_commands") == {
        "graphql_api.command_line"
    }
    assert graph.find_modules_that_directly_import("graphql_api.command_line") == {
        "graphql_api.__main__"
    }
    assert graph.find_modules_that_directly_import("graphql_api.__main__") == set()


# Where people's profiles may be named: the domain's types, what keeps and reads them, what serves
# them to those who may see them, and what takes changes. Nothing there scores, ranks or filters
PROFILES = {
    *("domain.model", "domain.ports", "application.cataloguing", "application.importing"),
    *("adapters.catalog_records", "adapters.jsonl", "adapters.lmdb_catalog"),
    *("adapters.redis_catalog", "adapters.demo", "graphql_api.catalogue_commands"),
    *("graphql_api.cataloguing", "graphql_api.gathering", "graphql_api.schema"),
    *("graphql_api.settings", "graphql_api.types"),
}


def test_what_ranks_cannot_even_name_a_persons_profile() -> None:
    # Languages are also those of texts
    words = {"User", "PROFILE", "ethnicity", "gender", *PROFILE} - {"languages"}
    naming = set()
    for package in ("domain", "application", "adapters", "graphql_api"):
        for path in (ROOT / package).glob("*.py"):
            named = set()
            for node in ast.walk(ast.parse(path.read_text())):
                values = (getattr(node, name, None) for name in ("id", "attr", "name", "value"))
                named |= {value for value in values if isinstance(value, str)}
            if named & words:
                naming.add(f"{package}.{path.stem}")
    assert naming == PROFILES


def test_nothing_that_is_kept_of_a_person_is_protected_and_what_ranks_takes_ids() -> None:
    kept = {field.name for field in dataclasses.fields(User)}
    assert not kept & {"ethnicity", "gender"}
    assert kept == {"id", *PROFILE} == {"id", *Person.__struct_fields__}
    for ranked in (Interactions, History, HistoryPerson, JobFilter):
        assert not {field.name for field in dataclasses.fields(ranked)} & PROFILE
