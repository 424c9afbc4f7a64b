"""Activity lines that all have one form, cut out of a block's bytes by numpy, many at a time.

Programs write their lines alike: the same keys in the same order, with the same spaces. The first
line of a block tells the form; all others must have it to the byte, but for digits and kinds. What
numpy then computes is what a parser of JSON would. Any surprise, be it one byte, gives the whole
block back, for a reader that looks at each line.

Eight digits are read at once, as bytes of one 64-bit number ("SWAR", after Lamport: Multiple Byte
Processing with Full-Word Instructions, 1975).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from domain.model import MAX_TIMESTAMP, ActivityKind

_Words = NDArray[np.uint64]
"""Eight bytes of text in each number, the first of them the lowest."""


class UniformColumns(NamedTuple):
    """Activities as parallel columns, each of shape (lines,); unknown times are NaN."""

    user_ids: NDArray[np.int64]
    job_ids: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    timestamps: NDArray[np.float64]


def decoded(block: bytes) -> UniformColumns | None:
    """Return the activities of a block of whole lines, None where one of them is of another form.

    Ids have up to 16 digits; times have 10 before the point and up to 6 behind it, so that they
    are whole numbers below 2^53 divided by a power of ten, and as exact as floats can be.
    """
    form = _Form.of(block[: block.find(b"\n") + 1])
    if form is None or not block.endswith(b"\n") or sys.byteorder != "little":
        return None
    try:
        return form.read(block)
    except _Surprise:
        return None


class _Surprise(Exception):
    """A line differs from the first in more than its values."""


_MOST_GLUE = 64
"""The longest text between two values that is looked for, in bytes."""

_WORD = 8
_MARGIN = 5 * (_MOST_GLUE + 3 * _WORD)
"""A line of another form is followed for no more bytes than these."""

_FIELD = (
    rb'[ \t]*"(?:(?:job_id|user_id)"[ \t]*:[ \t]*(?:"[0-9]+"|[0-9]+)'
    rb'|type"[ \t]*:[ \t]*"[a-z_]+"|timestamp"[ \t]*:[ \t]*[0-9.]+)[ \t]*'
)
_LINE = re.compile(rb"\{%b(?:,%b)*\}\r?\n" % (_FIELD, _FIELD))
_VALUE = re.compile(rb'"([a-z_]+)"[ \t]*:[ \t]*("?)([0-9.]+|[a-z_]+)')
_KEYS = {b"job_id", b"user_id", b"type"}


@dataclass(frozen=True)
class _Form:
    """What lines have in common.

    Attributes:
        readers: a value's reader by its key, in the order in which keys come.
        glue: the text before each value, and that behind the last.
    """

    readers: Mapping[bytes, _Reader]
    glue: tuple[bytes, ...]

    @classmethod
    def of(cls, line: bytes) -> Self | None:
        """Return the form of a line; None where it is none that can be read."""
        if not _LINE.fullmatch(line):
            return None
        readers: dict[bytes, _Reader] = {}
        glue, behind = [], 0
        for value in _VALUE.finditer(line):
            key = value[1]
            if key in readers:
                return None
            readers[key] = _QUOTED_ID if value[2] and key != b"type" else _READERS[key]
            glue.append(line[behind : value.start(3)])
            behind = value.end(3)
        glue.append(line[behind:])
        if readers.keys() - {b"timestamp"} != _KEYS or max(map(len, glue)) > _MOST_GLUE:
            return None
        return cls(readers, tuple(glue))

    def read(self, block: bytes) -> UniformColumns:
        """Return the values of lines.

        Raises:
            _Surprise: not all have this form.
        """
        text = np.frombuffer(b"".join((bytes(_WORD), block, bytes(_MARGIN))), dtype=np.uint8)
        ends = _ends(text)
        place = np.concatenate([[_WORD], ends[:-1] + 1])
        columns: dict[bytes, NDArray[Any]] = {}
        for (key, reader), glue in zip(self.readers.items(), self.glue, strict=False):
            lengths, columns[key] = reader.read(*_behind(glue, text, place, reader.words))
            place = place + (lengths + len(glue))
        _behind(self.glue[-1], text, place, 2)
        times = columns.get(b"timestamp")
        return UniformColumns(
            columns[b"user_id"],
            columns[b"job_id"],
            columns[b"type"],
            np.full(len(ends), np.nan) if times is None else times,
        )


def _ends(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the places of line feeds, of which a word of text may hold one."""
    padded = text[: len(text) // _WORD * _WORD]
    words = (padded == ord("\n")).view(np.uint64)
    holding = np.flatnonzero(words != 0)
    feeds = words.take(holding)
    _expect(not (feeds & (feeds - np.uint64(1))).any())
    ends: NDArray[np.int64] = holding * _WORD + (np.bitwise_count(feeds - np.uint64(1)) >> 3)
    return ends


def _behind(glue: bytes, text: NDArray[np.uint8], place: NDArray[Any], words: int) -> list[_Words]:
    """Return so many words of text behind some glue, which every line must have at its place."""
    # So much stands before the glue that what comes behind begins with a word
    lead = -len(glue) % _WORD
    width = lead + len(glue) + words * _WORD
    stretches = np.ndarray((len(text) - width + 1,), f"V{width}", text, strides=(1,))
    cut = stretches[place - lead].view(np.uint64).reshape(len(place), -1)
    expected = np.frombuffer(bytes(lead) + glue, dtype=np.uint64)
    differs = (cut[:, 0] ^ expected[0]) >> np.uint64(8 * lead)
    for word in range(1, len(expected)):
        differs |= cut[:, word] ^ expected[word]
    _expect(not differs.any())
    return [cut[:, word] for word in range(len(expected), cut.shape[1])]


def _expect(is_so: object) -> None:
    if not is_so:
        raise _Surprise


# How values are read: each returns their lengths in bytes, and what they are.


class _Reader(NamedTuple):
    words: int
    read: Callable[..., tuple[NDArray[np.unsignedinteger], NDArray[Any]]]


def _id(first: _Words, second: _Words) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    lengths, ids = _quoted_id(first, second)
    # No number of JSON begins with a 0, but for 0 itself
    _expect(not (((first & _BYTE) == ord("0")) & (lengths > 1)).any())
    return lengths, ids


def _quoted_id(first: _Words, second: _Words) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    lengths, ids = _leading_digits(first)
    _expect(lengths.all())
    if (is_long := lengths == _WORD).any():
        more, rest = _leading_digits(second)
        ids = np.where(is_long, ids * _POWERS.take(more) + rest, ids)
        lengths = lengths + is_long * more
    return lengths, ids.view(np.int64)


def _time(
    first: _Words, second: _Words, third: _Words
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    lengths, front = _leading_digits(first)
    _expect((lengths == _WORD).all() and ((first & _BYTE) != ord("0")).all())
    # Two digits, a point, and further digits: without the point they are one number
    has_point = ((second >> np.uint64(16)) & _BYTE) == ord(".")
    joined = (second & np.uint64(0xFFFF)) | ((second >> np.uint64(8)) & ~np.uint64(0xFFFF))
    joined |= third << np.uint64(56)
    back_lengths, back = _leading_digits(np.where(has_point, joined, second))
    _expect(((back_lengths > _LAST_OF_SECONDS) == has_point).all())
    _expect(back_lengths.min() >= _LAST_OF_SECONDS)
    digits = (front * _POWERS.take(back_lengths) + back).view(np.int64)
    seconds = digits / _SCALES.take(back_lengths)
    _expect(seconds.max() <= MAX_TIMESTAMP)
    return lengths + back_lengths + has_point, seconds


def _kind(first: _Words, second: _Words) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    kinds = _KIND_OF_SLOT.take(_slot(first).view(np.int64))
    differs = (first ^ _FIRST.take(kinds)) & _IN_FIRST.take(kinds)
    differs |= (second ^ _SECOND.take(kinds)) & _IN_SECOND.take(kinds)
    _expect(not differs.any())
    return _LENGTHS.take(kinds), kinds


def _leading_digits(words: _Words) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return how many digits words begin with, and the numbers that these spell."""
    digits: NDArray[Any] = words ^ _ZEROS
    # The highest bit of the first byte that is no digit; what it adds to bytes behind is cut off
    beyond = (((digits + _BEYOND_NINE) | digits) & _HIGHEST_BITS).view(np.int64)
    beyond &= -beyond
    beyond -= 1
    lengths: NDArray[np.uint8] = np.bitwise_count(beyond.view(np.uint64)) >> np.uint8(3)
    # Zeros in front, then neighbours are put together: digits, pairs of them, fours
    digits <<= (_WORD - lengths).astype(np.uint64) << np.uint64(3)
    for base, bits, mask in _JOINING:
        digits = (digits * base + (digits >> bits)) & mask
    return lengths, digits


_BYTE = np.uint64(0xFF)
_ZEROS = np.uint64(0x3030303030303030)
_BEYOND_NINE = np.uint64(0x7676767676767676)
_HIGHEST_BITS = np.uint64(0x8080808080808080)
_JOINING = [
    (np.uint64(10), np.uint64(8), np.uint64(0x00FF00FF00FF00FF)),
    (np.uint64(100), np.uint64(16), np.uint64(0x0000FFFF0000FFFF)),
    (np.uint64(10_000), np.uint64(32), np.uint64(0x00000000FFFFFFFF)),
]
_POWERS = np.uint64(10) ** np.arange(_WORD + 1, dtype=np.uint64)
_LAST_OF_SECONDS = 2
# Of the digits behind the first eight, two are of whole seconds
_SCALES = np.array([0.01, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6])


def _slot(first: _Words) -> _Words:
    """Return a number below 128 that tells kinds apart, by their first and their seventh letter."""
    slot: _Words = ((first & np.uint64(15)) << np.uint64(3)) | (
        (first >> np.uint64(50)) & np.uint64(7)
    )
    return slot


def _as_words(texts: list[bytes]) -> tuple[_Words, _Words]:
    words = np.array([list(text.ljust(2 * _WORD, b"\0")) for text in texts], dtype=np.uint8)
    first, second = words.view(np.uint64).T
    return first, second


_SPELT = [kind.word.encode() for kind in ActivityKind]
_LENGTHS = np.array([*map(len, _SPELT), 0], dtype=np.uint8)
# What is none of the kinds has the slot of none, and differs from it
_FIRST, _SECOND = _as_words([*_SPELT, b""])
_IN_FIRST, _IN_SECOND = _as_words([*(b"\xff" * len(word) for word in _SPELT), b"\xff" * 8])


def _kind_of_slot() -> NDArray[np.uint8]:
    kinds = np.full(128, len(ActivityKind), dtype=np.uint8)
    for kind, word in enumerate(_SPELT):
        for seventh in word[6:7] or range(256):
            kinds[_slot(_as_words([word[:6].ljust(6, b"\0") + bytes([seventh])])[0])] = kind
    return kinds


_KIND_OF_SLOT = _kind_of_slot()
_QUOTED_ID = _Reader(2, _quoted_id)
_READERS = {
    b"job_id": _Reader(2, _id),
    b"user_id": _Reader(2, _id),
    b"type": _Reader(2, _kind),
    b"timestamp": _Reader(3, _time),
}
