"""What a model may learn from, and what it must then predict.

Every split keeps one rule: no pair to be predicted is in the training part. What else could leak
from the held-out part into the training part, each split says for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np

from domain.errors import InputError
from domain.model import ActivityTally, IndexArray


class SplitKind(StrEnum):
    """Ways of holding pairs out."""

    TEMPORAL = "temporal"
    LAST = "last"
    RANDOM = "random"


@dataclass(frozen=True)
class Split:
    """A tally cut in two.

    Attributes:
        train: what the model under test may learn from.
        held_out: pairs that it must predict; none of them is in `train`.
        cutoff: the time between the two, None where no time parts them.
    """

    train: ActivityTally
    held_out: ActivityTally
    cutoff: datetime | None


def split(tally: ActivityTally, share: float, seed: int) -> Split:
    """Hold the last new pairs out, or random ones where time tells nothing.

    The cut-off lies where `share` of the pairs first occur after it; those are held out. A pair
    that began before it stays in the training part whole: a tally has no finer time. So a
    strength learned may know of later repetitions, but no pair to be predicted is known.
    Pairs without a time stay in the training part.

    Args:
        tally: n pairs.
        share: of the pairs to hold out, above 0 and below 1.
        seed: of the random split, used where times are unknown, or so coarse that the last of
            them holds `share` of the pairs or more.
    """
    _check_share(share)
    times = tally.first_at
    known = times[np.isfinite(times)]
    if known.size:
        cutoff = float(np.quantile(known, 1 - share))
        later = np.greater(times, cutoff)
        if later.any():
            until = datetime.fromtimestamp(cutoff, UTC)
            return Split(tally.select(~later), tally.select(later), until)
    later = np.random.default_rng(seed).random(len(tally)) < share
    return Split(tally.select(~later), tally.select(later), None)


def hold_out(tally: ActivityTally, kind: SplitKind, share: float, seed: int) -> Split:
    """Cut a tally in two in one of the ways; `share` and `seed` serve those that need them."""
    match kind:
        case SplitKind.TEMPORAL:
            return split(tally, share, seed)
        case SplitKind.LAST:
            return hold_last_out(tally)
        case SplitKind.RANDOM:
            return hold_random_out(tally, share, seed)


def hold_last_out(tally: ActivityTally) -> Split:
    """Hold each person's last new job out; people with one job keep it.

    The last new job is the one whose first activity is the latest; of several at that time the
    one of the highest id. People of whom no time is known keep all their jobs.

    Leakage: the training part knows what others did after a person's last new job, and so
    favours models that follow fashion; the temporal split does not. A strength learned may know
    of later repetitions.

    Raises:
        InputError: all times are equal or unknown, so that nothing is last.
    """
    times = np.where(np.isnan(tally.first_at), -np.inf, tally.first_at)
    if len(np.unique(times)) < 2:
        raise InputError("the activities carry no times that tell which is last", "split")
    starts, lengths = _people(tally)
    last = np.lexsort((tally.job_ids, times, tally.user_ids))[starts + lengths - 1]
    chosen = np.zeros(len(tally), dtype=np.bool_)
    chosen[last[(lengths > 1) & np.isfinite(times[last])]] = True
    return Split(tally.select(~chosen), tally.select(chosen), None)


def hold_random_out(tally: ActivityTally, share: float, seed: int) -> Split:
    """Hold a share of each person's jobs out, drawn by chance; people with one job keep it.

    Of n jobs, `share` x n are held out, rounded, at least one and never all.

    Leakage: times play no part, so a model may learn from what a person did after the pairs it
    must predict, and from what is in fashion then. Figures are higher than a service will see.

    Args:
        tally: n pairs.
        share: of each person's pairs to hold out, above 0 and below 1.
        seed: of the draw.
    """
    _check_share(share)
    starts, lengths = _people(tally)
    quotas = np.clip(np.rint(lengths * share), 1, lengths - 1)
    shuffled = np.lexsort((np.random.default_rng(seed).random(len(tally)), tally.user_ids))
    places = np.arange(len(tally)) - np.repeat(starts, lengths)
    chosen = np.zeros(len(tally), dtype=np.bool_)
    chosen[shuffled[places < np.repeat(quotas, lengths)]] = True
    return Split(tally.select(~chosen), tally.select(chosen), None)


def hold_given_out(tally: ActivityTally, given: ActivityTally) -> Split:
    """Hold given pairs out, as a published split does.

    Leakage: a given pair that the tally holds too leaves the training part. What of the rest
    happened after the given pairs is up to whoever made the split.

    Args:
        tally: what may be learned from.
        given: the pairs to predict; their counts and times do not matter.
    """
    return Split(tally.select(~tally.shares_pairs_with(given)), given, None)


def _people(tally: ActivityTally) -> tuple[IndexArray, IndexArray]:
    """Return where each person's pairs begin, and how many they are."""
    starts = np.flatnonzero(np.diff(tally.user_ids, prepend=-1))
    return starts, np.diff(starts, append=len(tally))


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"hold_out {share} is not between 0 and 1", "hold_out")
