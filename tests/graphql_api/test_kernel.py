"""`--kernel`: with an index of jobs or without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters import factors
from adapters.factors import FactorRecommender
from domain.ports import Begun
from domain.runs import RunRequest, RunStatus, TrainingRun
from graphql_api import container, settings
from graphql_api.container import Container
from graphql_api.settings import Kernel, Settings
from tests.datasets import write_two_tastes
from tests.kernels import NEEDS_ANN

Wired = Callable[[str], Container]


@pytest.fixture
def wired(tmp_path: Path) -> Wired:
    """Return what wires a service of a dataset of few jobs, with a kernel."""
    write_two_tastes(tmp_path)
    for kind in ("job", "user"):
        (tmp_path / f"{kind}s.jsonl").write_text(f'{{"{kind}_id": 1}}\n')

    def wire(kernel: str) -> Container:
        given = Settings(  # type: ignore[call-arg] # pydantic fills the rest
            data=tmp_path,
            state=tmp_path / "state",
            threads=1,
            factors=4,
            iterations=2,
            hold_out=0,
            kernel=Kernel(kernel),
        )
        return Container(settings=given)

    return wire


def trained(container: Container) -> TrainingRun:
    begun = container.runs().begin(RunRequest(), "tests", None)
    assert isinstance(begun, Begun)
    try:
        run = container.training().execute(begun.run, lambda *_: None)
    finally:
        begun.lease.close()
    assert run.status is RunStatus.SUCCEEDED
    return run


def is_indexed(container: Container) -> bool:
    models = container.models()
    models.refresh()
    recommender = models.live.recommender
    assert isinstance(recommender, FactorRecommender)
    return recommender.index is not None


@NEEDS_ANN
def test_an_index_is_learned_measured_and_served_where_it_is_asked_for(wired: Wired) -> None:
    run = trained(wired("approximate"))

    assert run.metrics["index_recall@10"] == 1
    snapshot = wired("exact").snapshots().open(run.id)
    assert snapshot.manifest.metrics["index_similar_recall@100"] == 1
    assert {name for name in snapshot.arrays if name.startswith("index_")} == {
        "index_best",
        "index_alike",
        "index_probes",
    }
    assert is_indexed(wired("approximate"))


@NEEDS_ANN
@pytest.mark.parametrize("kernel", ["auto", "exact"])
def test_small_catalogues_are_served_without_unless_asked_for(wired: Wired, kernel: str) -> None:
    trained(wired("approximate"))
    assert not is_indexed(wired(kernel))


@NEEDS_ANN
def test_large_catalogues_have_one_by_themselves(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factors, "CROSSOVER", 16)
    assert "index_recall@10" in trained(wired("auto")).metrics
    assert is_indexed(wired("auto"))
    assert not is_indexed(wired("exact"))


@pytest.mark.parametrize("kernel", ["auto", "exact"])
def test_small_catalogues_learn_none(wired: Wired, kernel: str) -> None:
    run = trained(wired(kernel))
    assert not any(name.startswith("index") for name in run.metrics)
    arrays = wired(kernel).snapshots().open(run.id).arrays
    assert not any(name.startswith("index_") for name in arrays)


def test_a_model_without_one_is_served_exactly_and_told(
    wired: Wired, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained(wired("exact"))
    monkeypatch.setattr(settings, "find_spec", lambda _: object())
    assert not is_indexed(wired("approximate"))
    assert "the model has no index of its jobs, so exact lists are served" in caplog.text


@NEEDS_ANN
def test_one_that_cannot_be_read_leaves_exact_lists_and_is_told(
    wired: Wired, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from adapters import approximate

    def of_another_release(*_: object) -> approximate.Cells:
        raise RuntimeError("Index type not recognized")

    trained(wired("approximate"))
    monkeypatch.setattr(approximate.Cells, "mapped", of_another_release)
    assert not is_indexed(wired("approximate"))
    assert "the model's index is not used: it holds no index of jobs that can be read" in (
        caplog.text
    )


@NEEDS_ANN
def test_without_the_extra_exact_lists_are_served_and_the_extra_is_named(
    wired: Wired, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained(wired("approximate"))
    monkeypatch.setattr(container, "ann_extra_missing", lambda: 'pip install "jobrec[ann]"')
    monkeypatch.setattr(factors, "CROSSOVER", 16)
    assert not is_indexed(wired("auto"))
    assert "the model's index is not used: pip install" in caplog.text
    trained(wired("auto"))
    assert "so many jobs would be found faster with an index: pip install" in caplog.text


def test_asking_for_it_without_the_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r'pip install "jobrec\[ann\]"'):
        Settings(kernel=Kernel.APPROXIMATE)  # type: ignore[call-arg] # pydantic fills the rest
