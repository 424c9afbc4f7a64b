"""Employers end to end: a training with types, then GraphQL, the terminal and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.browser import console, find_all
from tests.conftest import Service, jobrec, serving

pytestmark = pytest.mark.slow
pytest.importorskip("gensim", reason='pip install "jobrec[employers]"')


@pytest.fixture(scope="module")
def typed(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    state = tmp_path_factory.mktemp("employers") / "state"
    with serving(demo_data, state, JOBREC_EMPLOYERS="on", JOBREC_EMPLOYER_TYPES="6") as running:
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
    trained = jobrec("train", *places, PYTHONPATH=without_extra, JOBREC_EMPLOYERS="auto")
    assert 'employers need an extra: pip install "jobrec[employers]"' in trained.stdout
    assert "is live" in trained.stdout
    shown = jobrec("employers", "list", "--state", state, PYTHONPATH=without_extra, check=False)
    assert (shown.returncode, "learned no types of employers" in shown.stderr) == (4, True)


def test_without_the_extra_what_was_asked_for_outright_is_refused(
    demo_data: Path, without_extra: str, tmp_path: Path
) -> None:
    places: list[str | Path] = ["--data", demo_data, "--state", tmp_path / "state"]
    refused = jobrec("train", *places, "--employers", "on", PYTHONPATH=without_extra, check=False)
    assert refused.returncode == 2
    assert 'pip install "jobrec[employers]"' in refused.stderr


def test_without_the_extra_all_but_the_map_of_learned_types_is_told(
    typed: Service, without_extra: str, tmp_path: Path
) -> None:
    listed = jobrec("employers", "list", "--state", typed.state, PYTHONPATH=without_extra)
    assert "such as" in listed.stdout
    page = tmp_path / "employers.html"
    report: list[str | Path] = ["report", "--state", typed.state, "--html", page]
    refused = jobrec("employers", *report, PYTHONPATH=without_extra, check=False)
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
