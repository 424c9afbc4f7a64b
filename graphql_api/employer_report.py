"""One self-contained page: a map of employers, coloured by kind, and the words of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from domain.employers import UNTYPED, EmployerTypes
from domain.model import FloatArray, IndexArray

_SIZE, _EDGE = 900, 30
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 1.5rem auto; max-width: 92rem; padding: 0 1rem; }
main { display: grid; grid-template-columns: minmax(0, 3fr) minmax(20rem, 2fr); gap: 1.5rem; }
.map { position: sticky; top: 1rem; align-self: start; }
svg { width: 100%; height: auto; max-height: 90vh; border: 1px solid #8886; border-radius: 8px; }
circle { stroke: #fff8; stroke-width: .6; fill-opacity: .85; }
circle:hover { stroke: currentColor; stroke-width: 2.5; }
svg text { font-size: 17px; font-weight: 600; fill: currentColor; text-anchor: middle;
  paint-order: stroke; stroke: Canvas; stroke-width: 4px; pointer-events: none; }
section { border-left: 6px solid; padding: 0 0 0 .8rem; margin: 0 0 1rem; }
h2 { font-size: 1rem; margin: 0; } p { margin: .15rem 0; } .such { opacity: .75; font-size: .9em; }
@media (max-width: 60rem) { main { grid-template-columns: 1fr; } .map { position: static; } }
"""


def page(known: EmployerTypes, places: FloatArray) -> str:
    """Return the page; it loads nothing and runs no script.

    Args:
        known: what was learned.
        places: where each employer stands on the map, shape (n, 2).
    """
    typed = np.flatnonzero(known.type_of != UNTYPED)
    silent = len(known.keys) - len(typed)
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>Kinds of employers</title><style>{_STYLE}</style></head><body>",
            "<h1>Kinds of employers</h1>",
            (
                f"<p>{len(typed):,} employers of {len(known.types)} kinds, by what their "
                f"adverts say{f'; {silent:,} others have too little text' if silent else ''}. "
                "Neighbours on the map use similar expressions; large distances mean little. "
                "Point at a dot for its name; its size tells of the number of jobs.</p><main>"
            ),
            '<div class="map">',
            *_map(known, places, typed),
            "</div><div>",
            *_kinds(known),
            "</div></main></body></html>\n",
        ]
    )


def _map(known: EmployerTypes, places: FloatArray, typed: IndexArray) -> Iterator[str]:
    own = np.asarray(places[typed], dtype=np.float64)
    low, high = own.min(axis=0), own.max(axis=0)
    shown = _EDGE + (own - low) / np.where(high > low, high - low, 1) * (_SIZE - 2 * _EDGE)
    yield f'<svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="Map of employers">'
    for (x, y), position in zip(shown, typed, strict=True):
        kind = int(known.type_of[position])
        count = int(known.job_counts[position])
        radius = min(12.0, 3.5 + 1.5 * np.log2(max(1, count)))
        title = f"{known.names[position]} ({count:,} jobs): {known.types[kind].label}"
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{_colour(kind)}">'
            f"<title>{escape(title)}</title></circle>"
        )
    for kind in range(len(known.types)):
        # The median keeps to where most of a kind are
        x, y = np.median(shown[known.type_of[typed] == kind], axis=0)
        yield f'<text x="{x:.1f}" y="{y + 6:.1f}">{kind + 1}</text>'
    yield "</svg>"


def _kinds(known: EmployerTypes) -> Iterator[str]:
    for kind, type_ in enumerate(known.types):
        names = ", ".join(known.names[position] for position in type_.examples)
        yield (
            f'<section style="border-color: {_colour(kind)}">'
            f"<h2>{kind + 1}. {escape(type_.label)} ({type_.size:,})</h2>"
            f"<p>{escape(', '.join(type_.expressions))}</p>"
            f'<p class="such">such as {escape(names)}</p></section>'
        )


def _colour(kind: int) -> str:
    """Return a colour; steps by the golden angle keep those of near numbers apart."""
    return f"hsl({kind * 137.508 % 360:.0f} {75 - kind % 2 * 20}% {45 + kind % 3 * 9}%)"
