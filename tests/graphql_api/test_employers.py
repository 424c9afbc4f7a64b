"""Employers end to end: a training with types, then GraphQL, the terminal and the page."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.browser import console, find_all
from tests.conftest import Service, jobrec, jobrec_anew, serving

pytestmark = pytest.mark.slow
pytest.importorskip("gensim", reason='pip install "jobrec[employers]"')


@pytest.fixture(scope="module")
def renamed(demo_data: Path) -> tuple[str, str, dict[int, str]]:
    """Return two employers, the first of which is to be known by the name of both; their jobs."""
    lines = (demo_data / "jobs.jsonl").read_text(encoding="utf-8").splitlines()
    employers = {job["job_id"]: job.get("employer") for job in map(json.loads, lines)}
    (one, _), (other, _) = Counter(filter(None, employers.values())).most_common(2)
    return one, other, {id_: name for id_, name in employers.items() if name in {one, other}}


@pytest.fixture(scope="module")
def typed(
    demo_data: Path,
    renamed: tuple[str, str, dict[int, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("employers")
    data = shutil.copytree(demo_data, folder / "data")
    notes = {"employer": renamed[0], "aliases": [f"{renamed[1].upper()} Inc."]}
    (data / "employers.jsonl").write_text(json.dumps(notes) + "\n")
    learning = {"JOBREC_EMPLOYERS": "on", "JOBREC_EMPLOYER_TYPES": "6"}
    with serving(data, folder / "state", **learning) as running:
        yield running


@pytest.fixture
def without_extra(tmp_path: Path) -> str:
    """Return a folder that, on PYTHONPATH, makes the extra's libraries absent."""
    absent = dict.fromkeys(("gensim", "regex", "sklearn", "stopwordsiso"))
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update({absent})\n")
    return str(tmp_path)


def test_without_the_extra_a_training_goes_on_and_says_what_to_install(
    demo_data: Path, without_extra: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    places: list[str | Path] = ["--data", demo_data, "--state", state]
    trained = jobrec_anew("train", *places, PYTHONPATH=without_extra, JOBREC_EMPLOYERS="auto")
    assert 'employers need an extra: pip install "jobrec[employers]"' in trained.stdout
    assert "is live" in trained.stdout
    shown = jobrec_anew(
        "employers", "list", "--state", state, PYTHONPATH=without_extra, check=False
    )
    assert shown.returncode == 4
    assert "learned no types of employers" in shown.stderr
    assert 'pip install "jobrec[employers]"' in shown.stderr


def test_without_the_extra_what_was_asked_for_outright_is_refused(
    demo_data: Path, without_extra: str, tmp_path: Path
) -> None:
    places: list[str | Path] = ["--data", demo_data, "--state", tmp_path / "state"]
    refused = jobrec_anew(
        "train", *places, "--employers", "on", PYTHONPATH=without_extra, check=False
    )
    assert refused.returncode == 2
    assert 'pip install "jobrec[employers]"' in refused.stderr


def test_without_the_extra_all_but_the_map_of_learned_types_is_told(
    typed: Service, without_extra: str, tmp_path: Path
) -> None:
    listed = jobrec_anew("employers", "list", "--state", typed.state, PYTHONPATH=without_extra)
    assert "such as" in listed.stdout
    page = tmp_path / "employers.html"
    report: list[str | Path] = ["report", "--state", typed.state, "--html", page]
    refused = jobrec_anew("employers", *report, PYTHONPATH=without_extra, check=False)
    assert refused.returncode == 2
    assert 'pip install "jobrec[employers]"' in refused.stderr


def test_an_employer_tells_its_kind_its_likes_and_its_jobs(typed: Service) -> None:
    page = typed.data_of(
        "{ employers(first: 2) { edges { cursor node { id name } } pageInfo { hasNextPage } } }"
    )
    first, second = page["employers"]["edges"]
    assert page["employers"]["pageInfo"]["hasNextPage"]
    behind = typed.data_of(
        "query ($after: String) { employers(first: 1, after: $after) { edges { node { id } } } }",
        after=first["cursor"],
    )
    assert behind["employers"]["edges"][0]["node"]["id"] == second["node"]["id"]
    employer = typed.data_of(
        """query ($name: String) { employer(name: $name) { name jobCount type { label expressions }
        similar(first: 3) { employer { name jobCount } score }
        jobs(first: 2) { edges { node { employer { name } } } } } }""",
        name=f"  {first['node']['name'].upper()} Ltd.",
    )["employer"]
    assert employer["name"] == first["node"]["name"]
    assert employer["jobs"]["edges"][0]["node"]["employer"]["name"] == employer["name"]
    scores = [other["score"] for other in employer["similar"]]
    assert scores == sorted(scores, reverse=True)
    assert employer["name"] not in [other["employer"]["name"] for other in employer["similar"]]


def test_an_employer_has_the_jobs_of_all_its_names(
    typed: Service, renamed: tuple[str, str, dict[int, str]]
) -> None:
    name, alias, employers = renamed
    asked = """query ($name: String, $id: ID) { employer(name: $name, id: $id) {
        id name jobCount jobs(first: 100) { edges { node { id employer { id } } } } } }"""
    employer = typed.data_of(asked, name=f"{alias} Ltd")["employer"]
    assert (employer["name"], employer["jobCount"]) == (name, len(employers))
    jobs = [edge["node"] for edge in employer["jobs"]["edges"]]
    assert len(jobs) == min(100, len(employers))
    assert {employers[int(job["id"])] for job in jobs} == {name, alias}
    assert {job["employer"]["id"] for job in jobs} == {employer["id"]}
    assert typed.data_of(asked, id=employer["id"])["employer"] == employer
    listed = typed.data_of(
        """query ($name: String) { jobs(where: {employer: $name}, first: 100) {
        edges { node { id employer { id } } } } }""",
        name=alias,
    )
    assert listed["jobs"] == employer["jobs"]


def test_a_bound_on_an_employers_jobs_holds_for_all_its_names(
    typed: Service, renamed: tuple[str, str, dict[int, str]]
) -> None:
    _, alias, employers = renamed
    query = """query ($name: String) { recommendations(userId: 1, first: 20, exclude: [],
        where: {employer: $name}, variety: {maxPerEmployer: 3}) { items { job { id } } } }"""
    items = typed.data_of(query, name=alias)["recommendations"]["items"]
    assert len(items) == 3
    assert {int(item["job"]["id"]) for item in items} <= set(employers)


def test_kinds_tell_words_size_and_examples(typed: Service) -> None:
    types = typed.data_of("{ employerTypes { label expressions size examples { name } } }")[
        "employerTypes"
    ]
    assert len(types) == 6
    assert [type_["size"] for type_ in types] == sorted(
        (type_["size"] for type_ in types), reverse=True
    )
    filtered = typed.data_of(
        "query ($type: String) { employers(first: 100, where: {type: $type}) { edges { cursor }}}",
        type=types[0]["label"],
    )
    assert len(filtered["employers"]["edges"]) == min(100, types[0]["size"])


def test_a_model_without_types_answers_null_and_empty(service: Service) -> None:
    answer = service.data_of(
        '{ employer(name: "x") { id } employerTypes { label } employers { edges { cursor } } }'
    )
    assert answer == {"employer": None, "employerTypes": [], "employers": {"edges": []}}


def test_the_terminal_lists_kinds_and_shows_who_resembles_whom(typed: Service) -> None:
    types = typed.data_of("{ employerTypes { size expressions examples { name } } }")[
        "employerTypes"
    ]
    listed = jobrec("employers", "list", "--state", typed.state).stdout
    assert ", ".join(types[0]["expressions"]) in listed
    name = types[0]["examples"][0]["name"]
    likes = typed.data_of(
        """query ($name: String) {
        employer(name: $name) { similar(first: 2) { employer { name } } } }""",
        name=name,
    )["employer"]["similar"]
    shown = jobrec("employers", "show", "--state", typed.state, name).stdout
    similar = jobrec("employers", "similar", "--state", typed.state, name, "--first", "2").stdout
    assert shown.startswith(f"{name}: ")
    for other in likes:
        assert other["employer"]["name"] in similar
    unknown = jobrec("employers", "show", "--state", typed.state, "nobody at all", check=False)
    assert unknown.returncode == 2
    assert "nobody at all" in unknown.stderr


def test_a_list_holds_so_many_jobs_of_employers_of_one_kind_at_most(typed: Service) -> None:
    query = """query ($bound: Int) {
        recommendations(userId: 1, first: 20, variety: {maxPerType: $bound}) {
            items { job { employer { type { label } } } } } }"""
    items = typed.data_of(query, bound=2)["recommendations"]["items"]
    kinds = Counter(
        item["job"]["employer"]["type"]["label"]
        for item in items
        if item["job"]["employer"] and item["job"]["employer"]["type"]
    )
    assert kinds
    assert max(kinds.values()) <= 2


def test_the_page_shows_every_employer_and_complains_of_nothing(
    typed: Service, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    page = tmp_path / "employers.html"
    jobrec("employers", "report", "--state", typed.state, "--html", page)
    browser.get(page.as_uri())
    assert len(find_all(browser, "section")) == 6
    titles = [circle.get_attribute("textContent") for circle in find_all(browser, "circle")]
    assert titles
    assert all(titles)
    assert console(browser) == []
