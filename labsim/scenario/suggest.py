"""Did-you-mean: the known word nearest to one that is not known.

Does not know what the words are for.
"""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Words to end a message with: the nearest known word, or all where none is near."""
    from difflib import get_close_matches

    names = sorted(set(known))
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f", did you mean '{near[0]}'?"
    return f"; one of {', '.join(names)}" if 0 < len(names) <= 12 else ""
