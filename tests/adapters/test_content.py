"""What texts tell of jobs."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.content import MIN_JOBS, TextModel, TextTrainer
from domain.errors import SnapshotCorrupt
from domain.model import FloatArray, Job
from domain.ports import nobody

WORDS = ("nurse", "python", "bricks", "ledger")


def adverts(count: int = 80) -> tuple[list[Job], FloatArray]:
    """Return jobs of four trades, and vectors that tell the trade."""
    jobs = [Job(id_, f"{WORDS[id_ % 4]} wanted", description=f"unit {id_}") for id_ in range(count)]
    chance = np.random.default_rng(2)
    vectors = 3 * np.eye(4)[np.arange(count) % 4] + 0.1 * chance.standard_normal((count, 4))
    return jobs, vectors.astype(np.float32)


def fitted(jobs: list[Job], vectors: FloatArray, threads: int = 1) -> TextModel | None:
    reading = TextTrainer(threads=threads).begin(jobs, 1)
    learned = reading.fit(vectors, np.ones(len(jobs), np.float32), nobody)
    assert learned is None or isinstance(learned, TextModel)
    return learned


def model() -> TextModel:
    learned = fitted(*adverts())
    assert learned is not None
    return learned


def test_an_unseen_text_is_placed_with_its_trade_and_as_long_as_known_jobs() -> None:
    placed = model().vectors([Job(900, f"{word} wanted", description="unit") for word in WORDS])
    assert placed.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert np.linalg.norm(placed, axis=1) == pytest.approx(3, rel=0.25)


@pytest.mark.parametrize(
    "text", ["<b>Nurse</b>", "NURSE!", "a nurse, please", "nurse&nbsp;&mdash;&nbsp;x", "“nurse”"]
)
def test_markup_case_and_punctuation_do_not_matter(text: str) -> None:
    placed = model().vectors([Job(1, description=text)])
    assert placed[0].argmax() == 0
    assert placed[0, 0] > 1


@pytest.mark.parametrize("text", ["", "   ", "<p></p>", "?!", "unheard"])
def test_a_text_without_a_known_word_stands_nowhere(text: str) -> None:
    assert not model().vectors([Job(1, text)]).any()


def test_words_of_other_alphabets_are_words() -> None:
    jobs, vectors = adverts()
    titles = {"nurse": "医者 募集", "python": "Инженер", "bricks": "Kỹ sư", "ledger": "Prüfer"}
    jobs = [Job(job.id, titles[WORDS[job.id % 4]]) for job in jobs]
    learned = fitted(jobs, vectors)
    assert learned is not None
    placed = learned.vectors([Job(900, title.upper()) for title in titles.values()])
    assert placed.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_a_vector_does_not_depend_on_the_jobs_beside_it() -> None:
    jobs, _ = adverts(700)
    learned = model()
    together = learned.vectors(jobs)
    assert (together == np.concatenate([learned.vectors([job]) for job in jobs])).all()


def test_the_same_input_and_seed_give_the_same_bytes() -> None:
    one = model().arrays()
    for threads in (1, 2):
        other = fitted(*adverts(), threads)
        assert other is not None
        assert all(one[name].tobytes() == found.tobytes() for name, found in other.arrays().items())


def test_jobs_without_a_vector_tell_nothing() -> None:
    jobs, vectors = adverts()
    vectors[MIN_JOBS - 1 :] = 0
    assert fitted(jobs, vectors) is None


def test_steps_are_told() -> None:
    jobs, vectors = adverts()
    told: list[tuple[int, int]] = []
    trainer = TextTrainer()
    trainer.begin(jobs, 1).fit(vectors, np.ones(80, np.float32), lambda *step: told.append(step))
    assert told == [(step, trainer.steps) for step in range(1, trainer.steps + 1)]


def test_what_is_stored_places_jobs_alike() -> None:
    jobs, _ = adverts()
    learned = model()
    again = TextModel.from_arrays(learned.arrays())
    assert again is not None
    assert (learned.vectors(jobs) == again.vectors(jobs)).all()


def test_nothing_is_learned_from_no_texts_few_texts_or_words_of_one_job_only() -> None:
    jobs, vectors = adverts()
    assert fitted([Job(job.id) for job in jobs], vectors) is None
    assert fitted(jobs[: MIN_JOBS - 1], vectors[: MIN_JOBS - 1]) is None
    assert fitted([Job(job.id, f"word{job.id}") for job in jobs], vectors) is None
    assert fitted([], vectors[:0]) is None


def test_a_snapshot_without_texts_has_no_model_and_one_with_half_is_corrupt() -> None:
    assert TextModel.from_arrays({}) is None
    arrays = dict(model().arrays())
    with pytest.raises(SnapshotCorrupt, match="words have weights"):
        TextModel.from_arrays({**arrays, "content_idf": arrays["content_idf"][1:]})
    del arrays["content_map"]
    with pytest.raises(SnapshotCorrupt, match="holds only"):
        TextModel.from_arrays(arrays)
