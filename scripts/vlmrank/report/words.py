"""Format numbers and names for the page."""

from __future__ import annotations

import math
import re

import markupsafe
import pandas as pd

LONGEST = 18  # letters in a row that a narrow column does not break


def count_words(value: float | None) -> str:
    """A count with three significant digits, used for parameters, bytes and the like.

    >>> count_words(151_277_313.0), count_words(754_510.0), count_words(None)
    ('151 M', '755 k', 'unknown')
    """
    if not value:
        return "unknown"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{float(f'{value / size:.3g}'):g} {letter}"
    return f"{value:.0f}"


def digits(value: float | None) -> str:
    """A number with three significant digits.

    >>> digits(0.00588288), digits(1234.5), digits(None)
    ('0.00588', '1,234', 'unknown')
    """
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{float(f'{value:.3g}'):g}"


def percent(share: float) -> str:
    """A share in whole per cent; halves are rounded up, as in the page's scripts.

    >>> percent(0.925), percent(0.004)
    ('93%', '0%')
    """
    return f"{int(100 * share + 0.5)}%"


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(3.14159), duration(75), duration(7320)
    ('3.1 s', '1 min 15 s', '2 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600):,} h {int(seconds % 3600 // 60):02d} min"


def bounds(low: float, high: float) -> tuple[int | None, int | None]:
    """A rank interval in whole ranks, rounded outwards.

    >>> bounds(1.98, 4.025), bounds(float("nan"), 3.0)
    ((1, 5), (None, None))
    """
    if pd.isna(low) or pd.isna(high):
        return None, None
    return math.floor(low), math.ceil(high)


def breakable(name: object) -> markupsafe.Markup:
    """An escaped name that a narrow column breaks only after its separators.

    >>> breakable("ViT-B--laion2b_e16"), breakable("<b>")
    (Markup('ViT-<wbr>B--<wbr>laion2b_<wbr>e16'), Markup('&lt;b&gt;'))
    """
    parts = re.findall(rf"[^-_/.:\s]{{1,{LONGEST}}}[-_/.:\s]*|[-_/.:\s]+", str(name))
    return markupsafe.Markup("<wbr>").join(parts)
