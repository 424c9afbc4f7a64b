"""From what adverts say to words: markup taken off, sentences cut, text split into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from unicodedata import normalize

import regex
from stopwordsiso import stopwords

LANGUAGES = ("en", "vi")
"""Whose most common words say nothing of an employer."""

Tokenise = Callable[[str], list[list[str]]]
"""Splits a text into sentences of words."""

_BLOCKS = frozenset(  # elements that begin a new line
    """address article aside blockquote br dd div dl dt fieldset footer form h1 h2 h3 h4 h5 h6
    header hr li main nav ol p pre section table td th tr ul""".split()  # noqa: SIM905 - easier read
)


def plain_text(markup: str) -> str:
    """Return the text of an advert; elements that begin a new line begin one."""
    if "<" not in markup and "&" not in markup:
        return markup
    parser = _Text()
    parser.feed(markup)
    parser.close()
    return "".join(parser.parts)


def tokeniser() -> Tokenise:
    """Return what splits any language's text into sentences of words, in lower case.

    Words are runs of letters, their combining marks, and digits, by Unicode's properties, so that
    Vietnamese syllables stay whole however they are encoded; `c++`, `c#` and `node.js` are words.
    Syllables that make one word together are left to whoever looks for expressions. No
    expression reaches over a mark that ends a sentence or a part of one.
    """
    breaks = regex.compile(r"[.!?…。]+(?=\s|$)|[;:•·|()\[\]{}\n\r\t/,\"“”*]+|\s[-\u2013\u2014]+\s")
    words = regex.compile(
        r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:[.'\u2019&_-][\p{L}\p{N}][\p{L}\p{M}\p{N}]*)*(?:\+\+|[#+])?"
    )

    def tokenise(text: str) -> list[list[str]]:
        folded = normalize("NFC", plain_text(text)).casefold()
        sentences = (words.findall(part) for part in breaks.split(folded))
        return [sentence for sentence in sentences if sentence]

    return tokenise


def stop_words() -> Mapping[str, frozenset[str]]:
    """Return the words and expressions of each language that say nothing."""
    return {language: frozenset(stopwords(language)) for language in LANGUAGES}


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - as the parser calls it
        self._hidden += tag in {"script", "style"}
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"} and self._hidden > 0
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)
