"""Adverts of employers whose kind is known: planted expressions among words that tell nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in ("a", "e", "i", "o", "u")]
_COMMON_WORDS, _EXPRESSIONS_A_KIND = 4_000, 15
_WORDS_A_SENTENCE, _EXPRESSIONS_A_SENTENCE = 14, 1


@dataclass(frozen=True)
class Advert:
    """A job of an employer; `kind` is what ought to be found."""

    employer: str
    kind: int
    description: str


def adverts(
    employers: int, jobs_each: int, characters: int, kinds: int, seed: int
) -> Iterator[Advert]:
    """Yield adverts, those of one employer in a row.

    One sentence in two carries an expression of the employer's kind, one in eight that of another
    kind; the rest of the words are drawn by Zipf's law from those of all.

    Args:
        employers: how many.
        jobs_each: adverts of each.
        characters: about so many in each.
        kinds: how many; employers take turns.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    lexicon = _words(_COMMON_WORDS + 2 * kinds * _EXPRESSIONS_A_KIND)
    common = np.array(lexicon[:_COMMON_WORDS], dtype=object)
    rare = lexicon[_COMMON_WORDS:]
    pairs = [f"{rare[2 * i]} {rare[2 * i + 1]}" for i in range(kinds * _EXPRESSIONS_A_KIND)]
    weights = 1 / np.arange(1, _COMMON_WORDS + 1)
    weights /= weights.sum()
    sentences = max(1, round(characters / (7 * _WORDS_A_SENTENCE)))
    for number in range(employers):
        kind = number % kinds
        drawn = rng.choice(common, (jobs_each, sentences, _WORDS_A_SENTENCE - 2), p=weights)
        dice = rng.random((jobs_each, sentences))
        which = rng.integers(_EXPRESSIONS_A_KIND, size=(jobs_each, sentences))
        others = rng.integers(kinds, size=(jobs_each, sentences))
        for job in range(jobs_each):
            text = []
            for sentence in range(sentences):
                words = list(drawn[job, sentence])
                if dice[job, sentence] < 0.625:
                    of = kind if dice[job, sentence] < 0.5 else others[job, sentence]
                    words.insert(5, pairs[of * _EXPRESSIONS_A_KIND + which[job, sentence]])
                text.append(" ".join(words))
            yield Advert(f"Employer {number:05d} Ltd", kind, ". ".join(text) + ".")


def _words(count: int) -> list[str]:
    """Return invented words, none twice."""
    n = len(_SYLLABLES)
    step = 2_654_435_761  # mixes the numbers, so that neighbours do not look alike
    numbers = ((i * step) % n**3 for i in range(count))
    return [_SYLLABLES[i % n] + _SYLLABLES[i // n % n] + _SYLLABLES[i // n**2] for i in numbers]
