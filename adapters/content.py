"""From what a job's text says to where it would stand among a model's vectors.

TF-IDF of hashed words -> truncated SVD -> ridge regression onto the learned vectors. Cold items by
a map from content onto factors: Gantner et al., Learning Attribute-to-Feature Mappings for
Cold-Start Recommendations (2010).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from domain.errors import SnapshotCorrupt
from domain.model import FloatArray, IndexArray, Job
from domain.ports import Arrays, ContentModel, ContentTrainer, OnProgress, TextReading

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MIN_JOBS = 20
"""From fewer jobs with a text nothing is learned."""

MAX_TEXT = 4_000
"""So many characters of a description are read; what comes later is seldom about the work."""

MAX_WORDS = 50_000
"""So many words are kept, those of the most jobs."""

COMPONENTS = 192
_SPARE = 8
"""The range of a random sketch is found better with some spare columns."""

_BUCKET_BITS = 20
_BLOCK_JOBS = 512
"""Texts are read in blocks of so many, which bounds the memory they take."""

_TITLE_WEIGHT = 3.0
_EVIDENCE = 5.0
"""A job that so many people did something with weighs half of one known for certain."""

_MARKUP = re.compile(r"<[^>]*>|&#?\w+;")
_NO_WORD = re.compile(r"\W+")
_LONGEST_WORD = 64
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_IS_WORD = np.zeros(256, dtype=np.bool_)
_IS_WORD[[ord("_"), *range(ord("0"), ord("9") + 1), *range(ord("a"), ord("z") + 1)]] = True
_IS_WORD[0x80:] = True

_ARRAYS = ("content_buckets", "content_idf", "content_map")

_log = logging.getLogger(__name__)


class TextModel(ContentModel):
    """Places jobs by the words of their texts.

    Args:
        buckets: shape (words,), ascending; the hashes of the words learned.
        idf: shape (words,), float32, the weight of each.
        word_map: shape (words, factors), float32; maps a job's words onto the model's space.

    Raises:
        SnapshotCorrupt: the shapes or types do not fit together.
    """

    def __init__(self, buckets: NDArray[np.int32], idf: FloatArray, word_map: FloatArray) -> None:
        if not buckets.shape == idf.shape == word_map.shape[:1] or word_map.ndim != 2:
            raise SnapshotCorrupt(
                f"{buckets.shape} words have weights {idf.shape} and a map {word_map.shape}"
            )
        self._buckets = buckets
        self._idf = idf
        self._map = word_map

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> TextModel | None:
        """Return the model whose `arrays()` these are, None where they hold none.

        Raises:
            SnapshotCorrupt: an array is missing, or shapes or types do not fit together.
        """
        held = [name for name in _ARRAYS if name in arrays]
        if not held:
            return None
        if len(held) < len(_ARRAYS):
            raise SnapshotCorrupt(f"of the arrays {_ARRAYS} the snapshot holds only {held}")
        return cls(*(arrays[name] for name in _ARRAYS))

    def arrays(self) -> Arrays:
        """Return what was learned as named arrays."""
        return dict(zip(_ARRAYS, (self._buckets, self._idf, self._map), strict=True))

    def vectors(self, jobs: Sequence[Job]) -> FloatArray:
        """Place jobs; see the port. Each job's vector depends on that job alone."""
        placed = np.zeros((len(jobs), self._map.shape[1]), dtype=np.float32)
        for start in range(0, len(jobs), _BLOCK_JOBS):
            counts = _counted(jobs[start : start + _BLOCK_JOBS])
            for row, (low, high) in enumerate(pairwise(counts.indptr.tolist()), start):
                buckets = counts.buckets[low:high]
                found = np.searchsorted(self._buckets, buckets).clip(max=len(self._buckets) - 1)
                known = self._buckets[found] == buckets
                weights = _weighted(counts.counts[low:high][known]) * self._idf[found[known]]
                if len(weights):
                    placed[row] = (weights / np.sqrt(weights @ weights)) @ self._map[found[known]]
        return placed


@dataclass(frozen=True)
class TextTrainer(ContentTrainer):
    """Learns how words tell vectors.

    Attributes:
        components: length of the vectors between words and the model's own.
        threads: with more than one, texts are read while something else goes on.
    """

    components: int = COMPONENTS
    threads: int = 1

    @property
    def steps(self) -> int:
        """Reading and reducing the texts, mapping them."""
        return 2

    def begin(self, jobs: Sequence[Job], seed: int) -> TextReading:
        """Begin to read; see the port."""

        def reduced() -> _Reduced | None:
            return _reduced(jobs, self.components, seed)

        if self.threads == 1:
            return _Reading(reduced, self.steps)
        pool = ThreadPoolExecutor(1, "jobrec-texts")
        reading = _Reading(pool.submit(reduced).result, self.steps)
        pool.shutdown(wait=False)
        return reading


class _Reduced(NamedTuple):
    """Texts of jobs in few numbers.

    Attributes:
        told: shape (told jobs,), positions of the jobs that have a text.
        buckets: shape (words,), ascending; the hashes of the words that two jobs and more share.
        idf: shape (words,), float32, the weight of each.
        axes: shape (words, components), float32.
        jobs: shape (told jobs, components), float32, where the jobs stand on the axes.
    """

    told: IndexArray
    buckets: IndexArray
    idf: FloatArray
    axes: FloatArray
    jobs: FloatArray


class _Reading(TextReading):
    def __init__(self, reduced: Callable[[], _Reduced | None], steps: int) -> None:
        self._reduced = reduced
        self._steps = steps

    def fit(
        self, vectors: FloatArray, evidence: FloatArray, on_progress: OnProgress
    ) -> TextModel | None:
        """Learn; see the port."""
        texts = self._reduced()
        if texts is None:
            return None
        on_progress(1, self._steps)
        stand = np.flatnonzero(vectors[texts.told].any(axis=1))
        told = texts.told[stand]
        if len(told) < MIN_JOBS:
            _log.info("%d jobs with texts are too few to place new jobs by", len(told))
            return None
        with threadpool_limits(1, "blas"):
            reduced = texts.jobs[stand].astype(np.float64)
            weights = evidence[told] / (evidence[told] + _EVIDENCE)
            known = np.asarray(vectors[told], dtype=np.float64)
            mapped = _ridge(reduced, known, weights)
            placed = reduced @ mapped
            # Shrunk by the ridge, new jobs would stand behind every known one
            usual = np.median(np.linalg.norm(known, axis=1))
            shrunk = np.median(np.linalg.norm(placed, axis=1))
            if not shrunk:
                _log.info("the texts of jobs tell nothing of who is drawn to them")
                return None
            word_map = (texts.axes @ (mapped * (usual / shrunk))).astype(np.float32)
        on_progress(2, self._steps)
        return TextModel(texts.buckets.astype(np.int32), texts.idf, word_map)


def _reduced(jobs: Sequence[Job], components: int, seed: int) -> _Reduced | None:
    """Read texts and reduce them; None where they are too few, or share no word."""
    counts = _matrix(jobs)
    told = np.flatnonzero(np.diff(counts.indptr) > 0)
    if len(told) < MIN_JOBS:
        _log.info("texts of %d jobs are too few to place new jobs by", len(told))
        return None
    counts = counts[told]
    buckets = _frequent(counts)
    if not len(buckets):
        _log.info("no two jobs share a word, so texts place no new job")
        return None
    words, idf = _tf_idf(counts[:, buckets])
    del counts  # what else goes on meanwhile needs memory, too
    with threadpool_limits(1, "blas"):
        axes = _axes(words, components, seed)
        return _Reduced(told, buckets, idf, axes, words @ axes)


class _Counts(NamedTuple):
    """How often jobs say words, row by row (CSR).

    Attributes:
        indptr: shape (jobs + 1,), int64.
        buckets: shape (entries,), int32, the words' hashes, ascending within a row.
        counts: shape (entries,), float32; words of titles count more.
    """

    indptr: IndexArray
    buckets: NDArray[np.int32]
    counts: FloatArray


def _counted(jobs: Sequence[Job]) -> _Counts:
    """Count the words of some jobs."""
    rows, hashes = _hashed([text for job in jobs for text in _texts(job)])
    # Pairs of words count in titles, where they name a trade
    paired = (rows[1:] == rows[:-1]) & (rows[1:] % 2 == 0)
    pairs = _mixed(hashes[:-1][paired] * _MULTIPLIER + hashes[1:][paired])
    rows = np.concatenate([rows, rows[1:][paired]])
    buckets = np.concatenate([hashes, pairs]) >> np.uint64(64 - _BUCKET_BITS)
    cells, places = np.unique(
        (rows // 2 << _BUCKET_BITS) | buckets.astype(np.int64), return_inverse=True
    )
    counts = np.bincount(places, weights=np.where(rows % 2 == 0, _TITLE_WEIGHT, 1.0))
    return _Counts(
        np.searchsorted(cells, np.arange(len(jobs) + 1) << _BUCKET_BITS),
        (cells & ((1 << _BUCKET_BITS) - 1)).astype(np.int32),
        counts.astype(np.float32),
    )


def _matrix(jobs: Sequence[Job]) -> csr_matrix:
    """Return the counts of all jobs, shape (jobs, buckets)."""
    # Serving does without scipy
    from scipy.sparse import csr_matrix, vstack

    blocks = []
    for start in range(0, max(1, len(jobs)), _BLOCK_JOBS):
        block = jobs[start : start + _BLOCK_JOBS]
        indptr, buckets, counts = _counted(block)
        blocks.append(csr_matrix((counts, buckets, indptr), shape=(len(block), 1 << _BUCKET_BITS)))
    return vstack(blocks, format="csr")


def _tf_idf(counts: csr_matrix) -> tuple[csr_matrix, FloatArray]:
    """Return the weights of words in jobs, of unit length for each job, and those of words."""
    jobs, words = counts.shape
    shares = np.bincount(counts.indices, minlength=words)
    idf = (np.log((1 + jobs) / (1 + shares)) + 1).astype(np.float32)
    counts.data = _weighted(counts.data) * idf[counts.indices]
    lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    counts.data /= np.repeat(lengths, np.diff(counts.indptr))
    return counts, idf


def _texts(job: Job) -> tuple[str, str]:
    """Return the words of the title, and those of everything else."""
    rest = (job.employer, job.location, (job.description or "")[:MAX_TEXT])
    return _plain(job.title or ""), _plain(" ".join(text for text in rest if text))


def _plain(text: str) -> str:
    """Return text without markup and case, whose words anything but letters and digits parts."""
    if "<" in text or "&" in text:
        text = _MARKUP.sub(" ", text)
    text = text.casefold()
    return text if text.isascii() else _NO_WORD.sub(" ", text)


def _hashed(texts: Sequence[str]) -> tuple[IndexArray, NDArray[np.uint64]]:
    """Return for each word the text that it stands in, and its hash.

    A word's hash is a polynomial of its UTF-8 bytes, computed for all words at once: in a loop over
    words this takes ten times as long.
    """
    encoded = [text.encode() + b" " for text in texts]
    content = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    inside = _IS_WORD[content]
    first = inside.copy()
    first[1:] &= ~inside[:-1]
    starts = np.flatnonzero(first)
    places = np.flatnonzero(inside)
    if not len(starts):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
    word_of = np.cumsum(first)[places] - 1
    powers = np.cumprod(np.full(_LONGEST_WORD, _MULTIPLIER, dtype=np.uint64))
    within = np.minimum(places - starts[word_of], _LONGEST_WORD - 1)
    terms = (content[places].astype(np.uint64) + np.uint64(1)) * powers[within]
    hashes = np.add.reduceat(terms, np.searchsorted(places, starts))
    ends = np.cumsum([len(text) for text in encoded])
    return np.searchsorted(ends, starts, side="right"), _mixed(hashes)


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread the differences of hashes over all bits (the finaliser of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(factor)
    return hashes ^ (hashes >> np.uint64(33))


def _frequent(counts: csr_matrix) -> IndexArray:
    """Return the buckets that two jobs and more share, at most those of the most jobs."""
    shares = np.bincount(counts.indices, minlength=counts.shape[1])
    buckets = np.flatnonzero(shares > 1)
    if len(buckets) > MAX_WORDS:
        most = np.argsort(-shares[buckets], kind="stable")[:MAX_WORDS]
        buckets = np.sort(buckets[most])
    return buckets


def _weighted(counts: FloatArray) -> FloatArray:
    """Return counts dampened: a word said ten times is not ten times as telling."""
    return 1 + np.log(counts)


def _axes(words: csr_matrix, components: int, seed: int) -> FloatArray:
    """Return the leading right singular vectors, shape (words, components at most).

    A randomised range finder with one power iteration. Halko, Martinsson, Tropp: Finding
    Structure with Randomness (2011), algorithms 4.4 and 5.1.
    """
    width = min(components + _SPARE, *words.shape)
    sketch = np.random.default_rng(seed).standard_normal((words.shape[1], width), np.float32)
    span = np.linalg.qr(words @ sketch)[0]
    del sketch
    span = np.linalg.qr(words @ (words.T @ span))[0]
    small = words.T @ span
    # Right singular vectors of the small matrix, by the eigenvectors of its Gram matrix
    values, turned = np.linalg.eigh((small.T @ small).astype(np.float64))
    leading = np.argsort(-values)[: min(components, width)]
    leading = leading[values[leading] > values.max() * 1e-6]
    axes: FloatArray = small @ (turned[:, leading] / np.sqrt(values[leading])).astype(np.float32)
    return axes


def _ridge(
    features: NDArray[np.float64], targets: NDArray[np.float64], weights: FloatArray
) -> NDArray[np.float64]:
    """Return the weighted ridge regression of targets on features, shape (features, targets).

    The penalty is the one of the least generalised cross-validation error, in closed form for all
    of them. Golub, Heath, Wahba: Generalized Cross-Validation (1979).
    """
    root = np.sqrt(weights.astype(np.float64))[:, None]
    features, targets = root * features, root * targets
    values, turned = np.linalg.eigh(features.T @ features)
    values = np.maximum(values, 0)
    shared = turned.T @ (features.T @ targets)
    energy = (shared**2).sum(axis=1)
    whole, count = (targets**2).sum(), len(targets)
    penalties = np.geomspace(1e-4, 1e4, 33) * max(float(values.mean()), 1e-12)
    errors = [
        (whole - (energy * (values + 2 * penalty) / (values + penalty) ** 2).sum())
        / (count - (values / (values + penalty)).sum()) ** 2
        for penalty in penalties
    ]
    penalty = penalties[int(np.argmin(errors))]
    mapped: NDArray[np.float64] = turned @ (shared / (values + penalty)[:, None])
    return mapped
