from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import plots
from bench.plots import Axis, Plot, Series

CURVE = Plot(
    "latency",
    "p99 <of> all",
    Axis("connections", is_log=True, ticks=(1, 4, 16, 64)),
    Axis("milliseconds"),
    [Series("ours & theirs", [(1, 2.0), (4, 3.0), (64, 9.5)]), Series("other", [(1, 1.0)])],
)


def elements(svg: str, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}"))  # noqa: S314 - as above


def texts(svg: str) -> list[str | None]:
    return [element.text for element in elements(svg, "text")]


def test_a_plot_is_an_image_of_its_own_with_names_and_ticks() -> None:
    drawn = plots.draw(CURVE)
    assert {"p99 <of> all", "ours & theirs", "other", "connections", "milliseconds"} <= set(
        texts(drawn)
    )
    assert {"1", "4", "16", "64"} <= set(texts(drawn))
    assert "prefers-color-scheme:dark" in drawn


def test_equal_ratios_are_equal_lengths_on_a_logarithmic_axis() -> None:
    points = [(1, 5.0), (4, 5.0), (16, 5.0)]
    drawn = plots.draw(Plot("a", "A", CURVE.x, CURVE.y, [Series("ours", points)]))
    first, second, third = [float(dot.attrib["cx"]) for dot in elements(drawn, "circle")[-3:]]
    assert third - second == pytest.approx(second - first, abs=0.11)


def test_every_point_lies_inside_the_picture() -> None:
    for is_log in (False, True):
        series = [Series("ours", [(7.5e3, 0.17), (1e5, 3.3), (1e6, 22.7)])]
        plot = Plot("a", "A", Axis("jobs", is_log), Axis("ms", is_log), series)
        (line,) = elements(plots.draw(plot), "polyline")
        for place in line.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 64 <= x <= 502
            assert 14 <= y <= 274


def test_a_single_figure_can_be_plotted() -> None:
    series = [Series("ours", [(3.0, 3.0)])]
    for is_log in (False, True):
        plot = Plot("a", "A", Axis("x", is_log), Axis("y", is_log), series)
        assert len(elements(plots.draw(plot), "polyline")) == 1


def test_a_plot_outlives_its_way_through_json() -> None:
    assert plots.draw(Plot.from_record(json.loads(json.dumps(CURVE.record())))) == plots.draw(CURVE)


def test_plots_that_are_no_more_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    plots.write(tmp_path, "ingest-sizes", [CURVE])
    plots.write(tmp_path, "ingest", [CURVE])
    plots.write(tmp_path, "ingest", [])
    assert [path.name for path in tmp_path.iterdir()] == ["ingest-sizes.latency.svg"]


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (1e6, "1 M"),
        (7_500, "7.5 k"),
        (999.9999999999999, "1 k"),
        (64, "64"),
        (0.05, "0.05"),
        (0, "0"),
    ],
)
def test_figures_are_written_in_few_characters(figure: float, expected: str) -> None:
    assert plots.short(figure) == expected
