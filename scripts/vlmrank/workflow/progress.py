"""Progress of a run: number of finished pairs, and time for the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

EVERY = 20.0  # seconds between two lines
PART_OF_PAIRS = "conductance"  # the folder of the results that holds them, `<model>/<dataset>.h5`


def time_left(seconds: float) -> str:
    """A rough duration, in words.

    >>> time_left(40), time_left(200), time_left(9000), time_left(200_000)
    ('less than a minute', 'about 3 min', 'about 2.5 h', 'about 2.3 days')
    """
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h" if seconds < 86400 else f"about {seconds / 86400:.1f} days"


class PairProgress:
    """Counts the pair files that this run wrote.

    Parameters
    ----------
    planned : the pair files that the run is to make, among other files, which are ignored.
    started : when the run began, in seconds since the epoch.
    every : seconds between two lines.
    """

    def __init__(self, planned: Iterable[str], started: float, every: float = EVERY) -> None:
        self.planned = {path for path in map(Path, planned) if path.parts[-3:-2] == (PART_OF_PAIRS,)}
        self.started, self.every = started, every
        self.said_at, self.said = started, 0

    def line(self, now: float | None = None) -> str:
        """`12 of 100 pairs computed, about 3 min left; the last: model on dataset`, if that is news; else empty."""
        now = time.time() if now is None else now
        if now - self.said_at < self.every or self.said == len(self.planned):
            return ""
        self.said_at = now
        written = self._written()
        if len(written) <= self.said:
            return ""
        self.said, total = len(written), len(self.planned)
        last = max(written, key=written.__getitem__)
        left = (total - self.said) * (now - self.started) / self.said
        rest = f", {time_left(left)} left" if self.said < total else ""
        return f"{self.said} of {total} pairs computed{rest}; the last: {last.parent.name} on {last.stem}"

    def _written(self) -> dict[Path, float]:
        """Planned files that this run has written, with their times."""
        found = {}
        for folder in {path.parent for path in self.planned}:
            try:
                entries = [(Path(entry.path), entry.stat().st_mtime) for entry in os.scandir(folder)]
            except OSError:
                continue
            found |= {path: when for path, when in entries if path in self.planned and when >= self.started - 1}
        return found
