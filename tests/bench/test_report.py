from __future__ import annotations

from pathlib import Path

from bench.plots import Axis, Plot, Series
from bench.report import Finding, Report, machine_facts, update_document

PLOT = Plot("time", "Time", Axis("lines"), Axis("s"), [Series("ours", [(1, 1.0)])])
REPORT = Report(
    name="reading",
    title="So much was read",
    results=[],
    findings=[Finding.of_turns("ours / theirs", [1.2, 0.9, 1.1], at_least=1)],
    plots=[PLOT],
)


def test_a_ratio_of_turns_is_their_median_with_the_spread() -> None:
    (finding,) = REPORT.findings
    assert finding.row() == ["ours / theirs", "1.10x (0.90x - 1.20x)", "at least 1x", "met"]


def test_a_median_on_the_wrong_side_of_a_target_misses_it() -> None:
    assert Finding.of_turns("p99", [0.9, 1.1, 1.2], at_most=1).verdict == "missed"


def test_a_report_shows_its_plots_and_keeps_their_figures() -> None:
    facts = machine_facts()
    assert "![Time](benchmarks/reading.time.svg)" in REPORT.lines(facts)
    assert REPORT.record(facts)["plots"] == [PLOT.record()]


def test_a_report_replaces_its_own_section_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    update_document(
        page, {"reading": ["## reading", "", "old", ""], "load": ["## load", "", "kept"]}
    )
    update_document(page, {"reading": REPORT.lines(machine_facts())})
    written = page.read_text()
    assert "old" not in written
    assert "kept" in written
    assert written.count("## reading") == 1
