"""Share results among processes that want the same ones: each is computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vlmrank.store.crashes import Quarantined, reason_to_quarantine
from vlmrank.store.leases import Lease, Leases


def share_out(
    keys: Sequence[str],
    leases: Leases,
    finished: Callable[[str], bool],
    *,
    poll: float = 5.0,
    on_wait: Callable[[str, Mapping[str, Any]], None] = lambda key, holder: None,
) -> Iterator[Lease | Quarantined]:
    """Yield each missing result once this process holds its lease.

    Results held by other processes come last: by then they are finished, or their holder is gone and they are yielded
    here. Results with crashes come after those without, and are given up as `reason_to_quarantine` says. The folder is
    listed once per round.

    Parameters
    ----------
    keys : names of the results, in the order of work.
    leases : the folder of leases.
    finished : whether a result exists by now; asked again after each wait.
    poll : seconds between two checks of results that others hold.
    on_wait : called with a result and its holder, before the first wait for it.

    Yields
    ------
    Lease : compute it inside a `with` block before asking for the next one.
    Quarantined : record it as failed.
    """
    waiting, told = list(keys), set()
    crashes = leases.crashes(keys)
    while waiting:
        later = []
        for key in sorted(waiting, key=lambda key: len(crashes.get(key, ()))):
            if finished(key):
                continue
            lease = leases.take(key)
            if lease is None:
                later.append(key)
                continue
            with lease:
                if finished(key):  # by another process, between the two looks
                    continue
                if lease.took_over:
                    crashes.setdefault(key, []).append(lease.took_over)
                every = [crash for some in crashes.values() for crash in some]
                reason = reason_to_quarantine(crashes.get(key, ()), every, leases.notes)
                if reason:
                    yield Quarantined(key, reason)
                    continue
                yield lease
            if every and finished(key):
                leases.forget(crashes.pop(key, ()))
                crashes = {other: [leases.excuse(crash) for crash in some] for other, some in crashes.items()}
        for key in later:
            holder = leases.holder(key)
            if key not in told and holder:
                told.add(key)
                on_wait(key, holder)
        if later:
            if len(later) == len(waiting):
                time.sleep(poll)
            crashes = leases.crashes(keys)
        waiting = later
    leases.forget(crash for some in leases.crashes(keys).values() for crash in some)
