from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from adapters.employers import TextEmployerLearner, TypingPolicy
from adapters.texts import plain_text, stop_words, tokeniser
from application.employers import gathered
from bench.planted import adverts
from domain.employers import (
    UNTYPED,
    Amendments,
    EmployerNotes,
    EmployerProfile,
    EmployerText,
    EmployerTypes,
)
from domain.errors import TrainingError
from domain.model import Job
from domain.ports import nobody

pytest.importorskip("gensim", reason='pip install "jobrec[employers]"')

KINDS, EMPLOYERS = 6, 90


@cache
def corpus() -> tuple[EmployerText, ...]:
    planted = adverts(EMPLOYERS, 4, 800, KINDS, 1)
    jobs = (Job(i, employer=a.employer, description=a.description) for i, a in enumerate(planted))
    silent = Job(10_000, employer="Zero", description="<p>Join us</p>")
    return tuple(gathered(iter([*jobs, silent]), EmployerNotes()))


def learn(
    amendments: Amendments | None = None, texts: Sequence[EmployerText] | None = None
) -> EmployerTypes:
    learner = TextEmployerLearner(tokeniser(), stop_words(), typing=TypingPolicy(types=KINDS))
    return learner.learn(texts or corpus(), amendments or Amendments(), 7, None, nobody)


@cache
def learned() -> EmployerTypes:
    return learn()


def test_planted_kinds_are_found() -> None:
    from sklearn.metrics import adjusted_rand_score

    kinds = np.arange(EMPLOYERS) % KINDS
    assert adjusted_rand_score(kinds, learned().type_of[:EMPLOYERS]) >= 0.95


def test_kinds_are_told_by_planted_expressions_of_two_words() -> None:
    assert all(" " in text for type_ in learned().types for text in type_.expressions[:3])


def test_types_are_named_by_job_titles_where_these_tell() -> None:
    # The sixth expression of each type stands in a title of every third of its employers
    before, vague = learned(), corpus()[0].texts[0].split()[0]
    titled = []
    for position, employer in enumerate(corpus()):
        type_ = before.type_at(position)
        title = type_.expressions[5] if type_ and position // KINDS % 3 == 0 else vague
        titled.append(replace(employer, titles=(title,)))
    after = learn(texts=titled)
    for type_, told in zip(after.types, before.types, strict=True):
        assert type_.expressions == told.expressions
        assert type_.label == ", ".join([told.expressions[5], *told.expressions[:2]])


def test_an_employer_with_too_little_text_is_of_no_kind() -> None:
    known = learned()
    position = known.position("ZERO")
    assert position is not None
    assert known.type_of[position] == UNTYPED
    assert known.facts["too_little_text"] == 1


def test_the_same_texts_and_seed_give_the_same_arrays() -> None:
    again = learn()
    for name, array in learned().arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name], name)


def test_excluded_expressions_go_and_included_ones_stay() -> None:
    gone = learned().expressions[0].text
    common = corpus()[0].texts[0].split()[0]
    amended = learn(Amendments(frozenset({common}), frozenset({gone})))
    kept = {expression.text for expression in amended.expressions}
    assert gone not in kept
    assert common in kept


def test_an_included_expression_of_two_words_is_joined_whatever_its_measures() -> None:
    first, second = corpus()[0].texts[0].split()[:2]
    known = learn(Amendments(include=frozenset({f"{first} {second}"})))
    assert f"{first} {second}" in {expression.text for expression in known.expressions}


def test_too_few_employers_with_text_are_told() -> None:
    learner = TextEmployerLearner(tokeniser(), stop_words())
    with pytest.raises(TrainingError, match="at least 12"):
        learner.learn(corpus()[:5], Amendments(), 1, None, nobody)


def test_markup_and_entities_are_taken_off() -> None:
    text = plain_text("<p>R&amp;D</p><script>x()</script><ul><li>C&#43;&#43;<li>Java</ul>")
    assert text.split() == ["R&D", "C++", "Java"]


def test_words_of_any_language_stay_whole_however_encoded() -> None:
    composed = "L\u1eadp tr\u00ecnh vi\u00ean C++, node.js. Remote!"
    decomposed = "La\u0323\u0302p tri\u0300nh vie\u0302n C++, node.js. Remote!"
    expected = [["l\u1eadp", "tr\u00ecnh", "vi\u00ean", "c++"], ["node.js"], ["remote"]]
    assert tokeniser()(composed) == tokeniser()(decomposed) == expected


def test_spellings_and_aliases_are_one_employer_with_its_profile() -> None:
    jobs = [Job(2, employer="Acme Ltd", description="b"), Job(1, employer="ACME", description="a")]
    jobs.append(Job(3, employer="Ajax", description="c"))
    notes = EmployerNotes((EmployerProfile("Acme", "we make all", ("Ajax Inc",)),))
    (acme,) = gathered(iter(jobs), notes)
    assert (acme.key, acme.name, acme.job_ids) == ("acme", "Acme", (1, 2, 3))
    assert acme.texts[-1] == "we make all"
