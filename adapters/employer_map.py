"""A map of employers, for people to look at."""

from __future__ import annotations

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from domain.model import FloatArray


def places(vectors: FloatArray, seed: int) -> FloatArray:
    """Return places on a map by t-SNE, shape (n, 2).

    Neighbours stay neighbours, large distances mean little. The same vectors and seed give the
    same map.
    """
    # Several threads add up in another order
    with threadpool_limits(1):
        mapped = TSNE(
            2,
            metric="cosine",
            init="random",
            perplexity=min(30.0, (len(vectors) - 1) / 3),
            random_state=seed,
            n_jobs=1,
        ).fit_transform(vectors)
    return np.asarray(mapped, dtype=np.float32)
