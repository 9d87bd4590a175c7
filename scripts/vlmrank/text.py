"""Words for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'points'?`, or an empty text where nothing is near.

    Examples
    --------
    >>> nearest("pionts", ["points", "nodes"])
    "Did you mean 'points'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean '{close[0]}'?" if close else ""
