"""`jobrec evaluate`, in processes of its own."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import chromium, console
from tests.conftest import jobrec

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.slow

MODELS = ["blend", "als", "popular", "recent-popular", "item-knn", "last-seen", "random"]
QUICK = ("--factors", "16", "--iterations", "3", "--threads", "1")


@dataclass(frozen=True)
class Evaluated:
    """What a command printed, and the figures and the page that it wrote."""

    process: subprocess.CompletedProcess[str]
    record: dict[str, Any]
    page: Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    jobrec("demo", "--data", folder, "--scale", "0.02", "--until", "2026-11-01")
    return folder


def evaluated(data: Path, folder: Path, *options: str | Path) -> Evaluated:
    file = folder / "figures.json"
    process = jobrec(
        *("evaluate", "--data", data, "--state", folder / "state", "--json", file),
        *QUICK,
        *options,
    )
    return Evaluated(process, json.loads(file.read_text()), folder / "report.html")


@pytest.fixture(scope="module")
def temporal(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("out")
    report = ("--truth", data / "truth.jsonl", "--html", folder / "report.html")
    return evaluated(data, folder, "--k", "5,20", *report)


def test_the_file_holds_every_model_by_name_and_which_is_the_default(temporal: Evaluated) -> None:
    record = temporal.record
    assert record["default"] == "blend"
    assert list(record["models"]) == MODELS
    for model in MODELS:
        for name in ("recall@5", "ndcg@20", "gini@5", "diversity@20"):
            assert isinstance(record["models"][model][name], float)
        low, high = record["intervals"][model]["recall@20"]
        assert 0 <= low <= record["models"][model]["recall@20"] <= high <= 1
    assert record["setting"]["split"] == "temporal"
    assert record["setting"]["cutoff"].startswith("2026-")
    assert set(record["differences"]) == set(MODELS[1:])


def test_planted_tastes_are_found(temporal: Evaluated) -> None:
    difference = temporal.record["differences"]["random"]["ndcg@20"]
    assert difference["low"] > 0
    assert difference["p"] <= difference["p_holm"] < 0.05
    taste = {model: each["taste@5"] for model, each in temporal.record["models"].items()}
    assert taste["blend"] > 3 * max(taste["popular"], taste["random"])


def test_the_table_shows_the_same_figures(temporal: Evaluated) -> None:
    output = temporal.process.stdout
    blend = temporal.record["models"]["blend"]
    low, high = temporal.record["intervals"]["blend"]["recall@20"]
    (row,) = re.findall(rf"^\* blend +{blend['recall@20']:.4f} .*$", output, re.MULTILINE)
    assert f"{low:.4f}-{high:.4f}" in row
    assert "no list holds a job that its person did in the training part" in output
    for group in temporal.record["groups"]:
        assert re.search(
            rf"^{re.escape(group['name'])} +{group['people']:,} ", output, re.MULTILINE
        )


def test_what_variety_costs_stands_in_the_file_the_table_and_the_page(temporal: Evaluated) -> None:
    trade_off, page = temporal.record["trade_off"], temporal.page.read_text()
    plain, *others = trade_off["points"]
    assert plain["metrics"]["ndcg@20"] == pytest.approx(
        temporal.record["models"]["blend"]["ndcg@20"]
    )
    assert {point["knob"] for point in others} == {"spread", "diversity", "max_per_employer"}
    assert f"variety, {trade_off['people']:,} people" in temporal.process.stdout
    assert "What variety costs" in page
    for point in trade_off["points"]:
        value = f"{point['value']:g}" if point["value"] else ""
        ndcg, gini = point["metrics"]["ndcg@20"], point["metrics"]["gini@20"]
        row = rf"^  {point['knob']} +{value} .* {ndcg:.4f} +{gini:.3f} "
        assert re.search(row, temporal.process.stdout, re.MULTILINE)
        assert f"<td>{ndcg:.4f}</td><td>{gini:.3f}</td>" in page


def test_stages_are_plain_lines_where_there_is_no_terminal(temporal: Evaluated) -> None:
    fitted = [f"{stage} {model} ..." for model in MODELS for stage in ("fitting", "ranking")]
    # The texts of jobs are read once the recipe, the first of the models, is ranked
    fitted.insert(2, "INFO jobs.jsonl: read 144 = used 144 + rejected 0")
    fitted.insert(3, "spreading lists ...")
    expected = ["reading ...", *fitted, "training curve ...", "comparing ..."]
    assert temporal.process.stderr.splitlines() == expected


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else_and_shows_every_plot_and_figure(temporal: Evaluated) -> None:
    page = Page()
    text = temporal.page.read_text()
    page.feed(text)

    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "image", "use"}
    assert not page.attributes & {"src", "href", "srcset", "xlink:href"}
    assert "url(" not in text
    assert "@import" not in text
    # Recall, NDCG and taste; history; exposure; two trade-offs; two of variety; training
    assert page.tags["svg"] == 10
    for model, own in temporal.record["models"].items():
        assert model in page.text
        assert f"{own['recall@20']:.4f}" in page.text
    assert "p, Holm" in page.text
    assert "95 % interval of the difference" in page.text


def test_the_page_fits_a_phone_and_both_colour_schemes(temporal: Evaluated, tmp_path: Path) -> None:
    grounds = set()
    with chromium(tmp_path) as browser:
        for scheme, width in (("light", 1200), ("dark", 1200), ("dark", 390)):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(temporal.page.as_uri())
            measure = "return document.documentElement.scrollWidth"
            assert browser.execute_script(measure) <= width
            ground = "return getComputedStyle(document.body).backgroundColor"
            grounds.add(browser.execute_script(ground))
        assert console(browser) == []
    assert len(grounds) == 2


def test_an_audit_tells_of_groups_and_never_of_people(data: Path, tmp_path: Path) -> None:
    attributes = tmp_path / "attributes.jsonl"
    with (data / "users.jsonl").open() as lines:
        people = [json.loads(line) for line in lines]
    attributes.write_text(
        "".join(
            f"{json.dumps({'user_id': row['user_id'], 'gender': row['gender']})}\n"
            for row in people
        )
    )
    file = tmp_path / "audit.json"
    options = ("--data", data, "--state", tmp_path / "state", "--attributes", attributes)

    process = jobrec("audit", *options, "--min-group", "5", "--json", file, *QUICK)

    audit = json.loads(file.read_text())
    assert set(audit["attributes"]) == {"gender"}
    assert all(group["people"] >= 5 for group in audit["attributes"]["gender"])
    assert "user_id" not in file.read_text()
    assert "groups of fewer than 5 people are hidden" in process.stdout
    refused = jobrec("audit", *options, "--min-group", "4", check=False)
    assert refused.returncode == 2
    assert "min_group 4 is below 5" in refused.stderr


def test_a_given_split_is_measured_and_its_bad_lines_accounted_for(
    data: Path, tmp_path: Path
) -> None:
    with (data / "activities.jsonl").open() as lines:
        pairs = {(row["user_id"], row["job_id"]) for row in map(json.loads, lines)}
    chosen = sorted(pairs)[::10]
    test = tmp_path / "test.jsonl"
    rows = [json.dumps({"user_id": user, "job_ids": [job]}) for user, job in chosen]
    test.write_text("".join(f"{row}\n" for row in [*rows, "7"]))

    found = evaluated(data, tmp_path, "--test", test, "--max-rejected", "0.5")

    assert f"test.jsonl: read {len(rows) + 1:,} = used {len(rows):,} + rejected 1" in (
        found.process.stdout
    )
    setting = found.record["setting"]
    assert setting["split"] == "given"
    assert setting["pairs"] == len(pairs) - len(chosen)
    assert setting["targets"] <= len(chosen)


@pytest.mark.parametrize("split", ["last", "random"])
def test_other_splits_warn_of_what_leaks(data: Path, tmp_path: Path, split: str) -> None:
    found = evaluated(data, tmp_path, "--split", split)
    assert found.record["setting"]["split"] == split
    assert "knows what others did later" in found.process.stdout


def test_a_log_without_times_is_split_by_chance_and_says_so(tmp_path: Path) -> None:
    rows = [
        json.dumps({"user_id": user, "job_id": user % 2 + 2 * job, "type": "redirect"})
        for user in range(40)
        for job in range(10)
    ]
    (tmp_path / "activities.jsonl").write_text("".join(f"{row}\n" for row in rows))

    found = evaluated(tmp_path, tmp_path)

    assert found.record["setting"]["cutoff"] is None
    assert "the times tell nothing, so pairs were held out by chance" in found.process.stdout


def test_a_stored_model_that_has_seen_the_part_held_out_is_not_measured(
    data: Path, tmp_path: Path
) -> None:
    state = ("--data", data, "--state", tmp_path / "state")
    jobrec("train", *state, *QUICK, "--hold-out", "0")
    (line,) = jobrec("models", "list", "--state", tmp_path / "state", "--json").stdout.splitlines()
    version = json.loads(line)["version"]

    found = evaluated(data, tmp_path, "--models", version)

    assert re.search(rf"model {version} was not measured: it has learned", found.process.stdout)
    assert list(found.record["refused"]) == [version]
    assert list(found.record["models"]) == MODELS
    assert "overlap_with_live@20" in found.record["models"]["blend"]


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, ("--k", "10,x"), "--k is '10,x', expected lengths such as 10,20"),
        (2, ("--k", "0"), "k 0 is not in 1..1,000"),
        (2, ("--hold-out", "0"), "hold_out 0.0 is not between 0 and 1"),
        (2, ("--seed", "-1"), "seed -1 is not in 0..4294967295"),
        (2, ("--factors", "0"), "factors 0 is not in 1..4096"),
        (2, ("--split", "alphabetical"), "'alphabetical' is not one of"),
        (2, ("--test", "test.jsonl", "--split", "last"), "give either --test or --split"),
        (2, ("--json", "no/such/folder/figures.json"), "cannot write no/such/folder"),
        (3, ("--test", "no-such-file.jsonl"), "no-such-file.jsonl"),
        (3, ("--data", "no-such-folder"), "no activities.jsonl"),
        (3, ("--truth", "no-such-file.jsonl"), "no-such-file.jsonl"),
        (4, ("--models", "no-such-version"), "there is no model 'no-such-version'"),
        (5, ("--alpha", "1e38"), "not finite"),
    ],
)
def test_what_went_wrong_is_said_with_its_exit_code(
    data: Path, tmp_path: Path, code: int, options: tuple[str, ...], message: str
) -> None:
    result = jobrec(
        *("evaluate", "--data", data, "--state", tmp_path / "state"), *options, check=False
    )
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_no_file_is_left_where_the_work_failed(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = jobrec(
        *("evaluate", "--data", data, "--state", tmp_path / "state", "--json", file),
        *("--models", "no-such-version", *QUICK),
        check=False,
    )
    assert result.returncode == 4
    assert not list(tmp_path.glob("*figures*"))
