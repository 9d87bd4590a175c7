"""Methods that rank a zoo: ours, peers and controls, with one signature.

Each takes a `View` of the evidence and gives a score per model. Torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from vlmrank.baselines import committee, controls, estimates, modelgpt, swab
from vlmrank.baselines import predictions as direct
from vlmrank.baselines import source_accuracy as history
from vlmrank.baselines import transferability as labelled
from vlmrank.baselines import vlmrank_method as ours
from vlmrank.baselines.base import INPUTS, TARGET_LABELS, Evidence, Method, Unavailable, View
from vlmrank.baselines.combined import with_average_rank
from vlmrank.errors import VlmrankError

__all__ = ["INPUTS", "Evidence", "Method", "Unavailable", "View", "all_methods", "describe_methods", "select_methods"]

# What a plain run ranks by.
SHIPPED = "agreement"
# Peers that look at the target's images, and at no label of theirs.
WITHOUT_LABELS = (*direct.METHODS, *committee.METHODS, *estimates.METHODS)
# Of these joined with the average rank, those that are compared without being asked for.
JOINED_BY_DEFAULT = ("mutual_information", "confidence", "entropy", "doc")


def all_methods(*, kappa: float = 0.6, shrink: float = 1.0, fuse: float = 2.0) -> tuple[Method, ...]:
    """Every method, ours first; the parameters are those of the ranking."""
    return (
        *ours.methods(kappa=kappa, shrink=shrink, fuse=fuse),
        *(one for peer in WITHOUT_LABELS for one in (peer, with_average_rank(peer))),
        *history.METHODS,
        *swab.METHODS,
        *modelgpt.METHODS,
        *labelled.METHODS,
        *controls.METHODS,
    )


def select_methods(methods: Sequence[Method], names: str | Sequence[str] = "default") -> tuple[Method, ...]:
    """The methods of these names, in the order of `methods`.

    Parameters
    ----------
    methods : to choose from.
    names : names, `all`, or `default`: all but most of the peers joined with the average rank.

    Raises
    ------
    VlmrankError : a name is not known.
    """
    if isinstance(names, str):
        if names in ("default", "all"):
            rare = {f"average_rank+{peer.name}" for peer in WITHOUT_LABELS if peer.name not in JOINED_BY_DEFAULT}
            return tuple(method for method in methods if names == "all" or method.name not in rare)
        names = [names]
    known = {method.name for method in methods}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise VlmrankError(f"unknown evaluation method {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return tuple(method for method in methods if method.name in names)


def describe_methods(methods: Sequence[Method]) -> pd.DataFrame:
    """One row per method: method, title, group, looks_at (separated by `; `), uses_target_labels."""
    rows = [
        (method.name, method.title, method.group, "; ".join(sorted(method.looks_at)), TARGET_LABELS in method.looks_at)
        for method in methods
    ]
    return pd.DataFrame(rows, columns=["method", "title", "group", "looks_at", "uses_target_labels"])
