"""Learns of employers by gensim and scikit-learn: expressions, vectors and types.

Both are imported here and not where they are called: the bound on threads reaches only the
runtimes that are loaded by then, and two OpenMP threads that wait for each other on a busy machine
take ten times as long.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import combinations
from typing import Any

import numpy as np
from gensim.models.doc2vec import Doc2Vec, TaggedDocument
from gensim.models.phrases import ENGLISH_CONNECTOR_WORDS, Phrases
from scipy.sparse import csr_matrix, lil_matrix
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from domain.employers import (
    UNTYPED,
    Amendments,
    EmployerText,
    EmployerType,
    EmployerTypes,
    Expression,
    ExpressionPolicy,
    Floats,
    Usage,
    distinct,
    npmi,
    telling,
    typical,
    unit,
)
from domain.errors import InputError, TrainingError
from domain.model import FloatArray, IndexArray
from domain.ports import EmployerLearner, JobVectors, OnProgress, nobody

SAMPLED_WORDS = 2_000_000
"""Expressions are learned from about so many words, sentences drawn at random."""

_SHOWN = 12
_EXAMPLES = 8
_LABELLED = 3
_NAMING_SHARE, _NAMING_LIFT = 0.2, 4
"""What so many of a type use in titles, and so many times as many as elsewhere, names it."""
_MIN_TYPES, _MAX_TYPES = 4, 24
_SILHOUETTES = 2_000
_SUBSAMPLES = 5
_STEPS = 5
_JOINT = "\t"
"""Between what a pass joins, so as not to be taken for what the one before joined by a space."""


class Vectoriser(StrEnum):
    """How texts become vectors."""

    TFIDF = "tfidf"
    DOC2VEC = "doc2vec"


@dataclass(frozen=True)
class TypingPolicy:
    """How employers become vectors and types.

    Attributes:
        vectoriser: TF-IDF with truncated SVD, or Doc2Vec (PV-DBOW).
        dimensions: length of the vectors.
        types: how many types; None leaves it to silhouette and stability.
        min_words: an employer with fewer distinct kept expressions has too little text.
        blend: share of the factors of an employer's jobs in its vector, 0 for text alone.
        epochs: passes of Doc2Vec.
    """

    vectoriser: Vectoriser = Vectoriser.TFIDF
    dimensions: int = 64
    types: int | None = None
    min_words: int = 5
    blend: float = 0.0
    epochs: int = 40

    def __post_init__(self) -> None:
        if self.types is not None and not 2 <= self.types <= 1_000:
            raise InputError(f"{self.types} types are not in 2..1000", "types")
        if not 0 <= self.blend <= 1:
            raise InputError(f"blend {self.blend} is not in 0..1", "blend")


class TextEmployerLearner(EmployerLearner):
    """Learns types of employers from what their adverts say.

    Args:
        tokenise: splits a text into sentences of words.
        stop_words: of each language, words and expressions that say nothing.
        expressions: which expressions are kept.
        typing: how they become vectors and types.
    """

    def __init__(
        self,
        tokenise: Callable[[str], list[list[str]]],
        stop_words: Mapping[str, frozenset[str]],
        expressions: ExpressionPolicy | None = None,
        typing: TypingPolicy | None = None,
    ) -> None:
        self._tokenise = tokenise
        self._stop_words_of = stop_words
        self._languages = tuple(stop_words.values())
        self._stop_words = frozenset[str]().union(*self._languages)
        self._expressions = expressions or ExpressionPolicy()
        self._typing = typing or TypingPolicy()

    def learn(
        self,
        corpus: Sequence[EmployerText],
        amendments: Amendments,
        seed: int,
        factors: JobVectors | None = None,
        on_progress: OnProgress = nobody,
    ) -> EmployerTypes:
        """Learn types from texts; see the port."""
        on_progress(0, _STEPS)
        # Several threads add up in another order, and types would differ in the last bit
        with threadpool_limits(1):
            sentences = self.read(corpus)
            on_progress(1, _STEPS)
            passes = self.phrases(sentences, amendments, seed)
            on_progress(2, _STEPS)
            reduced = self.reduce(sentences, passes, amendments)
            on_progress(3, _STEPS)
            has_text = reduced.distinct >= self._typing.min_words
            rows = np.flatnonzero(has_text)
            if len(rows) < 4 * self._expressions.min_employers:
                raise TrainingError(
                    f"{len(rows)} of {len(corpus)} employers have enough text for types, "
                    f"at least {4 * self._expressions.min_employers} are needed"
                )
            vectors = self.vectors(reduced, rows, seed)
            if factors is not None and self._typing.blend > 0:
                vectors = blended(vectors, corpus, rows, factors, self._typing.blend)
            on_progress(4, _STEPS)
            labels, facts = self.clustered(vectors, seed)
        titles = [corpus[row].titles for row in rows.tolist()]
        uses = (reduced.counts[rows] > 0, self._uses(titles, passes, reduced.terms))
        types, renumbered = _types(*uses, reduced.terms, vectors, labels, rows)
        result = _assembled(corpus, rows, vectors, renumbered, types, reduced)
        on_progress(_STEPS, _STEPS)
        return EmployerTypes(
            **result,
            facts={
                **facts,
                "seed": seed,
                "expressions": asdict(self._expressions),
                "typing": asdict(self._typing),
                "too_little_text": int((~has_text).sum()),
            },
        )

    def of_types(self, types: int) -> TextEmployerLearner:
        """Return the same, but with a given number of types."""
        return TextEmployerLearner(
            self._tokenise,
            self._stop_words_of,
            self._expressions,
            replace(self._typing, types=types),
        )

    def read(self, corpus: Sequence[EmployerText]) -> Sentences:
        """Return the sentences of each employer; what it repeats in many adverts comes once."""
        # A word that is new gets the next number
        vocabulary: defaultdict[str, int] = defaultdict(int)
        vocabulary.default_factory = vocabulary.__len__
        numbers, starts, bounds = array("i"), array("q", [0]), array("q", [0])
        for employer in corpus:
            # A dictionary keeps the order, on which Doc2Vec's numbers depend
            distinct = dict.fromkeys(
                tuple(sentence) for text in employer.texts for sentence in self._tokenise(text)
            )
            for sentence in distinct:
                numbers.extend(map(vocabulary.__getitem__, sentence))
                starts.append(len(numbers))
            bounds.append(len(starts) - 1)
        return Sentences(list(vocabulary), numbers, starts, bounds)

    def phrases(
        self, sentences: Sentences, amendments: Amendments, seed: int
    ) -> Sequence[Mapping[str, float]]:
        """Return the expressions that each pass joins from what the one before left, and NPMI."""
        # It tells of every ten thousand sentences
        logging.getLogger("gensim").setLevel(logging.WARNING)
        policy, passes = self._expressions, []
        forced = _joins(amendments.include, policy.passes)
        drawn = sentences.drawn(SAMPLED_WORDS, seed)
        for turn in range(policy.passes):
            learned = Phrases(
                drawn,
                min_count=policy.min_count,
                threshold=policy.min_npmi,
                scoring=_npmi_of_counts,
                delimiter=_JOINT,
                connector_words=ENGLISH_CONNECTOR_WORDS,
            ).export_phrases()
            known = {text.replace(_JOINT, " "): score for text, score in learned.items()}
            known.update(dict.fromkeys(forced[turn], 1.0))
            for text in amendments.exclude:
                known.pop(text, None)
            passes.append(known)
            if turn + 1 < policy.passes:
                drawn = [_joined(sentence, known) for sentence in drawn]
        return passes

    def reduce(
        self,
        sentences: Sentences,
        passes: Sequence[Mapping[str, float]],
        amendments: Amendments,
    ) -> Reduced:
        """Count the valuable expressions and words of each employer."""
        employers = len(sentences.bounds) - 1
        vocabulary: dict[str, int] = {}
        indptr, indices, counts = array("q", [0]), array("i"), array("i")
        languages = np.zeros((employers, len(self._languages)))
        for row in range(employers):
            used: Counter[str] = Counter()
            for words in sentences.of(row):
                used.update(_all_joined(words, passes))
            for place, common in enumerate(self._languages):
                languages[row, place] = sum(used[term] for term in used.keys() & common)
            for term, count in used.items():
                indices.append(vocabulary.setdefault(term, len(vocabulary)))
                counts.append(count)
            indptr.append(len(indices))
        columns = np.frombuffer(indices, dtype=np.int32).astype(np.int64)
        values = np.frombuffer(counts, dtype=np.int32).astype(np.float32)
        matrix = csr_matrix(
            (values, columns, np.frombuffer(indptr, dtype=np.int64)),
            shape=(employers, len(vocabulary)),
        )
        usage = Usage.of(employers, len(vocabulary), columns, values)
        terms = list(vocabulary)
        speaks = np.fromiter(
            (self._speaks(term, amendments) for term in terms), dtype=bool, count=len(terms)
        )
        chosen = self._expressions.valuable(usage) & speaks
        chosen |= np.fromiter((term in amendments.include for term in terms), bool, len(terms))
        # In the order of their letters, so that the order of employers changes nothing
        kept = sorted(np.flatnonzero(chosen).tolist(), key=terms.__getitem__)
        scores = {text: score for known in passes for text, score in known.items()}
        return Reduced(
            counts=matrix[:, kept].tocsr().astype(np.float32),
            terms=[terms[column] for column in kept],
            expressions=[
                Expression(
                    text=terms[column],
                    npmi=float(scores.get(terms[column], math.nan)),
                    employers=int(usage.frequency[column]),
                    idf=float(usage.idf[column]),
                    spread=float(usage.spread[column]),
                )
                for column in kept
            ],
            languages=languages / np.maximum(languages.sum(axis=1, keepdims=True), 1),
        )

    def vectors(self, reduced: Reduced, rows: IndexArray, seed: int) -> FloatArray:
        """Return a vector of length 1 for each of the rows."""
        counts = reduced.counts[rows]
        if self._typing.vectoriser is Vectoriser.DOC2VEC:
            vectors = _doc2vec(counts, reduced.terms, self._typing, seed)
        else:
            vectors = _tfidf(counts, self._typing.dimensions, seed)
        return _beyond_language(vectors, reduced.languages[rows])

    def clustered(self, vectors: FloatArray, seed: int) -> tuple[IndexArray, Mapping[str, Any]]:
        """Return the type of each vector, and how many types were chosen and why."""
        if self._typing.types is not None:
            labels = _k_means(vectors, min(self._typing.types, len(vectors)), seed)
            return labels, {"types": self._typing.types, "chosen": "given"}
        sample = np.random.default_rng(seed).permutation(len(vectors))[:_SILHOUETTES]
        distances = np.clip(1 - vectors[sample] @ vectors[sample].T, 0, None)
        np.fill_diagonal(distances, 0)
        rated = [
            _rated(vectors, sample, distances, k, seed)
            for k in range(_MIN_TYPES, min(_MAX_TYPES, max(_MIN_TYPES, len(vectors) // 8)) + 1)
        ]
        best = max(rated, key=lambda rating: rating["silhouette"] * rating["stability"])
        labels = _k_means(vectors, best["types"], seed)
        return labels, {**best, "chosen": "by silhouette x stability", "rated": rated}

    def _uses(
        self,
        texts: Sequence[Sequence[str]],
        passes: Sequence[Mapping[str, float]],
        terms: Sequence[str],
    ) -> csr_matrix:
        """Tell which of the terms each employer's texts use, as counts of 1."""
        columns = {term: column for column, term in enumerate(terms)}
        matrix = lil_matrix((len(texts), len(terms)), dtype=np.bool_)
        for row, own in enumerate(texts):
            for words in (words for text in own for words in self._tokenise(text)):
                for term in _all_joined(words, passes):
                    if term in columns:
                        matrix[row, columns[term]] = True
        return matrix.tocsr()

    def _speaks(self, term: str, amendments: Amendments) -> bool:
        if term in amendments.exclude or term in self._stop_words:
            return False
        words = term.split(" ")
        if all(word in self._stop_words or word.isdigit() for word in words):
            return False
        return len(term) > 1


@dataclass(frozen=True)
class Sentences:
    """The sentences of all employers, one behind the other, words as numbers.

    Attributes:
        words: what the numbers stand for.
        numbers: of all words.
        starts: where each sentence begins in `numbers`, and where the last one ends.
        bounds: the same of each employer's sentences in `starts`.
    """

    words: Sequence[str]
    numbers: array[int]
    starts: array[int]
    bounds: array[int]

    def of(self, employer: int) -> Iterator[Sequence[str]]:
        """Yield the sentences of an employer."""
        return self._between(range(*self.bounds[employer : employer + 2]))

    def drawn(self, words: int, seed: int) -> Sequence[Sequence[str]]:
        """Return sentences drawn at random, of about so many words or all of them."""
        count = len(self.starts) - 1
        share = words / max(1, len(self.numbers))
        chosen = np.flatnonzero(np.random.default_rng(seed).random(count) < share)
        return list(self._between(chosen.tolist()))

    def _between(self, chosen: Iterable[int]) -> Iterator[Sequence[str]]:
        for sentence in chosen:
            numbers = self.numbers[self.starts[sentence] : self.starts[sentence + 1]]
            yield [self.words[number] for number in numbers]


@dataclass(frozen=True)
class Reduced:
    """The corpus, reduced to its valuable expressions and words.

    Attributes:
        counts: employers x terms, float32.
        terms: what the columns stand for.
        expressions: the same with their measures.
        languages: employers x languages, how much each language's stop words are of all of them.
    """

    counts: csr_matrix
    terms: Sequence[str]
    expressions: Sequence[Expression]
    languages: Floats

    @property
    def distinct(self) -> IndexArray:
        """How many different terms each employer uses."""
        distinct: IndexArray = np.diff(self.counts.indptr)
        return distinct


def blended(
    vectors: FloatArray,
    corpus: Sequence[EmployerText],
    rows: IndexArray,
    factors: JobVectors,
    share: float,
) -> FloatArray:
    """Put the mean factors of each employer's jobs beside its text, with a share of the cosine."""
    means = np.zeros((len(rows), factors.vectors.shape[1]), dtype=np.float32)
    for place, row in enumerate(rows):
        positions = factors.index.positions(corpus[row].job_ids)
        known = unit(factors.vectors[positions[positions >= 0]])
        if len(known):
            means[place] = known.mean(axis=0)
    return unit(np.hstack([math.sqrt(1 - share) * vectors, math.sqrt(share) * unit(means)]))


def _npmi_of_counts(
    worda_count: float,
    wordb_count: float,
    bigram_count: float,
    len_vocab: float,  # noqa: ARG001 - gensim calls it with these names
    min_count: float,
    corpus_word_count: float,
) -> float:
    if bigram_count < min_count:
        return -math.inf
    return npmi(bigram_count, worda_count, wordb_count, corpus_word_count)


def _all_joined(words: Sequence[str], passes: Sequence[Mapping[str, float]]) -> Sequence[str]:
    """Join the expressions of one pass after the other."""
    for known in passes:
        words = _joined(words, known)
    return words


def _joined(words: Sequence[str], known: Mapping[str, float]) -> Sequence[str]:
    """Join the expressions that a pass knows, from the left, as gensim's `FrozenPhrases` does.

    Between the two parts of an expression there may be words such as `of`, which count as its own.
    """
    result: list[str] = []
    first, length = "", 0
    for word in words:
        if word in ENGLISH_CONNECTOR_WORDS:
            if first:
                length += 1
            result.append(word)
            continue
        if first:
            expression = (
                f"{first} {word}" if not length else " ".join([*result[-length - 1 :], word])
            )
            if expression in known:
                result[-length - 1 :] = [expression]
                first, length = "", 0
                continue
        result.append(word)
        first, length = word, 0
    return result


def _joins(included: frozenset[str], passes: int) -> Sequence[set[str]]:
    """Return which pairs each pass must join so that the included expressions come about."""
    forced: list[set[str]] = [set() for _ in range(passes)]
    for text in sorted(included):
        parts: list[str] = []
        for word in text.split(" "):
            if parts and {word, parts[-1].split(" ")[-1]} & ENGLISH_CONNECTOR_WORDS:
                parts[-1] += f" {word}"
            else:
                parts.append(word)
        for turn in range(passes):
            forced[turn].update(part for part in parts if " " in part)
            parts = [" ".join(parts[i : i + 2]) for i in range(0, len(parts), 2)]
            forced[turn].update(part for part in parts if " " in part)
        if len(parts) > 1:
            raise InputError(
                f"the included expression {text!r} has more than {2**passes} words", "expressions"
            )
    return forced


def _tfidf(counts: csr_matrix, dimensions: int, seed: int) -> FloatArray:
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    # With as many dimensions as employers, each would be alone in one
    fewer = max(2, min(dimensions, weights.shape[0] // 4, weights.shape[1] - 1))
    return unit(TruncatedSVD(fewer, random_state=seed).fit_transform(weights))


def _doc2vec(
    counts: csr_matrix, terms: Sequence[str], policy: TypingPolicy, seed: int
) -> FloatArray:
    class Documents:
        def __iter__(self) -> Iterator[Any]:
            for row in range(counts.shape[0]):
                cells = slice(counts.indptr[row], counts.indptr[row + 1])
                words = np.repeat(counts.indices[cells], counts.data[cells].astype(np.int64))
                # PV-DBOW draws words of a document at random: their order does not matter
                yield TaggedDocument([terms[column] for column in words], [row])

    # One worker: several would make the order of updates, and so the result, a matter of luck
    model = Doc2Vec(
        Documents(),
        dm=0,
        vector_size=policy.dimensions,
        min_count=1,
        epochs=policy.epochs,
        seed=seed,
        workers=1,
    )
    return unit(model.dv.vectors)


def _beyond_language(vectors: FloatArray, languages: Floats) -> FloatArray:
    """Return what is left of vectors when the language of the texts has explained its part.

    Residuals of a least-squares fit on the shares of languages. Without it the first thing that
    tells employers apart is who writes in which language, and that says nothing of their kind.
    """
    explaining = np.column_stack([np.ones(len(vectors)), languages[:, 1:]])
    fitted = explaining @ np.linalg.lstsq(explaining, vectors, rcond=None)[0]
    return unit((vectors - fitted).astype(np.float32))


def _k_means(vectors: FloatArray, types: int, seed: int, starts: int = 10) -> IndexArray:
    labels = KMeans(types, n_init=starts, random_state=seed).fit(vectors).labels_
    return np.asarray(labels, dtype=np.int64)


def _rated(
    vectors: FloatArray, sample: IndexArray, distances: FloatArray, types: int, seed: int
) -> dict[str, Any]:
    """Tell how well a number of types fits.

    Silhouette by cosine (Rousseeuw 1987) on at most some thousand; stability as the mean adjusted
    Rand index between types found in random subsamples of 80 %, on those that two share
    (Ben-Hur, Elisseeff and Guyon 2002).

    Args:
        vectors: of the employers.
        sample: which of them the silhouette is of.
        distances: between those, one row and column each.
        types: how many.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    n = len(vectors)
    labels = _k_means(vectors, types, seed, starts=4)
    silhouette = silhouette_score(distances, labels[sample], metric="precomputed")
    found = np.full((_SUBSAMPLES, n), UNTYPED)
    for turn in range(_SUBSAMPLES):
        drawn = rng.permutation(n)[: max(types, round(0.8 * n))]
        found[turn, drawn] = _k_means(vectors[drawn], types, seed + turn, starts=1)
    agreements = []
    for one, other in combinations(found, 2):
        shared = (one != UNTYPED) & (other != UNTYPED)
        agreements.append(adjusted_rand_score(one[shared], other[shared]))
    return {
        "types": types,
        "silhouette": round(float(silhouette), 4),
        "stability": round(max(0.0, float(np.mean(agreements))), 4),
    }


def _types(
    uses: csr_matrix,
    titles: csr_matrix,
    terms: Sequence[str],
    vectors: FloatArray,
    labels: IndexArray,
    rows: IndexArray,
) -> tuple[list[EmployerType], IndexArray]:
    """Return the types, the largest first, and the new number of each row's.

    Args:
        uses: which terms each row uses.
        titles: which of them it uses in titles.
        terms: what the columns stand for.
        vectors: of the rows.
        labels: the type of each row.
        rows: positions of the employers.
    """
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    renumbered = np.empty(len(sizes), dtype=np.int64)
    renumbered[order] = np.arange(len(sizes))
    types = []
    for label in order:
        members = np.flatnonzero(labels == label)
        best = distinct((terms[column] for column in _best(uses, members)), _SHOWN)
        named = (terms[column] for column in _best(titles, members, _NAMING_SHARE, _NAMING_LIFT))
        types.append(
            EmployerType(
                label=", ".join(distinct([*named, *best], _LABELLED)),
                expressions=tuple(best),
                size=len(members),
                examples=tuple(
                    int(rows[position]) for position in typical(vectors, members, _EXAMPLES)
                ),
            )
        )
    return types, renumbered[labels]


def _best(
    uses: csr_matrix, members: IndexArray, share: float = 0, lift: float = 0
) -> Sequence[int]:
    """Return the terms of a type, the most telling first; see `telling`.

    Args:
        uses: which terms each row uses.
        members: the rows of the type.
        share: so many of them use the term at least.
        lift: so many times the share of all rows.
    """
    everywhere = np.asarray(uses.sum(axis=0), dtype=np.float64).ravel()
    inside = np.asarray(uses[members].sum(axis=0), dtype=np.float64).ravel()
    values = telling(inside, everywhere, len(members), uses.shape[0])
    order = np.argsort(-values, kind="stable")
    own = inside / len(members)
    is_enough = (own >= share) & (own >= lift * everywhere / uses.shape[0])
    best: Sequence[int] = order[is_enough[order]].tolist()
    return best


def _assembled(
    corpus: Sequence[EmployerText],
    rows: IndexArray,
    vectors: FloatArray,
    labels: IndexArray,
    types: Sequence[EmployerType],
    reduced: Reduced,
) -> dict[str, Any]:
    """Spread what was learned of the rows over all employers."""

    def spread(values: np.ndarray[Any, Any], missing: float) -> np.ndarray[Any, Any]:
        whole = np.full((len(corpus), *values.shape[1:]), missing, dtype=values.dtype)
        whole[rows] = values
        return whole

    counts = np.array([len(employer.job_ids) for employer in corpus], dtype=np.int64)
    ids = np.array([i for employer in corpus for i in employer.job_ids], dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    return {
        "keys": tuple(employer.key for employer in corpus),
        "names": tuple(employer.name for employer in corpus),
        "job_counts": counts,
        "type_of": spread(labels, UNTYPED),
        "vectors": spread(vectors, 0),
        "types": tuple(types),
        "job_ids": ids[order],
        "employer_of": np.repeat(np.arange(len(corpus)), counts)[order],
        "expressions": tuple(
            sorted(reduced.expressions, key=lambda expression: -expression.employers)
        ),
    }
