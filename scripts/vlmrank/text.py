"""Words for people: plurals, the nearest name, rank intervals."""

from __future__ import annotations

import difflib
import math
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


def plural(count: int, one: str, many: str = "") -> str:
    """A number with its noun.

    Examples
    --------
    >>> plural(1, "entry", "entries"), plural(2, "entry", "entries"), plural(0, "model")
    ('1 entry', '2 entries', '0 models')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def rank_interval(low: float, high: float, count: int) -> str:
    """A 90 % interval of a rank among `count` models in words, in whole ranks, rounded outwards; nothing if unknown.

    Examples
    --------
    >>> rank_interval(1.5, 2.0, 8), rank_interval(3.0, 3.0, 8)
    ('90 % interval of its rank: 1 to 2 of 8', 'rank 3 of 8 with a probability of at least 90 %')
    >>> rank_interval(1.0, 1.0, 1), rank_interval(float("nan"), float("nan"), 8)
    ('the only model', '')
    """
    if count == 1:
        return "the only model"
    if math.isnan(low) or math.isnan(high):
        return ""
    first, last = math.floor(low), math.ceil(high)
    if first == last:
        return f"rank {first} of {count} with a probability of at least 90 %"
    return f"90 % interval of its rank: {first} to {last} of {count}"


def human_bytes(value: float) -> str:
    """Bytes in decimal units.

    Examples
    --------
    >>> human_bytes(605_100_000), human_bytes(1500)
    ('605 MB', '1.5 kB')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(int(math.log10(max(value, 1)) // 3), len(units) - 1)
    number = value / 1000**power
    return f"{number:.{0 if number >= 100 else 1}f} {units[power]}" if power else f"{value:.0f} B"


def ordinal(number: int) -> str:
    """A place in words.

    >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
