"""Employers: which of their words tell, their kinds, who is alike."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import InputError
from domain.model import BoolArray, FloatArray, IdArray, IdIndex, IndexArray
from domain.names import employer_key

UNTYPED = -1
"""The type of an employer with too little text."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EmployerProfile:
    """What the owner tells of an employer.

    Attributes:
        name: as it is shown.
        text: its own description, added to those of its jobs.
        aliases: other names under which its jobs come.
    """

    name: str
    text: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Amendments:
    """Expressions that an owner adds or takes away, whatever the measures say."""

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Amendments:
        """Read lines such as `+ machine learning` and `- click here`; `#` begins a remark.

        Raises:
            InputError: a line is neither, or one expression is both.
        """
        sets: dict[str, set[str]] = {"+": set(), "-": set()}
        for number, line in enumerate(lines, 1):
            text = " ".join(line.casefold().split())
            if not text or text.startswith("#"):
                continue
            sign, expression = text[0], text[1:].strip()
            if sign not in sets or not expression:
                raise InputError(
                    f"line {number} of the expressions is {line.strip()[:80]!r}, "
                    "expected + or - and an expression"
                )
            sets[sign].add(expression)
        if both := sets["+"] & sets["-"]:
            raise InputError(f"expressions both included and excluded: {', '.join(sorted(both))}")
        return cls(frozenset(sets["+"]), frozenset(sets["-"]))


@dataclass(frozen=True)
class EmployerNotes:
    """What an owner knows beyond the adverts."""

    profiles: tuple[EmployerProfile, ...] = ()
    amendments: Amendments = Amendments()

    def keys(self) -> Mapping[str, str]:
        """Return the key of the employer that each other name stands for, by that name's key.

        Raises:
            InputError: a name is an alias of two employers.
        """
        keys: dict[str, str] = {}
        for profile in self.profiles:
            own = employer_key(profile.name)
            for alias in profile.aliases:
                other = employer_key(alias)
                if keys.setdefault(other, own) != own:
                    raise InputError(f"{alias!r} is an alias of {keys[other]!r} and of {own!r}")
        return keys


@dataclass(frozen=True)
class EmployerText:
    """All that is written of one employer.

    Attributes:
        key: see `employer_key`; the same for all spellings of its name.
        name: the spelling that is shown.
        job_ids: of its jobs, ascending.
        texts: one of each job, and its profile last where there is one; HTML as it came.
        titles: of its jobs, which are among the texts as well; each once.
    """

    key: str
    name: str
    job_ids: tuple[int, ...]
    texts: tuple[str, ...]
    titles: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExpressionPolicy:
    """Which expressions and words are worth keeping.

    Attributes:
        passes: how often pairs are joined; n passes find expressions of up to 2^n words.
        min_count: an expression occurs at least so often.
        min_npmi: the least association of an expression's parts, see `npmi`.
        min_employers: so many employers use it at least, a bound of document frequency.
        max_employers: and at most this share of them, the same as a least IDF of 1 - ln(share).
        min_spread: the least `effective_employers`, so that no single one makes it frequent.
        max_spread: the most of them, as a share of all employers: where each has many adverts,
            most use most words once, and only how often they do so tells.
        max_expressions: at most so many, those that weigh most.
    """

    passes: int = 2
    min_count: int = 5
    min_npmi: float = 0.5
    min_employers: int = 3
    max_employers: float = 0.9
    min_spread: float = 2.5
    max_spread: float = 0.3
    max_expressions: int = 20_000

    def __post_init__(self) -> None:
        for name, low, high in (
            ("passes", 1, 4),
            ("min_count", 1, 1_000_000),
            ("min_npmi", -1, 1),
            ("min_employers", 1, 1_000_000),
            ("max_employers", 0, 1),
            ("max_spread", 0, 1),
            ("max_expressions", 1, 1_000_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} {getattr(self, name)} is not in {low}..{high}", name)

    def valuable(self, used: Usage) -> BoolArray:
        """Tell which terms are worth keeping, shape (terms,)."""
        n = used.employers
        chosen: BoolArray = (
            (used.frequency >= self.min_employers)
            & (used.frequency <= max(self.min_employers, self.max_employers * n))
            & (used.spread >= self.min_spread)
            & (used.spread <= max(self.min_employers, self.max_spread * n))
        )
        if chosen.sum() > self.max_expressions:
            weights = np.where(chosen, used.frequency * used.idf, -np.inf)
            chosen = np.zeros_like(chosen)
            chosen[np.argsort(-weights, kind="stable")[: self.max_expressions]] = True
        return chosen


@dataclass(frozen=True)
class Usage:
    """How employers use terms; arrays have shape (terms,).

    Attributes:
        employers: how many there are in all.
        frequency: how many of them use the term (document frequency).
        spread: see `effective_employers`.
    """

    employers: int
    frequency: IndexArray
    spread: Floats

    @classmethod
    def of(cls, employers: int, terms: int, columns: IndexArray, counts: FloatArray) -> Usage:
        """Measure the nonzero cells of an employers x terms matrix.

        Args:
            employers: rows of the matrix.
            terms: columns of the matrix.
            columns: shape (cells,), the term of each cell.
            counts: shape (cells,), above 0.
        """
        return cls(
            employers,
            np.bincount(columns, minlength=terms),
            effective_employers(terms, columns, counts),
        )

    @property
    def idf(self) -> Floats:
        """Inverse document frequency, ln(n / df) + 1 (Sparck Jones 1972)."""
        values: Floats = np.log(self.employers / np.maximum(self.frequency, 1)) + 1
        return values


def npmi(both: float, first: float, second: float, total: float) -> float:
    """Return the normalised pointwise mutual information of two parts, in [-1, 1].

    ln(p(ab) / p(a) p(b)) / -ln p(ab): 1 where neither comes without the other, 0 where they meet
    by chance (Bouma 2009, Normalized (pointwise) mutual information in collocation extraction).

    Args:
        both: how often the second follows the first.
        first: how often the first occurs.
        second: how often the second occurs.
        total: how many words there are.
    """
    if both <= 0:
        return -1.0
    if both >= total:
        return 1.0
    return math.log(both * total / (first * second)) / -math.log(both / total)


def effective_employers(terms: int, columns: IndexArray, counts: FloatArray) -> Floats:
    """Return how many employers would use a term if all used it alike: exp of the entropy.

    The Hill number of order 1 (Hill 1973, Diversity and evenness); 1 where one employer has all
    occurrences, the document frequency where all have the same number. Shape (terms,); 0 for a
    term without occurrences. For the arguments see `Usage.of`.
    """
    totals = np.bincount(columns, weights=counts, minlength=terms)
    shares = counts / totals[columns]
    entropy = -np.bincount(columns, weights=shares * np.log(shares), minlength=terms)
    effective: Floats = np.where(totals > 0, np.exp(entropy), 0.0)
    return effective


def telling(inside: Floats, everywhere: Floats, size: int, employers: int) -> Floats:
    """Return how much each term tells of a type; higher is more telling.

    Its part of the Kullback-Leibler divergence of the type from everybody, p ln(p / q) of the
    shares p in the type and q of all that use the term (Tomokiyo and Hurst 2003, A language model
    approach to keyphrase extraction): what many of the type use and few others do. It counts
    employers, so that none with many jobs speaks for its type.

    Args:
        inside: shape (terms,), how many employers of the type use the term.
        everywhere: the same of all employers.
        size: employers of the type.
        employers: all employers.
    """
    general = np.maximum(everywhere, 1e-9) / employers
    # As if one more employer of the type were like everybody: small types prove little
    own = (inside + general) / (size + 1)
    values: Floats = np.where(everywhere > 0, own * np.log(own / general), -np.inf)
    return values


def distinct(expressions: Iterable[str], count: int) -> Sequence[str]:
    """Return the first expressions that neither hold one before them nor are part of one.

    `games` repeats `game`, and both repeat `mobile games`.
    """
    kept: list[str] = []
    for expression in expressions:
        if len(kept) == count:
            break
        padded = f" {_singular(expression)} "
        if not any(
            padded in other or other in padded for other in (f" {_singular(k)} " for k in kept)
        ):
            kept.append(expression)
    return kept


def _singular(expression: str) -> str:
    """Return an expression with English plurals taken for singulars, to be compared only."""
    return re.sub(r"(?<=[a-z]{3})(?<!s)s\b", "", expression)


def unit(vectors: FloatArray) -> FloatArray:
    """Return the vectors at length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: FloatArray = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def nearest(vectors: FloatArray, rows: IndexArray, k: int) -> IndexArray:
    """Return the positions of the k nearest others by cosine, shape (rows, at most k).

    Args:
        vectors: shape (n, dimensions), of length 1.
        rows: whose neighbours are asked for.
        k: how many.
    """
    cosines = vectors[rows] @ vectors.T
    cosines[np.arange(len(rows)), rows] = -np.inf
    order: IndexArray = np.argsort(-cosines, axis=1, kind="stable")[:, : min(k, len(vectors) - 1)]
    return order


def neighbour_agreement(first: FloatArray, second: FloatArray, k: int) -> tuple[float, float]:
    """Return which share of each one's k neighbours two sets of vectors agree on, and by chance.

    Args:
        first: shape (n, a), of length 1.
        second: shape (n, b), of length 1, of the same n.
        k: how many neighbours.
    """
    rows = np.arange(len(first))
    pairs = zip(nearest(first, rows, k), nearest(second, rows, k), strict=True)
    shares = [len(np.intersect1d(a, b)) / k for a, b in pairs]
    return float(np.mean(shares)), k / (len(first) - 1)


@dataclass(frozen=True)
class Expression:
    """A kept expression or word and its measures.

    Attributes:
        npmi: association of its last two parts, NaN for a word.
        employers: how many use it.
    """

    text: str
    npmi: float
    employers: int
    idf: float
    spread: float


@dataclass(frozen=True)
class EmployerType:
    """A kind of employers.

    Attributes:
        label: its three most telling expressions, those of job titles before others.
        expressions: the most telling ones, best first.
        examples: positions of its most typical employers, those nearest to its centre first.
    """

    label: str
    expressions: tuple[str, ...]
    size: int
    examples: tuple[int, ...]


@dataclass(frozen=True)
class SimilarEmployer:
    """An employer, by position, and the cosine of its vector with that of the one asked for."""

    position: int
    score: float


@dataclass(frozen=True)
class EmployerTypes:
    """What was learned of employers. Immutable; speaks in positions, ordered by key.

    Attributes:
        keys: what identifies each employer, ascending.
        names: as they are shown.
        job_counts: shape (n,), jobs of each when it was learned.
        type_of: shape (n,), position in `types`; UNTYPED where there is too little text.
        vectors: shape (n, dimensions), float32 of length 1; 0 where untyped.
        types: the largest first.
        job_ids: shape (jobs,), ascending.
        employer_of: shape (jobs,), position of the job's employer.
        expressions: what the texts were reduced to, the most used first.
        aliases: the key that another name's key stands for.
        facts: how it was learned, for people.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    job_counts: IndexArray
    type_of: IndexArray
    vectors: FloatArray
    types: tuple[EmployerType, ...]
    job_ids: IdArray
    employer_of: IndexArray
    expressions: tuple[Expression, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.keys)
        shapes = {
            "names": len(self.names),
            "job_counts": len(self.job_counts),
            "type_of": len(self.type_of),
            "vectors": len(self.vectors),
        }
        for name, length in shapes.items():
            if length != n:
                raise InputError(f"{name} has {length} rows, expected {n}")
        if len(self.job_ids) != len(self.employer_of):
            raise InputError(
                f"employer_of has {len(self.employer_of)} rows, expected {len(self.job_ids)}"
            )
        if n and not UNTYPED <= self.type_of.min() <= self.type_of.max() < len(self.types):
            raise InputError(f"type_of reaches beyond {len(self.types)} types")
        object.__setattr__(self, "_positions", {key: i for i, key in enumerate(self.keys)})

    def position(self, name: str) -> int | None:
        """Return the employer of that name, alias or key, None where there is none."""
        key = employer_key(name)
        positions: Mapping[str, int] = self._positions  # type: ignore[attr-defined] # set above
        return positions.get(self.aliases.get(key, key))

    def known_as(self, aliases: Mapping[str, str]) -> EmployerTypes:
        """Return the same, found under other names as well."""
        return replace(self, aliases=dict(aliases))

    def names_of(self, name: str) -> frozenset[str]:
        """Return the keys of all names of an employer; of one that is unknown, only its own."""
        key = employer_key(name)
        own = self.aliases.get(key, key)
        return self._others.get(own, frozenset()) | {own}

    @cached_property
    def _others(self) -> Mapping[str, frozenset[str]]:
        others: defaultdict[str, set[str]] = defaultdict(set)
        for other, own in self.aliases.items():
            others[own].add(other)
        return {own: frozenset(names) for own, names in others.items()}

    def type_at(self, position: int) -> EmployerType | None:
        """Return an employer's type, None where it has too little text."""
        type_ = int(self.type_of[position])
        return None if type_ == UNTYPED else self.types[type_]

    def similar(self, position: int, k: int) -> list[SimilarEmployer]:
        """Return the k nearest others by cosine, best first, ties by key; none if untyped."""
        if self.type_of[position] == UNTYPED:
            return []
        cosines = np.clip(self.vectors @ self.vectors[position], -1, 1)
        cosines[self.type_of == UNTYPED] = -np.inf
        cosines[position] = -np.inf
        order = np.argsort(-cosines, kind="stable")[:k]
        return [
            SimilarEmployer(int(i), float(cosines[i])) for i in order if np.isfinite(cosines[i])
        ]

    def labels_of(self, job_ids: IdArray) -> IndexArray:
        """Return the type of each job's employer, UNTYPED where none is known; shape (n,)."""
        positions = IdIndex(self.job_ids).positions(job_ids)
        types = np.full(len(job_ids), UNTYPED, dtype=np.int64)
        known = positions >= 0
        types[known] = self.type_of[self.employer_of[positions[known]]]
        return types

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return everything as named arrays for a snapshot; texts as UTF-8 JSON."""
        texts = {
            "keys": self.keys,
            "names": self.names,
            "types": [asdict(type_) for type_ in self.types],
            "expressions": [
                [e.text, None if math.isnan(e.npmi) else e.npmi, e.employers, e.idf, e.spread]
                for e in self.expressions
            ],
            "aliases": dict(self.aliases),
            "facts": dict(self.facts),
        }
        encoded = json.dumps(texts, ensure_ascii=False, sort_keys=True).encode()
        return {
            "employer_texts": np.frombuffer(encoded, dtype=np.uint8),
            "employer_job_counts": self.job_counts,
            "employer_types": self.type_of,
            "employer_vectors": self.vectors,
            "employer_job_ids": self.job_ids,
            "employer_of_job": self.employer_of,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> EmployerTypes | None:
        """Return what `arrays()` named, None where a snapshot holds no employers.

        Raises:
            InputError: they do not fit together.
        """
        if "employer_texts" not in arrays:
            return None
        try:
            texts = json.loads(arrays["employer_texts"].tobytes())
            return cls(
                keys=tuple(texts["keys"]),
                names=tuple(texts["names"]),
                job_counts=arrays["employer_job_counts"],
                type_of=arrays["employer_types"],
                vectors=arrays["employer_vectors"],
                types=tuple(
                    EmployerType(
                        label=type_["label"],
                        expressions=tuple(type_["expressions"]),
                        size=type_["size"],
                        examples=tuple(type_["examples"]),
                    )
                    for type_ in texts["types"]
                ),
                job_ids=arrays["employer_job_ids"],
                employer_of=arrays["employer_of_job"],
                expressions=tuple(
                    Expression(text, math.nan if value is None else value, *rest)
                    for text, value, *rest in texts["expressions"]
                ),
                aliases=texts["aliases"],
                facts=texts["facts"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the stored employers do not fit together: {error!r}") from error


def typical(vectors: FloatArray, members: IndexArray, count: int) -> Sequence[int]:
    """Return the members nearest to their centre by cosine, best first."""
    centre = vectors[members].mean(axis=0)
    order = np.argsort(-(vectors[members] @ centre), kind="stable")[:count]
    return [int(position) for position in members[order]]
