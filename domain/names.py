"""What employers are called: which spellings are one employer."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# As they end or, in Vietnamese, begin a name; folded and without full stops
_LEGAL_FORMS = frozenset(
    """ab ag as asa bv co company corp corporation gmbh inc incorporated jsc kg kk limited llc
    llp lp ltd mbh nv oy oyj plc pte pty pvt sa sarl sas se spa srl tnhh ug""".split()  # noqa: SIM905 - easier read
)
_LEGAL_BEGINNINGS = (
    ("công", "ty", "cổ", "phần"),
    ("công", "ty", "trách", "nhiệm", "hữu", "hạn"),
    ("công", "ty", "tnhh"),
    ("công", "ty", "cp"),
    ("công", "ty"),
)


@lru_cache(maxsize=100_000)
def employer_key(name: str | None) -> str:
    """Return what identifies an employer: its name without case, marks and legal form.

    A name that consists of a legal form only stays as it is, and so does one of marks only. The
    key of a key is itself; that of a blank name is empty.
    """
    text = unicodedata.normalize("NFKC", (name or "").casefold()).casefold()
    words = re.findall(r"[^\W_]+(?:['\u2019&+#-][^\W_]+)*[+#]*", text.replace(".", ""))
    kept = list(words)
    while kept and (more := _legal(kept)):
        kept = kept[more:] if more > 0 else kept[:more]
    return " ".join(kept or words or text.split())


def _legal(words: list[str]) -> int:
    """Return how many words of a legal form begin a name, below 0 where they end it."""
    for beginning in _LEGAL_BEGINNINGS:
        if tuple(words[: len(beginning)]) == beginning:
            return len(beginning)
    return -1 if words[-1] in _LEGAL_FORMS else 0
