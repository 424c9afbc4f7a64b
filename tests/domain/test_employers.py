from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.employers import (
    UNTYPED,
    Amendments,
    EmployerNotes,
    EmployerProfile,
    EmployerType,
    EmployerTypes,
    Expression,
    ExpressionPolicy,
    Usage,
    distinct,
    effective_employers,
    neighbour_agreement,
    npmi,
    telling,
    unit,
)
from domain.errors import InputError
from domain.names import employer_key


def types(**changed: object) -> EmployerTypes:
    values: dict[str, object] = {
        "keys": ("acme", "bolt", "core", "dune"),
        "names": ("ACME", "Bolt", "Core", "Dune"),
        "job_counts": np.array([2, 1, 1, 1]),
        "type_of": np.array([0, 0, 1, UNTYPED]),
        "vectors": np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 0]], dtype=np.float32),
        "types": (
            EmployerType("games", ("games", "unity"), 2, (0, 1)),
            EmployerType("bank", ("bank",), 1, (2,)),
        ),
        "job_ids": np.array([3, 5, 8, 9, 11]),
        "employer_of": np.array([0, 1, 0, 2, 3]),
        "expressions": (Expression("unity", math.nan, 2, 1.5, 1.9),),
        "facts": {"seed": 1},
    }
    return EmployerTypes(**{**values, **changed})  # type: ignore[arg-type] # tests give wrong ones too


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ACME Ltd.", "acme"),
        ("  acme   LIMITED", "acme"),
        ("Acme Pte. Ltd", "acme"),
        ("Công Ty Cổ Phần Moli Group", "moli group"),
        ("CÔNG TY TNHH VI-MASH", "vi-mash"),
        ("AT&T", "at&t"),
        ("Co., Ltd.", "co ltd"),
        ("Công ty cổ phần công ty TNHH Moli", "moli"),
        (" *** ", "***"),
        (None, ""),
    ],
)
def test_a_key_is_without_case_spaces_and_legal_form(name: str | None, key: str) -> None:
    assert employer_key(name) == key


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_the_key_of_a_key_is_itself(name: str) -> None:
    key = employer_key(name)
    assert employer_key(key) == key


def test_parts_that_only_come_together_have_npmi_1_and_those_that_meet_by_chance_0() -> None:
    assert npmi(10, 10, 10, 1_000) == pytest.approx(1)
    assert npmi(1, 10, 100, 1_000) == pytest.approx(0)
    assert npmi(0, 10, 100, 1_000) == -1


def test_a_term_of_one_employer_has_spread_1_and_one_that_all_use_alike_their_number() -> None:
    columns = np.array([0, 1, 1, 1, 2, 2])
    counts = np.array([9, 4, 4, 4, 99, 1], dtype=np.float32)
    alone, alike, uneven = effective_employers(3, columns, counts)
    assert alone == pytest.approx(1)
    assert alike == pytest.approx(3)
    assert 1 < uneven < 1.1


def test_valuable_terms_lie_within_all_bounds() -> None:
    usage = Usage(
        employers=100,
        frequency=np.array([2, 10, 95, 50, 10]),
        spread=np.array([2.0, 9.0, 29.0, 45.0, 1.5]),
    )
    assert ExpressionPolicy().valuable(usage).tolist() == [False, True, False, False, False]


def test_what_a_type_uses_and_others_do_not_tells_most() -> None:
    values = telling(np.array([9.0, 9.0, 0.0]), np.array([10.0, 90.0, 30.0]), 10, 100)
    assert np.argsort(-values).tolist() == [0, 1, 2]


def test_what_tells_of_a_type_is_said_once() -> None:
    ranked = ["games", "game", "mobile games", "c#", "class", "java", "javascript", "java ee", "x"]
    assert distinct(ranked, 5) == ["games", "c#", "class", "java", "javascript"]


def test_equal_vectors_agree_on_all_neighbours() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32))
    assert neighbour_agreement(vectors, vectors, 5) == (1.0, 5 / 29)


def test_amendments_are_signed_lines() -> None:
    amendments = Amendments.parse(["# remark", "", "+ Machine  Learning", "- click here"])
    assert amendments == Amendments(frozenset({"machine learning"}), frozenset({"click here"}))


@pytest.mark.parametrize("lines", [["machine learning"], ["+"], ["+ a", "- a"]])
def test_amendments_that_contradict_or_have_no_sign_are_refused(lines: list[str]) -> None:
    with pytest.raises(InputError, match="expression"):
        Amendments.parse(lines)


def test_an_alias_of_two_employers_is_refused() -> None:
    notes = EmployerNotes(
        (EmployerProfile("A", aliases=("X",)), EmployerProfile("B", aliases=("X ltd",)))
    )
    with pytest.raises(InputError, match="alias"):
        notes.keys()


def test_similar_employers_are_ordered_by_cosine_and_leave_out_the_untyped() -> None:
    known = types()
    similar = known.similar(0, 5)
    assert [other.position for other in similar] == [1, 2]
    assert similar[0].score == pytest.approx(0.8)
    assert known.similar(3, 5) == []


def test_an_employer_is_found_by_any_spelling_and_by_alias() -> None:
    known = types().known_as({"acme games": "acme"})
    assert [known.position(name) for name in ("Acme Inc", "ACME Games Ltd", "none")] == [0, 0, None]


def test_jobs_are_labelled_with_the_type_of_their_employer() -> None:
    labels = types().labels_of(np.array([3, 4, 9, 11]))
    assert labels.tolist() == [0, UNTYPED, 1, UNTYPED]


def test_arrays_hold_everything_without_pickle() -> None:
    known = types()
    stored = EmployerTypes.from_arrays(known.arrays())
    assert stored is not None
    assert all(array.dtype != object for array in known.arrays().values())
    assert (stored.keys, stored.types, stored.facts) == (known.keys, known.types, known.facts)
    assert stored.similar(0, 2) == known.similar(0, 2)
    assert EmployerTypes.from_arrays({}) is None


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    arrays = {**types().arrays(), "employer_types": np.array([0, 0, 7, 0])}
    with pytest.raises(InputError, match="fit together"):
        EmployerTypes.from_arrays(arrays)
