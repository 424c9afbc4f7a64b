"""Lines of one form, cut out of bytes: what a parser of JSON finds, or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.jsonl import _ACTIVITY, Tolerance, _columns_of, _Lines
from adapters.uniform_lines import decoded
from domain.model import ActivityKind
from domain.ports import nobody

# What is read, and what nearly is
IDS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.integers(0, 10**16 - 1).map(str),
    st.sampled_from(["0", "9", "10", "99999999", "100000000", "9" * 16]),
)
ODD_IDS = st.one_of(
    IDS,
    st.integers(10**16, 10**20).map(str),
    st.sampled_from(["", "00", "01", "0000000001", "-1", "1.0", "1e3", "1_0", "٣", "null", " 1"]),
)
TIMES = st.one_of(
    st.integers(10**9, 4_102_444_800).map(str),
    st.integers(10**12, 4_102_444_800_000).map(lambda number: repr(number / 1_000)),
    st.integers(10**15, 4_102_444_800_000_000).map(lambda number: f"{number / 1e6:.6f}"),
    st.sampled_from(["1000000000", "1700000000.0", "4102444800", "4102444800.000000"]),
)
ODD_TIMES = st.one_of(
    TIMES,
    st.floats(0, 5e9).map(repr),
    st.integers(10**16, 41_024_448_000_000_000).map(lambda number: repr(number / 10_000_000)),
    st.sampled_from(
        [
            *("", "0", "999999999", "0999999999", "4102444801", "4102444800.1", "9999999999"),
            *("1700000000.", "1700000000.1234567", "17000000001", "17000000001.5", "170000000.05"),
            *("1700000000e0", "1.7e9", "1700000000.5e0", "-1700000000", "null", "17000000.1.1"),
        ]
    ),
)
KINDS = st.sampled_from([kind.word for kind in ActivityKind])
ODD_KINDS = st.one_of(
    KINDS,
    st.sampled_from(["", "view", "APPLY", "applyx", "impressio", "email_clic", "email_clicks"]),
    st.sampled_from(
        ["redirects", "emailxsent", "dismis", "appl\\u0079", "ixxxxxsion", "impresszon"]
    ),
)


@st.composite
def forms(draw: st.DrawFn) -> str:
    """A line with a place for each value, as a program would write all of its lines."""
    keys = list(draw(st.permutations(["job_id", "user_id", "type", "timestamp"])))
    if draw(st.booleans()):
        keys.remove("timestamp")
    quoted = {"type"} | draw(st.sets(st.sampled_from(["job_id", "user_id"])))
    spaces = draw(st.sampled_from(["", "", " ", "\t  "]))
    fields = ",".join(
        f'{spaces}"{key}"{spaces}:{spaces}'
        + (f'"<{key}>"' if key in quoted else f"<{key}>")
        + spaces
        for key in keys
    )
    return f"{{{fields}}}{draw(st.sampled_from(['', '', chr(13)]))}\n"


@st.composite
def blocks(
    draw: st.DrawFn,
    ids: st.SearchStrategy[str],
    kinds: st.SearchStrategy[str],
    times: st.SearchStrategy[str],
) -> bytes:
    form = draw(forms())
    lines = []
    for _ in range(draw(st.integers(1, 9))):
        line = form.replace("<job_id>", draw(ids)).replace("<user_id>", draw(ids))
        lines.append(line.replace("<type>", draw(kinds)).replace("<timestamp>", draw(times)))
    return "".join(lines).encode()


def looked_at(block: bytes) -> tuple[list[list[float]], int]:
    """What the reader that looks at each line finds in a block, and how many lines it rejects."""
    lines = _Lines(Path("activities.jsonl"), _ACTIVITY, Tolerance(max_rejected=1), nobody)
    columns = _columns_of(lines.rows(block)).columns
    return [column.tolist() for column in columns], lines.report().rejected_total


def assert_same_or_left_alone(block: bytes) -> None:
    found = decoded(block)
    if found is not None:
        expected, rejected = looked_at(block)
        assert rejected == 0
        # Exactly the same floats; NaN is the mark of an unknown time
        for column, values in zip(found, expected, strict=True):
            np.testing.assert_array_equal(column, values)


@settings(max_examples=100, deadline=None)
@given(block=blocks(IDS, KINDS, TIMES))
def test_lines_of_one_form_are_read_as_a_parser_reads_them(block: bytes) -> None:
    assert decoded(block) is not None
    assert_same_or_left_alone(block)


@settings(max_examples=150, deadline=None)
@given(block=blocks(ODD_IDS, ODD_KINDS, ODD_TIMES))
def test_whatever_stands_in_place_of_values_nothing_is_guessed(block: bytes) -> None:
    assert_same_or_left_alone(block)


@settings(max_examples=150, deadline=None)
@given(
    block=blocks(IDS, KINDS, TIMES),
    place=st.floats(0, 1, exclude_max=True),
    dropped=st.integers(0, 12),
    added=st.one_of(
        st.binary(max_size=3),
        st.lists(st.sampled_from(list(b'0123456789.-+eE"{}[]:,\\/ \t\r\n\0ab')), max_size=3).map(
            bytes
        ),
        blocks(IDS, KINDS, TIMES),
    ),
)
def test_damaged_lines_are_never_read_as_whole_ones(
    block: bytes, place: float, dropped: int, added: bytes
) -> None:
    start = int(place * len(block))
    assert_same_or_left_alone(block[:start] + added + block[start + dropped :])


@settings(max_examples=100, deadline=None)
@given(block=st.binary(max_size=300))
def test_any_bytes_are_read_or_left_alone(block: bytes) -> None:
    assert_same_or_left_alone(block)
    assert_same_or_left_alone(block + b"\n")


LINE = b'{"timestamp":1700000000.25,"job_id":123456789,"user_id":20,"type":"email_open"}\n'


def test_no_byte_of_a_line_goes_unchecked() -> None:
    read = 0
    for place in range(len(LINE)):
        for byte in b'09."}, \n\0':
            block = LINE + LINE[:place] + bytes([byte]) + LINE[place + 1 :] + LINE
            assert_same_or_left_alone(block)
            read += decoded(block) is not None
    assert read > 0


@pytest.mark.parametrize("kind", ActivityKind)
def test_every_kind_is_told_from_what_resembles_it(kind: ActivityKind) -> None:
    word = kind.word.encode()
    assert decoded(LINE.replace(b"email_open", word)) is not None
    for place in range(len(word)):
        for byte in b"abcdeiklmnoprst_\0":
            other = word[:place] + bytes([byte]) + word[place + 1 :]
            if other != word:
                assert decoded(LINE.replace(b"email_open", other)) is None


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\n",
        LINE[:-1],
        LINE + b"\n",
        b"\n" + LINE,
        LINE + LINE[:-1],
        LINE.replace(b"job_id", b"user_id"),
        LINE.replace(b"job_id", b"jobs_id"),
        LINE.replace(b'"user_id":20,', b""),
        LINE.replace(b'"user_id":20', b'"user_id":20,"user_id":20'),
        LINE.replace(b":20", b":" + b" " * 60 + b"20"),
        LINE.replace(b"}", b',"more":1}'),
        LINE + LINE.replace(b"{", b"{ "),
        LINE + LINE.replace(b"1700000000.25", b"null"),
        LINE + LINE.replace(b"123456789", b'"123456789"'),
    ],
)
def test_other_blocks_are_left_alone(block: bytes) -> None:
    assert decoded(block) is None
